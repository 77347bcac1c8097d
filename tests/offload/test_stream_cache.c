/* tests/offload/test_stream_cache.c -- weights kept in host memory. */
#include "engine/base/mem.h"
#include "tests/support/stream_rig.h"

#include <criterion/criterion.h>

static int n_set(const bool *b, stream_pass p)
{
    int n = 0;
    for (int i = p.first; i < p.end; i++)
        n += b[i];
    return n;
}

static uint64_t stored_of_streamed(const rig *r, stream_pass p)
{
    bool streamed[FIXTURE_CHUNKS] = { false };
    for (int i = p.first; i < p.end; i++)
        streamed[i] = !r->resident[i] && !r->cached[i];
    return rig_stored(r, streamed, p);
}

typedef struct expected {
    uint64_t disk, hits;
} expected;

/* What a run reads, and how often it finds a chunk in the cache: the first one, or a later
 * one. */
static expected expected_run_reads(const rig *r, bool first)
{
    expected e = { 0 };
    for (int p = 0; p < r->c.n_passes; p++) {
        const stream_pass s = r->schedule[p];
        e.disk += (uint64_t)s.passes * stored_of_streamed(r, s);
        e.disk += first ? rig_stored(r, r->cached, s) + rig_stored(r, r->resident, s) : 0;
        e.hits += (uint64_t)n_set(r->cached, s) * (uint64_t)(s.passes - first);
    }
    return e;
}

static void expect_moved(const rig *r, stream_stats before, bool first)
{
    const stream_stats now = stream_get_stats(r->s);
    const expected e = expected_run_reads(r, first);
    cr_assert_eq(now.disk_bytes - before.disk_bytes, e.disk, "%zu bytes read, not %zu",
                 (size_t)(now.disk_bytes - before.disk_bytes), (size_t)e.disk);
    cr_assert_eq(now.cache_hits - before.cache_hits, e.hits, "%zu hits, not %zu",
                 (size_t)(now.cache_hits - before.cache_hits), (size_t)e.hits);
}

/* Three runs: the first one fills the cache. */
static void play_cached(rig *r)
{
    stream_stats before = { 0 };
    rig_open_stream(r);
    for (int run = 0; run < 3; run++) {
        if (run > 0)
            cr_assert_eq(stream_restart(r->s), REFINE_OK);
        cr_assert(rig_play(r, 2), "%s", dev_why(r->d));
        expect_moved(r, before, run == 0);
        before = stream_get_stats(r->s);
    }
    rig_expect_right(r, 3);
}

Test(offload_stream_cache, cached_chunks_are_read_once_and_come_from_memory_after)
{
    for (int codec = FIXTURE_RAW; codec <= FIXTURE_MIXED; codec++) {
        rig r;
        rig_open_pack(&r, (fixture_codec)codec);
        for (int o = 0; o < N_ORDERS; o++)
            for (int which = 0; which <= 2; which += 2) {
                rig_configure(&r, dev_open_order((order)o, 5), 3 << 20);
                rig_make_cached(&r);
                r.c.reader = which;
                play_cached(&r);
                rig_stop(&r);
            }
        rig_close(&r);
    }
}

Test(offload_stream_cache, residents_and_cached_chunks_get_along)
{
    for (int codec = FIXTURE_RAW; codec <= FIXTURE_MIXED; codec += FIXTURE_MIXED) {
        rig r;
        rig_open_pack(&r, (fixture_codec)codec);
        for (int o = 0; o < N_ORDERS; o++) {
            rig_configure(&r, dev_open_order((order)o, 5), 3 << 20);
            rig_make_resident(&r);
            rig_make_cached(&r);
            cr_assert_gt(n_set(r.cached, r.schedule[2]), 0);
            play_cached(&r);
            rig_stop(&r);
        }
        rig_close(&r);
    }
}

