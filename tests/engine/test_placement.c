/* tests/engine/test_placement.c -- residents and cache keep to their room, ranked or spread. */
#include "engine/plan/placement.h"

#include "engine/base/num.h"
#include "engine/model/weight_list.h"
#include "offload/stream.h"
#include "tests/support/pack_fixture.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { MANY = 24, ALIGN = 256, LARGEST = 128 * 128 * 2 };

typedef struct placement_rig {
    pack_fixture f;
    pack *p;
    chunk_range step;
    dev_work work[FIXTURE_CHUNKS];
    ranked_chunk ranked[MANY];
    bool chosen[FIXTURE_CHUNKS];
} placement_rig;

/* A chunk of another segment before and behind those of a step. */
static void open_placement_rig(placement_rig *r)
{
    fixture_tensor t[MANY + 2];
    char name[MANY + 2][16];
    refine_error err;
    for (int i = 0; i < MANY + 2; i++) {
        const int seg = i == 0 ? SEG_TEXT : i <= MANY ? SEG_UNET : SEG_VAE_DECODE;
        (void)snprintf(name[i], sizeof name[i], "w%d", i);
        t[i] = (fixture_tensor){ name[i], seg, DT_F16, 4 + 37 * i % 96, 1, 1, 128, 0 };
    }
    *r = (placement_rig){ 0 };
    pack_fixture_make(&r->f, t, MANY + 2, FIXTURE_RAW, NULL);
    pack_fixture_write(&r->f);
    cr_assert_eq(pack_open(&r->p, r->f.path, &err), REFINE_OK, "%s", err.text);
    r->step.p = r->p;
    pack_segment(r->p, SEG_UNET, &r->step.first, &r->step.end);
    cr_assert_eq(r->step.end - r->step.first, MANY);
    for (int i = r->step.first; i < r->step.end; i++)
        r->work[i].linear = (uint64_t)(i * 7 % 5) * pack_chunk_at(r->p, i)->bytes;
    placement_rank(r->ranked, &r->step, r->work);
}

static void close_placement_rig(placement_rig *r)
{
    pack_close(r->p);
    pack_fixture_free(&r->f);
}

static size_t bytes_on_device(const placement_rig *r, int chunk)
{
    return num_align(pack_chunk_at(r->p, chunk)->bytes, ALIGN);
}

static size_t sum_of_step(const placement_rig *r, const bool *of)
{
    size_t sum = 0;
    for (int i = r->step.first; i < r->step.end; i++)
        sum += !of || of[i] ? bytes_on_device(r, i) : 0;
    return sum;
}

Test(engine_placement, ranks_least_compute_for_each_byte_first)
{
    placement_rig r;
    open_placement_rig(&r);
    for (int i = 1; i < MANY; i++) {
        const ranked_chunk *a = &r.ranked[i - 1], *b = &r.ranked[i];
        const double more = (double)b->macs / (double)b->bytes - (double)a->macs / (double)a->bytes;
        cr_expect(more > 0 || (more == 0 && a->chunk < b->chunk), "at %d", i);
    }
    close_placement_rig(&r);
}

Test(engine_placement, residents_never_take_more_than_their_room)
{
    const placement_order orders[] = { PLACEMENT_RANKED, PLACEMENT_SPREAD };
    placement_rig r;
    open_placement_rig(&r);
    const size_t all = sum_of_step(&r, NULL);
    for (int k = 0; k < 2; k++)
        for (size_t room = 0; room <= all + LARGEST; room += all / 50) {
            const size_t taken = placement_residents(r.chosen, &r.step, orders[k], r.ranked, room);
            cr_expect_leq(taken, room);
            cr_expect_eq(taken, sum_of_step(&r, r.chosen));
            cr_expect(room == 0 || room + 2 * LARGEST >= all || taken + 2 * LARGEST >= room,
                      "%zu of %zu", taken, room);
            if (room >= all)
                cr_expect_eq(taken, all);
        }
    close_placement_rig(&r);
}

Test(engine_placement, only_chunks_of_the_step_are_chosen)
{
    placement_rig r;
    open_placement_rig(&r);
    (void)placement_residents(r.chosen, &r.step, PLACEMENT_SPREAD, r.ranked, SIZE_MAX);
    cr_expect(!r.chosen[r.step.first - 1] && !r.chosen[r.step.end]);
    (void)placement_residents(r.chosen, &r.step, PLACEMENT_RANKED, r.ranked, SIZE_MAX);
    cr_expect(!r.chosen[r.step.first - 1] && !r.chosen[r.step.end]);
    close_placement_rig(&r);
}

Test(engine_placement, ranked_residents_are_the_first_that_fit)
{
    placement_rig r;
    open_placement_rig(&r);
    const size_t room = sum_of_step(&r, NULL) / 3;
    size_t sum = 0;
    (void)placement_residents(r.chosen, &r.step, PLACEMENT_RANKED, r.ranked, room);
    for (int i = 0; i < MANY; i++) {
        const bool fits = sum + r.ranked[i].bytes <= room;
        cr_expect_eq(r.chosen[r.ranked[i].chunk], fits);
        sum += fits ? r.ranked[i].bytes : 0;
    }
    close_placement_rig(&r);
}

Test(engine_placement, spread_residents_are_the_same_share_of_every_beginning)
{
    placement_rig r;
    open_placement_rig(&r);
    double before = 0, taken = 0;
    (void)placement_residents(r.chosen, &r.step, PLACEMENT_SPREAD, r.ranked,
                              sum_of_step(&r, NULL) / 2);
    for (int i = r.step.first; i < r.step.end; i++) {
        before += (double)bytes_on_device(&r, i);
        taken += r.chosen[i] ? (double)bytes_on_device(&r, i) : 0;
        cr_expect(taken <= before / 2 && taken + LARGEST >= before / 2, "at %d", i);
    }
    close_placement_rig(&r);
}

Test(engine_placement, what_is_resident_is_not_cached_too)
{
    bool cached[FIXTURE_CHUNKS] = { false };
    placement_rig r;
    open_placement_rig(&r);
    (void)placement_residents(r.chosen, &r.step, PLACEMENT_RANKED, r.ranked,
                              sum_of_step(&r, NULL) / 2);
    size_t want = 0;
    const size_t bytes = placement_cache(cached, &r.step, r.chosen, SIZE_MAX >> 1);
    for (int i = r.step.first; i < r.step.end; i++) {
        cr_expect_neq(cached[i], r.chosen[i]);
        want += cached[i] ? stream_cached_bytes(pack_chunk_at(r.p, i)) : 0;
    }
    cr_expect_eq(bytes, want);
    cr_expect_eq(placement_cache(cached, &r.step, r.chosen, 0), 0);
    close_placement_rig(&r);
}
