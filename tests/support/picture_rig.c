/* tests/support/picture_rig.c -- one job, run again and again. */
#include "tests/support/picture_rig.h"

#include "tests/support/sanitized.h"

#include <criterion/criterion.h>
#include <string.h>

const uint8_t *picture_photo(void)
{
    static uint8_t rgb[PICTURE_BYTES];
    for (int i = 0; i < PICTURE_BYTES; i++)
        rgb[i] = (uint8_t)(i * 7 + (i / 3 / PICTURE_W) * 3 + ((i >> 5) ^ i));
    return rgb;
}

/* To measure them takes longer than the image. */
static const refine_rates OF_A_PROCESSOR = { .disk = 1e9,
                                             .decode = 1e9,
                                             .copy = 6e9,
                                             .linear = 5e10,
                                             .conv = 5e10,
                                             .attention = 3e10,
                                             .memory = 5e9 };
static const refine_rates OF_A_CARD = { .disk = 1e9,
                                        .decode = 1e9,
                                        .copy = 6e9,
                                        .linear = 5e12,
                                        .conv = 5e12,
                                        .attention = 3e12,
                                        .memory = 2e11 };

refine_options picture_options(const char *pack, refine_device d, refine_precision p)
{
    refine_options o = REFINE_OPTIONS_INIT;
    o.pack_path = pack;
    o.device = d;
    o.precision = p;
    o.vram_bytes = 256u << 20;
    o.ram_bytes = 128u << 20;
    o.threads = 2;
    o.rates = d == REFINE_DEVICE_CUDA ? OF_A_CARD : OF_A_PROCESSOR;
    return o;
}

refine_options picture_probed_options(const char *pack, refine_precision p)
{
    refine_options o = picture_options(pack, REFINE_DEVICE_CPU, p);
    o.rates = (refine_rates){ 0 };
    return o;
}

refine_job picture_job(uint8_t *rgb_out)
{
    refine_job j = REFINE_JOB_INIT;
    j.prompt = "a photo of a cat";
    j.negative = "blurry";
    j.width = PICTURE_W;
    j.height = PICTURE_H;
    j.steps = 10;
    j.strength = 0.3;
    j.seed = 42;
    j.rgb_in = picture_photo();
    j.rgb_out = rgb_out;
    return j;
}

refine_job picture_small_job(uint8_t *rgb_out)
{
    refine_job j = picture_job(rgb_out);
    j.width = j.height = 64;
    j.strength = 0.2;
    return j;
}

