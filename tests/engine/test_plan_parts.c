/* tests/engine/test_plan_parts.c -- the plans of a base and a refiner: one arena, one ring, and the
 * ceilings of both. */
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/plan/plan.h"
#include "engine/plan/ring_size.h"
#include "tests/support/field.h"
#include "tests/support/random.h"
#include "tests/support/sanitized.h"
#include "tests/support/tiny_pack.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define MIB ((uint64_t)1 << 20)

enum { GRANULE = 256, BASE = 0, REFINER = 1 };

/* Models and phases of both, and of each what a plan is made of. */
typedef struct parts_rig {
    model m[PACKS_MAX];
    phases *p[PACKS_MAX];
    refine_job j;
    refine_options o;
    dev *d;
    plan plan[PACKS_MAX];
    refine_error err;
} parts_rig;

static void open_part(parts_rig *r, int k, const char *source, const char *options,
                      const refine_job *j)
{
    char path[512];
    kept_pack_of(path, sizeof path, source, options);
    cr_assert_eq(model_open(&r->m[k], path, &r->err), REFINE_OK, "%s", r->err.text);
    cr_assert_eq(phases_open(&r->p[k], &r->m[k], j, 1, &r->err), REFINE_OK, "%s", r->err.text);
    r->p[k]->act = DT_F32;
}

/* An image of text, which the base leaves partly denoised.  Rates of a disk that decides.  The
 * base's chunks: as large as the refiner's, or small, which need less of a ring. */
static void open_parts_rig(parts_rig *r, bool small)
{
    static uint8_t pixels; /* only that there are some matters */
    static float between;
    *r = (parts_rig){ .d = field_cpu(DT_F32, 1) };
    r->j = (refine_job)REFINE_JOB_INIT;
    r->j.width = 64;
    r->j.height = 96;
    r->j.steps = 5;
    refine_job base = r->j, refiner = r->j;
    base.denoising_end = refiner.denoising_start = 0.6;
    base.latents_out = &between;
    refiner.latents_in = &between;
    refiner.rgb_out = &pixels;
    open_part(r, BASE, "synthetic:tiny-base", small ? "--codec raw --chunk 64K" : "", &base);
    open_part(r, REFINER, "synthetic:tiny", "", &refiner);
    r->o = (refine_options)REFINE_OPTIONS_INIT;
    r->o.vram_bytes = 512 * MIB;
    r->o.ram_bytes = 256 * MIB;
    r->o.rates = (refine_rates){ 1e8, 1e9, 6e9, 5e10, 5e10, 3e10, 5e9 };
}

static void close_parts_rig(parts_rig *r)
{
    for (int k = 0; k < PACKS_MAX; k++) {
        phases_close(r->p[k]);
        model_close(&r->m[k]);
    }
    dev_close(r->d);
}

/* Of `n` parts from the first on; plans are to be dropped whatever the status. */
static refine_status plan_parts(parts_rig *r, const phases *const *p, int n)
{
    return plan_make(r->plan, p, n, r->d, &r->o, &r->j, &r->err);
}

static refine_status plan_both(parts_rig *r)
{
    const phases *const both[] = { r->p[BASE], r->p[REFINER] };
    return plan_parts(r, both, 2);
}

static void drop_plans(parts_rig *r, int n)
{
    for (int k = 0; k < n; k++)
        plan_close(&r->plan[k]);
}

static bool can_plan_both(parts_rig *r)
{
    const refine_status st = plan_both(r);
    cr_assert(st == REFINE_OK || st == REFINE_EBUDGET, "%s", r->err.text);
    drop_plans(r, 2);
    return st == REFINE_OK;
}

/* ---- what the parts have in common ---- */

static void expect_in_common(const parts_rig *r, const char *of)
{
    const plan *a = &r->plan[BASE], *b = &r->plan[REFINER];
    const size_t vectors = num_align(r->m[BASE].vector_bytes, SCRATCH_ALIGN) +
                           num_align(r->m[REFINER].vector_bytes, SCRATCH_ALIGN);
    cr_expect_eq(a->arena.ring, b->arena.ring, "%s: rings of %zu and %zu", of, a->arena.ring,
                 b->arena.ring);
    cr_expect(a->arena.vectors == vectors && b->arena.vectors == vectors, "%s", of);
    cr_expect_eq(arena_ring_at(&a->arena), arena_ring_at(&b->arena), "%s", of);
    cr_expect_eq(a->smallest_device, b->smallest_device, "%s", of);
    cr_expect_eq(memcmp(&a->host, &b->host, sizeof a->host), 0, "%s: host memory", of);
    for (int k = 0; k < 2; k++) {
        const plan *p = &r->plan[k];
        cr_expect_geq(p->arena.ring, ring_size_smallest(r->m[k].p, p->phases.inside), "%s: part %d",
                      of, k);
        cr_expect_leq(p->arena.bytes, p->limits.device, "%s: part %d", of, k);
        cr_expect_leq(p->host.bytes, p->limits.host, "%s: part %d", of, k);
    }
}

