/* tests/bench/bench_cuda_launches.c -- what a step launches on a card: for cuda_model.py.
 *
 *     bench_cuda_launches PACK SIZE CAPABILITY PROCESSORS tensor|halves|int8
 *
 * The engine opens an emulated card of that compute capability (75, 86, ...) and number of
 * multiprocessors, which multiplies by tensor cores, in fp16 or in integers, or in pairs of halves,
 * and makes one step of an image of SIZE x SIZE.  Kernels do not run.  Each kind of launch is one
 * line of JSON: its operator, kernel (as far behind main() as it lies, for nm), grid and shared
 * memory, and how often the step makes it.
 */
#define _POSIX_C_SOURCE 200809L /* setenv */
#include "kernels/cuda/cuda.h"
#include "tests/bench/operators.h"
#include "tests/support/cuda/emulation.h"
#include "tests/support/cuda_opening.h"
#include <refine/refine.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KINDS_MAX = 1024 };

int main(int argc, char **argv);

typedef struct launch_kind {
    operator_call of;
    emulation_launch launch;
    int calls;
} launch_kind;

static launch_kind kinds[KINDS_MAX];
static int n_kinds, n_lost;
static operator_call at; /* the operator under way */
static bool in_step;

static bool is_same_launch(const launch_kind *k, const emulation_launch *l)
{
    return strcmp(k->of.name, at.name) == 0 && k->of.k == at.k && k->of.taps == at.taps &&
           k->of.macs == at.macs && k->of.bytes == at.bytes && k->launch.kernel == l->kernel &&
           k->launch.blocks == l->blocks && k->launch.threads == l->threads &&
           k->launch.shared == l->shared;
}

static void count_launch_kind(const emulation_launch *l)
{
    int i = 0;
    if (!in_step)
        return;
    while (i < n_kinds && !is_same_launch(&kinds[i], l))
        i++;
    if (i == KINDS_MAX) {
        n_lost++;
        return;
    }
    if (i == n_kinds)
        kinds[n_kinds++] = (launch_kind){ at, *l, 0 };
    kinds[i].calls++;
}

void operator_begins(dev *d, const operator_call *c)
{
    (void)d;
    at = *c;
}

void operator_ended(dev *d)
{
    (void)d;
    at = (operator_call){ .name = "" };
}

void operators_of(dev *d) { (void)d; }

static int track_denoising(void *context, const refine_progress *p)
{
    (void)context;
    in_step = p->phase == REFINE_DENOISING;
    return 0;
}

static void print_launch_kind(const launch_kind *k)
{
    printf("{\"op\":\"%s\",\"k\":%d,\"taps\":%d,\"macs\":%.0f,\"bytes\":%.0f,\"kernel\":%lld,"
           "\"blocks\":%u,\"threads\":%u,\"shared\":%zu,\"calls\":%d}\n",
           k->of.name, k->of.k, k->of.taps, k->of.macs, k->of.bytes,
           (long long)((intptr_t)k->launch.kernel - (intptr_t)main), k->launch.blocks,
           k->launch.threads, k->launch.shared, k->calls);
}

/* To measure them on an emulated card would say nothing. */
static const refine_rates RATES = { .disk = 2e9,
                                    .decode = 2e9,
                                    .copy = 1e10,
                                    .linear = 1e13,
                                    .conv = 1e13,
                                    .attention = 5e12,
                                    .memory = 2e11 };

static int record_step_launches(const char *pack, int size, refine_precision precision,
                                float *latents)
{
    refine_options o = REFINE_OPTIONS_INIT;
    refine_job j = REFINE_JOB_INIT;
    refine_error err = { 0 };
    refine_engine *e = NULL;

    o.pack_path = pack;
    o.device = REFINE_DEVICE_CUDA;
    o.precision = precision;
    o.vram_bytes = (uint64_t)4 << 30;
    o.rates = RATES;
    j.prompt = "a cup of coffee";
    j.width = j.height = size;
    j.steps = 100;
    j.strength = 0.011; /* one step */
    j.latents_in = j.latents_out = latents;
    j.progress = track_denoising;
    if (refine_open(&e, &o, &j, &err) != REFINE_OK) {
        fprintf(stderr, "bench_cuda_launches: %s\n", err.text);
        return 1;
    }
    const refine_status st = refine_run(e, &j, &err);
    refine_close(e);
    for (int i = 0; i < n_kinds; i++)
        print_launch_kind(&kinds[i]);
    if (st != REFINE_OK || n_lost > 0)
        fprintf(stderr, "bench_cuda_launches: %d kinds, %d missed; %s\n", n_kinds, n_lost,
                err.text);
    return st != REFINE_OK || n_lost > 0;
}

int main(int argc, char **argv)
{
    const int size = argc == 6 ? (int)strtol(argv[2], NULL, 10) : 0;
    const int capability = size > 0 ? (int)strtol(argv[3], NULL, 10) : 0;
    const int processors = capability > 0 ? (int)strtol(argv[4], NULL, 10) : 0;
    if (processors <= 0 || setenv("REFINE_SELF_TEST", "off", 1) != 0) {
        fprintf(stderr, "usage: bench_cuda_launches PACK SIZE CAPABILITY PROCESSORS "
                        "tensor|halves|int8\n");
        return 2;
    }
    const refine_precision precision = strcmp(argv[5], "int8") == 0 ? REFINE_INT8 : REFINE_FP16;
    cuda_opening_multiplies(strcmp(argv[5], "halves") == 0 ? CUDA_HALF2 : CUDA_TENSOR_CORES);
    emulation_set_card(capability / 10, capability % 10, processors);
    emulation_list_launches(count_launch_kind);
    float *latents = calloc((size_t)(size / 8) * (size_t)(size / 8) * 4, sizeof *latents);
    const int status = latents ? record_step_launches(argv[1], size, precision, latents) : 1;
    free(latents);
    return status;
}
