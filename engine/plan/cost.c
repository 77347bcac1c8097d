/* engine/plan/cost.c -- the job's operators, cut down to a few milliseconds and timed.
 *
 * Every kind is tried at each level of the model where much of its work lies, with the level's
 * channels, pixels, types, norms and epilogues.  What a trial does beyond PIXELS_MIN, and then
 * beyond a few tiles of output, is cut off first: the rate hardly depends on it.  Where a ceiling
 * leaves no room for that, channels go too: so are then the model and the image that fit below
 * it.  Such trials end before a GPU has reached its clocks, so it is given larger ones.
 *
 * A kind's rate is that of its work at all levels together:  1 / R = sum of share / R at the level.
 */
#include "engine/plan/cost.h"

#include "engine/base/clock.h"
#include "engine/base/num.h"

enum {
    LIST = 6,
    RUNS = 3,
    GROUPS = 32,
    PIXELS_MIN = 256,
    CHANNELS_MIN = 64,
    REFILL = 32 << 20 /* bytes */
};

/* Multiply-adds of a trial, at most: a small one goes first, and a larger one follows where that
 * was too short to tell.  Norms count a byte as so many. */
static const uint64_t SMALL = (uint64_t)16 << 20, USUAL = (uint64_t)256 << 20,
                      WIDE = (uint64_t)4 << 30, BYTE = 16;

/* Seconds of a trial after which no run of it begins, and after which not even the second; below
 * which a larger one tells more; of all trials, after which none is repeated. */
static const double LONGEST = 0.006, FAR_TOO_LONG = 0.1, TOO_SHORT = 0.002, ENOUGH = 0.25;

/* Seconds of work after which a GPU, or an idle CPU, has noticed that there is some. */
static const double WARM = 0.15;

/* Share of the work of the busiest level from which on a level is tried. */
static const double WORTH_TRYING = 0.3;

/* One operator, or a few of a kind that belong together, and the tensors they work on. */
typedef struct cost_trial {
    dev_kind kind;
    cost_level at; /* cut down */
    int out;       /* rows of the weights */
    bool quantised;
    dtype act, weights;
    tensor t[LIST]; /* of no address before they are placed */
    int n;
    size_t space;         /* bytes of prepared input, */
    char *prepared;       /* which lie here */
    prepared_input ready; /* of a product */
} cost_trial;

/* ---- what a trial runs ---- */

enum { Y, X, W, AFFINE, SUMS, GAIN };

static const epilogue PLAIN = { .act = ACT_NONE }, GATED = { .act = ACT_GEGLU };

static conv_geometry trial_geometry(const cost_trial *t)
{
    return t->kind == DEV_LINEAR ? linear_geometry(t->t[X])
                                 : (conv_geometry){ 3, 3, 1, 1, 0, t->at.h };
}

/* A convolution's is normalised; written out, as the plan has it done where there is room. */
static matrix_input trial_input(const cost_trial *t)
{
    if (t->kind == DEV_LINEAR)
        return linear_input(t->t[X], t->quantised);
    return (matrix_input){ .a = t->t[X],
                           .affine = t->t[AFFINE],
                           .silu = true,
                           .detach = true,
                           .h = t->at.h,
                           .w = t->at.w,
                           .quantised = t->quantised };
}

/* A layer, and one whose outputs gate each other. */
static void run_linear_trial(dev *d, const cost_trial *t)
{
    const matrix_rows w = one_block(t->t[W]);
    op_linear(d, t->t[Y], &t->ready, &w, &PLAIN);
    op_linear(d, tensor_channels(t->t[Y], 0, t->out / 2), &t->ready, &w, &GATED);
}

static void run_conv_trial(dev *d, const cost_trial *t)
{
    const matrix_rows w = one_block(t->t[W]);
    op_conv2d(d, t->t[Y], &t->ready, &w, trial_geometry(t), &PLAIN);
}

static void run_attention_trial(dev *d, const cost_trial *t)
{
    const float scale = 0.125f;
    op_attention(d, t->t[0], t->t[1], t->t[2], t->t[2], t->at.heads, scale, t->at.causal);
    if (t->at.keys > 0)
        op_attention(d, t->t[0], t->t[1], t->t[3], t->t[3], t->at.heads, scale, false);
}

