/* tests/offload/test_stream_guard.c -- who touches what lies beside a stream's memory is found. */
#include "engine/base/guard.h"
#include "offload/stream_state.h"
#include "tests/support/own_process.h"
#include "tests/support/stream_rig.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static void open_guarded(rig *r, dev *d)
{
    rig_open_pack(r, FIXTURE_MIXED);
    rig_configure(r, d, 3 << 20);
    r->c.guards = true;
    rig_open_stream(r);
}

/* Byte `at` behind the last slot. */
static void spoil_behind_slots(rig *r, size_t at)
{
    char *const end = r->s->staging + stream_staging_bytes(&r->c.chunks, r->c.slots, true);
    char *const byte = end - GUARD_MAX + at;
    guard_open(byte, 1);
    *byte ^= 1;
}

Test(offload_stream_guard, a_byte_written_behind_a_slot_fails_the_device_in_the_next_pause)
{
    for (size_t at = 0; at < GUARD_MAX; at += GUARD_MAX - 1) {
        char text[64];
        rig r;
        open_guarded(&r, dev_open_order(ORDER_RANDOM, 3));
        cr_assert(rig_play(&r, 1));
        stream_settle_times(r.s);
        cr_assert_eq(dev_status(r.d), REFINE_OK, "%s", dev_why(r.d));
        spoil_behind_slots(&r, at);
        stream_settle_times(r.s);
        cr_expect_eq(dev_status(r.d), REFINE_EDEVICE);
        (void)snprintf(text, sizeof text, "staging: byte %zu behind slot %d", at, r.c.slots - 1);
        cr_expect_not_null(strstr(dev_why(r.d), text), "%s", dev_why(r.d));
        rig_close(&r);
    }
}

Test(offload_stream_guard, slots_take_a_page_more_where_zones_are_asked_for)
{
    rig r;
    rig_open_pack(&r, FIXTURE_RAW);
    const size_t more = GUARDED ? 0 : 3 * PACK_ALIGN;
    cr_expect_eq(stream_staging_bytes(&r.c.chunks, 3, true),
                 stream_staging_bytes(&r.c.chunks, 3, false) + more);
    cr_expect_eq(stream_host_bytes(&r.c.chunks, 3, 1, true),
                 stream_host_bytes(&r.c.chunks, 3, 1, false) + more);
    rig_close(&r);
}

/* ---- the ring, where a sanitizer watches ---- */

typedef struct guarded_reading {
    rig *r;
    bool left;   /* after the use */
    size_t past; /* so many bytes behind the chunk's first */
} guarded_reading;

static bool read_one(const void *context)
{
    const guarded_reading *k = context;
    const dev_options o = { .compute = DT_F32, .threads = 1 };
    static rig r;
    open_guarded(&r, dev_open_ref(&o, &r.err));
    weights *w = stream_weights(r.s);
    const int chunk = r.schedule[0].first;
    const volatile char *at = w->acquire(w, chunk);
    (void)w->acquire(w, chunk + 1); /* it may lie behind */
    if (k->left)
        w->release(w, chunk);
    (void)at[k->past];
    return false;
}

Test(offload_stream_guard, what_is_no_chunk_of_a_visit_may_not_be_read)
{
    rig r;
    if (!GUARDED || !guard_watches())
        cr_skip_test("nobody watches");
    rig_open_pack(&r, FIXTURE_MIXED);
    const size_t bytes = pack_chunk_at(r.p, rig_pass(&r, TEXT, 1).first)->bytes;
    const guarded_reading last = { &r, false, bytes - 1 }, behind = { &r, false, bytes },
                          after = { &r, true, 0 };
    cr_expect_not(own_process_fails(read_one, &last, 60));
    cr_expect(own_process_fails(read_one, &behind, 60));
    cr_expect(own_process_fails(read_one, &after, 60));
    rig_close(&r);
}
