/* tests/property/any_job.c -- drawing a job, and running it. */
#include "tests/property/any_job.h"

#include "tests/support/picture_rig.h"
#include "tests/support/random.h"
#include "tests/support/tiny_pack.h"
#ifdef REFINE_CUDA_EMULATED
#include "tests/support/cuda/emulation.h"
#endif

/* Sides in eighths. */
enum { LEAST_SIDE = 8, MOST_SIDE = 200, CARD_PIXELS = 4096 };

static const char REFINER[] = "synthetic:tiny", BASE[] = "synthetic:tiny-base";
static const char FP16[] = "--weights fp16", INT8[] = "--weights int8",
                  CUT_FP16[] = "--codec raw --chunk 64K",
                  CUT_INT8[] = "--codec zstd --chunk 64K --weights int8";

static const struct {
    const char *source, *options, *name;
    bool int8;
    int other; /* of the same weights, cut and stored in another way */
} PACKS[] = {
    { REFINER, FP16, "fp16", false, 2 },
    { REFINER, INT8, "int8", true, 3 },
    { REFINER, CUT_FP16, "fp16 in small chunks, raw,", false, 0 },
    { REFINER, CUT_INT8, "int8 in small chunks", true, 1 },
    { BASE, FP16, "base fp16", false, 6 },
    { BASE, INT8, "base int8", true, 7 },
    { BASE, CUT_FP16, "base fp16 in small chunks, raw,", false, 4 },
    { BASE, CUT_INT8, "base int8 in small chunks", true, 5 },
};

enum { N_PACKS = sizeof PACKS / sizeof PACKS[0], FIRST_BASE = 4, N_BASES = N_PACKS - FIRST_BASE };

static char packs[N_PACKS][512];

void any_job_packs(void)
{
    for (int i = 0; i < N_PACKS; i++)
        kept_pack_of(packs[i], sizeof packs[i], PACKS[i].source, PACKS[i].options);
}

void any_job_use_other_packs(any_job *a)
{
    a->o.pack_path = packs[PACKS[a->pack].other];
    if (a->o.base_path)
        a->o.base_path = packs[PACKS[a->base].other];
}

/* ---- what is asked for ---- */

static int at_least(int x, int least) { return x < least ? least : x; }

static void draw_size(draws *d, refine_job *j, int pixels)
{
    const int least = 64 * LEAST_SIDE * LEAST_SIDE;
    const int most = draw_scale(d, least, at_least(pixels, least));
    int w = draw_scale(d, LEAST_SIDE, MOST_SIDE), h = draw_scale(d, LEAST_SIDE, MOST_SIDE);
    while (w * h * 64 > most)
        *(w > h ? &w : &h) = at_least((w > h ? w : h) * 3 / 4, LEAST_SIDE);
    j->width = 8 * w;
    j->height = 8 * h;
}

typedef enum drawn_flow { FROM_PHOTO, FROM_LATENTS, FROM_TEXT } drawn_flow;

static void fill_inputs(refine_job *j, drawn_flow flow, uint64_t seed)
{
    const bool latents = flow == FROM_LATENTS;
    if (flow == FROM_TEXT)
        return;
    const size_t pixels = (size_t)j->width * (size_t)j->height, values = pixels / 16;
    uint8_t *rgb = malloc(pixels * 3);
    float *z = malloc(values * sizeof *z);
    cr_assert(rgb && z);
    for (size_t i = 0; i < pixels * 3; i++)
        rgb[i] = (uint8_t)(random_bits(&seed) >> 56);
    for (size_t i = 0; i < values; i++)
        z[i] = 2 * random_float(&seed);
    j->rgb_in = latents ? NULL : rgb;
    j->latents_in = latents ? z : NULL;
    if (latents)
        free(rgb);
    else
        free(z);
}

/* The referee is slow, and a card is emulated. */
static refine_device draw_device(draws *d)
{
#ifdef REFINE_CUDA_EMULATED
    if (draw_once_in(d, 6)) {
        emulation_set_order((emulation_order)draw_below(d, 3), 3);
        emulation_set_schedule((emulation_schedule)draw_below(d, EMULATION_SCHEDULES),
                               (uint32_t)draw_integer(d, 0, 1000));
        const bool old = draw_once_in(d, 2); /* one that copies nothing by itself */
        emulation_set_card(old ? 7 : 8, old ? 5 : 6, 2);
        return REFINE_DEVICE_CUDA;
    }
#else
    (void)d;
#endif
    return REFINE_DEVICE_CPU;
}

