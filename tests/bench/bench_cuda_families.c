/* tests/bench/bench_cuda_families.c -- where the time of a step goes, by kinds of operator.
 *
 *     bench_cuda_families PACK SIZE [STEPS]
 *
 * The engine runs as ever, with all weights on the card, but between it and the device stand the
 * operators of this file, which record an event before and after each (the linker's --wrap gives
 * dev_open_cuda to us).  They do so in the last step alone.  Of it a line of JSON is printed for
 * each operator, size of picture and kind of weights; one for what is `between operators`, waiting
 * and copying included; and one for `the step`, where clean_ms is the best of those before, which
 * had no events in them.
 */
#include "engine/base/clock.h"
#include "engine/refine.h"
#include "kernels/backend.h"
#include "kernels/cuda/cuda.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CALLS_MOST = 16384, FAMILIES_MOST = 128, NAME = 64 };

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

dev *__real_dev_open_cuda(const dev_options *o, int ordinal, refine_error *err);
dev *__wrap_dev_open_cuda(const dev_options *o, int ordinal, refine_error *err);

/* The engine opens one device. */
static struct dev_ops ours;
static const struct dev_ops *theirs;
static call calls[CALLS_MOST];
static int n_calls, n_lost;
static bool listening;

/* ---- around each operator ---- */

static call *begin(dev *d, const char *kind, tensor at, const char *weights, double macs)
{
    call *c = &calls[n_calls];
    if (!listening)
        return NULL;
    if (n_calls == CALLS_MOST) {
        n_lost++;
        return NULL;
    }
    (void)snprintf(c->name, sizeof c->name, "%s%s at %dx%d", kind, weights, at.h, at.w);
    c->macs = macs;
    if ((!c->from && cudaEventCreateWithFlags(&c->from, cudaEventDefault) != cudaSuccess) ||
        (!c->to && cudaEventCreateWithFlags(&c->to, cudaEventDefault) != cudaSuccess) ||
        cudaEventRecord(c->from, cuda_of(d)->stream[DEV_COMPUTE]) != cudaSuccess) {
        n_lost++;
        return NULL;
    }
    n_calls++;
    return c;
}

static void end(dev *d, const call *c)
{
    if (c)
        (void)cudaEventRecord(c->to, cuda_of(d)->stream[DEV_COMPUTE]);
}

static double pixels(tensor t) { return (double)t.n * (double)tensor_pixels(t); }
static const char *weights_of(tensor w) { return w.type == DT_I8G64 ? ", int8" : ""; }

static double matrix_macs(tensor y, tensor w)
{
    return pixels(y) * (double)w.n * (double)(w.h * w.w) * (double)w.c;
}

static void linear(dev *d, const linear_args *a)
{
    call *c = begin(d, a->e.act == ACT_GEGLU ? "linear, GEGLU" : "linear", a->y, weights_of(a->w),
                    matrix_macs(a->y, a->w));
    theirs->linear(d, a);
    end(d, c);
}

static void conv2d(dev *d, const conv_args *a)
{
    const bool norm = tensor_present(a->x.in.affine) && !tensor_present(a->x.ready);
    const char *kind = a->g.kh == 1       ? "conv 1x1"
                       : a->g.stride == 2 ? "conv 3x3, down"
                       : norm             ? "conv 3x3, normed on load"
                                          : "conv 3x3";
    call *c = begin(d, kind, a->y, weights_of(a->w), matrix_macs(a->y, a->w));
    theirs->conv2d(d, a);
    end(d, c);
}

static prepared_input prepare(dev *d, void *p, const matrix_input *in, conv_geometry g)
{
    call *c = begin(d, "conv, preparing", in->a, "", 0);
    const prepared_input s = theirs->prepare(d, p, in, g);
    end(d, c);
    return s;
}

static void attention(dev *d, const attention_args *a)
{
    const double keys = (double)tensor_pixels(a->k);
    call *c = begin(d, keys == (double)tensor_pixels(a->q) ? "attention, self" : "attention, cross",
                    a->y, "", 2 * pixels(a->q) * keys * a->q.c);
    theirs->attention(d, a);
    end(d, c);
}

static void groupnorm_sums(dev *d, tensor sums, tensor a, tensor b, int row0, int rows)
{
    call *c = begin(d, "groupnorm, sums", a, "", 0);
    theirs->groupnorm_sums(d, sums, a, b, row0, rows);
    end(d, c);
}

