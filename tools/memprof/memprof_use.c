/* tools/memprof/memprof_use.c -- work over wall time, against the attainable rate. */
#include "tools/memprof/memprof_use.h"

#include "tools/memprof/memprof_timeline.h"

const char *const resource_names[RESOURCES] = { "disk", "decode", "link", "compute" };

static const refine_lane LANES[RESOURCES] = { REFINE_LANE_DISK, REFINE_LANE_DECODE,
                                              REFINE_LANE_COPY, REFINE_LANE_COMPUTE };

static double larger_rate(double a, double b) { return a > b ? a : b; }

/* Chunks differ in what they do to a byte, so the roof of compute is that of their mixture: all
 * operations over the time predicted for them, or over the time they took if that is less. */
static void add_compute(use *u, const recording *t, double from, double to)
{
    double planned = 0;
    for (size_t i = t->lane_at[REFINE_LANE_COMPUTE]; i < t->lane_at[REFINE_LANE_COMPUTE + 1]; i++) {
        const refine_event *v = &t->event[i];
        if (v->begin < from || v->begin >= to)
            continue;
        u->work[RESOURCE_COMPUTE] += t->chunk[v->chunk].flops;
        planned += t->chunk[v->chunk].seconds;
    }
    const double busy = u->busy[RESOURCE_COMPUTE], work = u->work[RESOURCE_COMPUTE];
    u->roof[RESOURCE_COMPUTE] = larger_rate(planned > 0 ? work / planned : 0,
                                            busy > 0 ? work / busy : 0);
}

use use_of(const recording *t)
{
    use u = { 0 };
    double from, to;
    const refine_rates *a = &t->report.rates, *m = &t->report.measured;
    if (!timeline_find(t, REFINE_LANE_PHASE, REFINE_DENOISING, &from, &to))
        return u;
    u.wall = to - from;
    for (int r = 0; r < RESOURCES; r++)
        u.busy[r] = timeline_busy(t, LANES[r], from, to);
    for (int r = 0; r < RESOURCE_COMPUTE; r++)
        u.work[r] = (double)timeline_bytes(t, LANES[r], from, to);
    u.roof[RESOURCE_DISK] = larger_rate(a->disk, m->disk);
    u.roof[RESOURCE_DECODE] = larger_rate(a->decode, m->decode);
    u.roof[RESOURCE_LINK] = larger_rate(a->copy, m->copy);
    add_compute(&u, t, from, to);
    for (int i = 0; i < 3; i++)
        u.stall[i] = timeline_busy(t, (refine_lane)(REFINE_LANE_STALL_DISK + i), from, to);
    for (int r = 0; r < RESOURCES; r++)
        if (u.busy[r] > u.busy[u.bound])
            u.bound = (resource)r;
    return u;
}

double use_rate(const use *u, resource r) { return u->wall > 0 ? u->work[r] / u->wall : 0.0; }

double use_reached(const use *u, resource r)
{
    const double share = u->roof[r] > 0 ? use_rate(u, r) / u->roof[r] : 0.0;
    return share < 1 ? share : 1.0;
}