/* Integers need a pack of them. */
static refine_precision draw_precision(draws *d, refine_device device, int pack)
{
    static const refine_precision CPU[] = { REFINE_F32, REFINE_BF16, REFINE_INT8 },
                                  CARD[] = { REFINE_FP16, REFINE_F32, REFINE_INT8 };
    const int n = PACKS[pack].int8 ? 3 : 2;
    return device == REFINE_DEVICE_CUDA ? CARD[draw_below(d, n)] : CPU[draw_below(d, n)];
}

/* A base before the refiner, which has at least one step left; and the other way round. */
static void draw_base(draws *d, any_job *a, drawn_flow flow, refine_job *j)
{
    const bool int8 = a->o.precision == REFINE_INT8;
    do
        a->base = FIRST_BASE + draw_below(d, N_BASES);
    while (int8 && !PACKS[a->base].int8);
    a->o.base_path = packs[a->base];
    j->denoising_start = 0;
    if (flow == FROM_TEXT && draw_once_in(d, 2)) { /* two stages */
        j->handoff = 0;
        j->strength = 0.5;
        j->steps = draw_integer(d, 2, 3);
        j->via_pixels = draw_once_in(d, 2);
    } else if (flow == FROM_TEXT) {
        j->steps = draw_integer(d, 2, 3);
        j->handoff = 0.1 * draw_integer(d, j->steps == 2 ? 5 : 4, 6); /* before it lies a step */
    } else {
        j->strength = 0.1 * draw_integer(d, 2, 3);
        j->handoff = 0.9;
    }
    const size_t n = strlen(a->text);
    (void)snprintf(a->text + n, sizeof a->text - n,
                   ", behind %s: %d steps, handoff %g, strength %g%s", PACKS[a->base].name,
                   j->steps, j->handoff, j->strength, j->via_pixels ? ", by pixels" : "");
}

/* The first one is as all others but for prompt, seed, guidance and input. */
static void draw_one(draws *d, refine_job *j, int i, drawn_flow flow)
{
    static const char *const PROMPTS[] = { "", "a cat", "a dog on a lawn, in the rain" };
    j->prompt = PROMPTS[draw_below(d, 3)];
    j->negative = draw_once_in(d, 3) ? NULL : PROMPTS[draw_below(d, 2)];
    j->seed = (uint64_t)draw_integer(d, 0, 9);
    j->clip_skip = draw_once_in(d, 3) ? draw_integer(d, 1, 2) : 0;
    if (j->guidance > 1)
        j->guidance = 4 + (float)i;
    fill_inputs(j, flow, j->seed + 77);
}

void draw_job(draws *d, any_job *a, int images, int pixels)
{
    static const char *const PRECISIONS[] = { "auto", "f32", "bf16", "fp16", "int8" };
    const int which = a->pack = draw_below(d, N_PACKS);
    const refine_device device = draw_device(d);
    const bool card = device == REFINE_DEVICE_CUDA;
    static const char *const FLOWS[] = { "photo", "latents", "text" };
    const bool ensemble = PACKS[which].source == REFINER && draw_once_in(d, 3);
    const drawn_flow flow = draw_once_in(d, 3) ? FROM_LATENTS
                            : (ensemble || PACKS[which].source == BASE) && draw_once_in(d, 2)
                                ? FROM_TEXT
                                : FROM_PHOTO;
    const bool guided = draw_once_in(d, 2);
    const int steps = draw_integer(d, 1, card ? 1 : SANITIZED ? 2 : 3);

    a->o = picture_options(packs[which], device, draw_precision(d, device, which));
    a->o.threads = 1;
    a->o.vram_bytes = (uint64_t)4 << 30;
    a->o.ram_bytes = (uint64_t)2 << 30;
    a->n = a->o.images = images;
    a->again = false;
    refine_job j = REFINE_JOB_INIT;
    draw_size(d, &j, (card && pixels > CARD_PIXELS ? CARD_PIXELS : pixels) / images);
    j.steps = flow == FROM_TEXT ? steps : 10;
    j.strength = 0.1 * steps;
    j.guidance = guided ? 5 : 1;
    if (flow == FROM_LATENTS && draw_once_in(d, 2))
        j.denoising_start = 1 - 0.1 * steps;
    (void)snprintf(a->text, sizeof a->text, "%d of %dx%d, %d steps, %s%s, %s, %s pack, %s%s", a->n,
                   j.width, j.height, steps, FLOWS[flow],
                   j.denoising_start > 0 ? " partly denoised" : "",
                   guided ? "guided" : "not guided", PACKS[which].name, card ? "card in " : "",
                   PRECISIONS[a->o.precision]);
    if (ensemble)
        draw_base(d, a, flow, &j);
    for (int i = 0; i < a->n; i++) {
        a->j[i] = j;
        draw_one(d, &a->j[i], i, flow);
    }
}