/* A norm over groups, with what a convolution reads of it, and one over channels. */
static void run_memory_trial(dev *d, const cost_trial *t)
{
    const matrix_input in = trial_input(t);
    const tensor gain = t->t[GAIN];
    op_groupnorm_sums(d, t->t[SUMS], t->t[X], (tensor){ 0 }, 0, t->at.h);
    op_groupnorm(d, t->t[AFFINE], t->t[SUMS], t->at.h, t->at.w, gain, gain, 1e-5f);
    (void)op_prepare(d, t->prepared, &in, trial_geometry(t));
    if (t->at.heads > 0)
        op_layernorm(d, t->t[Y], t->t[X], gain, gain, 1e-5f);
}

static void run_trial(dev *d, const cost_trial *t)
{
    switch (t->kind) {
    case DEV_LINEAR: run_linear_trial(d, t); break;
    case DEV_CONV: run_conv_trial(d, t); break;
    case DEV_ATTENTION: run_attention_trial(d, t); break;
    default: run_memory_trial(d, t); break;
    }
}

/* ---- its tensors ---- */

static tensor trial_pixels(const cost_trial *t, int channels)
{
    return tensor_make(NULL, t->act, t->at.n, t->at.h, t->at.w, channels);
}

static void shape_attention(cost_trial *t)
{
    t->t[0] = t->t[1] = t->t[2] = trial_pixels(t, t->at.channels);
    t->t[3] = tensor_make(NULL, t->act, t->at.n, 1, t->at.keys, t->at.channels);
    t->n = t->at.keys > 0 ? 4 : 3;
}

static void shape_product(cost_trial *t)
{
    const int side = t->kind == DEV_CONV ? 3 : 1;
    t->t[Y] = trial_pixels(t, t->out);
    t->t[X] = trial_pixels(t, t->at.channels);
    t->t[W] = tensor_make(NULL, t->weights, t->out, side, side, t->at.channels);
    t->t[AFFINE] = tensor_make(NULL, DT_F32, t->at.n, 1, 2, t->at.channels);
    t->n = t->kind == DEV_CONV ? AFFINE + 1 : W + 1;
}

static bool is_product(const cost_trial *t) { return t->kind == DEV_LINEAR || t->kind == DEV_CONV; }

static void shape_memory(cost_trial *t)
{
    int groups = GROUPS;
    while (t->at.channels % groups)
        groups /= 2;
    t->t[Y] = t->t[X] = t->t[W] = trial_pixels(t, t->at.channels);
    t->t[AFFINE] = tensor_make(NULL, DT_F32, t->at.n, 1, 2, t->at.channels);
    t->t[SUMS] = tensor_make(NULL, DT_F32, t->at.n, band_units(t->at.h), groups, 4);
    t->t[GAIN] = tensor_make(NULL, DT_F32, 1, 1, 1, t->at.channels);
    t->n = LIST;
}

static void shape_trial(cost_trial *t, dev *d)
{
    if (t->kind == DEV_ATTENTION)
        shape_attention(t);
    else if (t->kind == DEV_MEMORY)
        shape_memory(t);
    else
        shape_product(t);
    if (t->kind != DEV_ATTENTION) {
        const matrix_input in = trial_input(t);
        t->space = op_prepare_bytes(d, &in, trial_geometry(t));
    }
}

static cost_trial make_cost_trial(dev_kind kind, const cost_job *j, int level)
{
    const cost_level at = j->level[level];
    const size_t rows = TILE_ROWS_LINEAR, sixteen = rows * (size_t)at.channels * sizeof(uint16_t);
    const bool padding = i8_bytes((int)rows, 1, at.channels) >=
                         sixteen; /* then a pack keeps fp16 */
    const dtype weights = j->weights == DT_I8G64 && padding ? DT_F16 : j->weights;
    return (cost_trial){ .kind = kind,
                         .at = at,
                         .out = at.channels,
                         .quantised = weights == DT_I8G64,
                         .act = j->act,
                         .weights = weights };
}

/* ---- cutting it down ---- */

static size_t tensor_room(const cost_trial *t)
{
    size_t sum = num_align(t->space, DEV_ALIGN);
    for (int i = 0; i < t->n; i++)
        sum += num_align(tensor_bytes(t->t[i]), DEV_ALIGN);
    return sum;
}

/* What it is and needs, by a plan device. */
typedef struct account {
    dev_work work;
    size_t workspace, room;
} account;