Test(offload_stream_cache, a_cache_of_everything_needs_the_disk_once)
{
    rig r;
    rig_open_pack(&r, FIXTURE_MIXED);
    rig_configure(&r, dev_open_order(ORDER_RANDOM, 5), 3 << 20);
    for (int i = r.schedule[0].first; i < r.schedule[3].end; i++)
        r.cached[i] = true;
    rig_open_stream(&r);
    cr_assert(rig_play(&r, 1));
    const stream_stats one = stream_get_stats(r.s);
    pack_fixture_free(&r.f); /* and the file's bytes are of no use any more */
    cr_assert_eq(stream_restart(r.s), REFINE_OK);
    for (int p = 0; p < r.c.n_passes; p++)
        for (int k = 0; k < r.schedule[p].passes; k++)
            for (int c = r.schedule[p].first; c < r.schedule[p].end; c++) {
                weights *w = stream_weights(r.s);
                cr_assert_not_null(w->acquire(w, c));
                w->release(w, c);
            }
    const stream_stats two = stream_get_stats(r.s);
    cr_assert_eq(two.disk_bytes, one.disk_bytes);
    cr_assert_eq(two.decoded_bytes, one.decoded_bytes);
    cr_assert_eq(two.copied_bytes, 2 * one.copied_bytes);
    cr_assert_eq(two.cache_hits - one.cache_hits, (uint64_t)rig_uses(&r));
    rig_close(&r);
}

/* With few chunks travelling and many slots, the next pass begins before this one's chunk has
 * come. */
Test(offload_stream_cache, a_cached_chunk_is_never_read_twice_at_once)
{
    for (int codec = FIXTURE_RAW; codec <= FIXTURE_MIXED; codec++) {
        rig r;
        rig_open_pack(&r, (fixture_codec)codec);
        for (int o = 0; o < N_ORDERS; o++)
            for (int which = 0; which <= 2; which += 2) {
                rig_configure(&r, dev_open_order((order)o, 5), 3 << 20);
                for (int i = r.schedule[2].first + 2; i < r.schedule[2].end; i++)
                    r.resident[i] = true;
                r.cached[r.schedule[2].first] = r.cached[r.schedule[2].first + 1] = true;
                r.schedule[0] = r.schedule[1] = r.schedule[3] = (stream_pass){ 0 };
                r.schedule[2].passes = 12;
                r.c.slots = 16;
                r.c.reader = which;
                play_cached(&r);
                rig_stop(&r);
            }
        rig_close(&r);
    }
}

Test(offload_stream_cache, a_restart_in_the_middle_keeps_what_is_cached)
{
    rig r;
    rig_open_pack(&r, FIXTURE_MIXED);
    for (int o = 0; o < N_ORDERS; o++)
        for (int n = 0; n < rig_uses(&r) || n == 0; n += 7) {
            rig_configure(&r, dev_open_order((order)o, (unsigned)n), 3 << 20);
            rig_make_cached(&r);
            rig_open_stream(&r);
            rig_expect_restart(&r, n);

            const stream_stats before = stream_get_stats(r.s);
            cr_assert_eq(stream_restart(r.s), REFINE_OK);
            cr_assert(rig_play(&r, 1), "%s", dev_why(r.d));
            expect_moved(&r, before, false);
            rig_stop(&r);
        }
    rig_close(&r);
}

Test(offload_stream_cache, a_real_copy_thread_brings_cached_bytes)
{
    const dev_options o = { .compute = DT_F32, .threads = 1 };
    rig r;
    rig_open_pack(&r, FIXTURE_MIXED);
    rig_configure(&r, dev_open_ref(&o, &r.err), 2 << 20);
    rig_make_cached(&r);
    r.c.workers = 3;
    r.c.slots = 8;
    rig_open_stream(&r);
    for (int run = 0; run < 4; run++) {
        rig_compare_in_place(&r);
        cr_assert_eq(stream_restart(r.s), REFINE_OK);
    }
    rig_close(&r);
}

Test(offload_stream_cache, a_cache_takes_what_it_said)
{
    const dev_options o = { .compute = DT_F32, .threads = 1 };
    rig r;
    rig_open_pack(&r, FIXTURE_MIXED);
    rig_configure(&r, dev_open_ref(&o, &r.err), 2 << 20);
    rig_make_cached(&r);
    size_t cache = 0;
    for (int i = 0; i < n_pack_chunks(r.p); i++)
        cache += r.cached[i] ? stream_cached_bytes(pack_chunk_at(r.p, i)) : 0;
    const uint64_t before = mem_used().now;
    rig_open_stream(&r);
    const uint64_t taken = mem_used().now - before;
    cr_assert_leq(taken, stream_host_bytes(&r.c.chunks, r.c.slots, r.c.workers, false) + cache);
    cr_assert_geq(taken, stream_staging_bytes(&r.c.chunks, r.c.slots, false) + cache);
    const uint64_t calls = mem_used().calls;
    rig_compare_in_place(&r);
    cr_assert_eq(stream_restart(r.s), REFINE_OK);
    cr_assert_eq(mem_used().calls, calls);
    rig_close(&r);
}
