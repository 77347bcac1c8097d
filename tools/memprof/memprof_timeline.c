/* tools/memprof/memprof_timeline.c -- spans clipped, merged where they overlap, and spread over
 * columns. */
#include "tools/memprof/memprof_timeline.h"

#include "engine/base/mem.h"

#include <assert.h>
#include <string.h>

/* Calls `f` with the disjoint stretches of [from, to] in which the lane is busy, by time. */
static void each_stretch(const recording *t, refine_lane lane, double from, double to,
                         void (*f)(void *, double, double), void *context)
{
    double done = from;
    for (size_t i = t->lane_at[lane]; i < t->lane_at[lane + 1]; i++) {
        const refine_event *v = &t->event[i];
        const double begin = v->begin > done ? v->begin : done;
        const double end = v->end < to ? v->end : to;
        if (v->begin >= to)
            return;
        if (end > begin) {
            f(context, begin, end);
            done = end;
        }
    }
}

static void add_seconds(void *sum, double begin, double end) { *(double *)sum += end - begin; }

double timeline_busy(const recording *t, refine_lane lane, double from, double to)
{
    double sum = 0;
    each_stretch(t, lane, from, to, add_seconds, &sum);
    return sum;
}

uint64_t timeline_bytes(const recording *t, refine_lane lane, double from, double to)
{
    uint64_t sum = 0;
    for (size_t i = t->lane_at[lane]; i < t->lane_at[lane + 1]; i++)
        if (t->event[i].begin >= from && t->event[i].begin < to)
            sum += t->event[i].bytes;
    return sum;
}

bool timeline_find(const recording *t, refine_lane lane, int which, double *from, double *to)
{
    for (size_t i = t->lane_at[lane]; i < t->lane_at[lane + 1]; i++)
        if (t->event[i].chunk == which && t->event[i].end > t->event[i].begin) {
            *from = t->event[i].begin;
            *to = t->event[i].end;
            return true;
        }
    return false;
}

static uint64_t sum_owner_bytes(const uint64_t bytes[DEVICE_OWNERS])
{
    uint64_t sum = 0;
    for (int i = 0; i < DEVICE_OWNERS; i++)
        sum += bytes[i];
    return sum;
}

uint64_t timeline_peak(const trace_samples *s)
{
    uint64_t most = 0;
    for (size_t i = 0; i < s->n; i++)
        most = sum_owner_bytes(s->v[i].bytes) > most ? sum_owner_bytes(s->v[i].bytes) : most;
    return most;
}

/* ---- columns ---- */

typedef struct spread {
    double from, width; /* of a column */
    int columns;
    double *share;
} spread;

static int column_at(const spread *s, double at)
{
    const double c = (at - s->from) / s->width;
    return c >= s->columns ? s->columns - 1 : c > 0 ? (int)c : 0;
}

static void spread_stretch(void *context, double begin, double end)
{
    spread *s = context;
    const int last = column_at(s, end);
    for (int c = column_at(s, begin); c <= last; c++) {
        const double left = s->from + c * s->width, right = left + s->width;
        const double b = begin > left ? begin : left, e = end < right ? end : right;
        if (e > b)
            s->share[c] += (e - b) / s->width;
    }
}

static void keep_larger(uint64_t to[DEVICE_OWNERS], const uint64_t from[DEVICE_OWNERS])
{
    if (sum_owner_bytes(from) > sum_owner_bytes(to))
        memcpy(to, from, DEVICE_OWNERS * sizeof *to);
}

/* A sample holds until the next. */
static void fill_memory(uint64_t (*columns)[DEVICE_OWNERS], const spread *s,
                        const trace_samples *list, double to)
{
    for (size_t i = 0; i < list->n; i++) {
        const trace_sample *v = &list->v[i];
        const double until = i + 1 < list->n ? list->v[i + 1].at : to;
        if (until < s->from || v->at > to)
            continue;
        const int last = column_at(s, until < to ? until : to);
        for (int c = column_at(s, v->at); c <= last; c++)
            if (c < last || until > s->from + c * s->width || c == column_at(s, v->at))
                keep_larger(columns[c], v->bytes);
    }
}

timeline *timeline_of(const recording *t, double from, double to, int columns)
{
    assert(columns > 0 && columns <= TIMELINE_COLUMNS_MAX && to > from);
    timeline *out = mem_calloc(1, sizeof *out);
    if (!out)
        return NULL;
    out->from = from;
    out->to = to;
    out->columns = columns;
    spread s = { .from = from, .width = (to - from) / columns, .columns = columns };
    for (int l = 0; l < TIMELINE_LANES; l++) {
        s.share = out->share[l];
        each_stretch(t, (refine_lane)l, from, to, spread_stretch, &s);
    }
    fill_memory(out->device, &s, &t->device, to);
    fill_memory(out->host, &s, &t->host, to);
    return out;
}
