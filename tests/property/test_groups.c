/* tests/property/test_groups.c -- control groups in trees of any depth: the tightest of those above
 * decides. */
#include "engine/base/control_group.h"
#include "tests/property/property.h"
#include "tests/support/fake_groups.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { DEPTH_MAX = 8, GROUP_PATH = 256 };

typedef struct group_version {
    const char *line, *mount, *limit, *none, *usage, *inactive, *active, *quota, *period;
} group_version;

static const group_version VERSIONS[] = {
    { "0::%s\n", "1 1 0:2 %s /cg rw - cgroup2 none rw\n", "memory.max", "max", "memory.current",
      "inactive_file", "active_file", "cpu.max", NULL },
    { "3:cpu,memory:%s\n", "1 1 0:2 %s /cg rw - cgroup none rw,cpu,memory\n",
      "memory.limit_in_bytes", "9223372036854771712", "memory.usage_in_bytes",
      "total_inactive_file", "total_active_file", "cpu.cfs_quota_us", "cpu.cfs_period_us" },
};

static void write_in_group(const temp_place *p, const char *group, const char *file,
                           const char *text)
{
    char name[2 * GROUP_PATH];
    (void)snprintf(name, sizeof name, "cg%s/%s", group, file);
    fake_groups_write(p, name, text);
}

static uint64_t make_group_memory(draws *d, const temp_place *p, const group_version *v,
                                  const char *group)
{
    char text[GROUP_PATH];
    const uint64_t limit = (uint64_t)draw_scale(d, 1, 1 << 30) << 10;
    const uint64_t used = (uint64_t)draw_scale(d, 1, 1 << 30) << 10;
    const uint64_t inactive = (uint64_t)draw_integer(d, 0, 1 << 20);
    const uint64_t active = (uint64_t)draw_integer(d, 0, 1 << 20);
    const bool limited = !draw_once_in(d, 3);
    (void)snprintf(text, sizeof text, "%llu\n", (unsigned long long)limit);
    write_in_group(p, group, v->limit, limited ? text : v->none);
    (void)snprintf(text, sizeof text, "%llu\n", (unsigned long long)used);
    write_in_group(p, group, v->usage, text);
    (void)snprintf(text, sizeof text, "anon 1\n%s %llu\n%s %llu\nzswap 2\n", v->inactive,
                   (unsigned long long)inactive, v->active, (unsigned long long)active);
    write_in_group(p, group, "memory.stat", text);
    const uint64_t most = limited ? limit : v->period ? 9223372036854771712u : UINT64_MAX;
    const uint64_t taken = used > inactive + active ? used - inactive - active : 0;
    return most == UINT64_MAX ? most : most > taken ? most - taken : 0;
}

static double make_group_cpus(draws *d, const temp_place *p, const group_version *v,
                              const char *group)
{
    char text[GROUP_PATH];
    const int quota = draw_scale(d, 1000, 1 << 24), period = draw_scale(d, 1000, 1 << 20);
    const bool limited = !draw_once_in(d, 3);
    const char *none = v->period ? "-1" : "max";
    (void)snprintf(text, sizeof text, "%d", quota);
    if (v->period) {
        write_in_group(p, group, v->quota, limited ? text : none);
        (void)snprintf(text, sizeof text, "%d\n", period);
        write_in_group(p, group, v->period, text);
    } else {
        char both[2 * GROUP_PATH];
        (void)snprintf(both, sizeof both, "%s %d\n", limited ? text : none, period);
        write_in_group(p, group, v->quota, both);
    }
    return limited ? (double)quota / period : INFINITY;
}

/* What is mounted may begin below the root of the tree; nothing above it is seen. */
Property(tightest_group_above_decides)
{
    const group_version *v = &VERSIONS[draw_below(d, 2)];
    const int depth = draw_integer(d, 0, DEPTH_MAX), hidden = draw_integer(d, 0, 3);
    const temp_place p = temp_place_make("x");
    char mounted[GROUP_PATH] = "", group[GROUP_PATH] = "", whole[2 * GROUP_PATH], line[1024];
    uint64_t memory = UINT64_MAX;
    double cpus = INFINITY;

    for (int i = 0; i < hidden; i++)
        (void)snprintf(mounted + strlen(mounted), 16, "/h%d", i);
    for (int i = 0; i <= depth; i++) {
        const uint64_t room = make_group_memory(d, &p, v, group);
        memory = room < memory ? room : memory;
        cpus = fmin(cpus, make_group_cpus(d, &p, v, group));
        if (i < depth)
            (void)snprintf(group + strlen(group), 16, "/g%d", draw_integer(d, 0, 99));
    }
    (void)snprintf(whole, sizeof whole, "%s%s", mounted, group);
    (void)snprintf(line, sizeof line, v->line, whole[0] ? whole : "/");
    fake_groups_write(&p, "proc/self/cgroup", line);
    (void)snprintf(line, sizeof line, v->mount, hidden ? mounted : "/");
    fake_groups_write(&p, "proc/self/mountinfo", line);
    fake_groups_write(&p, "memory.max", "1");
    describe_case(d, "version %d, %s below %s", v->period ? 1 : 2, group, mounted);
    const uint64_t found = control_group_memory(p.dir);
    if (found != memory)
        fail_case(d, "%llu bytes instead of %llu", (unsigned long long)found,
                  (unsigned long long)memory);
    if (control_group_cpus(p.dir) != cpus)
        fail_case(d, "%g processors instead of %g", control_group_cpus(p.dir), cpus);
    fake_groups_remove(&p);
}
