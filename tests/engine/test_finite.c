/* tests/engine/test_finite.c -- what is not finite ends the run with one line, whatever phase it
 * comes from.
 *
 * The packs are refine-pack's with one weight exchanged: it refuses checkpoints that hold NaN or
 * infinity, and an activation that overflows does the same.
 */
#include "engine/model/finite.h"

#include "tests/support/pack_fixture.h"
#include "tests/support/picture_rig.h"
#include "tests/support/tiny_pack.h"
#include <refine/refine.h>

#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TestSuite(engine_finite, .timeout = 300);

/* ---- counting ---- */

Test(engine_finite, counts_what_is_no_number_at_any_place)
{
    static const float fine[] = { 0, -0.0f, 1, -FLT_MAX, FLT_MAX, FLT_MIN, FLT_TRUE_MIN };
    float v[67];
    for (int i = 0; i < 67; i++)
        v[i] = fine[i % 7];
    cr_expect_eq(finite_bad(v, 67), 0);
    for (int i = 0; i < 67; i++) {
        const float was = v[i];
        v[i] = i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : -INFINITY;
        cr_expect_eq(finite_bad(v, 67), 1, "%d", i);
        cr_expect_eq(finite_bad(v, (size_t)i), 0, "%d", i);
        v[i] = was;
    }
    v[3] = v[64] = -NAN;
    cr_expect_eq(finite_bad(v, 67), 2);
}

Test(engine_finite, finds_the_largest_number_among_others)
{
    static const float v[] = { NAN, 1, -7, INFINITY, 6, -INFINITY };
    cr_expect_eq(finite_largest(v, 6), 7);
    cr_expect_eq(finite_largest(v + 3, 3), 6);
    cr_expect_eq(finite_largest(v, 1), 0);
    cr_expect_eq(finite_largest(v, 0), 0);
}

static void expect_finite_message(const finite_place *at, const char *line)
{
    dev *d = dev_open_ref(&(dev_options){ .compute = DT_F32 }, NULL);
    cr_assert_not_null(d);
    finite_judge(d, at, 0, 16384);
    cr_expect_eq(dev_status(d), REFINE_OK);
    finite_judge(d, at, 128, 16384);
    cr_expect_eq(dev_status(d), REFINE_EDEVICE);
    cr_expect_str_eq(dev_why(d), line);
    dev_close(d);
}

Test(engine_finite, names_the_step_and_the_image_where_there_are_several)
{
    expect_finite_message(
        &(finite_place){ "the UNet's result", "do this", 6, 20, 1, 3 },
        "step 7 of 20: the UNet's result is not finite (NaN or infinity in 128 of 16384 values, "
        "image 2); do this");
    expect_finite_message(
        &(finite_place){ "the decoded image", "do this", 6, 0, 0, 1 },
        "the decoded image is not finite (NaN or infinity in 128 of 16384 values); do this");
}

/* ---- a run ---- */

enum { SIDE = 64 };

static uint8_t picture[SIDE * SIDE * 3];

/* A pack with that weight, to be removed. */
static void make_pack_with_weight(char path[TEMP_NAME], const char *weight, float value)
{
    pack_fixture f = { 0 };
    tiny_pack(path, TEMP_NAME, "--codec raw");
    f.file = temp_read(path, &f.bytes);
    fixture_set_weight(&f, weight, value);
    temp_write(path, f.file, f.bytes);
    free(f.file);
}

/* Runs a job that ends like that, twice, and says why. */
static const char *why_not(const char *pack, const refine_job *j, refine_precision precision,
                           refine_status st)
{
    static refine_error err;
    refine_engine *e;
    const refine_options o = picture_options(pack, REFINE_DEVICE_CPU, precision);
    err = (refine_error){ 0 };
    cr_assert_eq(refine_open(&e, &o, j, &err), REFINE_OK, "%s", err.text);
    cr_expect_eq(refine_run(e, j, &err), st);
    cr_expect_eq(refine_run(e, j, NULL), st, "once more");
    refine_close(e);
    cr_expect_null(strchr(err.text, '\n'));
    return err.text;
}

static const char *nonfinite_run_error(const char *weight, float value, refine_precision precision)
{
    char path[TEMP_NAME];
    const refine_job j = picture_small_job(picture);
    make_pack_with_weight(path, weight, value);
    const char *why = why_not(path, &j, precision, REFINE_EDEVICE);
    (void)unlink(path);
    return why;
}

static void expect_text_begins(const char *text, const char *with)
{
    cr_expect_eq(strncmp(text, with, strlen(with)), 0, "'%s', not '%s'", text, with);
}

static void expect_text_contains(const char *text, const char *part)
{
    cr_expect_not_null(strstr(text, part), "'%s', without '%s'", text, part);
}