static void groupnorm(dev *d, tensor affine, tensor sums, int h, int w, tensor gain, tensor bias,
                      float eps)
{
    const tensor at = { .h = h, .w = w };
    call *c = begin(d, "groupnorm, folding", at, "", 0);
    theirs->groupnorm(d, affine, sums, h, w, gain, bias, eps);
    end(d, c);
}

static void apply_norm(dev *d, tensor y, tensor a, tensor b, tensor affine, act f)
{
    call *c = begin(d, "groupnorm, applied", y, "", 0);
    theirs->apply_norm(d, y, a, b, affine, f);
    end(d, c);
}

static void layernorm(dev *d, tensor y, tensor x, tensor gain, tensor bias, float eps)
{
    call *c = begin(d, "layernorm", y, "", 0);
    theirs->layernorm(d, y, x, gain, bias, eps);
    end(d, c);
}

static void silu(dev *d, tensor y, tensor x)
{
    call *c = begin(d, "silu", y, "", 0);
    theirs->silu(d, y, x);
    end(d, c);
}

static void convert(dev *d, tensor y, tensor x)
{
    call *c = begin(d, "convert", y, "", 0);
    theirs->convert(d, y, x);
    end(d, c);
}

dev *__wrap_dev_open_cuda(const dev_options *o, int ordinal, refine_error *err)
{
    dev *d = __real_dev_open_cuda(o, ordinal, err);
    if (!d)
        return NULL;
    theirs = d->ops;
    ours = *theirs;
    ours.linear = linear;
    ours.conv2d = conv2d;
    ours.prepare = prepare;
    ours.attention = attention;
    ours.groupnorm_sums = groupnorm_sums;
    ours.groupnorm = groupnorm;
    ours.apply_norm = apply_norm;
    ours.layernorm = layernorm;
    ours.silu = silu;
    ours.convert = convert;
    d->ops = &ours;
    return d;
}

/* ---- what they say ---- */

static double between(cudaEvent_t from, cudaEvent_t to)
{
    float ms = 0;
    return cudaEventElapsedTime(&ms, from, to) == cudaSuccess ? 1e-3 * (double)ms : 0;
}

static family *family_of(family *f, int *n, const char *name)
{
    for (int i = 0; i < *n; i++)
        if (strcmp(f[i].name, name) == 0)
            return &f[i];
    if (*n == FAMILIES_MOST)
        return NULL;
    f[*n] = (family){ .name = name };
    return &f[(*n)++];
}

static int by_time(const void *pa, const void *pb)
{
    const family *a = pa, *b = pb;
    return (a->seconds < b->seconds) - (a->seconds > b->seconds);
}

static void print(int size, const char *name, int n, double seconds, double macs)
{
    printf("{\"stage\":\"family\",\"size\":%d,\"name\":\"%s\",\"calls\":%d,\"ms\":%.4f,"
           "\"tflops\":%.3f}\n",
           size, name, n, 1e3 * seconds, seconds > 0 ? 2e-12 * macs / seconds : 0);
}

static bool report(int size, double clean)
{
    family f[FAMILIES_MOST];
    double inside = 0, macs = 0;
    int n = 0;

    if (n_calls == 0 || n_lost > 0 || cudaEventSynchronize(calls[n_calls - 1].to) != cudaSuccess) {
        fprintf(stderr, "bench_cuda_families: %d operators seen, %d missed\n", n_calls, n_lost);
        return false;
    }
    for (int i = 0; i < n_calls; i++) {
        family *to = family_of(f, &n, calls[i].name);
        const double seconds = between(calls[i].from, calls[i].to);
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
        print(size, f[i].name, f[i].calls, f[i].seconds, f[i].macs);
    const double all = between(calls[0].from, calls[n_calls - 1].to);
    print(size, "between operators", n_calls, all - inside, 0);
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
static int at_step(void *context, const refine_progress *p)
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

static int run(const char *pack, int size, int steps, float *latents)
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
    j.progress = at_step;
    j.progress_context = &clean;
    if (refine_open(&e, &o, &j, &err) != REFINE_OK || refine_run(e, &j, &err) != REFINE_OK) {
        fprintf(stderr, "bench_cuda_families: %s\n", err.text);
        refine_close(e);
        return 1;
    }
    const bool done = report(size, clean.best);
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
    const int status = latents ? run(argv[1], size, steps, latents) : 1;
    free(latents);
    return status;
}
