/* engine/base/process_limits.c -- /proc, getrlimit and control groups, and the least of them. */
#define _GNU_SOURCE /* sched_getaffinity */
#include "engine/base/process_limits.h"

#include "engine/base/control_group.h"

#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#define FREE_IF_UNKNOWN ((uint64_t)4 << 30)
#define MIB             ((uint64_t)1 << 20)

static FILE *open_proc_file(const char *root, const char *name)
{
    char path[PATH_MAX];
    const int n = snprintf(path, sizeof path, "%s/proc/%s", root, name);
    return n >= 0 && n < PATH_MAX ? fopen(path, "re") : NULL;
}

/* Memory that can be had without swapping, by the kernel's own estimate. */
static memory_room free_memory_room(const char *root)
{
    unsigned long long kib = 0;
    char line[128];
    FILE *f = open_proc_file(root, "meminfo");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
            break;
    if (f)
        (void)fclose(f);
    return (memory_room){ kib ? (uint64_t)kib << 10 : FREE_IF_UNKNOWN, "free memory" };
}

static uint64_t stacks_bytes(int threads)
{
    pthread_attr_t a;
    size_t stack = 0, guard = 0;
    if (pthread_attr_init(&a) != 0)
        return 0;
    (void)pthread_attr_getstacksize(&a, &stack);
    (void)pthread_attr_getguardsize(&a, &guard);
    (void)pthread_attr_destroy(&a);
    return (uint64_t)(stack + guard) * (uint64_t)threads;
}

static uint64_t left_of_limit(int resource, uint64_t used)
{
    struct rlimit l;
    if (getrlimit(resource, &l) != 0 || l.rlim_cur == RLIM_INFINITY)
        return UINT64_MAX;
    return l.rlim_cur > used ? l.rlim_cur - used : 0;
}

/* Of what is mapped, in pages: statm's first number is all of it, its sixth what is written to. */
static memory_room mapping_room(const char *root, int threads)
{
    unsigned long long all = 0, data = 0;
    FILE *f = open_proc_file(root, "self/statm");
    if (f) {
        if (fscanf(f, "%llu %*u %*u %*u %*u %llu", &all, &data) != 2)
            all = data = 0;
        (void)fclose(f);
    }
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), stacks = stacks_bytes(threads);
    const memory_room space = { left_of_limit(RLIMIT_AS, all * page + stacks),
                                "address space (ulimit -v)" };
    const memory_room written = { left_of_limit(RLIMIT_DATA, data * page + stacks),
                                  "data (ulimit -d)" };
    return written.bytes < space.bytes ? written : space;
}

memory_room process_memory_room(const char *root, int threads)
{
    const memory_room rooms[] = { free_memory_room(root),
                                  { control_group_memory(root), "control group" },
                                  mapping_room(root, threads) };
    memory_room least = rooms[0];
    for (int i = 1; i < 3; i++)
        least = rooms[i].bytes < least.bytes ? rooms[i] : least;
    return least;
}

int process_cores(const char *root)
{
    const double cpus = control_group_cpus(root);
    cpu_set_t set;
    const long online = sysconf(_SC_NPROCESSORS_ONLN); /* more cores than the set can name */
    const int cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set)
                      : online > 0                                ? (int)online
                                                                  : 1;
    return cpus < cores ? (int)fmax(ceil(cpus), 1) : cores;
}

refine_status process_name_limit(refine_status st, uint64_t needed, int threads, refine_error *err)
{
    const memory_room room = mapping_room("", threads);
    if (room.bytes > 0 && room.bytes >= needed)
        return st;
    const memory_room now = mapping_room("", 0);
    return refine_fail(
        err, REFINE_EBUDGET,
        "the limit on %s leaves %.0fM, for %.0fM and the stacks of %d threads; raise "
        "it, or lower --vram, --ram or --threads",
        now.by, (double)(now.bytes / MIB), (double)((needed + MIB - 1) / MIB), threads);
}