Test(engine_finite, the_text_encoder_may_have_damaged_weights)
{
    const refine_precision precisions[] = { REFINE_F32, REFINE_BF16 };
    for (int i = 0; i < 2; i++) {
        const char *why = nonfinite_run_error("text.text_model.encoder.layers.0.mlp.fc1.weight",
                                              NAN, precisions[i]);
        expect_text_begins(why, "the text encoder's result is not finite (NaN or infinity in ");
        expect_text_contains(why, "refine-pack --verify");
    }
}

Test(engine_finite, the_pooled_prompt_is_looked_at_too)
{
    expect_text_begins(nonfinite_run_error("text.text_projection.weight", INFINITY, REFINE_F32),
                       "the pooled prompt is not finite (NaN or infinity in ");
}

Test(engine_finite, so_is_the_picture_that_was_encoded)
{
    expect_text_begins(nonfinite_run_error("vae.encoder.conv_in.weight", NAN, REFINE_F32),
                       "the encoded image is not finite (NaN or infinity in ");
}

/* Sampling clamps it, and would hide a NaN. */
Test(engine_finite, so_is_the_variance_of_the_encoded_picture)
{
    expect_text_begins(nonfinite_run_error("vae.encoder.conv_norm_out.bias", INFINITY, REFINE_F32),
                       "the encoded image is not finite (NaN or infinity in ");
}

Test(engine_finite, the_unet_names_the_step_and_a_wider_precision)
{
    const char *why = nonfinite_run_error("unet.conv_in.weight", INFINITY, REFINE_F32);
    expect_text_begins(why, "step 1 of 2: the UNet's result is not finite (NaN or infinity in ");
    expect_text_contains(why, "refine-pack --verify");
    why = nonfinite_run_error("unet.conv_out.bias", NAN, REFINE_BF16);
    expect_text_begins(
        why, "step 1 of 2: the UNet's result is not finite (NaN or infinity in 128 of 512 "
             "values); ");
    expect_text_contains(why, "--precision f32");
}

/* One colour of all pixels: every band of them is looked at. */
Test(engine_finite, the_decoded_picture_counts_all_its_pixels)
{
    expect_text_begins(
        nonfinite_run_error("vae.decoder.conv_out.bias", NAN, REFINE_F32),
        "the decoded image is not finite (NaN or infinity in 4096 of 12288 values); ");
    expect_text_begins(nonfinite_run_error("vae.decoder.conv_in.weight", NAN, REFINE_F32),
                       "the decoded image is not finite (NaN or infinity in ");
}

Test(engine_finite, latents_that_are_given_are_refused)
{
    static float latents[4 * (SIDE / 8) * (SIDE / 8)];
    char path[TEMP_NAME];
    refine_job j = picture_small_job(picture);
    j.rgb_in = NULL;
    j.latents_in = latents;
    latents[255] = -INFINITY;
    latents[7] = NAN;
    tiny_pack(path, sizeof path, "");
    cr_expect_str_eq(why_not(path, &j, REFINE_F32, REFINE_EINVAL),
                     "the latents given hold NaN or infinity in 2 of 256 values");
    (void)unlink(path);
}

Test(engine_finite, guidance_may_be_too_large)
{
    char path[TEMP_NAME];
    refine_job j = picture_small_job(picture);
    j.guidance = FLT_MAX;
    make_pack_with_weight(path, "unet.conv_out.weight", 60000);
    const char *why = why_not(path, &j, REFINE_F32, REFINE_EDEVICE);
    expect_text_begins(why, "step 1 of 2: what guidance made of the latents is not finite");
    expect_text_contains(why, "--guidance");
    (void)unlink(path);
}

/* Numbers they are, and what becomes of them is not the weights' fault. */
Test(engine_finite, latents_that_are_too_large_are_blamed)
{
    static float latents[4 * (SIDE / 8) * (SIDE / 8)];
    char path[TEMP_NAME];
    refine_job j = picture_small_job(picture);
    j.rgb_in = NULL;
    j.latents_in = latents;
    for (int i = 0; i < 256; i++)
        latents[i] = i % 2 ? 1e30f : -2e38f;
    tiny_pack(path, sizeof path, "");
    const char *why = why_not(path, &j, REFINE_F32, REFINE_EDEVICE);
    expect_text_contains(why, " is not finite (NaN or infinity in ");
    expect_text_contains(why, "the latents given reach 2e+38");
    (void)unlink(path);
}

Test(engine_finite, the_step_is_named_that_made_latents_too_large)
{
    char path[TEMP_NAME];
    const refine_job j = picture_small_job(picture);
    make_pack_with_weight(path, "unet.conv_out.bias", 3e38f);
    const char *why = why_not(path, &j, REFINE_F32, REFINE_EDEVICE);
    expect_text_contains(why, "the latents reached ");
    expect_text_contains(why, " in step 1 of 2; ");
    (void)unlink(path);
}
