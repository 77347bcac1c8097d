/* engine/cost.c -- four small operators, each with a clock beside it.
 *
 * Their shapes are those of the UNet's lower levels, where most of its time goes, cut down to
 * a few milliseconds of a CPU.  Where a ceiling leaves no room for that, they are smaller still:
 * so are then the model and the picture that fit below it.  A GPU is done with them before it has
 * got going, and is given as much as a layer of the UNet.
 */
#include "engine/cost.h"

#include "engine/base/clock.h"
#include "engine/base/num.h"

enum {
    LINEAR_IN = 1536,
    LINEAR_OUT = 128,
    CONV_IN = 512,
    CONV_OUT = 64,
    HEAD = 64,
    CHANNELS = 512, /* of the norm */
    LIST = 4        /* tensors at most */
};

/* How large the problems are, the largest first. */
typedef struct extent {
    int side;   /* pixels */
    int shrink; /* what the channels above are divided by */
    int widen;  /* what those of results are multiplied with */
} extent;

static const extent EXTENTS[] = {
    { 64, 1, 8 }, { 32, 1, 1 }, { 16, 1, 1 }, { 16, 2, 1 }, { 16, 4, 1 }
};

enum { WIDE, USUAL, N_EXTENTS = sizeof EXTENTS / sizeof EXTENTS[0] };

/* Seconds of a trial after which no run of it begins, and runs at most; seconds of a usual trial
 * below which a wide one tells more. */
static const double LONGEST = 0.02, TOO_SHORT = 0.002;
enum { RUNS = 4 };

static const epilogue PLAIN = { .act = ACT_NONE };

/* One operator and the tensors it works on. */
typedef struct trial {
    tensor t[LIST];
    int n;
    void (*run)(dev *d, const tensor *t, void *space);
    size_t space; /* bytes of prepared input */
} trial;

static void run_linear_trial(dev *d, const tensor *t, void *space)
{
    (void)space;
    op_linear(d, t[0], t[1], t[2], &PLAIN);
}

static conv_input conv_trial_input(const tensor *t)
{
    return (conv_input){
        .a = t[1], .h = t[1].h, .w = t[1].w, .detach = true, .quantised = t[2].type == DT_I8G64
    };
}

static conv_geometry conv_trial_geometry(const tensor *t)
{
    return (conv_geometry){ 3, 3, 1, 1, 0, t[1].h };
}

static void run_conv_trial(dev *d, const tensor *t, void *space)
{
    const conv_input in = conv_trial_input(t);
    const conv_geometry g = conv_trial_geometry(t);
    const conv_source src = op_conv_prepare(d, space, &in, g);
    op_conv2d(d, t[0], &src, t[2], g, &PLAIN);
}

static void run_attention_trial(dev *d, const tensor *t, void *space)
{
    (void)space;
    op_attention(d, t[0], t[1], t[2], t[3], t[0].c / HEAD, 0.125f, false);
}

static void run_memory_trial(dev *d, const tensor *t, void *space)
{
    (void)space;
    op_layernorm(d, t[0], t[1], t[2], t[3], 1e-5f);
}

enum { LINEAR, CONV3, ATTENTION, MEMORY, TRIALS };

/* An activation with so many channels. */
static tensor square(extent x, dtype type, int channels)
{
    return tensor_make(NULL, type, 1, x.side, x.side, channels);
}

static trial make_linear(extent x, cost_types k)
{
    const int in = LINEAR_IN / x.shrink, out = LINEAR_OUT * x.widen / x.shrink;
    return (trial){ .t = { square(x, k.act, out), square(x, k.act, in),
                           tensor_make(NULL, k.weights, out, 1, 1, in) },
                    .n = 3,
                    .run = run_linear_trial };
}

static trial make_conv(extent x, dev *d, cost_types k)
{
    const int channels = CONV_IN / x.shrink, out = CONV_OUT * x.widen / x.shrink;
    trial t = { .t = { square(x, k.act, out), square(x, k.act, channels),
                       tensor_make(NULL, k.weights, out, 3, 3, channels) },
                .n = 3,
                .run = run_conv_trial };
    const conv_input in = conv_trial_input(t.t);
    t.space = op_conv_prepare_bytes(d, &in, conv_trial_geometry(t.t));
    return t;
}

static trial make_attention(extent x, dtype type)
{
    const tensor t = square(x, type, HEAD * x.widen);
    return (trial){ .t = { t, t, t, t }, .n = 4, .run = run_attention_trial };
}

static trial make_memory(extent x, dtype type)
{
    const int channels = CHANNELS * x.widen / x.shrink;
    const tensor t = square(x, type, channels);
    const tensor v = tensor_make(NULL, DT_F32, 1, 1, 1, channels);
    return (trial){ .t = { t, t, v, v }, .n = 4, .run = run_memory_trial };
}

static trial make(int kind, extent x, dev *d, cost_types k)
{
    switch (kind) {
    case LINEAR: return make_linear(x, k);
    case CONV3: return make_conv(x, d, k);
    case ATTENTION: return make_attention(x, k.act);
    default: return make_memory(x, k.act);
    }
}

enum { ALIGN = 256 };

static size_t tensor_room(const trial *t)
{
    size_t sum = num_align(t->space, ALIGN);
    for (int i = 0; i < t->n; i++)
        sum += num_align(tensor_bytes(t->t[i]), ALIGN);
    return sum;
}

/* Runs it on the plan device: what it needs and what it does. */
static dev_work plan_trial(const trial *t, dev *plan)
{
    const dev_work before = dev_plan_work(plan);
    t->run(plan, t->t, NULL);
    const dev_work after = dev_plan_work(plan);
    return (dev_work){ after.linear - before.linear, after.conv - before.conv,
                       after.attention - before.attention, after.bytes - before.bytes };
}