/* What the options may say of ring and tiers. */
static void draw_tuning(refine_options *o, uint64_t *seed)
{
    o->ring_bytes = random_below(seed, 3) ? 0 : (uint64_t)random_scale(seed, 1, 48) << 20;
    o->resident_bytes = random_below(seed, 4) ? 0 : (uint64_t)random_scale(seed, 1, 1 << 24);
    o->spill = random_below(seed, 3);
    o->per_pass = random_below(seed, 3);
    o->rates.disk = (double)random_scale(seed, 1 << 20, 1 << 30);
}

static void keep_any_ceilings(bool small)
{
    enum { TRIES = SANITIZED ? 8 : 40 };
    uint64_t seed = 7;
    parts_rig r;
    open_parts_rig(&r, small);
    for (int i = 0; i < TRIES; i++) {
        char of[128];
        draw_tuning(&r.o, &seed);
        r.o.vram_bytes = 512 * MIB;
        cr_assert_eq(plan_both(&r), REFINE_OK, "%s", r.err.text);
        const size_t least = r.plan[0].smallest_device;
        drop_plans(&r, 2);
        r.o.vram_bytes = least + (i % 4 ? (uint64_t)random_scale(&seed, 1, 96 << 20) : 0);
        (void)snprintf(of, sizeof of, "%llu bytes, ring %llu, resident %llu, spill %d, %d a pass",
                       (unsigned long long)r.o.vram_bytes, (unsigned long long)r.o.ring_bytes,
                       (unsigned long long)r.o.resident_bytes, r.o.spill, r.o.per_pass);
        cr_assert_eq(plan_both(&r), REFINE_OK, "%s: %s", of, r.err.text);
        expect_in_common(&r, of);
        cr_expect_eq(r.plan[0].smallest_device, least, "%s: it depends on the ceiling", of);
        drop_plans(&r, 2);
    }
    close_parts_rig(&r);
}

Test(engine_plan_parts, any_ceilings_are_kept_and_the_ring_is_the_same)
{
    keep_any_ceilings(false);
    keep_any_ceilings(true);
}

static void find_smallest_arena(bool small)
{
    uint64_t seed = 3;
    parts_rig r;
    open_parts_rig(&r, small);
    for (int i = 0; i < 8; i++) {
        if (i > 0)
            draw_tuning(&r.o, &seed);
        r.o.vram_bytes = MIB;
        cr_assert_eq(plan_both(&r), REFINE_EBUDGET);
        cr_expect(strstr(r.err.text, "--vram"), "%s", r.err.text);
        const size_t least = r.plan[0].smallest_device;
        cr_expect_eq(num_max(r.plan[0].arena.bytes, r.plan[1].arena.bytes), least,
                     "what is described is not the smallest run");
        drop_plans(&r, 2);
        r.o.vram_bytes = least;
        cr_expect(can_plan_both(&r), "%zu bytes: %s", least, r.err.text);
        r.o.vram_bytes = least - GRANULE;
        cr_expect_not(can_plan_both(&r), "less than %zu bytes", least);
    }
    close_parts_rig(&r);
}

Test(engine_plan_parts, the_smallest_arena_is_the_smallest)
{
    find_smallest_arena(false);
    find_smallest_arena(true);
}

Test(engine_plan_parts, the_smallest_host_memory_is_the_smallest)
{
    parts_rig r;
    open_parts_rig(&r, false);
    r.o.ram_bytes = 1 << 10;
    cr_assert_eq(plan_both(&r), REFINE_EBUDGET);
    cr_expect(strstr(r.err.text, "--ram"), "%s", r.err.text);
    const size_t least = r.plan[0].host.smallest;
    drop_plans(&r, 2);
    r.o.ram_bytes = least;
    cr_expect(can_plan_both(&r), "%zu bytes: %s", least, r.err.text);
    r.o.ram_bytes = least - GRANULE;
    cr_expect_not(can_plan_both(&r), "less than %zu bytes", least);
    close_parts_rig(&r);
}

/* Both need what the larger needs, and the vectors of the other. */
Test(engine_plan_parts, both_need_little_more_than_the_larger)
{
    size_t alone = 0;
    parts_rig r;
    open_parts_rig(&r, false);
    r.o.vram_bytes = MIB;
    for (int k = 0; k < 2; k++) {
        const phases *const one = r.p[k];
        cr_assert_eq(plan_parts(&r, &one, 1), REFINE_EBUDGET);
        const size_t others = num_align(r.m[1 - k].vector_bytes, SCRATCH_ALIGN);
        alone = num_max(alone, r.plan[0].smallest_device + others);
        drop_plans(&r, 1);
    }
    cr_assert_eq(plan_both(&r), REFINE_EBUDGET);
    cr_expect_geq(r.plan[0].smallest_device, alone);
    cr_expect_leq(r.plan[0].smallest_device, alone + MIB);
    drop_plans(&r, 2);
    close_parts_rig(&r);
}

