/* engine/plan/limits.c -- ceilings, as asked for or as may be had; refusals that name others. */
#include "engine/plan/limits.h"

#include "engine/base/num.h"
#include "engine/plan/host_memory.h"

#include <stdio.h>

#define MIB ((uint64_t)1 << 20)

static const char DEFAULT[] = "512 MiB by default";

/* The stream's reading and copying, and the device's queue. */
int limits_threads(const refine_options *o) { return 3 + host_memory_workers(o); }

static uint64_t less_margin(uint64_t room) { return room - num_min(256 * MIB, room / 8); }

/* `left`: of what the process may have. */
static void set_host_ceiling(memory_limits *l, const refine_options *o, uint64_t left,
                             const char *by)
{
    const uint64_t usual = 512 * MIB;
    l->host = o->ram_bytes ? o->ram_bytes : num_min(usual, left);
    l->host_by = o->ram_bytes ? NULL : left < usual ? by : DEFAULT;
}

static void set_device_ceiling(memory_limits *l, const refine_options *o, uint64_t room,
                               const char *by)
{
    const uint64_t ceiling = o->vram_bytes;
    l->device = ceiling == 0 ? room : ceiling > l->overhead ? ceiling - l->overhead : 0;
    l->device_by = ceiling ? NULL : by;
}

/* A margin of a device's own memory stays free for the desktop. */
static uint64_t discrete_room(dev *d)
{
    const uint64_t margin = 256 * MIB, free_bytes = dev_memory_free(d);
    return free_bytes > margin ? free_bytes - margin : free_bytes / 2;
}

memory_limits limits_within(dev *d, const refine_options *o, memory_room room)
{
    memory_limits l = { .overhead = dev_overhead(d) };
    const uint64_t left = less_margin(room.bytes);

    if (dev_is_discrete(d)) {
        set_host_ceiling(&l, o, left, room.by);
        set_device_ceiling(&l, o, discrete_room(d), "free device memory");
    } else {
        set_host_ceiling(&l, o, left / 2, room.by);
        set_device_ceiling(&l, o, left > l.host ? left - l.host : left / 2, room.by);
    }
    return l;
}

memory_limits limits_find(dev *d, const refine_options *o)
{
    return limits_within(d, o, process_memory_room("", limits_threads(o)));
}

static double mib_up(uint64_t bytes) { return (double)((bytes + MIB - 1) / MIB); }

static refine_status fail_over_budget(refine_error *err, const char *what, const char *option,
                                      uint64_t limit, const char *by, uint64_t smallest,
                                      double step)
{
    char time[64] = "", set_by[64] = "";
    if (by)
        (void)snprintf(set_by, sizeof set_by, " (%s)", by);
    if (step > 0)
        (void)snprintf(time, sizeof time, " (then about %.*g s a step)", num_digits(step), step);
    return refine_fail(err, REFINE_EBUDGET,
                       "%s memory: this image needs at least %.0fM, the ceiling is %.0fM%s; "
                       "use %s %.0fM%s or a smaller image",
                       what, mib_up(smallest), (double)(limit / MIB), set_by, option,
                       mib_up(smallest), time);
}

refine_status limits_fail_device(const memory_limits *l, size_t smallest, double step,
                                 refine_error *err)
{
    return fail_over_budget(err, "device", "--vram", l->device + l->overhead, l->device_by,
                            smallest + l->overhead, step);
}

refine_status limits_fail_host(const memory_limits *l, size_t smallest, double step,
                               refine_error *err)
{
    return fail_over_budget(err, "host", "--ram", l->host, l->host_by, smallest, step);
}
