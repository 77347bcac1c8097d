/* tests/bench/bench_policy.c -- which weights should stay on the device?
 *
 *     bench_policy PACK SIZE LINK_GBPS DISK_GBPS TFLOPS
 *
 * Replays steps of an image of SIZE x SIZE pixels (offload/simulate.h) with residents chosen
 * in different ways and prints the seconds of each.  Nothing is computed or read but the
 * pack's index: the work comes from the plan, the rates from the command line.
 */
#include "engine/base/mem.h"
#include "engine/model/model.h"
#include "engine/plan/plan.h"
#include "tests/support/policies.h"

#include <stdio.h>
#include <stdlib.h>

static const double BUDGETS[] = { 0.25, 0.5, 1, 1.5, 2, 3 }; /* GB of residents */
static const double MEMORY = 360e9; /* of elementwise work, bytes a second */
static const size_t RING = (size_t)64 << 20, VRAM = (size_t)16 << 30;

enum { SLOTS = 8, N_BUDGETS = sizeof BUDGETS / sizeof BUDGETS[0] };

typedef struct policy_bench {
    model m;
    phases *p;
    plan plan;
    dev *d;
    step_chunks chunks;
    simulate_config c;
    bool *resident;
} policy_bench;

static const struct {
    const char *name;
    policy *choose;
} POLICIES[] = { { "none", policy_none },
                 { "LRU", policy_lru },
                 { "prefix", policy_prefix },
                 { "spread", policy_spread },
                 { "least/byte", policy_least_first } };

enum { N_POLICIES = sizeof POLICIES / sizeof POLICIES[0] };

/* ---- the table ---- */

static double larger_of_doubles(double a, double b) { return a > b ? a : b; }

/* No choice of so many bytes can be faster. */
static double step_lower_bound(const policy_bench *b, double budget)
{
    double bytes = 0, compute = 0;
    for (int i = b->c.first; i < b->c.end; i++) {
        bytes += pack_chunk_at(b->m.p, i)->bytes;
        compute += b->c.seconds[i];
    }
    const double slower = b->c.disk < b->c.copy ? b->c.disk : b->c.copy;
    return b->c.passes * larger_of_doubles(compute, (bytes - budget) / slower);
}

static void print_policy_table(policy_bench *b)
{
    printf("%8s", "GB");
    for (int k = 0; k < N_POLICIES; k++)
        printf(" %10s", POLICIES[k].name);
    printf(" %10s\n", "bound");
    for (int i = 0; i < N_BUDGETS; i++) {
        printf("%8.2f", BUDGETS[i]);
        for (int k = 0; k < N_POLICIES; k++) {
            POLICIES[k].choose(&b->chunks, (size_t)(BUDGETS[i] * 1e9), b->resident);
            printf(" %10.3f", simulate_step(&b->c).step);
        }
        printf(" %10.3f\n", step_lower_bound(b, BUDGETS[i] * 1e9));
    }
}

/* ---- the work of a step ---- */

static refine_status make_policy_plan(policy_bench *b, const char *path, int size, double flops,
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
        st = phases_open(&b->p, &b->m, &j, 1, err);
    if (st != REFINE_OK)
        return st;
    b->d = dev_open_cpu(&d, err);
    if (!b->d)
        return REFINE_EDEVICE;
    b->p->act = DT_F32;
    const phases *p = b->p;
    st = plan_make(&b->plan, &p, 1, b->d, &o, &j, err);
    b->p->per_pass = b->plan.unet.per_pass;
    return st;
}

/* Decoding takes no time: the pack is taken to be raw, and only hashes are looked at. */
static bool set_simulation(policy_bench *b, double link, double disk)
{
    b->resident = mem_calloc((size_t)n_pack_chunks(b->m.p), sizeof *b->resident);
    b->c = (simulate_config){ .p = b->m.p,
                              .passes = phases_passes(b->p),
                              .seconds = b->plan.seconds,
                              .resident = b->resident,
                              .ring_bytes = RING,
                              .slots = SLOTS,
                              .disk = disk,
                              .copy = link };
    pack_segment(b->m.p, SEG_UNET, &b->c.first, &b->c.end);
    b->chunks = (step_chunks){ b->m.p, b->c.first, b->c.end, b->plan.work };
    return b->resident != NULL;
}

static void close_policy_bench(policy_bench *b)
{
    mem_free(b->resident);
    plan_close(&b->plan);
    dev_close(b->d);
    phases_close(b->p);
    model_close(&b->m);
}

int main(int argc, char **argv)
{
    policy_bench b = { 0 };
    refine_error err = { 0 };
    int status = 1;

    if (argc < 6) {
        fprintf(stderr, "usage: bench_policy PACK SIZE LINK_GBPS DISK_GBPS TFLOPS\n");
        return 2;
    }
    const int size = (int)strtol(argv[2], NULL, 10);
    if (make_policy_plan(&b, argv[1], size, 1e12 * strtod(argv[5], NULL), &err) != REFINE_OK)
        fprintf(stderr, "bench_policy: %s\n", err.text);
    else if (set_simulation(&b, 1e9 * strtod(argv[3], NULL), 1e9 * strtod(argv[4], NULL))) {
        print_policy_table(&b);
        status = 0;
    }
    close_policy_bench(&b);
    return status;
}
