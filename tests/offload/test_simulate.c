/* tests/offload/test_simulate.c -- times of a step against what can be said without a replay.
 *
 * A step takes at least what its slowest stage takes and at most what all take one after the
 * other, and more of anything makes no step slower.  With one exception: pieces of different
 * sizes in a small ring.  Where the ring wraps depends on all that went before, so what is
 * skipped at its end differs from step to step, and a larger ring, or one piece less, can
 * skip more (16 % of a step in a ring of one to four chunks).  Bounds and comparisons are
 * therefore claimed for rings that never skip: of pieces of one size, or large enough.
 */
#include "offload/simulate.h"

#include "kernels/tensor.h"
#include "offload/stream.h"
#include "tests/support/pack_fixture.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { UNET = 4, MANY = 24, ROUNDS = 3000 };
enum { ROOMY = 1 << 26 }; /* more than passes in a few steps */

static const double ROUNDING = 1e-9; /* of a step */

/* Every time of a run is earlier with more of anything; of the last step, the difference of
 * two times, that is true but for what the steps before it gained.  A share that the plan takes for
 * no difference (engine/plan/plan_search.c). */
static const double GAINED_BEFORE = 0.005;

typedef struct simulate_rig {
    pack_fixture f;
    pack *p;
    double seconds[FIXTURE_CHUNKS];
    bool resident[FIXTURE_CHUNKS], cached[FIXTURE_CHUNKS];
    simulate_config c;
} simulate_rig;

/* MANY chunks, of one size or of any; the coded ones are stored in fewer bytes. */
static void open_simulate_rig(simulate_rig *r, fixture_codec codec, bool same_size)
{
    fixture_tensor t[MANY];
    char name[MANY][16];
    refine_error err;
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(name[i], sizeof name[i], "w%d", i);
        const int rows = same_size ? 64 : 4 + 37 * i % 96;
        t[i] = (fixture_tensor){ name[i], UNET, DT_F16, rows, 1, 1, 128, 0 };
    }
    *r = (simulate_rig){ 0 };
    pack_fixture_make(&r->f, t, MANY, codec, NULL);
    pack_fixture_write(&r->f);
    cr_assert_eq(pack_open(&r->p, r->f.path, &err), REFINE_OK, "%s", err.text);
    r->c = (simulate_config){ .p = r->p,
                              .passes = 1,
                              .seconds = r->seconds,
                              .resident = r->resident,
                              .cached = r->cached,
                              .ring_bytes = 1 << 20,
                              .slots = 4 };
    pack_segment(r->p, UNET, &r->c.first, &r->c.end);
    cr_assert_eq(r->c.end - r->c.first, MANY);
}

static void close_simulate_rig(simulate_rig *r)
{
    pack_close(r->p);
    pack_fixture_free(&r->f);
}

static void set_lane_rates(simulate_rig *r, double disk, double decode, double copy)
{
    r->c.disk = disk;
    r->c.decode = decode;
    r->c.copy = copy;
}

static void set_chunk_seconds(simulate_rig *r, double each)
{
    for (int i = r->c.first; i < r->c.end; i++)
        r->seconds[i] = each;
}

/* What each stage has to do in a step. */
typedef struct load {
    double disk, decode, copy, compute;
} load;

static double lane_seconds(double bytes, double rate) { return rate > 0 ? bytes / rate : 0; }

static load load_of(const simulate_rig *r)
{
    const simulate_config *c = &r->c;
    load l = { 0 };
    for (int i = c->first; i < c->end; i++) {
        const pack_chunk *k = pack_chunk_at(r->p, i);
        l.compute += c->passes * r->seconds[i];
        if (r->resident[i])
            continue;
        l.copy += c->passes * lane_seconds(k->bytes, c->copy);
        if (r->cached[i])
            continue;
        l.decode += c->passes * lane_seconds(k->bytes, c->decode);
        l.disk += c->passes * lane_seconds(k->stored_bytes, c->disk);
    }
    return l;
}

static double larger_load(double a, double b) { return a > b ? a : b; }
static double load_most(load l)
{
    return larger_load(larger_load(l.disk, l.decode), larger_load(l.copy, l.compute));
}
static double load_total(load l) { return l.disk + l.decode + l.copy + l.compute; }

static uint32_t draw_simulate_bits(uint32_t *x) { return (*x = *x * 1664525u + 1013904223u) >> 8; }
static double draw_unit_interval(uint32_t *x) { return (double)draw_simulate_bits(x) / (1 << 24); }

static void expect_about(double got, double want)
{
    cr_assert_float_eq(got, want, want * ROUNDING, "%.9g s, not %.9g", got, want);
}

/* ---- steps that are known ---- */

