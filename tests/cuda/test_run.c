/* tests/cuda/test_run.c -- whole images on the emulated card: the same under every schedule of
 * its streams and order of its threads, and an error in one line whatever call of CUDA fails.
 */
#define _POSIX_C_SOURCE 200809L /* setenv */
#include "kernels/ops.h"
#include "tests/support/cuda/emulation.h"
#include "tests/support/cuda_opening.h"
#include "tests/support/picture_rig.h"
#include "tests/support/tiny_pack.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PIXELS = 64 * 64 * 3, SEEDS = 2, FAILURES = 8 };

/* As a strength. */
static const double ONE_STEP = 0.1;

static char pack_file[256], base_file[512];

static void make_cuda_run_pack(void)
{
    cuda_opening_trusts();
    tiny_pack(pack_file, sizeof pack_file, "");
    kept_pack_of(base_file, sizeof base_file, "synthetic:tiny-base", "");
}

static void remove_cuda_run_pack(void)
{
    (void)unlink(pack_file);
    (void)emulation_reset();
}

TestSuite(cuda_run, .init = make_cuda_run_pack, .fini = remove_cuda_run_pack, .timeout = 1200);

static refine_options cuda_run_options(refine_precision precision)
{
    refine_options o = picture_options(pack_file, REFINE_DEVICE_CUDA, precision);
    o.vram_bytes = 192u << 20;
    o.resident_bytes = 1u << 20; /* the others travel */
    o.threads = 1;
    return o;
}

static refine_status run_cuda_job(const refine_options *o, const refine_job *j, refine_error *err)
{
    refine_engine *e = NULL;
    refine_status st = refine_open(&e, o, j, err);
    if (st == REFINE_OK)
        st = refine_run(e, j, err);
    refine_close(e);
    return st;
}

static refine_job cuda_step_job(uint8_t *out)
{
    refine_job j = picture_small_job(out);
    j.strength = ONE_STEP;
    return j;
}

static refine_status run_one_cuda_step(refine_precision precision, uint8_t *out, refine_error *err)
{
    const refine_options o = cuda_run_options(precision);
    const refine_job j = cuda_step_job(out);
    return run_cuda_job(&o, &j, err);
}

static void expect_same_cuda_job(const refine_options *o, const refine_job *j, const uint8_t *want)
{
    refine_error err = { 0 };
    memset(j->rgb_out, 0, PIXELS);
    cr_expect_eq(run_cuda_job(o, j, &err), REFINE_OK, "%s", err.text);
    cr_expect_arr_eq(j->rgb_out, want, PIXELS);
    cr_expect_eq(emulation_live(), 0);
    cr_expect_eq(emulation_loaded_late(), 0, "%d kernels were loaded late",
                 emulation_loaded_late());
}

/* Under this schedule and those behind it. */
static void expect_invariant(const refine_options *o, refine_job j, emulation_schedule first)
{
    static uint8_t want[PIXELS], out[PIXELS];
    refine_error err = { 0 };
    j.rgb_out = want;
    cr_assert_eq(run_cuda_job(o, &j, &err), REFINE_OK, "%s", err.text);
    j.rgb_out = out;
    for (int s = (int)first; s < EMULATION_SCHEDULES; s++)
        for (uint32_t seed = 0; seed < (s == EMULATION_BY_CHANCE ? SEEDS : 1); seed++) {
            emulation_set_schedule((emulation_schedule)s, seed);
            emulation_set_order(seed % 2 ? EMULATION_REVERSE : EMULATION_RANDOM, seed);
            expect_same_cuda_job(o, &j, want);
        }
}

static void expect_invariant_step(refine_precision precision, emulation_schedule first)
{
    const refine_options o = cuda_run_options(precision);
    expect_invariant(&o, cuda_step_job(NULL), first);
}

Test(cuda_run, the_picture_does_not_depend_on_when_the_card_does_what_fp16)
{
    expect_invariant_step(REFINE_FP16, EMULATION_LAZY);
}

Test(cuda_run, the_picture_does_not_depend_on_when_the_card_does_what_f32)
{
    expect_invariant_step(REFINE_F32, EMULATION_BY_CHANCE);
}

/* Two steps of each; what stays of the refiner takes the places of what stayed of the base. */
Test(cuda_run, nor_does_that_of_a_base_and_a_refiner)
{
    refine_options o = cuda_run_options(REFINE_FP16);
    refine_job j = picture_small_job(NULL);
    o.base_path = base_file;
    o.ring_bytes = 4u << 20; /* the refiner's first chunks take the room of the base's last */
    o.resident_bytes = 4u << 20;
    j.rgb_in = NULL;
    j.guidance = 1;
    j.steps = 4;
    j.handoff = 0.5;
    expect_invariant(&o, j, EMULATION_LAZY);
}

/* ---- how much goes into a launch ---- */

static int n_launches;

static void count_launch(const emulation_launch *l)
{
    (void)l;
    n_launches++;
}

