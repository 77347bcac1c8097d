/* tests/bench/bench_residents.c -- which weights should stay on the device, tried out.
 *
 *     bench_residents PACK SIZE f32|bf16 LINK_GBPS DISK_GBPS [STEPS [ROUNDS [RING_KIB]]]
 *
 * Computes steps of an image of SIZE x SIZE pixels on the CPU, with copies and reads slowed
 * down to the given rates and residents chosen in different ways.  Each way is set up ROUNDS
 * times, in turns with the others, and then takes STEPS steps behind the one that brings the
 * residents; its figures are the median and the quartiles.  Beside them stands what
 * offload/simulate.h says, with the seconds of each chunk in the median over all runs.  `none`
 * is also what a cache of the most recently used does (bench_policy).
 *
 * Norms and biases are zero: what is computed takes as long and is of no use.
 */
#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/plan/plan.h"
#include "tests/support/policies.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double BUDGETS[] = { 0.125, 0.25, 0.5, 0.75 }; /* residents, of the bytes of a step */

static const struct {
    const char *name;
    policy *choose;
} POLICIES[] = { { "prefix", policy_prefix },
                 { "spread", policy_spread },
                 { "least/byte", policy_least_first } };

enum {
    N_BUDGETS = sizeof BUDGETS / sizeof BUDGETS[0],
    N_POLICIES = sizeof POLICIES / sizeof POLICIES[0],
    N_WAYS = 1 + N_BUDGETS * N_POLICIES, /* the first: none */
    SAMPLES = 1024
};

/* One set of residents and how long its steps took. */
typedef struct residents_way {
    const char *name;
    double budget; /* of BUDGETS */
    bool *resident;
    double step[SAMPLES];
    int n;
} residents_way;

typedef struct residents_bench {
    model m;
    phases *p;
    plan plan;
    dev *d;
    char *arena;
    size_t arena_bytes;
    forward_ctx r;
    step_chunks chunks;
    residents_way ways[N_WAYS];
    double link, disk, decode;
    double *seconds; /* per run and chunk; in the end, per chunk */
    int steps, rounds, runs;
    size_t ring;
} residents_bench;

/* ---- opening ---- */

static refine_status open_parts(residents_bench *b, const char *path, int size, dtype type,
                                refine_error *err)
{
    static float latents; /* only that there are some matters */
    const dev_options d = { .compute = type, .threads = 0 };
    refine_options o = REFINE_OPTIONS_INIT;
    refine_job j = REFINE_JOB_INIT;
    refine_status st = model_open(&b->m, path, err);

    o.vram_bytes = o.ram_bytes = (uint64_t)16 << 30;
    o.ring_bytes = b->ring;
    o.resident_bytes = o.cached_bytes = UINT64_MAX; /* none */
    o.rates = (refine_rates){ b->disk, 1e9, b->link, 1e11, 1e11, 1e11, 1e10 };
    j.width = j.height = size;
    j.latents_in = j.latents_out = &latents;
    if (st == REFINE_OK)
        st = phases_open(&b->p, &b->m, &j, 1, err);
    if (st != REFINE_OK)
        return st;
    b->d = dev_open_cpu(&d, err);
    if (!b->d)
        return REFINE_EDEVICE;
    b->p->act = type;
    const phases *p = b->p;
    phases_precision(&b->r, b->d, type);
    st = plan_make(&b->plan, &p, 1, b->d, &o, &j, err);
    b->p->per_pass = b->plan.unet.per_pass;
    b->chunks = (step_chunks){ .p = b->m.p, .work = b->plan.work };
    pack_segment(b->m.p, SEG_UNET, &b->chunks.first, &b->chunks.end);
    return st;
}

static size_t budget_bytes(const residents_bench *b, double share)
{
    return (size_t)(share * (double)b->plan.step_bytes / phases_passes(b->p));
}

/* The plan's arena and room for residents behind it. */
static bool take_memory(residents_bench *b)
{
    const size_t runs = (size_t)b->rounds * N_WAYS;
    b->arena_bytes = b->plan.arena.bytes + budget_bytes(b, BUDGETS[N_BUDGETS - 1]);
    b->arena = dev_alloc(b->d, b->arena_bytes, DEV_VRAM);
    b->seconds = mem_calloc(runs * (size_t)n_pack_chunks(b->m.p), sizeof *b->seconds);
    if (!b->arena || !b->seconds)
        return false;
    memset(b->arena, 0, b->arena_bytes);
    b->r.m = &b->m;
    b->r.vectors = b->arena;
    dev_workspace_set(b->d, b->arena + arena_workspace_at(&b->plan.arena), b->plan.arena.workspace);
    return true;
}

