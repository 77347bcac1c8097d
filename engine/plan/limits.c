/* engine/plan/limits.c -- ceilings: asked for, or what is free; and refusals that name others. */
#include "engine/plan/limits.h"

#include <stdio.h>

#define MIB ((uint64_t)1 << 20)

/* Memory that can be had without swapping, by the kernel's own estimate. */
static uint64_t available_memory(void)
{
    unsigned long long kib = 0;
    char line[128];
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
            break;
    if (f)
        (void)fclose(f);
    return kib ? (uint64_t)kib << 10 : (uint64_t)4 << 30;
}

/* What the arena may have of a device's own memory: a margin stays free for the desktop. */
static uint64_t device_default(dev *d, uint64_t host_limit)
{
    const uint64_t margin = 256 * MIB;
    const uint64_t taken = dev_is_discrete(d) ? margin : margin + host_limit;
    const uint64_t free_bytes = dev_is_discrete(d) ? dev_memory_free(d) : available_memory();
    return free_bytes > taken ? free_bytes - taken : free_bytes / 2;
}

memory_limits limits_find(dev *d, const refine_options *o)
{
    const uint64_t host_default = 512 * MIB, ceiling = o->vram_bytes;
    memory_limits l = { .overhead = dev_overhead(d),
                        .host = o->ram_bytes ? o->ram_bytes : host_default };

    l.device = ceiling == 0           ? device_default(d, l.host)
               : ceiling > l.overhead ? ceiling - l.overhead
                                      : 0;
    return l;
}

static double mib_up(uint64_t bytes) { return (double)((bytes + MIB - 1) / MIB); }

static refine_status fail_over_budget(refine_error *err, const char *what, const char *option,
                                      uint64_t limit, uint64_t smallest, double step)
{
    char time[64] = "";
    if (step > 0)
        (void)snprintf(time, sizeof time, " (then about %.3g s a step)", step);
    return refine_fail(err, REFINE_EBUDGET,
                       "%s memory: this image needs at least %.0fM, the ceiling is %.0fM; "
                       "use %s %.0fM%s or a smaller image",
                       what, mib_up(smallest), (double)(limit / MIB), option, mib_up(smallest),
                       time);
}

refine_status limits_fail_device(const memory_limits *l, size_t smallest, double step,
                                 refine_error *err)
{
    return fail_over_budget(err, "device", "--vram", l->device + l->overhead,
                            smallest + l->overhead, step);
}

refine_status limits_fail_host(const memory_limits *l, size_t smallest, double step,
                               refine_error *err)
{
    return fail_over_budget(err, "host", "--ram", l->host, smallest, step);
}
