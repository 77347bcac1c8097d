/* tests/property/test_jobs.c -- whole images of any size, whatever the way they are made.
 *
 *   - The same bits with one thread and plenty of memory as in any other way, from chunks cut
 *     otherwise, and within any ceilings that the plan accepts; and of several images as of each
 *     alone.
 *   - In f32 what the referee computes.
 *   - What is stopped, at whatever moment, leaves nothing behind.
 *   - What is not finite ends the job.
 */
#include "engine/base/mem.h"
#include "tests/property/any_job.h"

#include <math.h>

TestSuite(property, .init = any_job_packs);

/* A ceiling from the smallest up. */
static uint64_t draw_ceiling(draws *d, uint64_t smallest)
{
    return smallest + (draw_once_in(d, 2) ? (uint64_t)draw_scale(d, 1, 1 << 28) : 0);
}

/* What the ways leave of the ceilings; false: no memory will do. */
static bool draw_ceilings(draws *d, any_job *a, refine_options *o)
{
    refine_report r = REFINE_REPORT_INIT;
    refine_error err = { 0 };
    if (any_job_plan(a, o, &r, &err) != REFINE_OK)
        return false;
    o->vram_bytes = draw_ceiling(d, r.memory.smallest_device);
    if (any_job_plan(a, o, &r, &err) != REFINE_OK)
        return false;
    o->ram_bytes = draw_ceiling(d, r.memory.smallest_host);
    const size_t n = strlen(a->text);
    (void)snprintf(a->text + n, sizeof a->text - n, ", %llu and %llu bytes",
                   (unsigned long long)o->vram_bytes, (unsigned long long)o->ram_bytes);
    return true;
}

static void run_drawn_job(draws *d, const any_job *a, const refine_options *o, any_result *r)
{
    refine_error err = { 0 };
    const refine_status st = any_job_run(a, o, r, &err);
    if (st != REFINE_OK)
        fail_case(d, "ends with %d: %s", st, err.text);
    if (mem_used().now != 0)
        fail_case(d, "%llu bytes of the heap are left", (unsigned long long)mem_used().now);
}

static int draw_images(draws *d)
{
    return draw_once_in(d, 4) ? draw_integer(d, 2, ANY_JOB_IMAGES) : 1;
}

CostlyProperty(any_image_has_the_same_bits_whatever_the_way)
{
    any_job a, simple;
    any_result plain, other;
    draw_job(d, &a, draw_images(d), ANY_JOB_PIXELS);
    refine_options o = a.o;
    simple = a;
    if (draw_once_in(d, 2))
        any_job_use_other_packs(&simple);
    draw_ways(d, &a, &o);
    describe_case(d, "%s", a.text);
    if (!draw_ceilings(d, &a, &o)) {
        fail_case(d, "cannot be planned with all memory");
        return;
    }
    run_drawn_job(d, &simple, &simple.o, &plain);
    run_drawn_job(d, &a, &o, &other);
    if (!is_wrong(d) && !any_job_same(&plain, &other))
        fail_case(d, "not the same bits with %llu and %llu bytes", (unsigned long long)o.vram_bytes,
                  (unsigned long long)o.ram_bytes);
    any_job_free(&plain);
    any_job_free(&other);
    any_job_close(&a);
}

CostlyProperty(any_image_is_the_same_alone_and_in_company)
{
    any_job a;
    any_result all, one;
    draw_job(d, &a, draw_integer(d, 2, ANY_JOB_IMAGES), ANY_JOB_PIXELS);
    a.o.per_pass = draw_integer(d, 0, 2 * a.n);
    describe_case(d, "%s; %d a pass", a.text, a.o.per_pass);
    run_drawn_job(d, &a, &a.o, &all);
    for (int i = 0; i < a.n && !is_wrong(d); i++) {
        any_job alone = a;
        alone.n = alone.o.images = 1;
        alone.o.per_pass = 0;
        alone.j[0] = a.j[i];
        run_drawn_job(d, &alone, &alone.o, &one);
        if (memcmp(one.rgb, all.rgb + (size_t)i * one.rgb_bytes, one.rgb_bytes) != 0)
            fail_case(d, "image %d is another alone", i);
        any_job_free(&one);
    }
    any_job_free(&all);
    any_job_close(&a);
}