static const double FAST = 8e9, SLOW = 1e9; /* bytes a second */

Test(offload_simulate, with_everything_resident_a_step_is_its_compute)
{
    simulate_rig r;
    open_simulate_rig(&r, FIXTURE_RAW, false);
    for (int i = r.c.first; i < r.c.end; i++) {
        r.resident[i] = true;
        r.seconds[i] = 1e-3 * i;
    }
    set_lane_rates(&r, SLOW, SLOW, SLOW);
    r.c.passes = 2;
    const simulate_result s = simulate_step(&r.c);
    expect_about(s.step, load_of(&r).compute);
    expect_about(s.compute, load_of(&r).compute);
    cr_assert_eq(s.stall_disk + s.stall_decode + s.stall_copy, 0);
    close_simulate_rig(&r);
}

Test(offload_simulate, with_nothing_to_compute_a_step_is_bytes_over_the_slowest_rate)
{
    for (int codec = FIXTURE_RAW; codec <= FIXTURE_MIXED; codec++) {
        simulate_rig r;
        open_simulate_rig(&r, (fixture_codec)codec, false);
        set_lane_rates(&r, SLOW / 2, FAST, FAST);
        expect_about(simulate_step(&r.c).step, load_of(&r).disk);
        set_lane_rates(&r, FAST, SLOW, FAST);
        expect_about(simulate_step(&r.c).step, load_of(&r).decode);
        set_lane_rates(&r, FAST, FAST, SLOW);
        expect_about(simulate_step(&r.c).step, load_of(&r).copy);
        set_lane_rates(&r, 0, SLOW, 0);
        expect_about(simulate_step(&r.c).step, load_of(&r).decode);
        set_lane_rates(&r, 0, 0, 0);
        cr_assert_eq(simulate_step(&r.c).step, 0, "a rate of 0 takes no time");
        close_simulate_rig(&r);
    }
}

Test(offload_simulate, with_one_slot_nothing_is_read_before_the_copy_has_passed)
{
    simulate_rig r;
    open_simulate_rig(&r, FIXTURE_ZSTD, false);
    set_lane_rates(&r, SLOW, 2 * SLOW, 3 * SLOW);
    r.c.slots = 1;
    expect_about(simulate_step(&r.c).step, load_total(load_of(&r)));
    r.c.slots = 2;
    cr_assert_lt(simulate_step(&r.c).step, load_total(load_of(&r)) * 0.9);
    close_simulate_rig(&r);
}

Test(offload_simulate, in_a_ring_of_one_chunk_nothing_is_copied_during_compute)
{
    simulate_rig r;
    open_simulate_rig(&r, FIXTURE_RAW, true);
    set_lane_rates(&r, 0, 0, SLOW);
    set_chunk_seconds(&r, 1e-5);
    r.c.ring_bytes = stream_span(pack_biggest(r.p));
    expect_about(simulate_step(&r.c).step, load_total(load_of(&r)));
    r.c.ring_bytes *= 2;
    expect_about(simulate_step(&r.c).step, load_most(load_of(&r)));
    close_simulate_rig(&r);
}

Test(offload_simulate, cached_chunks_take_no_time_of_disk_and_decoder)
{
    simulate_rig r;
    open_simulate_rig(&r, FIXTURE_ZSTD, false);
    set_lane_rates(&r, SLOW, 0, 0);
    for (int i = r.c.first; i < r.c.end; i += 2)
        r.cached[i] = true;
    expect_about(simulate_step(&r.c).step, load_of(&r).disk);
    set_lane_rates(&r, 0, SLOW, 0);
    expect_about(simulate_step(&r.c).step, load_of(&r).decode);
    for (int i = r.c.first; i < r.c.end; i++)
        r.cached[i] = true;
    set_lane_rates(&r, SLOW, SLOW, FAST);
    expect_about(simulate_step(&r.c).step, load_of(&r).copy);
    close_simulate_rig(&r);
}

Test(offload_simulate, every_pass_costs_the_same)
{
    simulate_rig r;
    open_simulate_rig(&r, FIXTURE_ZSTD, true);
    set_lane_rates(&r, SLOW, FAST, FAST);
    set_chunk_seconds(&r, 2e-5);
    const simulate_result one = simulate_step(&r.c);
    r.c.passes = 3;
    expect_about(simulate_step(&r.c).step, 3 * one.step);
    close_simulate_rig(&r);
}

/* Four chunks of a matrix: their copies take 1, their compute 0.5 of the same.  One by one compute
 * follows each copy; by twos it waits for the second, and the step is as long, since what bounds it
 * is copying; with all four in a ring that holds no more, copy and compute take turns. */
