/* tests/cuda/test_picture.c -- whole images on the CUDA device, the emulated card or a real one:
 * they depend on the job alone, and are those of the CPU device but for rounding.
 */
#include "tests/support/cuda_opening.h"
#include "tests/support/field.h"
#include "tests/support/picture_rig.h"
#include "tests/support/tiny_pack.h"

#include <criterion/criterion.h>
#include <math.h>
#include <unistd.h>

static char pack_file[256];

static void make_cuda_image_pack(void)
{
    field_needs_gpu();
    cuda_opening_trusts();
    tiny_pack(pack_file, sizeof pack_file, "");
}

static void make_cuda_int8_pack(void)
{
    field_needs_gpu();
    cuda_opening_trusts();
    tiny_pack(pack_file, sizeof pack_file, "--weights int8");
}

static void remove_cuda_image_pack(void) { (void)unlink(pack_file); }

TestSuite(cuda_picture, .init = make_cuda_image_pack, .fini = remove_cuda_image_pack,
          .timeout = 1200);
TestSuite(cuda_picture_int8, .init = make_cuda_int8_pack, .fini = remove_cuda_image_pack,
          .timeout = 1200);

/* What the context takes, which on some cards is more than a budget has to spare. */
static uint64_t context_overhead_bytes(void)
{
    static uint64_t bytes;
    if (!bytes) {
        dev *d = field_cuda(DT_F16);
        bytes = dev_overhead(d);
        dev_close(d);
    }
    return bytes;
}

static refine_options cuda_image_options(refine_precision p)
{
    refine_options o = picture_options(pack_file, REFINE_DEVICE_CUDA, p);
    o.vram_bytes = context_overhead_bytes() + (256u << 20);
    return o;
}

static refine_job cuda_image_job(void)
{
    static uint8_t out[PICTURE_BYTES];
    return picture_small_job(out);
}

/* One step instead of two. */
static refine_job short_job(void)
{
    refine_job j = cuda_image_job();
    j.strength = 0.1;
    return j;
}

/* ---- the same, whatever the budget ---- */

Test(cuda_picture, does_not_depend_on_budget_threads_reader_or_bands)
{
    const refine_options o = cuda_image_options(REFINE_FP16);
    const refine_job j = short_job();
    picture_invariant(&o, &j);
}

Test(cuda_picture, does_not_depend_on_where_the_vae_keeps_its_pictures)
{
    const refine_options o = cuda_image_options(REFINE_FP16);
    const refine_job j = short_job();
    picture_invariant_to_spill(&o, &j);
}

Test(cuda_picture_int8, does_not_depend_on_its_company)
{
    const refine_options o = cuda_image_options(REFINE_FP16);
    const refine_job j = short_job();
    static const int PER_PASS[] = { 0, 3 };
    picture_invariant_to_company(&o, &j, PER_PASS, 2);
}

Test(cuda_picture, the_smallest_budget_runs_and_one_page_less_is_refused)
{
    const refine_options o = cuda_image_options(REFINE_FP16);
    const refine_job j = short_job();
    picture_smallest_budgets(&o, &j);
}

/* ---- as on the CPU ---- */

static void latents_of(const refine_options *o, float *out)
{
    refine_job j = cuda_image_job();
    j.rgb_out = NULL;
    j.latents_out = out;
    picture_run(o, &j, NULL);
}

/* Decibels of the CPU device's latents in f32 over their difference to a device's. */
static double agreement_of(refine_device device, refine_precision p)
{
    static float want[PICTURE_LATENTS], got[PICTURE_LATENTS];
    refine_options o = cuda_image_options(REFINE_F32);
    double signal = 0.0, error = 0.0;
    const refine_job j = cuda_image_job();
    o.device = REFINE_DEVICE_CPU;
    latents_of(&o, want);
    o = cuda_image_options(p);
    o.device = device;
    latents_of(&o, got);
    for (int i = 0; i < 4 * (j.width / 8) * (j.height / 8); i++) {
        signal += (double)want[i] * want[i];
        error += (double)(got[i] - want[i]) * (got[i] - want[i]);
    }
    return 10.0 * log10(signal / error);
}

static double cuda_agreement(refine_precision p) { return agreement_of(REFINE_DEVICE_CUDA, p); }

Test(cuda_picture, is_that_of_the_cpu_but_for_rounding)
{
    const double fp16 = cuda_agreement(REFINE_FP16), f32 = cuda_agreement(REFINE_F32);
    cr_log_info("fp16: %.1f dB, f32: %.1f dB", fp16, f32);
    cr_expect_gt(fp16, 45.0, "fp16: %.1f dB", fp16);
    cr_expect_gt(f32, 100.0, "f32: %.1f dB", f32);
}

Test(cuda_picture_int8, is_that_of_the_cpu_but_for_rounding)
{
    const double fp16 = cuda_agreement(REFINE_FP16), f32 = cuda_agreement(REFINE_F32);
    const double int8 = cuda_agreement(REFINE_INT8);
    const double theirs = agreement_of(REFINE_DEVICE_CPU, REFINE_INT8);
    cr_log_info("fp16: %.1f dB, f32: %.1f dB, int8: %.1f dB, %.1f on the CPU", fp16, f32, int8,
                theirs);
    cr_expect_gt(fp16, 45.0, "fp16: %.1f dB", fp16);
    cr_expect_gt(f32, 100.0, "f32: %.1f dB", f32);
    cr_expect_gt(int8, theirs - 1.0, "int8: %.1f dB, %.1f on the CPU", int8, theirs);
}
