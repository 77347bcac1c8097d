/* tests/offload/test_stream_failure.c -- every failure ends in one status, and nothing is left. */
#define _POSIX_C_SOURCE 200809L
#include "engine/base/mem.h"
#include "tests/support/stream_rig.h"
#include "tests/support/trouble.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- what the world does ---- */

static void rig_trouble(rig *r, trouble *t, reader_calls *calls, int which, int o)
{
    *calls = trouble_calls(t);
    rig_configure(r, dev_open_order((order)o, 1), 2 << 20);
    r->c.reader = which;
    r->c.calls = calls;
    rig_open_stream(r);
}

Test(offload_stream_failure, short_and_interrupted_reads_change_nothing)
{
    reader_calls calls;
    rig r;
    rig_open_pack(&r, FIXTURE_MIXED);
    for (int which = 0; which <= 2; which += 2)
        for (int kind = TROUBLE_SHORT; kind <= TROUBLE_INTERRUPTED; kind++) {
            trouble t = { .at = -1, .kind = (trouble_kind)kind };
            rig_trouble(&r, &t, &calls, which, ORDER_RANDOM);
            cr_assert(rig_play(&r, 1), "%s", dev_why(r.d));
            rig_expect_right(&r, 1);
            rig_stop(&r);
        }
    rig_close(&r);
}

Test(offload_stream_failure, each_failing_read_ends_the_run_with_a_text)
{
    int failed = 0;
    reader_calls calls;
    rig r;
    rig_open_pack(&r, FIXTURE_MIXED);
    for (int which = 0; which <= 2; which += 2)
        for (int at = 0; at < 60; at++) {
            trouble t = { .at = at, .kind = at % 2 ? TROUBLE_FAILS : TROUBLE_ENDS };
            rig_trouble(&r, &t, &calls, which, at % N_ORDERS);
            if (rig_play(&r, 1)) {
                rig_expect_right(&r, 1);
            } else {
                failed++;
                cr_assert_eq(dev_status(r.d), REFINE_EIO);
                cr_assert(strstr(dev_why(r.d), "cannot be read"), "%s", dev_why(r.d));
                cr_assert_eq(stream_restart(r.s), REFINE_EIO);
            }
            rig_stop(&r);
        }
    cr_assert_gt(failed, 60, "only %d runs failed", failed);
    rig_close(&r);
}

Test(offload_stream_failure, a_flipped_bit_in_any_chunk_is_found)
{
    for (int codec = FIXTURE_RAW; codec <= FIXTURE_MIXED; codec++) {
        rig r;
        rig_open_pack(&r, (fixture_codec)codec);
        for (int c = rig_pass(&r, TEXT, 1).first; c < rig_pass(&r, VAE, 1).end; c++) {
            rig_configure(&r, dev_open_order((order)(c % N_ORDERS), 1), 2 << 20);
            rig_flip(&r, c);
            rig_open_stream(&r);
            cr_assert_not(rig_play(&r, 1), "chunk %d", c);
            cr_assert_eq(dev_status(r.d), REFINE_EFORMAT);
            cr_assert(strstr(dev_why(r.d), "refine-pack --verify"), "%s", dev_why(r.d));
            rig_stop(&r);
            pack_fixture_write(&r.f);
        }
        rig_close(&r);
    }
}

Test(offload_stream_failure, a_pack_that_shrinks_while_it_is_read_is_found)
{
    for (int which = 0; which <= 2; which += 2) {
        rig r;
        rig_open_pack(&r, FIXTURE_RAW);
        rig_configure(&r, dev_open_order(ORDER_EAGER, 1), 2 << 20);
        r.c.reader = which;
        const pack_chunk *c = pack_chunk_at(r.p, r.schedule[2].end - 2);
        cr_assert_eq(truncate(r.f.path, (off_t)(c->file_at + 100)), 0);
        rig_open_stream(&r);
        cr_assert_not(rig_play(&r, 1));
        cr_assert(strstr(dev_why(r.d), "the file ended"), "%s", dev_why(r.d));
        rig_close(&r);
    }
}

Test(offload_stream_failure, a_device_that_fails_in_the_middle_stops_everything)
{
    rig r;
    rig_open_pack(&r, FIXTURE_RAW);
    for (int o = 0; o < N_ORDERS; o++)
        for (int at = 0; at < 12; at++) {
            rig_configure(&r, dev_open_order((order)o, 1), 2 << 20);
            rig_open_stream(&r);
            weights *w = stream_weights(r.s);
            int n = 0;
            for (int p = 0; p < 4; p++)
                for (int c = r.schedule[p].first; c < r.schedule[p].end; c++, n++) {
                    if (n == at)
                        dev_fail(r.d, REFINE_EDEVICE, "pulled out");
                    const void *got = w->acquire(w, c);
                    cr_assert_eq(got == NULL, n >= at);
                    w->release(w, c);
                }
            cr_assert_eq(stream_restart(r.s), REFINE_EDEVICE);
            cr_assert_str_eq(dev_why(r.d), "pulled out");
            rig_stop(&r);
        }
    rig_close(&r);
}

