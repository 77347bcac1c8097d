/* tests/bench/bench_policy.c -- which weights should stay on the device?
 *
 *     bench_policy PACK SIZE LINK_GBPS DISK_GBPS TFLOPS
 *
 * Replays steps of a picture of SIZE x SIZE pixels (offload/simulate.h) with residents chosen
 * in different ways and prints the seconds of each.  Nothing is computed or read but the
 * pack's index: the work comes from the plan, the rates from the command line.
 */
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/model.h"
#include "engine/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double BUDGETS[] = { 0.25, 0.5, 1, 1.5, 2, 3 }; /* GB of residents */
static const double MEMORY = 360e9; /* of elementwise work, bytes a second */
static const size_t RING = (size_t)64 << 20, VRAM = (size_t)16 << 30;

enum { SLOTS = 8, ALIGN = 256, ROUNDS = 8, N_BUDGETS = sizeof BUDGETS / sizeof BUDGETS[0] };

typedef struct bench {
    model m;
    pipeline *p;
    plan plan;
    dev *d;
    simulate_config c;
    bool *resident;
} bench;

static size_t place_of(const bench *b, int chunk)
{
    return num_align(pack_chunk_at(b->m.p, chunk)->bytes, ALIGN);
}

static void clear(bench *b)
{
    memset(b->resident, 0, (size_t)n_pack_chunks(b->m.p) * sizeof *b->resident);
}

/* ---- the policies: each fills b->resident with no more than `budget` bytes ---- */

typedef void policy(bench *b, size_t budget);

static void none(bench *b, size_t budget)
{
    (void)budget;
    clear(b);
}

static void prefix(bench *b, size_t budget)
{
    size_t sum = 0;
    clear(b);
    for (int i = b->c.first; i < b->c.end && sum + place_of(b, i) <= budget; i++) {
        b->resident[i] = true;
        sum += place_of(b, i);
    }
}

/* The same share of every stretch of the step. */
static void spread(bench *b, size_t budget)
{
    double all = 0, due = 0;
    size_t sum = 0;
    clear(b);
    for (int i = b->c.first; i < b->c.end; i++)
        all += (double)place_of(b, i);
    for (int i = b->c.first; i < b->c.end; i++) {
        const size_t bytes = place_of(b, i);
        due += (double)bytes * (double)budget / all;
        if (due < (double)bytes || sum + bytes > budget)
            continue;
        b->resident[i] = true;
        due -= (double)bytes;
        sum += bytes;
    }
}

/* A cache of what was used last, after some steps: the chunks that are found in it. */
static void lru(bench *b, size_t budget)
{
    const int n = b->c.end - b->c.first;
    uint64_t now = 0,
             *used = calloc((size_t)n_pack_chunks(b->m.p), sizeof *used); /* 0: not in it */
    size_t sum = 0;
    clear(b);
    while (used && now < (uint64_t)n * ROUNDS) {
        const int chunk = b->c.first + (int)(now % (uint64_t)n);
        b->resident[chunk] = used[chunk] != 0;
        if (!used[chunk])
            sum += place_of(b, chunk);
        used[chunk] = ++now;
        while (sum > budget) {
            int oldest = chunk;
            for (int i = b->c.first; i < b->c.end; i++)
                if (used[i] && used[i] < used[oldest])
                    oldest = i;
            used[oldest] = 0;
            sum -= place_of(b, oldest);
        }
    }
    free(used);
}

typedef struct candidate {
    int chunk;
    double macs_per_byte;
} candidate;

static int by_compute_per_byte(const void *pa, const void *pb)
{
    const candidate *a = pa, *b = pb;
    if (a->macs_per_byte != b->macs_per_byte)
        return a->macs_per_byte < b->macs_per_byte ? -1 : 1;
    return (a->chunk > b->chunk) - (a->chunk < b->chunk);
}

/* As engine/plan.c does. */
static void least_compute_first(bench *b, size_t budget)
{
    const int n = b->c.end - b->c.first;
    candidate *c = calloc((size_t)n, sizeof *c);
    size_t sum = 0;
    clear(b);
    for (int i = 0; i < n && c; i++) {
        const int chunk = b->c.first + i;
        const double macs = (double)dev_work_macs(b->plan.work[chunk]);
        c[i] = (candidate){ chunk, macs / (double)place_of(b, chunk) };
    }
    if (c)
        qsort(c, (size_t)n, sizeof *c, by_compute_per_byte);
    for (int i = 0; i < n && c; i++)
        if (sum + place_of(b, c[i].chunk) <= budget) {
            b->resident[c[i].chunk] = true;
            sum += place_of(b, c[i].chunk);
        }
    free(c);
}

