/* offload/simulate.c -- the recurrence of simulate.h over a few steps; the last one counts. */
#include "offload/simulate.h"

#include "offload/ring.h"
#include "offload/stream.h"

#include <assert.h>

enum { STEPS = 4, SLOTS_MAX = 1024 };

/* What still lies in the ring; released: when compute was done with it. */
typedef struct simulated_transfer {
    uint64_t ring_end;
    double released;
} simulated_transfer;

typedef struct state {
    const simulate_config *c;
    ring r;
    simulated_transfer transfer_slot[STREAM_IN_FLIGHT_MAX]; /* transfers [reclaimed, taken) */
    uint64_t reclaimed, taken, group; /* the last: the first transfer of those inside */
    double slot_free[SLOTS_MAX];
    double disk, decode, copy, compute; /* when each is free */
    simulate_result sum;
} state;

static double later_time(double a, double b) { return a > b ? a : b; }
static double transfer_seconds(double bytes, double rate) { return rate > 0 ? bytes / rate : 0.0; }

/* When the ring has room for so many bytes. */
static double wait_for_room(state *s, size_t bytes)
{
    double room = 0;
    size_t at;
    uint64_t end;
    while (s->taken - s->reclaimed == STREAM_IN_FLIGHT_MAX ||
           !ring_alloc(&s->r, stream_span(bytes), &at, &end)) {
        assert(s->reclaimed < s->group && "the ring holds less than is multiplied together");
        const simulated_transfer *f = &s->transfer_slot[s->reclaimed++ % STREAM_IN_FLIGHT_MAX];
        ring_free(&s->r, f->ring_end);
        room = f->released;
    }
    s->transfer_slot[s->taken % STREAM_IN_FLIGHT_MAX].ring_end = end;
    return room;
}

/* Why compute waited from `since` until the copy had passed. */
static void count_stalls(simulate_result *r, double since, double disk, double decode, double copy)
{
    const double until_disk = later_time(disk, since),
                 until_decode = later_time(decode, until_disk);
    r->stall_disk += until_disk - since;
    r->stall_decode += until_decode - until_disk;
    r->stall_copy += later_time(copy, until_decode) - until_decode;
}

static void transfer_chunk(state *s, int chunk)
{
    const simulate_config *c = s->c;
    const pack_chunk *k = pack_chunk_at(c->p, chunk);
    double *slot = &s->slot_free[s->taken % (uint64_t)c->slots];
    const bool cached = c->cached && c->cached[chunk];
    double here = *slot;

    if (!cached) {
        here = s->disk = later_time(s->disk, *slot) + transfer_seconds(k->stored_bytes, c->disk);
        s->decode = later_time(s->decode, s->disk) + transfer_seconds(k->bytes, c->decode);
    }
    const double disk = here, decoded = cached ? here : s->decode;
    const double room = wait_for_room(s, k->bytes);
    s->copy = later_time(later_time(s->copy, decoded), room) + transfer_seconds(k->bytes, c->copy);
    *slot = s->copy;
    count_stalls(&s->sum, s->compute, disk, decoded, later_time(s->copy, s->compute));
    s->compute = later_time(s->compute, s->copy);
    s->taken++;
}

/* Chunks [first, end) are multiplied together. */
static void compute_group(state *s, int first, int end)
{
    const simulate_config *c = s->c;
    double seconds = 0;
    s->group = s->taken;
    for (int i = first; i < end; i++) {
        if (!c->resident || !c->resident[i])
            transfer_chunk(s, i);
        seconds += c->seconds[i];
    }
    s->sum.compute += seconds;
    s->compute += seconds;
    for (uint64_t t = s->group; t < s->taken; t++)
        s->transfer_slot[t % STREAM_IN_FLIGHT_MAX].released = s->compute;
}

static void simulate_passes(state *s)
{
    const simulate_config *c = s->c;
    const double begin = s->compute;

    s->sum = (simulate_result){ 0 };
    for (int pass = 0; pass < c->passes; pass++)
        for (int i = c->first, end; i < c->end; i = end) {
            end = pack_group_end(c->p, i, c->together);
            compute_group(s, i, end);
        }
    s->sum.step = s->compute - begin;
}

simulate_result simulate_step(const simulate_config *c)
{
    state s = { .c = c };
    assert(c->slots > 0 && c->slots <= SLOTS_MAX);
    ring_open(&s.r, c->ring_bytes);
    for (int i = 0; i < STEPS; i++)
        simulate_passes(&s);
    return s.sum;
}