/* ---- a part as if it were alone ---- */

static void expect_as_alone(const parts_rig *r, int k, const plan *alone, uint64_t vram)
{
    const plan *p = &r->plan[k];
    const size_t n = (size_t)n_pack_chunks(r->m[BASE].p);
    const size_t vectors = num_align(r->m[BASE].vector_bytes, SCRATCH_ALIGN);
    const char *of = k ? "second" : "first";
    cr_expect_eq(p->arena.ring, alone->arena.ring, "%s of %llu", of, (unsigned long long)vram);
    cr_expect_eq(p->arena.bytes, alone->arena.bytes + vectors, "%s", of);
    cr_expect_eq(p->arena.residents, alone->arena.residents, "%s", of);
    cr_expect_eq(p->smallest_device, alone->smallest_device + vectors, "%s", of);
    cr_expect_eq(memcmp(p->is_resident, alone->is_resident, n * sizeof(bool)), 0, "%s", of);
    cr_expect_eq(memcmp(p->is_cached, alone->is_cached, n * sizeof(bool)), 0, "%s", of);
    cr_expect(p->passes == alone->passes && p->together == alone->together, "%s", of);
    cr_expect(p->vae.band_rows == alone->vae.band_rows &&
                  p->vae.spill_from == alone->vae.spill_from &&
                  p->unet.per_pass == alone->unet.per_pass,
              "%s", of);
    cr_expect_eq(p->predicted.step, alone->predicted.step, "%s", of);
    cr_expect(p->step_bytes == alone->step_bytes && p->step_copied == alone->step_copied &&
                  p->step_read == alone->step_read,
              "%s", of);
}

Test(engine_plan_parts, twice_the_same_pack_is_planned_like_one)
{
    parts_rig r;
    open_parts_rig(&r, false);
    const phases *const twice[] = { r.p[BASE], r.p[BASE] };
    const size_t vectors = num_align(r.m[BASE].vector_bytes, SCRATCH_ALIGN);
    r.o.cached_bytes = UINT64_MAX; /* the heap differs by what is noted of each chunk */
    r.o.vram_bytes = MIB;
    cr_assert_eq(plan_parts(&r, twice, 1), REFINE_EBUDGET);
    const uint64_t least = r.plan[0].smallest_device;
    drop_plans(&r, 1);
    for (uint64_t more = 0; more < 40 * MIB; more = 3 * more + MIB / 3) {
        refine_error err = { 0 };
        plan alone;
        r.o.vram_bytes = least + more;
        cr_assert_eq(plan_make(&alone, twice, 1, r.d, &r.o, &r.j, &err), REFINE_OK, "%s", err.text);
        r.o.vram_bytes += vectors;
        cr_assert_eq(plan_parts(&r, twice, 2), REFINE_OK, "%s", r.err.text);
        for (int k = 0; k < 2; k++)
            expect_as_alone(&r, k, &alone, r.o.vram_bytes);
        drop_plans(&r, 2);
        plan_close(&alone);
    }
    close_parts_rig(&r);
}

/* ---- host memory ---- */

Test(engine_plan_parts, each_part_has_all_of_the_cache)
{
    parts_rig r;
    open_parts_rig(&r, false);
    r.o.resident_bytes = UINT64_MAX;
    r.o.cached_bytes = 3 * MIB;
    cr_assert_eq(plan_both(&r), REFINE_OK, "%s", r.err.text);
    size_t most = 0;
    for (int k = 0; k < 2; k++) {
        size_t cached = 0;
        for (int i = 0; i < n_pack_chunks(r.m[k].p); i++)
            cached += r.plan[k].is_cached[i] ? stream_cached_bytes(pack_chunk_at(r.m[k].p, i)) : 0;
        cr_expect(cached > MIB && cached <= 3 * MIB, "part %d: %zu bytes", k, cached);
        most = num_max(most, cached);
    }
    cr_expect_eq(r.plan[0].host.cached, most);
    expect_in_common(&r, "cached");
    drop_plans(&r, 2);
    close_parts_rig(&r);
}

Test(engine_plan_parts, a_plan_that_fails_leaves_nothing_behind)
{
    parts_rig r;
    open_parts_rig(&r, false);
    const uint64_t before = mem_used().now;
    for (long n = 0;; n++) {
        mem_fail_after(n, MEM_FAIL_ONCE);
        const refine_status st = plan_both(&r);
        mem_fail_after(-1, MEM_FAIL_ONCE);
        drop_plans(&r, 2);
        cr_expect_eq(mem_used().now, before, "allocation %ld", n);
        if (st == REFINE_OK)
            break;
        cr_expect_eq(st, REFINE_ENOMEM, "allocation %ld", n);
    }
    close_parts_rig(&r);
}
