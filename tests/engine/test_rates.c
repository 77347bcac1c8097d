/* tests/engine/test_rates.c -- rates that are given are taken, and each chunk meets its phase's. */
#include "engine/plan/rates.h"

#include "engine/plan/cost.h"
#include "tests/support/planned_job.h"

#include <criterion/criterion.h>
#include <string.h>

static const refine_rates GIVEN = { 1e9, 2e9, 3e9, 4e12, 5e12, 6e12, 7e11 };
static const memory_limits AMPLE = { .device = 1u << 30, .host = 1u << 30 }, NONE = { .device = 0 };

Test(engine_rates, what_is_given_is_not_probed)
{
    refine_options o = REFINE_OPTIONS_INIT;
    planned_job j;
    planned_job_open(&j);
    o.rates = GIVEN;
    const plan_rates r = rates_find(j.p, j.d, &o, &AMPLE, 0, 2);
    cr_expect_eq(memcmp(&r.unet, &GIVEN, sizeof GIVEN), 0);
    cr_expect_eq(memcmp(&r.text, &GIVEN, sizeof GIVEN), 0);
    cr_expect_eq(memcmp(&r.vae, &GIVEN, sizeof GIVEN), 0);
    planned_job_close(&j);
}

Test(engine_rates, disk_and_link_are_no_faster_than_allowed)
{
    refine_options o = REFINE_OPTIONS_INIT;
    planned_job j;
    planned_job_open(&j);
    o.rates = GIVEN;
    o.disk_limit = 1e8;
    o.copy_limit = 1e12;
    const plan_rates r = rates_find(j.p, j.d, &o, &AMPLE, 0, 2);
    cr_expect(r.unet.disk == 1e8 && r.unet.copy == GIVEN.copy);
    planned_job_close(&j);
}

Test(engine_rates, no_probe_takes_memory_that_is_not_there)
{
    refine_options o = REFINE_OPTIONS_INIT;
    planned_job j;
    planned_job_open(&j);
    o.rates.linear = GIVEN.linear;
    const refine_rates r = rates_find(j.p, j.d, &o, &NONE, 0, 2).unet;
    cr_expect(r.disk == 0 && r.decode == 0 && r.copy == 0 && r.linear == GIVEN.linear);
    planned_job_close(&j);
}

Test(engine_rates, each_chunk_takes_its_phases_rates)
{
    static const int of_text[] = { SEG_TEXT, SEG_ONCE },
                     of_vae[] = { SEG_VAE_ENCODE, SEG_VAE_DECODE };
    static dev_work work[4096];
    static double seconds[4096];
    const plan_rates r = { .unet = { .linear = 2 },
                           .text = { .linear = 20 },
                           .vae = { .linear = 200 } };
    planned_job j;
    int first, end;
    planned_job_open(&j);
    cr_assert_lt(n_pack_chunks(j.m.p), 4096);
    for (int i = 0; i < n_pack_chunks(j.m.p); i++)
        work[i].linear = 1000;
    rates_apply(seconds, &r, j.m.p, work);
    pack_segment(j.m.p, SEG_UNET, &first, &end);
    cr_expect_float_eq(seconds[first], 1000, 1e-9);
    for (int i = 0; i < 2; i++) {
        pack_segment(j.m.p, of_text[i], &first, &end);
        cr_expect_float_eq(seconds[first], 100, 1e-9);
        pack_segment(j.m.p, of_vae[i], &first, &end);
        cr_expect_float_eq(seconds[end - 1], 10, 1e-9);
    }
    planned_job_close(&j);
}