void any_job_close(any_job *a)
{
    for (int i = 0; i < a->n; i++) {
        free((void *)(uintptr_t)a->j[i].rgb_in);
        free((void *)(uintptr_t)a->j[i].latents_in);
    }
}

/* ---- how it is done ---- */

void draw_ways(draws *d, any_job *a, refine_options *o)
{
    const size_t n = strlen(a->text);
    o->threads = draw_integer(d, 1, 16);
    o->reader = draw_once_in(d, 2) ? REFINE_READER_PREAD : REFINE_READER_AUTO;
    o->decode_threads = draw_integer(d, 0, 4);
    if (draw_once_in(d, 3))
        o->ring_bytes = (uint64_t)draw_scale(d, 1, 64) << 20;
    if (draw_once_in(d, 2))
        o->resident_bytes = draw_once_in(d, 2) ? (uint64_t)draw_scale(d, 1, 1 << 24) : UINT64_MAX;
    if (draw_once_in(d, 2))
        o->cached_bytes = draw_once_in(d, 2) ? (uint64_t)draw_scale(d, 1, 1 << 24) : UINT64_MAX;
    o->band_rows = 8 * draw_integer(d, 0, 20);
    o->per_pass = draw_integer(d, 0, 2 * a->n);
    o->together = draw_integer(d, 0, 9);
    o->spill = draw_integer(d, 0, 2);
    o->trace = draw_once_in(d, 4);
    o->guards = draw_once_in(d, 4);
    a->again = draw_once_in(d, 4);
    (void)snprintf(
        a->text + n, sizeof a->text - n,
        "; %d threads, %d to decode, reader %d, ring %lld, resident %lld, cached %lld, bands "
        "of %d, %d a pass, %d together, spill %d%s%s%s",
        o->threads, o->decode_threads, o->reader, (long long)o->ring_bytes,
        (long long)o->resident_bytes, (long long)o->cached_bytes, o->band_rows, o->per_pass,
        o->together, o->spill, o->trace ? ", watched" : "", o->guards ? ", guarded" : "",
        a->again ? ", for the second time" : "");
}

/* ---- doing it ---- */

static void give_outputs(const any_job *a, any_result *r, refine_job own[ANY_JOB_IMAGES])
{
    const size_t pixels = (size_t)a->j[0].width * (size_t)a->j[0].height;
    r->rgb_bytes = (size_t)a->n * pixels * 3;
    r->latents_bytes = (size_t)a->n * pixels / 16 * sizeof(float);
    r->rgb = calloc(r->rgb_bytes, 1);
    r->latents = calloc(r->latents_bytes, 1);
    cr_assert(r->rgb && r->latents);
    for (int i = 0; i < a->n; i++) {
        own[i] = a->j[i];
        own[i].rgb_out = r->rgb + (size_t)i * pixels * 3;
        own[i].latents_out = r->latents + (size_t)i * pixels / 16;
    }
}

refine_status any_job_plan(const any_job *a, const refine_options *o, refine_report *r,
                           refine_error *err)
{
    any_result space;
    refine_job own[ANY_JOB_IMAGES];
    give_outputs(a, &space, own);
    *r = (refine_report)REFINE_REPORT_INIT;
    const refine_status st = refine_plan(r, o, &own[0], err);
    any_job_free(&space);
    return st;
}

refine_status any_job_run(const any_job *a, const refine_options *o, any_result *r,
                          refine_error *err)
{
    refine_job own[ANY_JOB_IMAGES];
    refine_engine *e;

    r->report = (refine_report)REFINE_REPORT_INIT;
    give_outputs(a, r, own);
    refine_status st = refine_open(&e, o, &own[0], err);
    if (st == REFINE_OK)
        st = refine_run_many(e, own, a->n, err);
    if (st == REFINE_OK && a->again) {
        memset(r->rgb, 0, r->rgb_bytes);
        memset(r->latents, 0, r->latents_bytes);
        st = refine_run_many(e, own, a->n, err);
    }
    if (st == REFINE_OK)
        refine_get_report(e, &r->report);
    refine_close(e);
    return st;
}

bool any_job_same(const any_result *a, const any_result *b)
{
    return memcmp(a->rgb, b->rgb, a->rgb_bytes) == 0 &&
           memcmp(a->latents, b->latents, a->latents_bytes) == 0;
}

void any_job_free(any_result *r)
{
    free(r->rgb);
    free(r->latents);
}
