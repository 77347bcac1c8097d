/* tests/offload/test_stream_packs.c -- the chunks of two packs, one after the other in one stream.
 *
 * Residents of both lie in the same memory, and so do their cached chunks: what is brought there
 * before compute has come to its pack, or before the compute or a copy that still reads what lies
 * there, is a wrong byte on a device that runs its queues as early or as late as it may.
 */
#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "tests/support/stream_rig.h"

#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

static void open_two_packs(rig *r, fixture_codec first, fixture_codec second)
{
    rig_open_pack(r, first);
    rig_open_second_pack(r, second);
}

/* ---- the bytes are right ---- */

/* Both packs from their beginning to their end, so many times. */
static void play_both(rig *r, int runs, int inside)
{
    rig_open_stream(r);
    for (int run = 0; run < runs; run++) {
        if (run > 0)
            cr_assert_eq(stream_restart(r->s), REFINE_OK);
        cr_assert(rig_play(r, inside), "%s", dev_why(r->d));
    }
    rig_expect_right(r, runs);
}

Test(offload_stream_packs, every_order_codec_and_reader_gives_the_bytes_of_both)
{
    for (int codec = FIXTURE_RAW; codec <= FIXTURE_MIXED; codec++) {
        rig r;
        open_two_packs(&r, (fixture_codec)codec, (fixture_codec)(FIXTURE_MIXED - codec));
        for (int o = 0; o < N_ORDERS; o++)
            for (int which = 0; which <= 2; which += 2) {
                rig_configure(&r, dev_open_order((order)o, 7), 3 << 20);
                r.c.reader = which;
                play_both(&r, 2, 1);
                rig_stop(&r);
            }
        rig_close(&r);
    }
}

Test(offload_stream_packs, residents_and_cached_chunks_of_both_have_the_same_places)
{
    for (int codec = FIXTURE_RAW; codec <= FIXTURE_MIXED; codec += FIXTURE_MIXED) {
        rig r;
        open_two_packs(&r, (fixture_codec)codec, FIXTURE_MIXED);
        for (int o = 0; o < N_ORDERS; o++)
            for (int tiers = 1; tiers <= 3; tiers++)
                for (int slots = 2; slots <= 12; slots += 10) {
                    rig_configure(&r, dev_open_order((order)o, (unsigned)slots), 3 << 20);
                    if (tiers & 1)
                        rig_make_resident(&r);
                    if (tiers & 2)
                        rig_make_cached(&r);
                    r.c.slots = slots;
                    play_both(&r, 2, 2);
                    rig_stop(&r);
                }
        rig_close(&r);
    }
}

Test(offload_stream_packs, all_of_both_may_be_resident_or_all_cached)
{
    rig r;
    open_two_packs(&r, FIXTURE_SPLIT, FIXTURE_RAW);
    for (int o = 0; o < N_ORDERS; o++)
        for (int tier = 0; tier < 2; tier++) {
            rig_configure(&r, dev_open_order((order)o, 3), 3 << 20);
            for (int i = 0; i < n_listed_chunks(&r.c.chunks); i++)
                *(tier ? &r.cached[i] : &r.resident[i]) = true;
            r.c.slots = 9;
            play_both(&r, 3, 1);
            rig_stop(&r);
        }
    rig_close(&r);
}

/* Only of the second pack, or only of the first: the others go through the ring beside them. */
Test(offload_stream_packs, one_pack_may_have_places_and_the_other_none)
{
    rig r;
    open_two_packs(&r, FIXTURE_MIXED, FIXTURE_MIXED);
    for (int o = 0; o < N_ORDERS; o++)
        for (int of = 0; of < 2; of++) {
            rig_configure(&r, dev_open_order((order)o, 3), 3 << 20);
            rig_make_resident(&r);
            rig_make_cached(&r);
            const int first = r.c.chunks.first[of], end = r.c.chunks.first[of + 1];
            memset(r.resident + first, 0, (size_t)(end - first) * sizeof(bool));
            memset(r.cached + first, 0, (size_t)(end - first) * sizeof(bool));
            play_both(&r, 2, 1);
            rig_stop(&r);
        }
    rig_close(&r);
}

/* Chunks that take bytes of the ring which the first pack has left come between the entry and the
 * resident chunk, and are copied behind less of the compute than it. */
