/* tests/engine/test_unused.c -- what a plan and a run name of a job's values that nothing uses. */
#include "tests/support/picture_rig.h"
#include "tests/support/tiny_pack.h"
#include <refine/refine.h>

#include <criterion/criterion.h>

static char base_file[512], refiner_file[512];

static void find_unused_packs(void)
{
    kept_pack_of(refiner_file, sizeof refiner_file, "synthetic:tiny", "");
    kept_pack_of(base_file, sizeof base_file, "synthetic:tiny-base", "");
}

TestSuite(engine_unused, .init = find_unused_packs, .timeout = 100);

/* A job that gives all there is. */
static refine_job full_job(bool from_text)
{
    static uint8_t out[PICTURE_BYTES];
    refine_job j = picture_small_job(out);
    j.rgb_in = from_text ? NULL : j.rgb_in;
    j.negative = j.negative_2 = j.prompt_2 = "fog";
    j.aesthetic_score = j.negative_aesthetic_score = 4;
    j.original_width = j.original_height = j.crop_left = j.crop_top = 32;
    j.target_width = j.target_height = 512;
    j.negative_original_width = j.negative_original_height = 256;
    j.negative_crop_left = j.negative_crop_top = 16;
    j.negative_target_width = j.negative_target_height = 128;
    return j;
}

static void expect_planned_unused(const char *base, const char *pack, const refine_job *j,
                                  const char *want)
{
    refine_options o = picture_options(pack, REFINE_DEVICE_CPU, REFINE_F32);
    refine_report r = REFINE_REPORT_INIT;
    refine_error err = { 0 };
    o.base_path = base;
    cr_assert_eq(refine_plan(&r, &o, j, &err), REFINE_OK, "%s", err.text);
    cr_expect_str_eq(r.unused, want, "%s", r.unused);
}

Test(engine_unused, is_what_no_model_of_the_run_is_told)
{
    const refine_job text = full_job(true), photo = full_job(false);
    expect_planned_unused(NULL, refiner_file, &photo,
                          "prompt 2, target size, negative prompt 2, negative target size");
    expect_planned_unused(NULL, base_file, &text, "aesthetic score, negative aesthetic score");
    expect_planned_unused(NULL, base_file, &photo,
                          "aesthetic score, negative crop, negative aesthetic score");
    refine_job both = text;
    both.steps = 5;
    both.handoff = 0.6;
    expect_planned_unused(base_file, refiner_file, &both, "");
}

Test(engine_unused, without_guidance_is_all_of_the_negative_prompt)
{
    refine_job j = full_job(true);
    j.guidance = 1;
    expect_planned_unused(NULL, base_file, &j,
                          "aesthetic score, negative prompt (guidance is off), negative prompt 2, "
                          "negative original size, negative crop, negative target size, negative "
                          "aesthetic score");
}

Test(engine_unused, has_sizes_that_count_only_together)
{
    refine_job j = full_job(true);
    j.aesthetic_score = 6;
    j.negative_aesthetic_score = 2.5f;
    j.negative_target_width = j.negative_target_height = 0;
    expect_planned_unused(NULL, base_file, &j, "negative original size, negative crop");
}

Test(engine_unused, has_a_second_negative_prompt_beside_none)
{
    refine_job j = full_job(true);
    j.aesthetic_score = 6;
    j.negative_aesthetic_score = 2.5f;
    j.negative = NULL;
    expect_planned_unused(NULL, base_file, &j, "negative prompt 2");
    j.negative = "";
    expect_planned_unused(NULL, base_file, &j, "");
}

Test(engine_unused, is_nothing_where_nothing_is_given)
{
    const refine_job photo = picture_small_job((uint8_t[PICTURE_BYTES]){ 0 });
    expect_planned_unused(NULL, refiner_file, &photo, "");
}

Test(engine_unused, is_of_each_image_its_own)
{
    static uint8_t out[2][PICTURE_BYTES];
    char unused[REFINE_UNUSED_TEXT];
    refine_options o = picture_options(refiner_file, REFINE_DEVICE_CPU, REFINE_F32);
    refine_job j[2] = { picture_small_job(out[0]), picture_small_job(out[1]) };
    refine_report r = REFINE_REPORT_INIT;
    refine_engine *e;
    o.images = 2;
    j[1].prompt_2 = "dog";
    cr_assert_eq(refine_open(&e, &o, j, NULL), REFINE_OK);
    cr_assert_eq(refine_run_many(e, j, 2, NULL), REFINE_OK);
    refine_get_report(e, &r);
    cr_expect_str_eq(r.unused, "");
    refine_get_unused(e, 1, unused);
    cr_expect_str_eq(unused, "prompt 2");
    refine_get_unused(e, 0, unused);
    cr_expect_str_eq(unused, "");
    refine_close(e);
}