/* False: out of memory. */
static bool count_trial_work(cost_trial *t, dev *d, account *a)
{
    dev *plan = dev_open_plan(d, NULL);
    if (!plan)
        return false;
    shape_trial(t, d);
    if (is_product(t))
        t->ready = (prepared_input){ .in = trial_input(t) };
    run_trial(plan, t);
    a->work = dev_plan_work(plan);
    a->workspace = num_align(dev_workspace_needed(plan), DEV_ALIGN);
    a->room = tensor_room(t) + a->workspace;
    dev_close(plan);
    return true;
}

static bool halve_pixels(cost_level *l, int least)
{
    if (l->h * l->w <= least)
        return false;
    if (l->h >= l->w)
        l->h = (l->h + 1) / 2;
    else
        l->w = (l->w + 1) / 2;
    return true;
}

static bool halve_dimension(int *v, int least)
{
    if (*v < 2 * least || *v % 2)
        return false;
    *v /= 2;
    return true;
}

/* Fewer heads of as many channels each. */
static bool halve_heads(cost_trial *t, int least)
{
    if (t->kind != DEV_ATTENTION)
        return false;
    if (!halve_dimension(&t->at.heads, least))
        return false;
    t->at.channels /= 2;
    return true;
}

static bool halve_channels(cost_trial *t)
{
    if (t->kind == DEV_ATTENTION || !halve_dimension(&t->at.channels, CHANNELS_MIN))
        return false;
    t->out = t->out < t->at.channels ? t->out : t->at.channels;
    return true;
}

/* Weights are decoded for each product, and its input is rounded or packed: both must be shared by
 * as many outputs and pixels as can be. */
static bool halve_outputs(cost_trial *t, int least)
{
    return t->kind != DEV_ATTENTION && halve_dimension(&t->out, least);
}

/* One thing less, that which matters least. */
static bool shrink_trial(cost_trial *t)
{
    if (t->at.n > 1) {
        t->at.n = 1;
        return true;
    }
    return halve_heads(t, 4) || halve_pixels(&t->at, 2 * PIXELS_MIN) || halve_outputs(t, 512) ||
           halve_pixels(&t->at, PIXELS_MIN) || halve_outputs(t, 256) || halve_heads(t, 1) ||
           halve_pixels(&t->at, 128) || halve_outputs(t, CHANNELS_MIN) ||
           halve_pixels(&t->at, 64) || halve_channels(t) || halve_pixels(&t->at, 16);
}

static uint64_t account_work(const account *a, dev_kind kind) { return dev_work_of(a->work, kind); }

static uint64_t account_effort(const account *a, dev_kind kind)
{
    return account_work(a, kind) * (kind == DEV_MEMORY ? BYTE : 1);
}

/* Until it is no more than `work` and fits.  False: it never does, or out of memory. */
static bool fit_trial(cost_trial *t, dev *d, uint64_t work, uint64_t most, account *a)
{
    do {
        if (!count_trial_work(t, d, a))
            return false;
        if (account_effort(a, t->kind) <= work && a->room <= most)
            return true;
    } while (shrink_trial(t));
    return a->room <= most;
}

/* ---- which trials there are ---- */

static bool has_work_kind(const cost_level *l, dev_kind k)
{
    return k == DEV_LINEAR || k == DEV_ATTENTION ? l->heads > 0 : l->convolves;
}

/* A level's share of a kind's work, on some scale. */
static double level_work_share(const cost_level *l, dev_kind k)
{
    const double p = (double)l->h * l->w, c = l->channels;
    if (!has_work_kind(l, k))
        return 0;
    return k == DEV_MEMORY ? p * c : k == DEV_ATTENTION ? p * (p + l->keys) * c : p * c * c;
}

static bool is_tried(const cost_job *j, dev_kind k, int level)
{
    double most = 0;
    for (int i = 0; i < j->levels; i++)
        most = level_work_share(&j->level[i], k) > most ? level_work_share(&j->level[i], k) : most;
    return most > 0 && level_work_share(&j->level[level], k) >= WORTH_TRYING * most;
}

static uint64_t most_work(dev *d) { return dev_is_async(d) ? WIDE : USUAL; }

/* Room for the largest of the trials; 0: one does not fit. */
size_t cost_probe_memory(dev *d, const cost_job *j, uint64_t most)
{
    size_t room = 0;
    for (int k = 0; k < DEV_KINDS; k++)
        for (int i = 0; i < j->levels; i++) {
            cost_trial t = make_cost_trial((dev_kind)k, j, i);
            account a;
            if (!is_tried(j, (dev_kind)k, i))
                continue;
            if (!fit_trial(&t, d, most_work(d), most, &a))
                return 0;
            room = num_max(room, a.room);
        }
    return room;
}

