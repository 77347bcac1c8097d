/* tests/base/test_process_limits.c -- the least of all limits, and the one to blame. */
#define _GNU_SOURCE /* sched_setaffinity */
#include "engine/base/process_limits.h"

#include "tests/support/sanitized.h"
#include "tests/support/temp_place.h"

#include <criterion/criterion.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)

/* A machine with so much free memory; the process has mapped 100 pages and writes to 40. */
static temp_place make_machine(const char *meminfo)
{
    const temp_place p = temp_place_make("proc");
    char name[sizeof p.path + 16];
    static const char STATM[] = "100 20 10 5 0 40 0\n";
    cr_assert_eq(mkdir(p.path, 0700), 0);
    (void)snprintf(name, sizeof name, "%s/meminfo", p.path);
    temp_write(name, meminfo, strlen(meminfo));
    (void)snprintf(name, sizeof name, "%s/self", p.path);
    cr_assert_eq(mkdir(name, 0700), 0);
    (void)snprintf(name, sizeof name, "%s/self/statm", p.path);
    temp_write(name, STATM, sizeof STATM - 1);
    return p;
}

static void remove_machine(const temp_place *p)
{
    static const char *const NAMES[] = { "/self/statm", "/self", "/meminfo", "" };
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++) {
        char name[sizeof p->path + 16];
        (void)snprintf(name, sizeof name, "%s%s", p->path, NAMES[i]);
        cr_assert_eq(remove(name), 0);
    }
    cr_assert_eq(rmdir(p->dir), 0);
}

static void set_soft_limit(int resource, rlim_t bytes)
{
    struct rlimit l;
    cr_assert_eq(getrlimit(resource, &l), 0);
    l.rlim_cur = bytes;
    cr_assert_eq(setrlimit(resource, &l), 0);
}

static void expect_room(const temp_place *p, int threads, uint64_t bytes, const char *by)
{
    const memory_room r = process_memory_room(p->dir, threads);
    cr_expect_eq(r.bytes, bytes, "%llu", (unsigned long long)r.bytes);
    cr_expect_str_eq(r.by, by);
}

/* AddressSanitizer needs more address space than any limit leaves. */
ReleaseTest(base_process_limits, least_room_decides)
{
    const temp_place p = make_machine(
        "MemTotal: 9000000 kB\nMemAvailable: 8388608 kB\nCached: 1 kB\n");
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    expect_room(&p, 0, 8192 * MIB, "free memory");
    set_soft_limit(RLIMIT_AS, 6000 * MIB);
    expect_room(&p, 0, 6000 * MIB - 100 * page, "address space (ulimit -v)");
    set_soft_limit(RLIMIT_DATA, 5000 * MIB);
    expect_room(&p, 0, 5000 * MIB - 40 * page, "data (ulimit -d)");
    const uint64_t two = process_memory_room(p.dir, 2).bytes,
                   one = process_memory_room(p.dir, 1).bytes;
    cr_expect(two < one && one < 5000 * MIB - 40 * page, "stacks take none of it");
    cr_expect_eq(5000 * MIB - 40 * page - one, one - two);
    set_soft_limit(RLIMIT_DATA, page);
    expect_room(&p, 0, 0, "data (ulimit -d)");
    remove_machine(&p);
}

Test(base_process_limits, memory_that_is_not_told_is_assumed)
{
    const temp_place p = make_machine("MemTotal: 9000000 kB\n");
    expect_room(&p, 0, 4096 * MIB, "free memory");
    remove_machine(&p);
}

ReleaseTest(base_process_limits, limit_is_named_only_where_it_is_the_cause)
{
    refine_error err = { 0 };
    cr_expect_eq(process_name_limit(REFINE_ENOMEM, UINT64_MAX - 1, 9, &err), REFINE_ENOMEM);
    set_soft_limit(RLIMIT_DATA, (rlim_t)1 << 40);
    cr_expect_eq(process_name_limit(REFINE_ENOMEM, 1, 9, &err), REFINE_ENOMEM);
    cr_expect_str_eq(err.text, "");
    cr_expect_eq(process_name_limit(REFINE_ENOMEM, (uint64_t)2 << 40, 9, &err), REFINE_EBUDGET);
    cr_expect_not_null(strstr(err.text, "data (ulimit -d)"), "%s", err.text);
    set_soft_limit(RLIMIT_DATA, 1); /* not even for a stack */
    cr_expect_eq(process_name_limit(REFINE_ENOMEM, 0, 1, NULL), REFINE_EBUDGET);
    cr_expect_not_null(strstr(err.text, "for 2097152M and the stacks of 9 threads"), "%s",
                       err.text);
}

Test(base_process_limits, no_more_cores_than_it_may_run_on)
{
    cpu_set_t all, one;
    cr_assert_eq(sched_getaffinity(0, sizeof all, &all), 0);
    const temp_place p = temp_place_make("x");
    cr_expect_eq(process_cores(p.dir), CPU_COUNT(&all));
    CPU_ZERO(&one);
    for (int i = 0; CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &all))
            CPU_SET(i, &one);
    cr_assert_eq(sched_setaffinity(0, sizeof one, &one), 0);
    cr_expect_eq(process_cores(p.dir), 1);
    cr_assert_eq(rmdir(p.dir), 0);
}