Test(offload_stream_packs, a_resident_chunk_waits_for_the_first_pack_whatever_comes_between)
{
    rig r;
    open_two_packs(&r, FIXTURE_RAW, FIXTURE_RAW);
    rig_configure(&r, dev_open_order(ORDER_LATE, 3), 256);
    const size_t least = rig_biggest_group(&r, 1);
    const stream_pass vae = r.schedule[RIG_PASSES - 1], unet = r.schedule[RIG_PASSES + 2];
    rig_stop(&r);
    for (size_t ring = least; ring < 2 * least; ring += least / 8)
        for (int i = unet.first; i < unet.end; i++) {
            rig_configure(&r, dev_open_order(ORDER_LATE, 3), ring);
            r.resident[vae.first] = r.resident[i] = true;
            play_both(&r, 1, 1);
            rig_stop(&r);
        }
    rig_close(&r);
}

/* A cached chunk that compute has used already may still be on its way out of its place. */
Test(offload_stream_packs, a_cached_chunk_is_not_overwritten_while_it_is_copied)
{
    rig r;
    open_two_packs(&r, FIXTURE_RAW, FIXTURE_RAW);
    for (int o = 0; o < N_ORDERS; o++) {
        rig_configure(&r, dev_open_order((order)o, 3), 3 << 20);
        for (int i = r.schedule[3].first; i < r.schedule[RIG_PASSES].end; i++)
            r.cached[i] = true; /* the last of the first pack, the first of the second */
        r.c.slots = 6;
        order_device_delay_sync(r.d, 0.002);
        play_both(&r, 2, 1);
        rig_stop(&r);
    }
    rig_close(&r);
}

Test(offload_stream_packs, a_real_copy_thread_brings_the_bytes_of_both)
{
    const dev_options o = { .compute = DT_F32, .threads = 1 };
    rig r;
    open_two_packs(&r, FIXTURE_MIXED, FIXTURE_SPLIT);
    rig_configure(&r, dev_open_ref(&o, &r.err), 2 << 20);
    rig_make_cached(&r);
    r.c.workers = 3;
    r.c.slots = 8;
    rig_open_stream(&r);
    const uint64_t calls = mem_used().calls;
    for (int run = 0; run < 4; run++) {
        rig_compare_in_place(&r);
        cr_assert_eq(stream_restart(r.s), REFINE_OK);
    }
    cr_assert_eq(mem_used().calls, calls, "a run takes no memory");
    rig_close(&r);
}

/* ---- memory ---- */

static size_t cached_of(const rig *r, int k)
{
    size_t sum = 0;
    for (int i = r->c.chunks.first[k]; i < r->c.chunks.first[k + 1]; i++)
        sum += r->cached[i] ? stream_cached_bytes(rig_chunk(r, i)) : 0;
    return sum;
}

Test(offload_stream_packs, the_cache_takes_what_the_pack_with_more_of_it_needs)
{
    const dev_options o = { .compute = DT_F32, .threads = 1 };
    rig r;
    open_two_packs(&r, FIXTURE_MIXED, FIXTURE_SPLIT);
    rig_configure(&r, dev_open_ref(&o, &r.err), 2 << 20);
    rig_make_cached(&r);
    const size_t cache = num_max(cached_of(&r, 0), cached_of(&r, 1));
    cr_assert_gt(num_min(cached_of(&r, 0), cached_of(&r, 1)), 1 << 16);
    const uint64_t before = mem_used().now;
    rig_open_stream(&r);
    const uint64_t taken = mem_used().now - before;
    cr_assert_leq(taken, stream_host_bytes(&r.c.chunks, r.c.slots, r.c.workers, false) + cache);
    cr_assert_geq(taken, stream_staging_bytes(&r.c.chunks, r.c.slots, false) + cache);
    rig_close(&r);
}

/* ---- restarting and closing early ---- */

Test(offload_stream_packs, a_restart_in_the_middle_of_either_begins_at_the_first)
{
    rig r;
    open_two_packs(&r, FIXTURE_MIXED, FIXTURE_MIXED);
    for (int o = 0; o < N_ORDERS; o++)
        for (int n = 0; n < rig_uses(&r) || n == 0; n += 13) {
            rig_configure(&r, dev_open_order((order)o, (unsigned)n), 2 << 20);
            rig_make_resident(&r);
            rig_make_cached(&r);
            rig_open_stream(&r);
            rig_expect_restart(&r, n);
            rig_stop(&r);
        }
    rig_close(&r);
}