Test(offload_simulate, chunks_together_are_computed_when_the_last_has_come)
{
    enum { FOUR = 4, ROWS = TILE_ROWS_LINEAR };
    static const fixture_tensor T = { "w", UNET, DT_F16, FOUR * ROWS, 1, 1, 128, ROWS };
    simulate_rig r = { 0 };
    refine_error err;
    pack_fixture_make(&r.f, &T, 1, FIXTURE_RAW, NULL);
    pack_fixture_write(&r.f);
    cr_assert_eq(pack_open(&r.p, r.f.path, &err), REFINE_OK, "%s", err.text);
    const size_t chunk = pack_biggest(r.p);
    const double each = (double)chunk / SLOW;
    r.c = (simulate_config){ .p = r.p,
                             .passes = 1,
                             .seconds = r.seconds,
                             .ring_bytes = FOUR * stream_span(chunk),
                             .slots = FOUR,
                             .copy = SLOW };
    pack_segment(r.p, UNET, &r.c.first, &r.c.end);
    set_chunk_seconds(&r, each / 2);
    for (int i = 0; i < 4; i++) {
        r.c.together = i == 3 ? FOUR : i;
        const simulate_result s = simulate_step(&r.c);
        const bool turns = r.c.together == FOUR;
        cr_expect_float_eq(s.compute, FOUR * each / 2, 1e-9 * each);
        cr_expect_float_eq(s.step, FOUR * each * (turns ? 1.5 : 1), 1e-9 * each,
                           "%d together: %g of a copy", r.c.together, s.step / each);
    }
    r.c.ring_bytes *= 2;
    r.c.together = FOUR;
    cr_expect_float_eq(simulate_step(&r.c).step, FOUR * each, 1e-9 * each);
    close_simulate_rig(&r);
}

/* ---- blame ---- */

Test(offload_simulate, waiting_is_blamed_on_the_stage_that_is_slow)
{
    enum { STAGES = 3 };
    simulate_rig r;
    open_simulate_rig(&r, FIXTURE_RAW, true);
    set_chunk_seconds(&r, 1e-6);
    for (int slow = 0; slow < STAGES; slow++) {
        set_lane_rates(&r, slow == 0 ? SLOW : FAST, slow == 1 ? SLOW : FAST,
                       slow == 2 ? SLOW : FAST);
        const simulate_result s = simulate_step(&r.c);
        const double stall[STAGES] = { s.stall_disk, s.stall_decode, s.stall_copy };
        const double waited = s.step - s.compute;
        cr_assert_gt(waited, s.step / 2);
        cr_assert_geq(stall[slow], waited * 0.7, "stage %d has %.3g of %.3g s", slow, stall[slow],
                      waited);
    }
    close_simulate_rig(&r);
}

/* ---- any configuration ---- */

static double any_rate(uint32_t *x)
{
    return draw_simulate_bits(x) % 8 ? 1e9 * (0.2 + 3 * draw_unit_interval(x)) : 0;
}

/* What the ring is like. */
typedef enum ring_kind { ONE_SIZE, LARGE, TIGHT, RINGS } ring_kind;

static void randomise_rig(simulate_rig *r, ring_kind kind, uint32_t *x)
{
    simulate_config *c = &r->c;
    for (int i = c->first; i < c->end; i++) {
        const uint32_t place = draw_simulate_bits(x) % 8;
        r->seconds[i] = draw_simulate_bits(x) % 4 ? draw_unit_interval(x) * 2e-5 : 0;
        r->resident[i] = place == 0;
        r->cached[i] = place == 1;
    }
    set_lane_rates(r, any_rate(x), any_rate(x), any_rate(x));
    c->slots = 2 + (int)(draw_simulate_bits(x) % 7);
    c->passes = 1 + (int)(draw_simulate_bits(x) % 3);
    c->ring_bytes = stream_span(pack_biggest(r->p)) * (1 + draw_simulate_bits(x) % 6);
    if (kind == LARGE)
        c->ring_bytes = ROOMY;
    if (kind == TIGHT)
        c->ring_bytes += draw_simulate_bits(x) % 40000;
}

Test(offload_simulate, a_step_lies_between_its_slowest_stage_and_all_of_them)
{
    uint32_t x = 1;
    for (int kind = ONE_SIZE; kind <= LARGE; kind++) {
        simulate_rig r;
        open_simulate_rig(&r, FIXTURE_ZSTD, kind == ONE_SIZE);
        for (int i = 0; i < ROUNDS; i++) {
            randomise_rig(&r, (ring_kind)kind, &x);
            const double step = simulate_step(&r.c).step;
            const load l = load_of(&r);
            cr_assert_geq(step, load_most(l) * (1 - ROUNDING), "round %d: %g < %g", i, step,
                          load_most(l));
            cr_assert_leq(step, load_total(l) * (1 + ROUNDING), "round %d: %g > %g", i, step,
                          load_total(l));
        }
        close_simulate_rig(&r);
    }
}

