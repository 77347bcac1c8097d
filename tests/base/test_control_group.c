/* tests/base/test_control_group.c -- both versions, as machines and containers show them. */
#include "engine/base/control_group.h"

#include "tests/support/fake_groups.h"

#include <criterion/criterion.h>
#include <math.h>

static const char V2_MOUNT[] =
    "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n"
    "30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

static void expect_group_limits(const temp_place *p, uint64_t memory, double cpus)
{
    cr_expect_eq(control_group_memory(p->dir), memory, "%llu",
                 (unsigned long long)control_group_memory(p->dir));
    cr_expect_eq(control_group_cpus(p->dir), cpus, "%g", control_group_cpus(p->dir));
}

Test(base_control_group, machine_without_groups_sets_no_limit)
{
    const temp_place p = temp_place_make("x");
    expect_group_limits(&p, UINT64_MAX, INFINITY);
    fake_groups_write(&p, "proc/self/cgroup", "0::/a\n");
    expect_group_limits(&p, UINT64_MAX, INFINITY);
    fake_groups_write(&p, "proc/self/mountinfo", "nonsense\n1 2 3\n\n- cgroup2\n");
    expect_group_limits(&p, UINT64_MAX, INFINITY);
    fake_groups_write(&p, "proc/self/mountinfo", V2_MOUNT);
    expect_group_limits(&p, UINT64_MAX, INFINITY);
    fake_groups_remove(&p);
}

Test(base_control_group, second_version_with_what_is_above)
{
    const temp_place p = temp_place_make("x");
    fake_groups_write(&p, "proc/self/cgroup", "0::/user.slice/job\n");
    fake_groups_write(&p, "proc/self/mountinfo", V2_MOUNT);
    fake_groups_write(&p, "sys/fs/cgroup/user.slice/job/memory.max", "max\n");
    fake_groups_write(&p, "sys/fs/cgroup/user.slice/job/cpu.max", "max 100000\n");
    expect_group_limits(&p, UINT64_MAX, INFINITY);
    fake_groups_write(&p, "sys/fs/cgroup/user.slice/memory.max", "1000000\n");
    fake_groups_write(&p, "sys/fs/cgroup/user.slice/cpu.max", "150000 100000\n");
    expect_group_limits(&p, 1000000, 1.5);
    fake_groups_write(&p, "sys/fs/cgroup/user.slice/memory.current", "600000\n");
    expect_group_limits(&p, 400000, 1.5);
    fake_groups_write(&p, "sys/fs/cgroup/user.slice/memory.stat",
                      "anon 5\nfile 9\ninactive_anon 7\ninactive_file 100000\nactive_file 1000\n");
    expect_group_limits(&p, 501000, 1.5);
    fake_groups_write(&p, "sys/fs/cgroup/user.slice/job/memory.high", "400000\n");
    fake_groups_write(&p, "sys/fs/cgroup/user.slice/job/memory.current", "500000\n");
    fake_groups_write(&p, "sys/fs/cgroup/user.slice/job/cpu.max", "20000 100000\n");
    expect_group_limits(&p, 0, 0.2);
    fake_groups_remove(&p);
}

Test(base_control_group, first_version_has_a_tree_for_each_controller)
{
    const temp_place p = temp_place_make("x");
    fake_groups_write(&p, "proc/self/cgroup",
                      "9:cpu,cpuacct:/c\n4:memory:/m/n\n1:name=systemd:/s\n0::/s\n");
    fake_groups_write(&p, "proc/self/mountinfo",
                      "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
                      "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
                      "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
    fake_groups_write(&p, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    fake_groups_write(&p, "sys/fs/cgroup/memory/m/memory.limit_in_bytes", "70000\n");
    fake_groups_write(&p, "sys/fs/cgroup/memory/m/memory.usage_in_bytes", "50000\n");
    fake_groups_write(&p, "sys/fs/cgroup/memory/m/memory.stat",
                      "inactive_file 1\ntotal_inactive_file 5000\ntotal_active_file 3000\n");
    fake_groups_write(&p, "sys/fs/cgroup/memory/m/n/memory.limit_in_bytes", "30000\n");
    fake_groups_write(&p, "sys/fs/cgroup/cpu/c/cpu.cfs_quota_us", "-1\n");
    fake_groups_write(&p, "sys/fs/cgroup/cpu/c/cpu.cfs_period_us", "100000\n");
    expect_group_limits(&p, 28000, INFINITY);
    fake_groups_write(&p, "sys/fs/cgroup/cpu/c/cpu.cfs_quota_us", "250000\n");
    expect_group_limits(&p, 28000, 2.5);
    fake_groups_remove(&p);
}

/* The path is the machine's, and the mount shows only what is below it; or neither fits. */
Test(base_control_group, container_sees_its_own_group_at_the_mount)
{
    static const char *const PATHS[] = { "0::/docker/1f2e\n", "0::/../../other\n", "0::/\n",
                                         "0::/docker/1f2e7\n" };
    const temp_place p = temp_place_make("x");
    fake_groups_write(&p, "proc/self/mountinfo",
                      "30 22 0:26 /docker/1f2e /mnt/con\\040trol ro - cgroup2 cgroup rw\n");
    fake_groups_write(&p, "mnt/con trol/memory.max", "12345\n");
    fake_groups_write(&p, "mnt/con trol/7/memory.max", "1\n");
    fake_groups_write(&p, "mnt/memory.max", "2\n");
    fake_groups_write(&p, "mnt/con trol/cpu.max", "400000 100000\n");
    for (size_t i = 0; i < sizeof PATHS / sizeof PATHS[0]; i++) {
        fake_groups_write(&p, "proc/self/cgroup", PATHS[i]);
        expect_group_limits(&p, 12345, 4);
    }
    fake_groups_write(&p, "proc/self/cgroup", "0::/docker/1f2e/7\n");
    expect_group_limits(&p, 1, 4);
    fake_groups_remove(&p);
}
