/* offload/stream_guard.c -- what of a stream's memory nobody may touch now.
 *
 *     staging   slot | zone | slot | zone ... | cache      as long as the stream is open
 *     ring      all but chunks from their copy to the end of their use
 *
 * The zones of staging are looked at in every pause.  The ring's memory is the device's: only where
 * that is the process's, and compute is done when the call returns, can a sanitizer be told.
 */
#include "engine/base/guard.h"
#include "offload/stream_state.h"

#include <stdio.h>

/* ---- staging ---- */

static char *slot_zone(const stream *s, int i)
{
    const size_t each = stream_staging_bytes(&s->chunks, 1, s->guards);
    return s->staging + (size_t)(i + 1) * each - guard_zone(s->guards);
}

static void check_slot_zone(stream *s, int i)
{
    const size_t bytes = guard_zone(s->guards);
    char *const zone = slot_zone(s, i), why[96];
    guard_open(zone, bytes);
    const size_t spoilt = guard_spoilt(zone, bytes);
    guard_shut(zone, bytes);
    if (spoilt == bytes)
        return;
    (void)snprintf(why, sizeof why, "staging: byte %zu behind slot %d was written", spoilt, i);
    dev_fail(s->d, REFINE_EDEVICE, why);
}

void stream_check_zones(stream *s)
{
    for (int i = 0; i < s->n_slots && s->guards; i++)
        check_slot_zone(s, i);
}

/* ---- the ring ---- */

static bool is_reachable(const stream *s)
{
    return GUARDED && !dev_is_discrete(s->d) && !dev_is_async(s->d);
}

void stream_let_in(const stream *s, const void *at, size_t bytes)
{
    if (is_reachable(s))
        guard_open(at, bytes);
}

void stream_shut_out(const stream *s, const void *at, size_t bytes)
{
    if (is_reachable(s))
        guard_shut(at, bytes);
}

/* ---- both ---- */

void stream_lay_zones(stream *s)
{
    for (int i = 0; i < s->n_slots && s->guards; i++) {
        guard_fill(slot_zone(s, i), guard_zone(s->guards));
        guard_shut(slot_zone(s, i), guard_zone(s->guards));
    }
    stream_shut_out(s, s->ring_base, s->ring_bytes);
}

void stream_lift_zones(stream *s)
{
    for (int i = 0; i < s->n_slots && s->guards && s->staging; i++)
        guard_open(slot_zone(s, i), guard_zone(s->guards));
    stream_let_in(s, s->ring_base, s->ring_bytes);
}