/* ---- running them ---- */

/* What a probe has while it runs. */
typedef struct compute_probe {
    dev *d;
    char *space;
    size_t bytes;
    dev_event *begun, *ended;
} compute_probe;

/* Seconds of a run; *waited: by the clock of whoever waits for it. */
static double run_once(const compute_probe *b, const cost_trial *t, double *waited)
{
    const double t0 = clock_seconds();
    dev_record(b->d, b->begun, DEV_COMPUTE);
    run_trial(b->d, t);
    dev_record(b->d, b->ended, DEV_COMPUTE);
    dev_sync(b->d, b->ended);
    *waited = clock_seconds() - t0;
    return dev_is_async(b->d) ? dev_elapsed(b->d, b->begun, b->ended) : *waited;
}

/* Ordinary numbers of either sign in every type, so that nothing is faster or slower than in
 * earnest: a word is 1.0 to 1.25 as fp16; 0.008 to 0.012 as bf16, and so are two as a float; whole
 * numbers and scales likewise. */
static void fill_ordinary_numbers(dev *d, char *p, size_t bytes)
{
    uint16_t words[1 << 15];
    const size_t used = num_min(bytes, sizeof words);
    uint32_t random = 1;
    for (size_t i = 0; i < (used + 1) / 2; i++) {
        random = random * 1664525u + 1013904223u;
        words[i] = (uint16_t)(0x3c00u | ((random >> 16) & 0x80ffu));
    }
    for (size_t at = 0; at < bytes; at += sizeof words)
        dev_put(d, p + at, words, num_min(sizeof words, bytes - at));
}

/* The trial before left its results here, which are of other types.  They are harmless to a GPU,
 * whose wide trials are too large to be filled again and again. */
static void bind_trial_memory(const compute_probe *b, cost_trial *t, size_t workspace)
{
    const size_t bytes = tensor_room(t);
    char *at = b->space + workspace;
    dev_workspace_set(b->d, b->space, workspace);
    if (bytes <= REFILL)
        fill_ordinary_numbers(b->d, at, bytes);
    for (int i = 0; i < t->n; i++) {
        t->t[i].data = at;
        at += num_align(tensor_bytes(t->t[i]), DEV_ALIGN);
    }
    t->prepared = at;
    if (is_product(t)) {
        const matrix_input in = trial_input(t);
        t->ready = op_prepare(b->d, t->space ? at : NULL, &in, trial_geometry(t));
    }
}

/* Of the best run but the first, which makes what a library makes on first use and counts only
 * where it is long by itself. */
static double time_trial(const compute_probe *b, cost_trial *t, size_t workspace, double *waited)
{
    double best = 0;
    bind_trial_memory(b, t, workspace);
    const double begun = clock_seconds();
    for (int i = 0; i < RUNS; i++) {
        if (i > 0 && clock_seconds() - begun >= (i > 1 ? LONGEST : FAR_TOO_LONG))
            break;
        const double seconds = run_once(b, t, waited);
        if (i <= 1 || seconds < best)
            best = seconds;
    }
    return best;
}

/* Of a kind at a level: seconds of a multiply-add, or a byte (0: unknown), and what was found to
 * be enough of them. */
typedef struct finding {
    double each;
    uint64_t work;
} finding;

typedef struct findings {
    finding at[DEV_KINDS][LEVELS_MAX];
} findings;

/* With so much work at most. */
static bool try_level(const compute_probe *b, const cost_job *j, dev_kind kind, int level,
                      uint64_t work, double *each, double *waited)
{
    cost_trial t = make_cost_trial(kind, j, level);
    account a;
    if (!fit_trial(&t, b->d, work, b->bytes, &a))
        return false;
    *each = time_trial(b, &t, a.workspace, waited) / (double)account_work(&a, kind);
    return true;
}

static finding measure_level(const compute_probe *b, const cost_job *j, dev_kind kind, int level)
{
    finding out = { .work = SMALL };
    double waited = 0;
    while (try_level(b, j, kind, level, out.work, &out.each, &waited)) {
        if (waited >= TOO_SHORT || out.work == most_work(b->d))
            return out;
        out.work = out.work == SMALL ? USUAL : WIDE;
    }
    return (finding){ 0 };
}

static void first_round(const compute_probe *b, const cost_job *j, dev_kind kind, findings *f)
{
    for (int i = 0; i < j->levels; i++)
        if (is_tried(j, kind, i))
            f->at[kind][i] = measure_level(b, j, kind, i);
}