static refine_job cuda_latents_job(float *out)
{
    static const float GIVEN[PIXELS / 48];
    refine_job j = picture_small_job(NULL);
    j.rgb_in = NULL;
    j.latents_in = GIVEN;
    j.latents_out = out;
    j.strength = ONE_STEP;
    return j;
}

/* Launches of a step that nobody computes. */
static int launches_of(const refine_options *o, refine_report *r)
{
    static float out[PIXELS / 48];
    const refine_job j = cuda_latents_job(out);
    refine_error err = { 0 };
    refine_engine *e = NULL;
    cr_assert_eq(setenv("REFINE_SELF_TEST", "off", 1), 0); /* it would find that out */
    emulation_list_launches(count_launch);
    cr_assert_eq(refine_open(&e, o, &j, &err), REFINE_OK, "%s", err.text);
    n_launches = 0;
    cr_assert_eq(refine_run(e, &j, &err), REFINE_OK, "%s", err.text);
    emulation_list_launches(NULL);
    *r = (refine_report)REFINE_REPORT_INIT;
    refine_get_report(e, r);
    refine_close(e);
    return n_launches;
}

static uint64_t smallest_of(const refine_options *o)
{
    static float out[PIXELS / 48];
    const refine_job j = cuda_latents_job(out);
    refine_report r = REFINE_REPORT_INIT;
    refine_error err = { 0 };
    cr_assert_eq(refine_plan(&r, o, &j, &err), REFINE_OK, "%s", err.text);
    return r.memory.smallest_device;
}

/* The pack's chunks are small, so that its larger matrices have several. */
Test(cuda_run, chunks_of_a_matrix_share_a_launch_where_the_ring_has_room)
{
    static float want[PIXELS / 48], out[PIXELS / 48];
    static const int MOST[] = { 1, 2, MATRIX_BLOCKS_MAX };
    char cut[256];
    int last = 0;
    tiny_pack(cut, sizeof cut, "--chunk 64K");
    for (int i = 0; i < 3; i++) {
        refine_options o = cuda_run_options(REFINE_FP16);
        refine_report r = REFINE_REPORT_INIT;
        const refine_job j = cuda_latents_job(i ? out : want);
        o.pack_path = cut;
        o.together = MOST[i];
        const int n = launches_of(&o, &r);
        cr_expect_eq(r.together, MOST[i]);
        cr_expect(i == 0 || n < last, "%d launches, %d with fewer together", n, last);
        last = n;
        picture_run(&o, &j, NULL);
        cr_expect(i == 0 || memcmp(out, want, sizeof want) == 0, "%d together", MOST[i]);
        o.vram_bytes = smallest_of(&o);
        (void)launches_of(&o, &r);
        cr_expect_eq(r.together, 1, "%d together in the smallest ring", r.together);
    }
    (void)unlink(cut);
}

/* A launch more for each. */
Test(cuda_run, norms_are_written_out_where_there_is_room)
{
    refine_options o = cuda_run_options(REFINE_FP16);
    refine_report r = REFINE_REPORT_INIT;
    o.together = 1;
    o.per_pass = 2;
    const int roomy = launches_of(&o, &r);
    const uint64_t activations = r.memory.activations;
    o.vram_bytes = smallest_of(&o);
    const int tight = launches_of(&o, &r);
    cr_expect(tight < roomy, "%d and %d launches", tight, roomy);
    cr_expect(r.memory.activations <= activations);
}

/* One call in some fails; those that the program makes first, and others up to the last. */
static void fail_calls(cudaError_t e)
{
    static uint8_t want[PIXELS], out[PIXELS];
    refine_error err = { 0 };
    int failed = 0;
    const int before = emulation_calls();
    cr_assert_eq(run_one_cuda_step(REFINE_F32, want, &err), REFINE_OK, "%s", err.text);
    const int calls = emulation_calls() - before;
    for (int i = 0; i < FAILURES; i++) {
        const int after = i < FAILURES / 2 ? 2 * i : calls / FAILURES * i;
        (void)emulation_reset();
        emulation_fail_next(e, after);
        err = (refine_error){ 0 };
        memset(out, 0, sizeof out);
        if (run_one_cuda_step(REFINE_F32, out, &err) == REFINE_OK) {
            cr_expect_arr_eq(out, want, PIXELS, "call %d", after);
        } else {
            cr_expect(err.text[0] && !strchr(err.text, '\n'), "call %d: '%s'", after, err.text);
            failed++;
        }
        cr_expect_eq(emulation_live(), 0, "call %d: %d are open", after, emulation_live());
    }
    cr_expect_gt(failed, FAILURES / 4);
}

Test(cuda_run, a_call_that_fails_is_told_in_one_line_and_nothing_stays_open)
{
    fail_calls(cudaErrorUnknown);
}

Test(cuda_run, a_card_that_is_lost_is_told_in_one_line_and_nothing_stays_open)
{
    fail_calls(cudaErrorIllegalAddress);
}