static bool choose_all(residents_bench *b)
{
    for (int i = 0; i < N_WAYS; i++) {
        residents_way *w = &b->ways[i];
        const int at = i - 1;
        w->resident = mem_calloc((size_t)n_pack_chunks(b->m.p), sizeof *w->resident);
        if (!w->resident)
            return false;
        w->name = at < 0 ? "none" : POLICIES[at % N_POLICIES].name;
        w->budget = at < 0 ? 0 : BUDGETS[at / N_POLICIES];
        if (at >= 0)
            POLICIES[at % N_POLICIES].choose(&b->chunks, budget_bytes(b, w->budget), w->resident);
    }
    return true;
}

static void close_residents_bench(residents_bench *b)
{
    for (int i = 0; i < N_WAYS; i++)
        mem_free(b->ways[i].resident);
    mem_free(b->seconds);
    if (b->d)
        dev_free(b->d, b->arena, b->arena_bytes, DEV_VRAM);
    plan_close(&b->plan);
    dev_close(b->d);
    phases_close(b->p);
    model_close(&b->m);
}

/* ---- running ---- */

static stream_pass pass_of(const residents_bench *b, segment seg, int times)
{
    stream_pass p = { .passes = times };
    pack_segment(b->m.p, seg, &p.first, &p.end);
    return p;
}

static refine_status start_stream(stream **out, const residents_bench *b, const residents_way *w,
                                  refine_error *err)
{
    const stream_pass passes[] = { pass_of(b, SEG_TEXT, 1), pass_of(b, SEG_ONCE, 1),
                                   pass_of(b, SEG_UNET, (1 + b->steps) * phases_passes(b->p)) };
    char *ring = b->arena + arena_ring_at(&b->plan.arena);
    const stream_config c = { .d = b->d,
                              .chunks = chunk_list_make((const pack *const[]){ b->m.p }, 1),
                              .ring = ring,
                              .ring_bytes = b->plan.arena.ring,
                              .residents = { b->arena + arena_region_at(&b->plan.arena) +
                                             b->plan.arena.residents_at },
                              .resident = w->resident,
                              .schedule = passes,
                              .n_passes = sizeof passes / sizeof passes[0],
                              .slots = b->plan.host.slots,
                              .workers = b->plan.host.workers,
                              .disk_limit = b->disk,
                              .copy_limit = b->link };
    return stream_open(out, &c, err);
}

static double compute_step(residents_bench *b)
{
    const double t = clock_seconds();
    for (int pass = 0; pass < phases_passes(b->p); pass++)
        phases_pass(b->p, &b->r, 0, pass);
    return clock_seconds() - t;
}

static refine_status try_way(residents_bench *b, residents_way *w, refine_error *err)
{
    stream *s;
    const size_t before_region = arena_region_at(&b->plan.arena);
    const refine_status st = start_stream(&s, b, w, err);
    if (st != REFINE_OK)
        return st;
    b->r.w = stream_weights(s);
    scratch_open(&b->r.mem, b->d, b->arena + before_region, b->plan.arena.region,
                 b->plan.arena.zone);
    phases_text(b->p, &b->r, NULL);
    (void)compute_step(b); /* brings the residents */
    for (int i = 0; i < b->steps && w->n < SAMPLES; i++)
        w->step[w->n++] = compute_step(b);
    stream_settle_times(s);
    const stream_stats stats = stream_get_stats(s);
    b->decode = (double)stats.decoded_bytes / stats.decode_busy * b->plan.host.workers;
    double *seconds = b->seconds + (size_t)b->runs++ * (size_t)n_pack_chunks(b->m.p);
    for (int i = b->chunks.first; i < b->chunks.end; i++)
        seconds[i] = stream_compute_seconds(s, i);
    stream_close(s);
    scratch_close(&b->r.mem);
    return dev_status(b->d);
}