Test(offload_stream_packs, it_closes_in_either_pack)
{
    rig r;
    open_two_packs(&r, FIXTURE_MIXED, FIXTURE_RAW);
    rig_configure(&r, dev_open_order(ORDER_LATE, 1), 2 << 20);
    const int uses = rig_uses(&r);
    rig_stop(&r);
    for (int o = 0; o < N_ORDERS; o++)
        for (int n = 1; n < uses; n += 6) {
            rig_configure(&r, dev_open_order((order)o, 1), 2 << 20);
            rig_make_cached(&r);
            rig_open_stream(&r);
            rig_begin_to_play(&r, n);
            stream_close(r.s);
            r.s = NULL;
            cr_assert_eq(order_device_live(r.d), 2, "the ring and the residents");
            rig_stop(&r);
        }
    rig_close(&r);
}

/* ---- what travels, and when ---- */

/* Of one run: residents travel once, cached chunks are read once, in either pack. */
static stream_stats expected_stats(const rig *r)
{
    stream_stats e = { 0 };
    for (int p = 0; p < r->c.n_passes; p++)
        for (int i = r->schedule[p].first; i < r->schedule[p].end; i++) {
            const uint64_t stored = num_align(rig_chunk(r, i)->stored_bytes, PACK_ALIGN),
                           bytes = rig_chunk(r, i)->bytes, uses = (uint64_t)r->schedule[p].passes,
                           travels = r->resident[i] ? 1 : uses,
                           read = r->resident[i] || r->cached[i] ? 1 : uses;
            e.disk_bytes += read * stored;
            e.decoded_bytes += read * bytes;
            e.copied_bytes += travels * bytes;
            e.chunks += travels;
            e.resident_hits += uses - travels;
            e.cache_hits += travels - read;
        }
    return e;
}

static void expect_stats(const rig *r, stream_stats before)
{
    const stream_stats s = stream_stats_since(before, stream_get_stats(r->s)),
                       e = expected_stats(r);
    cr_assert_eq(s.disk_bytes, e.disk_bytes);
    cr_assert_eq(s.decoded_bytes, e.decoded_bytes);
    cr_assert_eq(s.copied_bytes, e.copied_bytes);
    cr_assert_eq(s.chunks, e.chunks);
    cr_assert_eq(s.resident_hits, e.resident_hits);
    cr_assert_eq(s.cache_hits, e.cache_hits);
}

Test(offload_stream_packs, no_byte_travels_twice_and_each_run_brings_all_anew)
{
    rig r;
    open_two_packs(&r, FIXTURE_MIXED, FIXTURE_SPLIT);
    for (int o = 0; o < N_ORDERS; o++) {
        stream_stats before = { 0 };
        rig_configure(&r, dev_open_order((order)o, 3), 3 << 20);
        rig_make_resident(&r);
        rig_make_cached(&r);
        rig_open_stream(&r);
        for (int run = 0; run < 3; run++) {
            cr_assert(rig_play(&r, 2), "%s", dev_why(r.d));
            expect_stats(&r, before);
            before = stream_get_stats(r.s);
            if (run < 2)
                cr_assert_eq(stream_restart(r.s), REFINE_OK);
        }
        rig_expect_right(&r, 3);
        rig_stop(&r);
    }
    rig_close(&r);
}

/* Waits until so much has been copied, or some seconds. */
static uint64_t copied_in_time(const rig *r, uint64_t bytes)
{
    const double until = clock_seconds() + 10;
    while (stream_get_stats(r->s).copied_bytes < bytes && clock_seconds() < until)
        clock_sleep_until(clock_seconds() + 0.001);
    return stream_get_stats(r->s).copied_bytes;
}

