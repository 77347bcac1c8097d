/* tests/offload/test_stream.c -- every byte, in every order of events.
 *
 * The device (tests/support/order_device.h) runs copies and compute as early or as late as
 * its contract allows, so a wait that is missing from the stream is a wrong byte here.
 * ref, with a real copy thread, is there for the thread sanitizer.
 */
#include "engine/base/num.h"
#include "tests/support/stream_rig.h"

#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

/* ---- the bytes are right ---- */

Test(offload_stream, every_order_codec_and_reader_gives_the_same_bytes)
{
    for (int codec = FIXTURE_RAW; codec <= FIXTURE_MIXED; codec++) {
        rig r;
        rig_open_pack(&r, (fixture_codec)codec);
        for (int o = 0; o < N_ORDERS; o++)
            for (int which = 0; which <= 2; which += 2) { /* io_uring where it is allowed */
                rig_configure(&r, dev_open_order((order)o, 7), 3 << 20);
                r.c.reader = which;
                rig_open_stream(&r);
                cr_assert(rig_play(&r, 1), "%s", dev_why(r.d));
                rig_expect_right(&r, 1);
                rig_stop(&r);
            }
        rig_close(&r);
    }
}

Test(offload_stream, every_ring_slots_and_workers_give_the_same_bytes)
{
    rig r;
    rig_open_pack(&r, FIXTURE_MIXED);
    const size_t least = stream_span(pack_biggest(r.p));
    for (int ring = 0; ring < 4; ring++)
        for (int slots = 2; slots <= 5; slots += 3)
            for (int workers = 1; workers <= 3; workers += 2)
                for (int o = 0; o < N_ORDERS; o++) {
                    rig_configure(&r, dev_open_order((order)o, (unsigned)(ring + slots)),
                                  least + (size_t)ring * (least / 3));
                    r.c.slots = slots;
                    r.c.workers = workers;
                    rig_open_stream(&r);
                    cr_assert(rig_play(&r, 1), "%s", dev_why(r.d));
                    rig_expect_right(&r, 1);
                    rig_stop(&r);
                }
    rig_close(&r);
}

Test(offload_stream, several_chunks_may_be_inside_in_the_smallest_ring)
{
    rig r;
    rig_open_pack(&r, FIXTURE_RAW);
    for (int inside = 1; inside <= 6; inside++)
        for (int o = 0; o < N_ORDERS; o++) {
            rig_configure(&r, dev_open_order((order)o, 1), 256);
            rig_resize(&r, stream_ring_min(r.p, rig_biggest_group(&r, inside)));
            r.c.slots = 2;
            rig_open_stream(&r);
            cr_assert(rig_play(&r, inside), "%d inside: %s", inside, dev_why(r.d));
            rig_expect_right(&r, 1);
            rig_stop(&r);
        }
    rig_close(&r);
}

Test(offload_stream, a_real_copy_thread_brings_the_same_bytes)
{
    const dev_options o = { .compute = DT_F32, .threads = 1 };
    rig r;
    rig_open_pack(&r, FIXTURE_MIXED);
    rig_configure(&r, dev_open_ref(&o, &r.err), 2 << 20);
    r.c.workers = 3;
    rig_open_stream(&r);
    for (int run = 0; run < 4; run++) {
        rig_compare_in_place(&r);
        cr_assert_eq(stream_restart(r.s), REFINE_OK);
    }
    rig_close(&r);
}

/* ---- residents ---- */

static int n_residents(const rig *r)
{
    int n = 0;
    for (int i = 0; i < n_pack_chunks(r->p); i++)
        n += r->resident[i];
    return n;
}

Test(offload_stream, residents_travel_once_and_stay_over_a_restart)
{
    rig r;
    rig_open_pack(&r, FIXTURE_MIXED);
    for (int o = 0; o < N_ORDERS; o++) {
        rig_configure(&r, dev_open_order((order)o, 3), 2 << 20);
        rig_make_resident(&r);
        rig_open_stream(&r);
        cr_assert(rig_play(&r, 2));
        const stream_stats one = stream_get_stats(r.s);
        const int in_unet = n_residents(&r) - 1;
        cr_assert_eq(one.resident_hits, (uint64_t)(in_unet * (STEPS - 1)));
        cr_assert_eq(one.chunks + one.resident_hits, (uint64_t)rig_uses(&r));

        cr_assert_eq(stream_restart(r.s), REFINE_OK);
        cr_assert(rig_play(&r, 2));
        const stream_stats two = stream_get_stats(r.s);
        cr_assert_eq(two.resident_hits - one.resident_hits, (uint64_t)(in_unet * STEPS + 1));
        rig_expect_right(&r, 2);
        rig_stop(&r);
    }
    rig_close(&r);
}