static refine_status try_all_ways(residents_bench *b, refine_error *err)
{
    refine_status st = REFINE_OK;
    for (int round = 0; round < b->rounds; round++)
        for (int i = 0; i < N_WAYS && st == REFINE_OK; i++)
            st = try_way(b, &b->ways[i], err);
    return st;
}

/* ---- the table ---- */

static int compare_step_times(const void *pa, const void *pb)
{
    const double a = *(const double *)pa, b = *(const double *)pb;
    return (a > b) - (a < b);
}

static simulate_result simulate_way(const residents_bench *b, const residents_way *w)
{
    const simulate_config c = { .p = b->m.p,
                                .first = b->chunks.first,
                                .end = b->chunks.end,
                                .passes = phases_passes(b->p),
                                .seconds = b->seconds,
                                .resident = w->resident,
                                .ring_bytes = b->plan.arena.ring,
                                .slots = b->plan.host.slots,
                                .disk = b->disk,
                                .decode = b->decode,
                                .copy = b->link };
    return simulate_step(&c);
}

/* Of sorted values. */
static double sorted_quantile(const double *v, int n, double share)
{
    return v[(int)(share * (n - 1) + 0.5)];
}

/* The first run's seconds become the medians of all. */
static void take_medians(residents_bench *b)
{
    static double v[SAMPLES * N_WAYS];
    for (int i = b->chunks.first; i < b->chunks.end; i++) {
        for (int k = 0; k < b->runs; k++)
            v[k] = b->seconds[k * n_pack_chunks(b->m.p) + i];
        qsort(v, (size_t)b->runs, sizeof *v, compare_step_times);
        b->seconds[i] = sorted_quantile(v, b->runs, 0.5);
    }
}

static void print_ways_table(residents_bench *b)
{
    take_medians(b);
    printf("compute %.4f s a step, decoding %.2f GB/s, %d rounds of %d steps\n",
           simulate_way(b, &b->ways[0]).compute, b->decode * 1e-9, b->rounds, b->steps);
    printf("%9s %10s %9s %9s %9s %9s\n", "resident", "policy", "quarter", "median", "quarter",
           "simulated");
    for (int i = 0; i < N_WAYS; i++) {
        residents_way *w = &b->ways[i];
        qsort(w->step, (size_t)w->n, sizeof *w->step, compare_step_times);
        printf("%8.1f%% %10s %9.4f %9.4f %9.4f %9.4f\n", 100 * w->budget, w->name,
               sorted_quantile(w->step, w->n, 0.25), sorted_quantile(w->step, w->n, 0.5),
               sorted_quantile(w->step, w->n, 0.75), simulate_way(b, w).step);
    }
}

int main(int argc, char **argv)
{
    static residents_bench b;
    refine_error err = { 0 };
    int status = 1;

    if (argc < 6) {
        fprintf(stderr, "usage: bench_residents PACK SIZE f32|bf16 LINK_GBPS DISK_GBPS "
                        "[STEPS [ROUNDS [RING_KIB]]]\n");
        return 2;
    }
    const dtype type = strcmp(argv[3], "bf16") == 0 ? DT_BF16 : DT_F32;
    b.link = 1e9 * strtod(argv[4], NULL);
    b.disk = 1e9 * strtod(argv[5], NULL);
    b.steps = argc > 6 ? (int)strtol(argv[6], NULL, 10) : 2;
    b.rounds = argc > 7 ? (int)strtol(argv[7], NULL, 10) : 3;
    b.ring = (size_t)(argc > 8 ? strtol(argv[8], NULL, 10) : 64 << 10) << 10;
    if (b.steps < 1 || b.rounds < 1 || b.steps * b.rounds > SAMPLES) {
        fprintf(stderr, "bench_residents: from 1 to %d steps in all\n", SAMPLES);
        return 2;
    }
    if (open_parts(&b, argv[1], (int)strtol(argv[2], NULL, 10), type, &err) == REFINE_OK &&
        take_memory(&b) && choose_all(&b) && try_all_ways(&b, &err) == REFINE_OK) {
        print_ways_table(&b);
        status = 0;
    } else {
        fprintf(stderr, "bench_residents: %s\n", err.text[0] ? err.text : "out of memory");
    }
    close_residents_bench(&b);
    return status;
}