Test(offload_stream_packs, what_goes_through_the_ring_comes_before_its_pack_is_entered)
{
    rig r;
    open_two_packs(&r, FIXTURE_MIXED, FIXTURE_MIXED);
    for (int cached = 0; cached < 2; cached++) {
        rig_configure(&r, dev_open_order(ORDER_EAGER, 3), 3 << 20);
        const stream_pass second = r.schedule[RIG_PASSES];
        uint64_t of_first = 0;
        for (int p = 0; p < RIG_PASSES; p++)
            for (int i = r.schedule[p].first; i < r.schedule[p].end; i++)
                of_first += (uint64_t)r.schedule[p].passes * rig_chunk(&r, i)->bytes;
        r.cached[second.first + 1] = cached;
        rig_open_stream(&r);
        for (int p = 0; p < RIG_PASSES; p++)
            for (int k = 0; k < r.schedule[p].passes; k++)
                cr_assert(rig_use(&r, r.schedule[p].first, r.schedule[p].end, 1));
        const uint64_t early = rig_chunk(&r, second.first)->bytes +
                               (cached ? 0 : rig_chunk(&r, second.first + 1)->bytes);
        cr_assert_geq(copied_in_time(&r, of_first + early), of_first + early);
        if (cached) {
            clock_sleep_until(clock_seconds() + 0.02);
            cr_assert_eq(stream_get_stats(r.s).copied_bytes, of_first + early,
                         "what has its place in the cache came before");
        }
        rig_stop(&r);
    }
    rig_close(&r);
}

/* ---- what compute is told ---- */

Test(offload_stream_packs, chunks_go_by_the_numbers_of_the_pack_that_is_entered)
{
    rig r;
    open_two_packs(&r, FIXTURE_RAW, FIXTURE_RAW);
    rig_configure(&r, dev_open_order(ORDER_EAGER, 3), 3 << 20);
    rig_open_stream(&r);
    cr_assert_eq(stream_position(r.s), -1);
    for (int p = 0; p < r.c.n_passes; p++)
        for (int k = 0; k < r.schedule[p].passes; k++)
            for (int i = r.schedule[p].first; i < r.schedule[p].end; i++) {
                const int of_pack = i - r.c.chunks.first[p / RIG_PASSES];
                rig_enter(&r, i);
                cr_assert_not_null(rig_acquire(&r, i));
                cr_assert_eq(stream_position(r.s), of_pack);
                if (p == 2) /* the first pack's UNet takes the longest */
                    clock_sleep_until(clock_seconds() + 0.003);
                rig_release(&r, i);
            }
    stream_settle_times(r.s);
    cr_assert_eq(stream_position(r.s), -1);
    const stream_pass unet = r.schedule[RIG_PASSES + 2];
    double least = 1;
    for (int i = unet.first; i < unet.end; i++) {
        const double t = stream_compute_seconds(r.s, i - r.c.chunks.first[1]);
        cr_assert_gt(t, 0);
        least = t < least ? t : least;
    }
    cr_assert_lt(least, 0.003, "those of the first pack's took longer");
    rig_close(&r);
}

/* ---- what does not fit, and what fails ---- */

Test(offload_stream_packs, the_ring_has_to_hold_the_largest_chunk_of_both)
{
    rig r;
    open_two_packs(&r, FIXTURE_RAW, FIXTURE_RAW);
    const size_t of[] = { stream_span(pack_biggest(r.p)), stream_span(pack_biggest(r.p2)) };
    const size_t most = num_max(of[0], of[1]), least = num_min(of[0], of[1]);
    cr_assert_lt(least, most);
    for (size_t ring = least; ring <= most; ring += most - least) {
        rig_configure(&r, dev_open_order(ORDER_LATE, 3), ring);
        if (ring < most) {
            cr_assert_eq(stream_open(&r.s, &r.c, &r.err), REFINE_EBUDGET);
            cr_assert(strstr(r.err.text, "does not hold chunk"), "%s", r.err.text);
        } else {
            play_both(&r, 2, 1);
        }
        rig_stop(&r);
    }
    rig_close(&r);
}