/* Bytes on their way, when a step begins, are work that the step before has done for it. */
Test(offload_simulate, in_a_tight_ring_only_what_is_on_its_way_shortens_a_step)
{
    uint32_t x = 2;
    simulate_rig r;
    open_simulate_rig(&r, FIXTURE_ZSTD, false);
    for (int i = 0; i < ROUNDS; i++) {
        randomise_rig(&r, TIGHT, &x);
        const simulate_config *c = &r.c;
        const double ahead = (double)c->ring_bytes + (double)c->slots * (double)pack_biggest(r.p);
        const double step = simulate_step(c).step;
        load l = load_of(&r);
        cr_assert_leq(step, load_total(l) * (1 + ROUNDING));
        l.disk -= lane_seconds(ahead, c->disk);
        l.decode -= lane_seconds(ahead, c->decode);
        l.copy -= lane_seconds(ahead, c->copy);
        cr_assert_geq(step, load_most(l) * (1 - ROUNDING), "round %d: %g < %g", i, step,
                      load_most(l));
    }
    close_simulate_rig(&r);
}

Test(offload_simulate, compute_and_stalls_are_the_step)
{
    uint32_t x = 3;
    for (int kind = ONE_SIZE; kind < RINGS; kind++) {
        simulate_rig r;
        open_simulate_rig(&r, FIXTURE_ZSTD, kind == ONE_SIZE);
        for (int i = 0; i < ROUNDS; i++) {
            randomise_rig(&r, (ring_kind)kind, &x);
            const simulate_result s = simulate_step(&r.c);
            cr_assert_geq(s.stall_disk, 0);
            cr_assert_geq(s.stall_decode, 0);
            cr_assert_geq(s.stall_copy, 0);
            expect_about(s.compute, load_of(&r).compute);
            expect_about(s.compute + s.stall_disk + s.stall_decode + s.stall_copy, s.step);
        }
        close_simulate_rig(&r);
    }
}

/* ---- more of something ---- */

typedef enum more {
    MORE_RESIDENTS,
    MORE_CACHED,
    MORE_RING,
    MORE_SLOTS,
    MORE_DISK,
    MORE_DECODE,
    MORE_COPY,
    LESS_COMPUTE,
    MORE
} more;

static void give_more(simulate_rig *r, more m, uint32_t *x)
{
    const int chunk = r->c.first + (int)(draw_simulate_bits(x) % MANY);
    switch (m) {
    case MORE_RESIDENTS: r->resident[chunk] = true; break;
    case MORE_CACHED: r->cached[chunk] = true; break;
    case MORE_RING: r->c.ring_bytes += stream_span(pack_biggest(r->p)); break;
    case MORE_SLOTS: r->c.slots++; break;
    case MORE_DISK: r->c.disk *= 1.3; break;
    case MORE_DECODE: r->c.decode *= 1.3; break;
    case MORE_COPY: r->c.copy *= 1.3; break;
    default: r->seconds[chunk] /= 2; break;
    }
}

Test(offload_simulate, more_of_anything_makes_no_step_slower)
{
    uint32_t x = 4;
    for (int kind = ONE_SIZE; kind <= LARGE; kind++) {
        int faster[MORE] = { 0 };
        simulate_rig r;
        open_simulate_rig(&r, FIXTURE_ZSTD, kind == ONE_SIZE);
        for (int i = 0; i < MORE * ROUNDS; i++) {
            randomise_rig(&r, (ring_kind)kind, &x);
            const double before = simulate_step(&r.c).step;
            give_more(&r, (more)(i % MORE), &x);
            const double after = simulate_step(&r.c).step;
            cr_assert_leq(after, before * (1 + GAINED_BEFORE), "round %d, more of %d: %g, was %g",
                          i, i % MORE, after, before);
            faster[i % MORE] += after < before * (1 - ROUNDING);
        }
        for (int m = 0; m < MORE; m++)
            cr_assert(faster[m] > 0 || (m == MORE_RING && kind == LARGE), "more of %d is no use",
                      m);
        close_simulate_rig(&r);
    }
}

/* ---- our bugs ---- */

Test(offload_simulate, a_ring_that_holds_no_chunk_is_our_bug, .signal = 6)
{
    simulate_rig r;
    open_simulate_rig(&r, FIXTURE_RAW, true);
    (void)remove(r.f.path);
    r.c.ring_bytes = pack_biggest(r.p) / 2;
    (void)simulate_step(&r.c);
}