void picture_run(const refine_options *o, const refine_job *j, refine_report *report)
{
    refine_engine *e;
    refine_error err = { 0 };
    cr_assert_eq(refine_open(&e, o, j, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(refine_run(e, j, &err), REFINE_OK, "%s", err.text);
    if (report)
        refine_get_report(e, report);
    refine_close(e);
}

static refine_report plan_rig_image(const refine_options *o, const refine_job *j)
{
    static uint8_t rgb[PICTURE_BYTES];
    refine_report r = REFINE_REPORT_INIT;
    refine_error err = { 0 };
    refine_job own = *j;
    own.rgb_out = rgb;
    cr_assert_eq(refine_plan(&r, o, &own, &err), REFINE_OK, "%s", err.text);
    return r;
}

refine_memory picture_memory(const refine_options *o, const refine_job *j)
{
    return plan_rig_image(o, j).memory;
}

/* Fills all of rgb, which holds the largest image there is. */
static void render_rig_image(const refine_options *o, const refine_job *j, uint8_t *rgb)
{
    refine_job own = *j;
    own.rgb_out = rgb;
    memset(rgb, 0, PICTURE_BYTES);
    picture_run(o, &own, NULL);
}

void picture_same(const refine_options *o, const refine_job *j, const uint8_t *want,
                  const char *what)
{
    static uint8_t rgb[PICTURE_BYTES];
    render_rig_image(o, j, rgb);
    cr_assert_eq(memcmp(rgb, want, PICTURE_BYTES), 0, "the image depends on %s", what);
}

static void same_one_by_one(const refine_options *base, const refine_job *j, const uint8_t *want)
{
    const refine_memory plan = picture_memory(base, j);
    refine_options o = *base;
    o.vram_bytes = plan.smallest_device;
    picture_same(&o, j, want, "the smallest device ceiling");
    o.vram_bytes = plan.smallest_device + (3u << 20);
    picture_same(&o, j, want, "a middling device ceiling");
    o = *base;
    o.ram_bytes = plan.smallest_host + (64u << 10);
    picture_same(&o, j, want, "the host ceiling");
    o = *base;
    o.resident_bytes = UINT64_MAX;
    picture_same(&o, j, want, "having no resident weights");
    o.ring_bytes = 12u << 20;
    picture_same(&o, j, want, "the size of the ring");
    o = *base;
    o.resident_bytes = 1u << 20;
    picture_same(&o, j, want, "having some resident weights");
    o = *base;
    o.reader = REFINE_READER_PREAD;
    picture_same(&o, j, want, "the reader");
    for (int t = 1; t <= 4; t++) {
        o = *base;
        o.threads = t;
        o.decode_threads = t;
        picture_same(&o, j, want, "the number of threads");
    }
    for (int band = 8; band <= 128; band *= 2) {
        o = *base;
        o.band_rows = band;
        picture_same(&o, j, want, "the height of the VAE's bands");
    }
    o = *base;
    o.per_pass = 1;
    picture_same(&o, j, want, "the halves of guidance going one after the other");
    o = *base;
    o.resident_bytes = UINT64_MAX;
    o.cached_bytes = 2u << 20;
    picture_same(&o, j, want, "keeping weights in host memory");
    o.disk_limit = o.copy_limit = 200e6;
    picture_same(&o, j, want, "how fast weights come");
    o = *base;
    o.trace = true;
    picture_same(&o, j, want, "being watched");
}

/* All of that in three images. */
static void same_together(const refine_options *base, const refine_job *j, const uint8_t *want)
{
    refine_options o = *base;
    o.reader = REFINE_READER_PREAD;
    o.threads = o.decode_threads = 4;
    o.vram_bytes = picture_memory(&o, j).smallest_device;
    picture_same(&o, j, want, "the smallest device ceiling, the reader or the number of threads");
    o = *base;
    o.resident_bytes = 1u << 20;
    o.threads = 1;
    o.band_rows = 8;
    o.per_pass = 1;
    o.trace = true;
    o.ram_bytes = picture_memory(&o, j).smallest_host + (64u << 10);
    picture_same(&o, j, want, "the host ceiling, residents, bands, halves or being watched");
    o = *base;
    o.resident_bytes = UINT64_MAX;
    o.cached_bytes = 2u << 20;
    o.ring_bytes = 12u << 20;
    o.band_rows = 32;
    o.disk_limit = o.copy_limit = 200e6;
    picture_same(&o, j, want, "weights in host memory, ring, bands or how fast weights come");
}

void picture_invariant(const refine_options *base, const refine_job *j)
{
    static uint8_t want[PICTURE_BYTES];
    render_rig_image(base, j, want);
    if (SANITIZED)
        same_together(base, j, want);
    else
        same_one_by_one(base, j, want);
}

/* Images off the device: all in memory, all in the file, and split between the two. */
void picture_invariant_to_spill(const refine_options *base, const refine_job *j)
{
    static uint8_t want[PICTURE_BYTES];
    render_rig_image(base, j, want);
    refine_options o = *base;
    o.cached_bytes = UINT64_MAX;
    o.spill = 2;
    const refine_memory all = picture_memory(&o, j);
    cr_assert(all.spill_host > 0 && all.spill_file == 0);
    for (int band = 8; band <= (SANITIZED ? 8 : 64); band *= 2) {
        o.band_rows = band;
        picture_same(&o, j, want, "images in host memory");
    }
    o.band_rows = 0;
    o.ram_bytes = all.smallest_host + (256u << 10);
    const refine_memory split = picture_memory(&o, j);
    cr_assert(split.spill_file > 0 && split.host_planned <= o.ram_bytes);
    picture_same(&o, j, want, "images partly in a file");
    o.ram_bytes = all.smallest_host;
    cr_assert(picture_memory(&o, j).spill_file > split.spill_file);
    if (!SANITIZED)
        picture_same(&o, j, want, "images in a file");
}

static refine_job job_number(const refine_job *like, int i, uint8_t *out)
{
    static const char *const PROMPTS[PICTURE_MANY] = { "a cat", "a dog on a lawn", "rain" };
    refine_job j = *like;
    j.rgb_out = out;
    j.prompt = PROMPTS[i];
    j.negative = i == 1 ? "" : "blurry";
    j.seed = 7u * (unsigned)i;
    j.guidance = 4.0f + (float)i;
    j.aesthetic_score = 5.0f + (float)i;
    return j;
}

/* `many` jobs. */
static void same_in_company(const refine_options *base, refine_job *jobs, int many, int per_pass,
                            uint8_t alone[][PICTURE_BYTES])
{
    static uint8_t together[PICTURE_MANY][PICTURE_BYTES];
    const size_t bytes = (size_t)many * PICTURE_BYTES;
    refine_options o = *base;
    refine_engine *e;
    refine_error err = { 0 };

    for (int i = 0; i < many; i++)
        jobs[i].rgb_out = together[i];
    o.images = many;
    o.per_pass = per_pass;
    cr_assert_eq(refine_open(&e, &o, &jobs[0], &err), REFINE_OK, "%s", err.text);
    for (int again = 0; again < 2; again++) {
        memset(together, 0, bytes);
        cr_assert_eq(refine_run_many(e, jobs, many, &err), REFINE_OK, "%s", err.text);
        cr_expect_eq(memcmp(alone, together, bytes), 0, "%d in a pass", per_pass);
    }
    cr_expect_eq(refine_run_many(e, jobs, many - 1, &err), REFINE_EINVAL);
    refine_close(e);
}

void picture_invariant_to_company(const refine_options *base, const refine_job *j,
                                  const int *per_pass, int n)
{
    static uint8_t alone[PICTURE_MANY][PICTURE_BYTES];
    refine_job jobs[PICTURE_MANY];
    const int many = SANITIZED ? 2 : PICTURE_MANY;

    for (int i = 0; i < many; i++) {
        jobs[i] = job_number(j, i, alone[i]);
        picture_run(base, &jobs[i], NULL);
    }
    for (int i = SANITIZED ? n - 1 : 0; i < n; i++)
        same_in_company(base, jobs, many, per_pass[i], alone);
}

void picture_smallest_budgets(const refine_options *base, const refine_job *j)
{
    refine_report plan = plan_rig_image(base, j), run = REFINE_REPORT_INIT;
    refine_options o = *base;
    refine_error err = { 0 };
    refine_engine *e;

    o.vram_bytes = plan.memory.smallest_device;
    picture_run(&o, j, &run);
    cr_assert_leq(run.memory.device_peak, o.vram_bytes);
    cr_assert_eq(run.memory.device_peak, run.memory.device_planned);

    o.vram_bytes = plan.memory.smallest_device - 256;
    cr_assert_eq(refine_open(&e, &o, j, &err), REFINE_EBUDGET);
    cr_assert_not_null(strstr(err.text, "--vram"));
    cr_assert_eq(refine_plan(&plan, &o, j, &err), REFINE_EBUDGET);
    cr_assert_gt(plan.memory.smallest_device, o.vram_bytes, "the refusal names what would do");

    o.vram_bytes = base->vram_bytes;
    o.ram_bytes = 1 << 20;
    cr_assert_eq(refine_open(&e, &o, j, &err), REFINE_EBUDGET);
    cr_assert_not_null(strstr(err.text, "--ram"));
}
