/* tests/bench/bench_cuda_families.c -- where the time of a step goes, by kinds of operator.
 *
 *     bench_cuda_families PACK SIZE [STEPS]
 *
 * The engine runs as ever, with all weights on the card, but an event is recorded before and after
 * each operator (operators.h), in the last step alone.  Of it a line of JSON is printed for
 * each operator, size of image and kind of weights; one for what is `between operators`, waiting
 * and copying included; and one for `the step`, where clean_ms is the best of those before, which
 * had no events in them.
 */
#include "engine/base/clock.h"
#include "kernels/cuda/cuda.h"
#include "tests/bench/operators.h"
#include <refine/refine.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CALLS_MAX = 16384, FAMILIES_MAX = 128, NAME = 64 };

/* An operator that ran. */
typedef struct call {
    char name[NAME];
    double macs;
    cudaEvent_t from, to;
} call;

typedef struct family {
    const char *name;
    int calls;
    double seconds, macs;
} family;

static call calls[CALLS_MAX];
static int n_calls, n_lost;
static bool listening;

/* ---- around each operator ---- */

static call *under_way;

void operators_of(dev *d) { (void)d; }

void operator_begins(dev *d, const operator_call *o)
{
    call *c = &calls[n_calls];
    under_way = NULL;
    if (!listening)
        return;
    if (n_calls == CALLS_MAX) {
        n_lost++;
        return;
    }
    (void)snprintf(c->name, sizeof c->name, "%s", o->name);
    c->macs = o->macs;
    if ((!c->from && cudaEventCreateWithFlags(&c->from, cudaEventDefault) != cudaSuccess) ||
        (!c->to && cudaEventCreateWithFlags(&c->to, cudaEventDefault) != cudaSuccess) ||
        cudaEventRecord(c->from, cuda_of(d)->stream[DEV_COMPUTE]) != cudaSuccess) {
        n_lost++;
        return;
    }
    n_calls++;
    under_way = c;
}

void operator_ended(dev *d)
{
    if (under_way)
        (void)cudaEventRecord(under_way->to, cuda_of(d)->stream[DEV_COMPUTE]);
}

/* ---- what they say ---- */

static double cuda_event_seconds(cudaEvent_t from, cudaEvent_t to)
{
    float ms = 0;
    return cudaEventElapsedTime(&ms, from, to) == cudaSuccess ? 1e-3 * (double)ms : 0;
}

static family *family_of(family *f, int *n, const char *name)
{
    for (int i = 0; i < *n; i++)
        if (strcmp(f[i].name, name) == 0)
            return &f[i];
    if (*n == FAMILIES_MAX)
        return NULL;
    f[*n] = (family){ .name = name };
    return &f[(*n)++];
}

static int by_time(const void *pa, const void *pb)
{
    const family *a = pa, *b = pb;
    return (a->seconds < b->seconds) - (a->seconds > b->seconds);
}

static void print_family(int size, const char *name, int n, double seconds, double macs)
{
    printf("{\"stage\":\"family\",\"size\":%d,\"name\":\"%s\",\"calls\":%d,\"ms\":%.4f,"
           "\"tflops\":%.3f}\n",
           size, name, n, 1e3 * seconds, seconds > 0 ? 2e-12 * macs / seconds : 0);
}

static bool report_families(int size, double clean)
{
    family f[FAMILIES_MAX];
    double inside = 0, macs = 0;
    int n = 0;

    if (n_calls == 0 || n_lost > 0 || cudaEventSynchronize(calls[n_calls - 1].to) != cudaSuccess) {
        fprintf(stderr, "bench_cuda_families: %d operators seen, %d missed\n", n_calls, n_lost);
        return false;
    }
    for (int i = 0; i < n_calls; i++) {
        family *to = family_of(f, &n, calls[i].name);
        const double seconds = cuda_event_seconds(calls[i].from, calls[i].to);
        if (to) {
            to->calls++;
            to->seconds += seconds;
            to->macs += calls[i].macs;
        }
        inside += seconds;
        macs += calls[i].macs;
    }
    qsort(f, (size_t)n, sizeof *f, by_time);
    for (int i = 0; i < n; i++)
        print_family(size, f[i].name, f[i].calls, f[i].seconds, f[i].macs);
    const double all = cuda_event_seconds(calls[0].from, calls[n_calls - 1].to);
    print_family(size, "between operators", n_calls, all - inside, 0);
    printf("{\"stage\":\"family\",\"size\":%d,\"name\":\"the step\",\"calls\":%d,\"ms\":%.4f,"
           "\"tflops\":%.3f,\"clean_ms\":%.4f}\n",
           size, n_calls, 1e3 * all, all > 0 ? 2e-12 * macs / all : 0, 1e3 * clean);
    return true;
}

/* ---- the job ---- */

typedef struct clean_steps {
    int finished;
    double since, best; /* seconds */
} clean_steps;

/* The first step is not counted: it may come late. */
static int record_clean_step(void *context, const refine_progress *p)
{
    clean_steps *c = context;
    const double now = clock_seconds();
    if (p->phase != REFINE_DENOISING || p->step == c->finished)
        return 0;
    if (p->step > 1 && !listening && (c->best <= 0 || now - c->since < c->best))
        c->best = now - c->since;
    c->finished = p->step;
    c->since = now;
    listening = p->step == p->steps - 1;
    return 0;
}

static int measure_families(const char *pack, int size, int steps, float *latents)
{
    refine_options o = REFINE_OPTIONS_INIT;
    refine_job j = REFINE_JOB_INIT;
    refine_error err = { 0 };
    refine_engine *e = NULL;
    clean_steps clean = { .finished = -1 };

    o.pack_path = pack;
    o.device = REFINE_DEVICE_CUDA;
    j.prompt = "a cup of coffee";
    j.width = j.height = size;
    j.steps = 100;
    j.strength = steps / 100.0 + 0.001;
    j.latents_in = j.latents_out = latents;
    j.progress = record_clean_step;
    j.progress_context = &clean;
    if (refine_open(&e, &o, &j, &err) != REFINE_OK || refine_run(e, &j, &err) != REFINE_OK) {
        fprintf(stderr, "bench_cuda_families: %s\n", err.text);
        refine_close(e);
        return 1;
    }
    const bool done = report_families(size, clean.best);
    refine_close(e);
    return !done;
}

int main(int argc, char **argv)
{
    (void)setvbuf(stdout, NULL, _IOLBF, 0); /* or a line is lost when this is ended */
    const int size = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 0;
    const int steps = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 3;
    if (size <= 0 || steps <= 0) {
        fprintf(stderr, "usage: bench_cuda_families PACK SIZE [STEPS]\n");
        return 2;
    }
    float *latents = calloc((size_t)(size / 8) * (size_t)(size / 8) * 4, sizeof *latents);
    const int status = latents ? measure_families(argv[1], size, steps, latents) : 1;
    free(latents);
    return status;
}