static const struct {
    const char *name;
    policy *choose;
} POLICIES[] = { { "none", none },
                 { "LRU", lru },
                 { "prefix", prefix },
                 { "spread", spread },
                 { "least/byte", least_compute_first } };

enum { N_POLICIES = sizeof POLICIES / sizeof POLICIES[0] };

/* ---- the table ---- */

static double larger(double a, double b) { return a > b ? a : b; }

/* No choice of so many bytes can be faster. */
static double bound(const bench *b, double budget)
{
    double bytes = 0, compute = 0;
    for (int i = b->c.first; i < b->c.end; i++) {
        bytes += pack_chunk_at(b->m.p, i)->bytes;
        compute += b->c.seconds[i];
    }
    const double slower = b->c.disk < b->c.copy ? b->c.disk : b->c.copy;
    return b->c.passes * larger(compute, (bytes - budget) / slower);
}

static void print_table(bench *b)
{
    printf("%8s", "GB");
    for (int k = 0; k < N_POLICIES; k++)
        printf(" %10s", POLICIES[k].name);
    printf(" %10s\n", "bound");
    for (int i = 0; i < N_BUDGETS; i++) {
        printf("%8.2f", BUDGETS[i]);
        for (int k = 0; k < N_POLICIES; k++) {
            POLICIES[k].choose(b, (size_t)(BUDGETS[i] * 1e9));
            printf(" %10.3f", simulate_step(&b->c).step);
        }
        printf(" %10.3f\n", bound(b, BUDGETS[i] * 1e9));
    }
}

/* ---- the work of a step ---- */

static refine_status make_plan(bench *b, const char *path, int size, double flops,
                               refine_error *err)
{
    static uint8_t pixels; /* only that there are some matters */
    refine_options o = REFINE_OPTIONS_INIT;
    refine_job j = REFINE_JOB_INIT;
    const dev_options d = { .compute = DT_F32, .threads = 1 };
    refine_status st = model_open(&b->m, path, err);

    o.vram_bytes = VRAM;
    o.rates = (refine_rates){ 1e9, 1e9, 1e9, flops, flops, flops, MEMORY };
    j.width = j.height = size;
    j.rgb_in = j.rgb_out = &pixels;
    if (st == REFINE_OK)
        st = pipeline_open(&b->p, &b->m, &j, 1, err);
    if (st != REFINE_OK)
        return st;
    b->d = dev_open_cpu(&d, err);
    if (!b->d)
        return REFINE_EDEVICE;
    b->p->act = DT_F32;
    return plan_make(&b->plan, &b->m, b->p, b->d, &o, &j, err);
}

/* Decoding takes no time: the pack is taken to be raw, and only hashes are looked at. */
static bool set_simulation(bench *b, double link, double disk)
{
    b->resident = mem_calloc((size_t)n_pack_chunks(b->m.p), sizeof *b->resident);
    b->c = (simulate_config){ .p = b->m.p,
                              .passes = pipeline_passes(b->p),
                              .seconds = b->plan.seconds,
                              .resident = b->resident,
                              .ring_bytes = RING,
                              .slots = SLOTS,
                              .disk = disk,
                              .copy = link };
    pack_segment(b->m.p, SEG_UNET, &b->c.first, &b->c.end);
    return b->resident != NULL;
}

static void close_all(bench *b)
{
    mem_free(b->resident);
    plan_close(&b->plan);
    dev_close(b->d);
    pipeline_close(b->p);
    model_close(&b->m);
}

int main(int argc, char **argv)
{
    bench b = { 0 };
    refine_error err = { 0 };
    int status = 1;

    if (argc < 6) {
        fprintf(stderr, "usage: bench_policy PACK SIZE LINK_GBPS DISK_GBPS TFLOPS\n");
        return 2;
    }
    const int size = (int)strtol(argv[2], NULL, 10);
    if (make_plan(&b, argv[1], size, 1e12 * strtod(argv[5], NULL), &err) != REFINE_OK)
        fprintf(stderr, "bench_policy: %s\n", err.text);
    else if (set_simulation(&b, 1e9 * strtod(argv[3], NULL), 1e9 * strtod(argv[4], NULL))) {
        print_table(&b);
        status = 0;
    }
    close_all(&b);
    return status;
}