/* ---- against the referee ---- */

static double largest_difference(const any_result *a, const any_result *b, double *peak)
{
    double most = 0;
    *peak = 0;
    for (size_t i = 0; i < a->latents_bytes / sizeof(float); i++) {
        const double x = (double)a->latents[i], y = (double)b->latents[i];
        most = fmax(most, fabs(x - y));
        *peak = fmax(*peak, fabs(y));
    }
    return most;
}

/* Some thousand roundings of 2^-24, one behind the other and blown up by norms; and one grey level
 * where a value lies between two. */
static void expect_like_referee(draws *d, const any_result *got, const any_result *want)
{
    double peak;
    const double off = largest_difference(got, want, &peak);
    if (!(off <= 2e-3 * peak))
        fail_case(d, "latents are off by %g of %g", off, peak);
    for (size_t i = 0; i < got->rgb_bytes; i++)
        if (abs(got->rgb[i] - want->rgb[i]) > 1)
            fail_case(d, "byte %zu of the image is %d, not %d", i, got->rgb[i], want->rgb[i]);
}

CostlyProperty(any_image_in_f32_is_what_the_referee_makes)
{
    any_job a;
    any_result got, want;
    draw_job(d, &a, 1, SANITIZED ? 4096 : 16384);
    a.o.precision = REFINE_F32;
    describe_case(d, "in f32: %s", a.text);
    run_drawn_job(d, &a, &a.o, &got);
    a.o.device = REFINE_DEVICE_REF;
    run_drawn_job(d, &a, &a.o, &want);
    if (!is_wrong(d))
        expect_like_referee(d, &got, &want);
    any_job_free(&got);
    any_job_free(&want);
    any_job_close(&a);
}

/* ---- stopping ---- */

static int stop_later(void *left, const refine_progress *p)
{
    (void)p;
    return (*(int *)left)-- == 0;
}

CostlyProperty(any_job_that_is_stopped_leaves_nothing)
{
    any_job a;
    any_result r;
    refine_error err = { 0 };
    int left = draw_scale(d, 1, 400) - 1;
    draw_job(d, &a, 1, ANY_JOB_PIXELS / 4);
    refine_options o = a.o;
    draw_ways(d, &a, &o);
    describe_case(d, "stopped at call %d: %s", left, a.text);
    a.j[0].progress = stop_later;
    a.j[0].progress_context = &left;
    const refine_status st = any_job_run(&a, &o, &r, &err);
    if (st != (left < 0 ? REFINE_ECANCELLED : REFINE_OK))
        fail_case(d, "ends with %d: %s", st, err.text);
    if (mem_used().now != 0)
        fail_case(d, "%llu bytes of the heap are left", (unsigned long long)mem_used().now);
    any_job_free(&r);
    any_job_close(&a);
}

/* ---- what is no number ---- */

/* Latents in place of a photo, if there are none. */
static float *take_latents(refine_job *j, int values)
{
    float *z = malloc((size_t)values * sizeof *z);
    cr_assert_not_null(z);
    for (int i = 0; i < values; i++)
        z[i] = j->latents_in ? j->latents_in[i] : (float)(i % 7) - 3;
    free((void *)(uintptr_t)j->rgb_in);
    free((void *)(uintptr_t)j->latents_in);
    j->rgb_in = NULL;
    j->latents_in = z;
    return z;
}

Property(any_number_that_is_none_ends_the_job)
{
    any_job a;
    any_result r;
    refine_error err = { 0 };
    draw_job(d, &a, 1, ANY_JOB_PIXELS / 4);
    const int values = a.j[0].width * a.j[0].height / 16, at = draw_below(d, values);
    const bool infinite = draw_once_in(d, 2);
    describe_case(d, "%s: latent %d is %s", a.text, at, infinite ? "infinite" : "no number");
    take_latents(&a.j[0], values)[at] = infinite ? INFINITY : NAN;
    if (any_job_run(&a, &a.o, &r, &err) == REFINE_OK)
        fail_case(d, "it ends well");
    any_job_free(&r);
    any_job_close(&a);
}
