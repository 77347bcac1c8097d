/* tests/tools/test_job_input.c -- what the user named becomes a job the engine takes. */
#include "engine/base/mem.h"
#include "tests/support/temp_file.h"
#include "tools/batch/job_input.h"
#include "tools/image/resample.h"

#include <criterion/criterion.h>
#include <png.h>
#include <string.h>
#include <unistd.h>

enum { W = 85, H = 71, FIT_W = 80, FIT_H = 64 };
static const input_settings HOW = { .scaling_factor = 0.13025f, .image = IMAGE_READING_INIT };
static const char LATENTS[] = "tests/fuzz/corpora/npy/f4_v1.npy"; /* [1,4,2,3] */

static void write_picture(char name[TEMP_NAME], uint8_t *rgb, int w, int h)
{
    for (int i = 0; i < w * h * 3; i++)
        rgb[i] = (uint8_t)(i * 13 + i / w);
    temp_file(name, ".png");
    cr_assert_eq(image_save(name, &(image){ w, h, rgb }, NULL, 0, NULL), REFINE_OK);
}

Test(tools_job_input, shrinks_a_picture_to_multiples_of_8)
{
    static uint8_t rgb[W * H * 3], fit[FIT_W * FIT_H * 3];
    char name[TEMP_NAME];
    job_input in;
    refine_job j = REFINE_JOB_INIT;
    refine_error err = { 0 };
    write_picture(name, rgb, W, H);
    cr_assert_eq(job_input_load(&in, &j, name, true, false, &HOW, &err), REFINE_OK, "%s", err.text);
    cr_assert(j.width == FIT_W && j.height == FIT_H, "%d x %d", j.width, j.height);
    cr_assert(in.from_width == W && in.from_height == H);
    cr_assert(j.rgb_in && j.rgb_out && !j.latents_in && !j.latents_out);
    cr_assert_eq(resample_lanczos(fit, FIT_W, FIT_H, rgb, W, H, NULL), REFINE_OK);
    cr_assert_eq(memcmp(j.rgb_in, fit, sizeof fit), 0);
    job_input_free(&in);
    cr_assert_eq(mem_used().now, 0u);
    (void)unlink(name);
}

Test(tools_job_input, lays_a_transparent_picture_on_the_background)
{
    static const uint8_t CLEAR[FIT_W * FIT_H * 4];
    static const input_settings ON = {
        .scaling_factor = 1, .image = { .background = { 10, 20, 30 }, .memory = 1 << 20 }
    };
    png_image png = {
        .version = PNG_IMAGE_VERSION, .width = FIT_W, .height = FIT_H, .format = PNG_FORMAT_RGBA
    };
    char name[TEMP_NAME];
    job_input in;
    refine_job j = REFINE_JOB_INIT;
    temp_file(name, ".png");
    cr_assert(png_image_write_to_file(&png, name, 0, CLEAR, 0, NULL));
    cr_assert_eq(job_input_load(&in, &j, name, true, false, &ON, NULL), REFINE_OK);
    cr_assert_eq(memcmp(j.rgb_in, "\x0a\x14\x1e", 3), 0);
    job_input_free(&in);
    (void)unlink(name);
}

Test(tools_job_input, cuts_a_picture_in_the_middle_before_it_is_resized)
{
    enum { CUT = W - H, TO = 64 };
    static uint8_t rgb[W * H * 3], middle[H * H * 3], fit[TO * TO * 3];
    static const input_settings SQUARE = { .scaling_factor = 1,
                                           .image = IMAGE_READING_INIT,
                                           .size = { SIZE_SIDES, TO, TO, 0, FIT_COVER } };
    char name[TEMP_NAME];
    job_input in;
    refine_job j = REFINE_JOB_INIT;
    write_picture(name, rgb, W, H);
    for (int y = 0; y < H; y++)
        memcpy(middle + y * H * 3, rgb + (y * W + CUT / 2) * 3, H * 3);
    cr_assert_eq(job_input_load(&in, &j, name, true, false, &SQUARE, NULL), REFINE_OK);
    cr_assert(j.width == TO && j.height == TO);
    cr_assert_eq(resample_lanczos(fit, TO, TO, middle, H, H, NULL), REFINE_OK);
    cr_assert_eq(memcmp(j.rgb_in, fit, sizeof fit), 0);
    job_input_free(&in);
    (void)unlink(name);
}