/* 0: cannot be found out. */
static size_t memory_of(extent x, dev *d, cost_types k)
{
    dev *plan = dev_open_plan(d, NULL);
    size_t most = 0;
    for (int i = 0; i < TRIALS && plan; i++) {
        const trial t = make(i, x, d, k);
        (void)plan_trial(&t, plan);
        most = num_max(most, tensor_room(&t));
    }
    const size_t workspace = plan ? num_align(dev_workspace_needed(plan), ALIGN) : 0;
    dev_close(plan);
    return most + workspace;
}

/* The bytes of the largest problems that fit and are of use; 0: none do. */
static size_t choose_extent(int *x, dev *d, cost_types k, uint64_t most)
{
    for (*x = dev_runs_behind(d) ? WIDE : USUAL; *x < N_EXTENTS; ++*x) {
        const size_t bytes = memory_of(EXTENTS[*x], d, k);
        if (bytes <= most)
            return bytes;
    }
    return 0;
}

size_t cost_probe_memory(dev *d, cost_types k, uint64_t most)
{
    int x;
    return choose_extent(&x, d, k, most);
}

/* What a probe has while it runs. */
typedef struct probe {
    dev *d, *plan;
    cost_types k;
    char *space;
    dev_event *begun, *ended;
} probe;

/* Seconds of a run; *waited: by the clock of whoever waits for it. */
static double run_once(const probe *b, const trial *t, char *at, double *waited)
{
    const double t0 = clock_seconds();
    dev_record(b->d, b->begun, DEV_COMPUTE);
    t->run(b->d, t->t, at);
    dev_record(b->d, b->ended, DEV_COMPUTE);
    dev_sync(b->d, b->ended);
    *waited = clock_seconds() - t0;
    return dev_runs_behind(b->d) ? dev_elapsed(b->d, b->begun, b->ended) : *waited;
}

/* Of the best run but the first, which makes what a library makes on first use and counts only
 * where it is long by itself. */
static double time_trial(const probe *b, trial *t, char *at, double *waited)
{
    const double begun = clock_seconds();
    double best = 0;
    for (int i = 0; i < t->n; i++) {
        t->t[i].data = at;
        at += num_align(tensor_bytes(t->t[i]), ALIGN);
    }
    for (int i = 0; i < RUNS && (i == 0 || clock_seconds() - begun < LONGEST); i++) {
        const double seconds = run_once(b, t, at, waited);
        if (i <= 1 || seconds < best)
            best = seconds;
    }
    return best;
}

static void set_rate(refine_rates *r, int kind, dev_work w, double seconds)
{
    double *const rate[] = { &r->linear, &r->conv, &r->attention, &r->memory };
    const double amount = kind == MEMORY ? (double)w.bytes : 2.0 * (double)dev_work_macs(w);
    if (*rate[kind] <= 0 && seconds > 0)
        *rate[kind] = amount / seconds;
}

/* Zeros are as good as any numbers, and no denormals are among them. */
static void clear(dev *d, char *p, size_t bytes)
{
    static const char ZEROS[1 << 16];
    for (size_t at = 0; at < bytes; at += sizeof ZEROS)
        dev_put(d, p + at, ZEROS, num_min(sizeof ZEROS, bytes - at));
}

static double run_trial(const probe *b, int kind, int x, dev_work *w, double *waited)
{
    trial t = make(kind, EXTENTS[x], b->d, b->k);
    *w = plan_trial(&t, b->plan);
    const size_t need = num_align(dev_workspace_needed(b->plan), ALIGN);
    dev_workspace_set(b->d, b->space, need);
    return time_trial(b, &t, b->space + need, waited);
}

/* A device that might do the wide problems is tried with the usual ones first: these may be more
 * than enough. */
static void probe_kind(const probe *b, int kind, int largest, refine_rates *r)
{
    dev_work w;
    double waited;
    double seconds = run_trial(b, kind, largest == WIDE ? USUAL : largest, &w, &waited);
    if (largest == WIDE && waited < TOO_SHORT)
        seconds = run_trial(b, kind, WIDE, &w, &waited);
    set_rate(r, kind, w, seconds);
}

void cost_probe(refine_rates *r, dev *d, cost_types k, uint64_t most)
{
    int largest;
    const size_t bytes = choose_extent(&largest, d, k, most);
    const probe b = { .d = d,
                      .plan = dev_open_plan(d, NULL),
                      .k = k,
                      .space = bytes ? dev_alloc(d, bytes, DEV_VRAM) : NULL,
                      .begun = dev_event_open(d),
                      .ended = dev_event_open(d) };

    if (b.plan && b.begun && b.ended && b.space) {
        clear(d, b.space, bytes);
        for (int i = 0; i < TRIALS; i++)
            probe_kind(&b, i, largest, r);
        dev_workspace_set(d, NULL, 0);
    }
    dev_free(d, b.space, bytes, DEV_VRAM);
    dev_event_close(d, b.begun);
    dev_event_close(d, b.ended);
    dev_close(b.plan);
}

bool cost_known(const refine_rates *r)
{
    return r->disk > 0 && r->decode > 0 && r->copy > 0 && r->linear > 0 && r->conv > 0 &&
           r->attention > 0 && r->memory > 0;
}

static double over(double amount, double rate) { return rate > 0 ? amount / rate : 0.0; }

double cost_seconds(const refine_rates *r, dev_work w)
{
    return over(2.0 * (double)w.linear, r->linear) + over(2.0 * (double)w.conv, r->conv) +
           over(2.0 * (double)w.attention, r->attention) + over((double)w.bytes, r->memory);
}