/* The ring may be empty, and start at its beginning again, while a resident is still inside. */
Test(offload_stream, residents_do_not_mind_any_size_of_the_ring)
{
    rig r;
    rig_open_pack(&r, FIXTURE_RAW);
    const size_t least = stream_span(pack_biggest(r.p));
    for (int o = 0; o < N_ORDERS; o++)
        for (size_t ring = least; ring < 2 * least; ring += least / 16) {
            rig_configure(&r, dev_open_order((order)o, 3), ring);
            rig_make_resident(&r);
            rig_open_stream(&r);
            cr_assert(rig_play(&r, 1), "%s", dev_why(r.d));
            rig_expect_right(&r, 1);
            rig_stop(&r);
        }
    rig_close(&r);
}

Test(offload_stream, dropped_residents_travel_again)
{
    rig r;
    rig_open_pack(&r, FIXTURE_RAW);
    rig_configure(&r, dev_open_order(ORDER_RANDOM, 3), 2 << 20);
    rig_make_resident(&r);
    rig_open_stream(&r);
    for (int p = 0; p < 3; p++)
        for (int k = 0; k < r.schedule[p].passes; k++)
            cr_assert(rig_use(&r, r.schedule[p].first, r.schedule[p].end, 1));
    int reads, wrong;
    order_device_finish(r.d, &reads, &wrong);
    stream_drop_residents(r.s);
    memset(r.residents, 0x55, r.residents_bytes);
    cr_assert(rig_use(&r, r.schedule[3].first, r.schedule[3].end, 1));

    const uint64_t before = stream_get_stats(r.s).resident_hits;
    cr_assert_eq(stream_restart(r.s), REFINE_OK);
    cr_assert(rig_play(&r, 1));
    cr_assert_eq(stream_get_stats(r.s).resident_hits, 2 * before);
    rig_expect_right(&r, 2);
    rig_close(&r);
}

Test(offload_stream, everything_may_be_resident)
{
    rig r;
    rig_open_pack(&r, FIXTURE_SPLIT);
    rig_configure(&r, dev_open_order(ORDER_LATE, 3), 256);
    for (int i = 0; i < n_pack_chunks(r.p); i++)
        r.resident[i] = true;
    rig_open_stream(&r);
    for (int run = 0; run < 3; run++) {
        cr_assert(rig_play(&r, 4));
        cr_assert_eq(stream_restart(r.s), REFINE_OK);
    }
    rig_expect_right(&r, 3);
    rig_close(&r);
}

/* ---- restarting and closing early ---- */

Test(offload_stream, a_restart_in_the_middle_begins_at_the_beginning)
{
    rig r;
    rig_open_pack(&r, FIXTURE_MIXED);
    for (int o = 0; o < N_ORDERS; o++)
        for (int n = 0; n < rig_uses(&r) || n == 0; n += 5) {
            rig_configure(&r, dev_open_order((order)o, (unsigned)n), 2 << 20);
            if (n % 2)
                rig_make_resident(&r);
            rig_open_stream(&r);
            rig_expect_restart(&r, n);
            rig_stop(&r);
        }
    rig_close(&r);
}

Test(offload_stream, it_closes_at_any_moment)
{
    rig r;
    rig_open_pack(&r, FIXTURE_MIXED);
    for (int o = 0; o < N_ORDERS; o++)
        for (int n = 0; n < 8; n++) {
            rig_configure(&r, dev_open_order((order)o, 1), 2 << 20);
            rig_open_stream(&r);
            rig_begin_to_play(&r, n);
            if (n == 3) /* the next one stays inside */
                (void)stream_weights(r.s)->acquire(stream_weights(r.s), r.schedule[2].first);
            stream_close(r.s);
            r.s = NULL;
            cr_assert_eq(order_device_live(r.d), 2, "the ring and the residents");
            rig_stop(&r);
        }
    rig_close(&r);
}

/* ---- our bugs ---- */

Test(offload_stream, a_visit_out_of_order_is_our_bug, .signal = 6)
{
    rig r;
    rig_open_pack(&r, FIXTURE_RAW);
    rig_configure(&r, dev_open_order(ORDER_EAGER, 1), 2 << 20);
    rig_open_stream(&r);
    (void)unlink(r.f.path);
    weights *w = stream_weights(r.s);
    (void)w->acquire(w, r.schedule[0].first + 1);
}

Test(offload_stream, dropping_residents_that_are_still_needed_is_our_bug, .signal = 6)
{
    rig r;
    rig_open_pack(&r, FIXTURE_RAW);
    rig_configure(&r, dev_open_order(ORDER_EAGER, 1), 2 << 20);
    rig_make_resident(&r);
    rig_open_stream(&r);
    (void)unlink(r.f.path);
    stream_drop_residents(r.s);
}