/* The best of two rounds, since others run here too. */
static void second_round(const compute_probe *b, const cost_job *j, dev_kind kind, findings *f)
{
    for (int i = 0; i < j->levels; i++) {
        finding *at = &f->at[kind][i];
        double each, waited;
        if (at->each > 0 && try_level(b, j, kind, i, at->work, &each, &waited) && each < at->each)
            at->each = each;
    }
}

static double rate_of_kind(const cost_job *j, dev_kind kind, const findings *f)
{
    double all = 0, seconds = 0;
    for (int i = 0; i < j->levels; i++) {
        const double share = is_tried(j, kind, i) ? level_work_share(&j->level[i], kind) : 0;
        if (share > 0 && f->at[kind][i].each <= 0)
            return 0;
        all += share;
        seconds += share * f->at[kind][i].each;
    }
    return seconds > 0 ? (kind == DEV_MEMORY ? 1.0 : 2.0) * all / seconds : 0;
}

static compute_probe open_probe(dev *d, const cost_job *j, uint64_t most)
{
    const size_t bytes = cost_probe_memory(d, j, most);
    return (compute_probe){ .d = d,
                            .space = bytes ? dev_alloc(d, bytes, DEV_VRAM) : NULL,
                            .bytes = bytes,
                            .begun = dev_event_open(d),
                            .ended = dev_event_open(d) };
}

static bool is_open(const compute_probe *b) { return b->begun && b->ended && b->space; }

static void close_probe(compute_probe *b)
{
    dev_workspace_set(b->d, NULL, 0);
    dev_free(b->d, b->space, b->bytes, DEV_VRAM);
    dev_event_close(b->d, b->begun);
    dev_event_close(b->d, b->ended);
}

/* A job of small operators is over before it pays. */
static bool pays_to_warm_up(dev *d, cost_trial whole)
{
    account a;
    return dev_is_async(d) ||
           (count_trial_work(&whole, d, &a) && account_effort(&a, whole.kind) > USUAL);
}

void cost_warm_up(dev *d, const cost_job *j, uint64_t most)
{
    cost_trial t = make_cost_trial(DEV_CONV, j, 0);
    if (!pays_to_warm_up(d, t))
        return;
    compute_probe b = open_probe(d, j, most);
    const double began = clock_seconds();
    account a;
    double waited;

    if (is_open(&b) && fit_trial(&t, d, USUAL, b.bytes, &a)) {
        fill_ordinary_numbers(d, b.space, b.bytes);
        bind_trial_memory(&b, &t, a.workspace);
        while (clock_seconds() - began < WARM && dev_status(d) == REFINE_OK)
            (void)run_once(&b, &t, &waited);
    }
    close_probe(&b);
}

void cost_probe(refine_rates *r, dev *d, const cost_job *j, uint64_t most)
{
    double *const rate[DEV_KINDS] = { &r->linear, &r->conv, &r->attention, &r->memory };
    const double began = clock_seconds();
    findings f = { 0 };
    compute_probe b = open_probe(d, j, most);

    if (is_open(&b)) {
        fill_ordinary_numbers(d, b.space, b.bytes);
        for (int k = 0; k < DEV_KINDS; k++)
            if (*rate[k] <= 0)
                first_round(&b, j, (dev_kind)k, &f);
        for (int k = 0; k < DEV_KINDS && clock_seconds() - began < ENOUGH; k++)
            second_round(&b, j, (dev_kind)k, &f);
        for (int k = 0; k < DEV_KINDS; k++)
            if (*rate[k] <= 0)
                *rate[k] = rate_of_kind(j, (dev_kind)k, &f);
    }
    close_probe(&b);
}

bool cost_known(const refine_rates *r)
{
    return r->disk > 0 && r->decode > 0 && r->copy > 0 && r->linear > 0 && r->conv > 0 &&
           r->attention > 0 && r->memory > 0;
}

static double seconds_at_rate(double work, double rate) { return rate > 0 ? work / rate : 0.0; }

double cost_seconds(const refine_rates *r, dev_work w)
{
    return seconds_at_rate(2.0 * (double)w.linear, r->linear) +
           seconds_at_rate(2.0 * (double)w.conv, r->conv) +
           seconds_at_rate(2.0 * (double)w.attention, r->attention) +
           seconds_at_rate((double)w.bytes, r->memory);
}