Test(tools_job_input, resizes_no_latents_and_sizes_an_image_from_text)
{
    static const input_settings TALL = { .scaling_factor = 1,
                                         .image = IMAGE_READING_INIT,
                                         .size = { SIZE_SIDES, 64, 128, 0, FIT_COVER } };
    job_input in;
    refine_job j = REFINE_JOB_INIT;
    refine_error err = { 0 };
    cr_assert_eq(job_input_load(&in, &j, LATENTS, true, false, &TALL, &err), REFINE_EINVAL);
    job_input_free(&in);
    cr_assert_eq(job_input_load(&in, &j, NULL, true, false, &TALL, NULL), REFINE_OK);
    cr_assert(j.width == 64 && j.height == 128 && in.out.width == 64 && in.hash == 0);
    job_input_free(&in);
    cr_assert_eq(mem_used().now, 0u);
}

Test(tools_job_input, leaves_a_picture_that_fits_alone)
{
    static uint8_t rgb[FIT_W * FIT_H * 3];
    char name[TEMP_NAME];
    job_input in;
    refine_job j = REFINE_JOB_INIT;
    write_picture(name, rgb, FIT_W, FIT_H);
    cr_assert_eq(job_input_load(&in, &j, name, true, true, &HOW, NULL), REFINE_OK);
    cr_assert_eq(memcmp(j.rgb_in, rgb, sizeof rgb), 0);
    cr_assert_not_null(j.latents_out);
    cr_assert(in.l.w == FIT_W / 8 && in.l.h == FIT_H / 8);
    job_input_free(&in);
    (void)unlink(name);
}

Test(tools_job_input, takes_the_size_of_a_job_from_latents)
{
    job_input in;
    refine_job j = REFINE_JOB_INIT;
    cr_assert_eq(job_input_load(&in, &j, LATENTS, true, true, &HOW, NULL), REFINE_OK);
    cr_assert(j.width == 24 && j.height == 16);
    cr_assert(!j.rgb_in && j.rgb_out && j.latents_in && j.latents_out);
    cr_assert_eq(j.latents_in[0], -1.5f);
    job_input_free(&in);
    cr_assert_eq(job_input_load(&in, &j, LATENTS, false, true, &HOW, NULL), REFINE_OK);
    job_input_free(&in);
    cr_assert_eq(mem_used().now, 0u);
}

Test(tools_job_input, refuses_a_picture_that_is_too_small)
{
    static uint8_t rgb[63 * 90 * 3];
    char name[TEMP_NAME];
    job_input in;
    refine_job j = REFINE_JOB_INIT;
    refine_error err = { 0 };
    write_picture(name, rgb, 63, 90);
    cr_assert_eq(job_input_load(&in, &j, name, true, false, &HOW, &err), REFINE_EFORMAT);
    cr_assert_not_null(strstr(err.text, "63 x 90"), "%s", err.text);
    job_input_free(&in);
    cr_assert_eq(mem_used().now, 0u);
    (void)unlink(name);
}

/* What reading takes is told, kept and not exceeded. */
Test(tools_job_input, keeps_a_ceiling_while_it_reads)
{
    static uint8_t rgb[W * H * 3];
    input_settings how = HOW;
    char name[TEMP_NAME];
    bool done = false;
    write_picture(name, rgb, W, H);
    for (how.image.memory = 1000; !done; how.image.memory += 1000) {
        job_input in;
        refine_job j = REFINE_JOB_INIT;
        refine_error err = { 0 };
        mem_reset_peak();
        const refine_status st = job_input_load(&in, &j, name, false, false, &how, &err);
        done = st == REFINE_OK;
        cr_assert(done || st == REFINE_EBUDGET, "%s", err.text);
        cr_assert(done || strstr(err.text, "takes 1M"), "%s", err.text);
        cr_assert_leq(mem_used().peak, how.image.memory + 16384); /* the weights of the filter */
        job_input_free(&in);
        cr_assert_lt(how.image.memory, 1u << 20);
    }
    (void)unlink(name);
}

static void check_job_input_alloc_failures(const char *name)
{
    for (long k = 0;; k++) {
        job_input in;
        refine_job j = REFINE_JOB_INIT;
        mem_fail_after(k, MEM_FAIL_ONCE);
        const refine_status st = job_input_load(&in, &j, name, true, true, &HOW, NULL);
        mem_fail_after(-1, MEM_FAIL_ONCE);
        job_input_free(&in);
        cr_assert_eq(mem_used().now, 0u, "allocation %ld", k);
        if (st == REFINE_OK) {
            cr_assert_geq(k, 2);
            return;
        }
        cr_assert_eq(st, REFINE_ENOMEM, "allocation %ld", k);
    }
}

Test(tools_job_input, survives_every_failed_allocation)
{
    static uint8_t rgb[W * H * 3];
    char name[TEMP_NAME];
    write_picture(name, rgb, W, H);
    check_job_input_alloc_failures(name);
    check_job_input_alloc_failures(LATENTS);
    (void)unlink(name);
}