/* Large enough for each chunk, too small for those of the second pack that are inside at once. */
Test(offload_stream_packs, a_ring_too_small_for_the_second_pack_says_so)
{
    static const fixture_tensor LARGE[] = { { "large.a", 4, DT_F16, 512, 1, 1, 900, 0 },
                                            { "large.b", 4, DT_F16, 512, 1, 1, 900, 0 },
                                            { "large.c", 4, DT_F16, 512, 1, 1, 900, 0 } };
    static const fixture_tensor SMALL[] = { { "small.a", 4, DT_F16, 64, 1, 1, 90, 0 },
                                            { "small.b", 4, DT_F16, 64, 1, 1, 90, 0 } };
    rig r;
    rig_open_pack_of(&r, SMALL, 2, FIXTURE_RAW);
    rig_open_second_pack_of(&r, LARGE, 3, FIXTURE_RAW);
    for (int o = 0; o < N_ORDERS; o++) {
        rig_configure(&r, dev_open_order((order)o, 3), 2 * stream_span(pack_biggest(r.p2)));
        rig_open_stream(&r);
        for (int k = 0; k < STEPS; k++)
            cr_assert(rig_use(&r, r.schedule[2].first, r.schedule[2].end, 2));
        cr_assert_not(rig_use(&r, r.schedule[6].first, r.schedule[6].end, 3));
        cr_assert_eq(dev_status(r.d), REFINE_EINVAL);
        cr_assert(strstr(dev_why(r.d), "too small"), "%s", dev_why(r.d));
        rig_stop(&r);
    }
    rig_close(&r);
}

Test(offload_stream_packs, a_damaged_chunk_is_named_with_the_file_in_which_it_lies)
{
    rig r;
    open_two_packs(&r, FIXTURE_MIXED, FIXTURE_RAW);
    for (int of = 0; of < 2; of++) {
        rig_configure(&r, dev_open_order(ORDER_EAGER, 3), 3 << 20);
        const int c = r.schedule[of * RIG_PASSES + 3].first;
        const char *path = pack_path(r.c.chunks.pack[of]), *slash = strrchr(path, '/');
        rig_flip(&r, c);
        rig_open_stream(&r);
        cr_assert_not(rig_play(&r, 1));
        cr_assert_eq(dev_status(r.d), REFINE_EFORMAT);
        cr_assert(strstr(dev_why(r.d), slash ? slash + 1 : path) &&
                      strstr(dev_why(r.d), chunk_list_name(&r.c.chunks, c)),
                  "%s", dev_why(r.d));
        rig_stop(&r);
        pack_fixture_write(of ? &r.f2 : &r.f);
    }
    rig_close(&r);
}

/* Whatever was going on, it is not our bug: there may be chunks that were not released. */
Test(offload_stream_packs, a_device_that_has_failed_enters_no_pack)
{
    rig r;
    open_two_packs(&r, FIXTURE_RAW, FIXTURE_RAW);
    rig_configure(&r, dev_open_order(ORDER_EAGER, 3), 3 << 20);
    const int first = r.schedule[0].first, second = r.schedule[RIG_PASSES].first;
    rig_open_stream(&r);
    cr_assert_not_null(rig_acquire(&r, first));
    dev_fail(r.d, REFINE_EDEVICE, "pulled out");
    rig_release(&r, first);
    rig_enter(&r, second);
    cr_assert_null(rig_acquire(&r, second));
    cr_assert_eq(stream_restart(r.s), REFINE_EDEVICE);
    cr_assert_str_eq(dev_why(r.d), "pulled out");
    rig_close(&r);
}

/* ---- our bugs ---- */

static void open_to_be_misused(rig *r)
{
    open_two_packs(r, FIXTURE_RAW, FIXTURE_RAW);
    rig_configure(r, dev_open_order(ORDER_EAGER, 1), 3 << 20);
    rig_open_stream(r);
    (void)unlink(r->f.path);
    (void)unlink(r->f2.path);
}

Test(offload_stream_packs, leaving_a_pack_with_a_chunk_inside_is_our_bug, .signal = 6)
{
    rig r;
    open_to_be_misused(&r);
    (void)rig_acquire(&r, r.schedule[0].first);
    rig_enter(&r, r.schedule[RIG_PASSES].first);
}

Test(offload_stream_packs, going_back_to_a_pack_is_our_bug, .signal = 6)
{
    rig r;
    open_to_be_misused(&r);
    cr_assert(rig_play(&r, 1));
    rig_enter(&r, r.schedule[0].first);
}

Test(offload_stream_packs, using_a_pack_that_was_not_entered_is_our_bug, .signal = 6)
{
    rig r;
    open_to_be_misused(&r);
    for (int p = 0; p < RIG_PASSES; p++)
        for (int k = 0; k < r.schedule[p].passes; k++)
            cr_assert(rig_use(&r, r.schedule[p].first, r.schedule[p].end, 1));
    (void)rig_acquire(&r, r.schedule[RIG_PASSES].first);
}