Test(offload_stream_failure, a_ring_too_small_for_what_is_inside_fails_and_does_not_hang)
{
    rig r;
    rig_open_pack(&r, FIXTURE_RAW);
    rig_configure(&r, dev_open_order(ORDER_EAGER, 1), stream_span(pack_biggest(r.p)));
    rig_open_stream(&r);
    cr_assert_not(rig_play(&r, 6));
    cr_assert_eq(dev_status(r.d), REFINE_EINVAL);
    cr_assert(strstr(dev_why(r.d), "too small"), "%s", dev_why(r.d));
    rig_close(&r);
}

Test(offload_stream_failure, a_chunk_larger_than_the_ring_is_refused)
{
    rig r;
    rig_open_pack(&r, FIXTURE_RAW);
    rig_configure(&r, dev_open_order(ORDER_EAGER, 1), 1 << 20);
    cr_assert_eq(stream_open(&r.s, &r.c, &r.err), REFINE_EBUDGET);
    cr_assert_null(r.s);
    rig_close(&r);
}

/* ---- what the machine refuses ---- */

/* A thread's start takes memory, so this fails each of them too. */
Test(offload_stream_failure, each_failing_allocation_or_thread_leaves_nothing_behind)
{
    rig r;
    rig_open_pack(&r, FIXTURE_MIXED);
    for (int which = 0; which <= 2; which += 2) {
        rig_configure(&r, dev_open_order(ORDER_EAGER, 1), 2 << 20);
        r.c.reader = which;
        const uint64_t before = mem_used().now;
        int refused = 0;
        for (long k = 0;; k++) {
            mem_fail_after(k, MEM_FAIL_ONCE);
            const refine_status st = stream_open(&r.s, &r.c, &r.err);
            const bool is_whole = mem_fail_after(-1, MEM_FAIL_ONCE); /* the fault was not reached */
            cr_assert(st == REFINE_OK || st == REFINE_ENOMEM, "%s", r.err.text);
            cr_assert_eq(r.s != NULL, st == REFINE_OK);
            refused += st != REFINE_OK;
            stream_close(r.s);
            r.s = NULL;
            cr_assert_eq(mem_used().now, before);
            cr_assert_eq(order_device_live(r.d), 2);
            if (is_whole)
                break;
        }
        cr_assert_geq(refused, 14, "only %d refused", refused);
        rig_stop(&r);
    }
    rig_close(&r);
}

Test(offload_stream_failure, each_failing_device_allocation_leaves_nothing_behind)
{
    rig r;
    rig_open_pack(&r, FIXTURE_MIXED);
    rig_configure(&r, dev_open_order(ORDER_EAGER, 1), 2 << 20);
    const uint64_t before = mem_used().now;
    for (int k = 0; k < 2000; k += k < 8 ? 1 : 97) {
        order_device_fail_after(r.d, k);
        const refine_status st = stream_open(&r.s, &r.c, &r.err);
        order_device_fail_after(r.d, -1);
        stream_close(r.s);
        r.s = NULL;
        cr_assert(st == REFINE_OK || st == REFINE_ENOMEM);
        cr_assert_eq(order_device_live(r.d), 2);
        cr_assert_eq(mem_used().now, before);
        if (st == REFINE_OK)
            break;
    }
    rig_close(&r);
}

Test(offload_stream_failure, it_takes_what_it_said_and_nothing_after_opening)
{
    const dev_options o = { .compute = DT_F32, .threads = 1 };
    for (int codec = FIXTURE_RAW; codec <= FIXTURE_MIXED; codec++) {
        rig r;
        rig_open_pack(&r, (fixture_codec)codec);
        rig_configure(&r, dev_open_ref(&o, &r.err), 2 << 20);
        const uint64_t before = mem_used().now;
        rig_open_stream(&r);
        const mem_usage after = mem_used();
        cr_assert_leq(after.now - before,
                      stream_host_bytes(&r.c.chunks, r.c.slots, r.c.workers, false));
        cr_assert_geq(after.now - before, stream_staging_bytes(&r.c.chunks, r.c.slots, false));
        weights *w = stream_weights(r.s);
        for (int c = r.schedule[0].first; c < r.schedule[0].end; c++) {
            (void)w->acquire(w, c);
            w->release(w, c);
        }
        cr_assert_eq(stream_restart(r.s), REFINE_OK);
        cr_assert_eq(mem_used().calls, after.calls);
        rig_close(&r);
        cr_assert_leq(mem_used().now, before);
    }
}
