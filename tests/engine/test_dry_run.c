/* tests/engine/test_dry_run.c -- a dry run says the same whenever it is asked, and leaves no trace.
 *
 * That its sizes are those of a run is what engine.refine and property.plans see to.
 */
#include "engine/plan/dry_run.h"

#include "engine/base/mem.h"
#include "tests/support/planned_job.h"

#include <criterion/criterion.h>
#include <string.h>

static const vae_way SMALL_BANDS = { .band_rows = BAND_UNIT, .spill_from = SIZE_MAX },
                     LARGE_BANDS = { .band_rows = 64, .spill_from = SIZE_MAX },
                     ALL_SPILLED = { .band_rows = BAND_UNIT, .spill_from = 0 };

static phase_sizes run_vae(const planned_job *j, vae_way way, dev_work *work)
{
    const dry_run_job job = { .p = j->p, .target = j->d };
    refine_error err = { 0 };
    phase_sizes s;
    cr_assert_eq(dry_run_vae(&s, &job, way, work, &err), REFINE_OK, "%s", err.text);
    return s;
}

static phase_sizes run_unet(const planned_job *j, unet_way way, dev_work *work)
{
    const dry_run_job job = { .p = j->p, .target = j->d };
    refine_error err = { 0 };
    phase_sizes s;
    cr_assert_eq(dry_run_unet(&s, &job, way, work, &err), REFINE_OK, "%s", err.text);
    return s;
}

Test(engine_dry_run, says_the_same_whatever_was_tried_between)
{
    planned_job j;
    planned_job_open(&j);
    const unet_way both = { .per_pass = 2 }, one = { .per_pass = 1, .norms_anywhere = true };
    const uint64_t heap = mem_used().now;
    const phase_sizes unet_before = run_unet(&j, both, NULL);
    const phase_sizes vae_before = run_vae(&j, SMALL_BANDS, NULL);
    const int per_pass = j.p->per_pass;
    (void)run_unet(&j, one, NULL);
    (void)run_vae(&j, ALL_SPILLED, NULL);
    const phase_sizes unet_after = run_unet(&j, both, NULL);
    const phase_sizes vae_after = run_vae(&j, SMALL_BANDS, NULL);
    cr_expect_eq(memcmp(&unet_before, &unet_after, sizeof unet_after), 0);
    cr_expect_eq(memcmp(&vae_before, &vae_after, sizeof vae_after), 0);
    cr_expect_eq(j.p->per_pass, per_pass);
    cr_expect_eq(mem_used().now, heap);
    planned_job_close(&j);
}

Test(engine_dry_run, each_way_gives_up_what_it_is_for)
{
    planned_job j;
    planned_job_open(&j);
    const phase_sizes two = run_unet(&j, (unet_way){ .per_pass = 2 }, NULL),
                      one = run_unet(&j, (unet_way){ .per_pass = 1 }, NULL),
                      written = run_unet(&j, (unet_way){ 1, .norms_anywhere = true }, NULL);
    cr_expect_lt(one.unet, two.unet);
    cr_expect_eq(one.prompt, two.prompt);
    cr_expect_geq(written.unet, one.unet);
    const phase_sizes large = run_vae(&j, LARGE_BANDS, NULL),
                      small = run_vae(&j, SMALL_BANDS, NULL),
                      spilled = run_vae(&j, ALL_SPILLED, NULL);
    cr_expect_lt(small.decode, large.decode);
    cr_expect_lt(spilled.decode, small.decode);
    cr_expect(spilled.spill > 0 && small.spill == 0);
    planned_job_close(&j);
}

Test(engine_dry_run, notes_the_work_of_the_chunks_it_touches)
{
    static dev_work work[4096];
    planned_job j;
    int first, end;
    planned_job_open(&j);
    cr_assert_lt(n_pack_chunks(j.m.p), 4096);
    pack_segment(j.m.p, SEG_UNET, &first, &end);
    (void)run_vae(&j, SMALL_BANDS, work);
    for (int i = first; i < end; i++)
        cr_assert_eq(dev_work_macs(work[i]), 0);
    (void)run_unet(&j, (unet_way){ .per_pass = 1 }, work);
    uint64_t one = 0, two = 0;
    for (int i = first; i < end; i++)
        one += dev_work_macs(work[i]);
    (void)run_unet(&j, (unet_way){ .per_pass = 2 }, work);
    for (int i = first; i < end; i++)
        two += dev_work_macs(work[i]);
    cr_expect(one > 0 && two == 2 * one);
    planned_job_close(&j);
}

Test(engine_dry_run, phases_joined_need_the_larger_of_each)
{
    const phase_sizes a = { 1, 20, 3, 40, 5, 60, 7, 80 }, b = { 10, 2, 30, 4, 50, 6, 70, 8 },
                      want = { 10, 20, 30, 40, 50, 60, 70, 80 };
    const phase_sizes ab = phase_sizes_join(&a, &b), ba = phase_sizes_join(&b, &a);
    cr_expect_eq(memcmp(&ab, &want, sizeof want), 0);
    cr_expect_eq(memcmp(&ba, &want, sizeof want), 0);
}
