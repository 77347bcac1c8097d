/* kernels/cuda/cuda_self_test.c -- does this card, with this driver, compute right?
 *
 * When a device is opened, every family of kernels computes something small in the way of
 * multiplying that was chosen, and each byte must be the referee's.  That can be asked because
 * the inputs leave nothing to chance:
 *
 *     sums         are of small whole numbers: exact in any order and precision
 *     silu, gelu   meet numbers so far from 0 that they are the identity or 0
 *     softmax      has for each query some largest scores that are equal; next to them the others,
 *                  e^-128 and less, are nothing
 *     norms        are of values that lie 2 to one side or the other of their mean; the variance
 *                  and epsilon make 16
 *
 * and an ulp of F32, which is what approximate instructions are off by, is lost when the result is
 * rounded to fp16.
 */
#include "kernels/cuda/cuda.h"

#include "engine/base/mem.h"
#include "kernels/cuda/cuda_memory.h"
#include "quant/f16.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum {
    ROOM = 256 << 10,     /* for the tensors of a trial, here and on the card */
    WORKSPACE = 16 << 10, /* of the referee's operators, */
    PREPARED = 64 << 10,  /* and for what is prepared, here and on the card */
    COMPUTE = -1          /* the type that the device computes in */
};

/* ---- what is tried ---- */

/* What a tensor holds: first + step * (one of 0 to count - 1); count 0: nothing.  DEVIATIONS:
 * first + step as often as first - step, in every channel and in every pixel. */
enum { DEVIATIONS = -1 };

typedef struct self_test_part {
    int type, n, h, w, c;
    int first, step, count;
} self_test_part;

enum { Y, A, W, BIAS, B, AFFINE, PER_IMAGE, RESIDUAL, PARTS };
/* What they are elsewhere. */
enum { Q = A, K = W, V = BIAS, GAIN = W, SUMS = AFFINE };

/* How it is done: by one kernel; by each tile of a product; by a product of integers, where the
 * device does that.  All others are tried without integers. */
typedef enum self_test_way { ONE, TILES, INTEGERS } self_test_way;

typedef struct self_test_trial {
    const char *name; /* the family, in the plural */
    void (*run)(dev *d, const tensor *t, void *prepared);
    self_test_way way;
    int exp2; /* of y */
    self_test_part parts[PARTS];
} self_test_trial;

static void self_test_linear(dev *d, const tensor *t, void *prepared)
{
    const epilogue e = { .bias = t[BIAS],
                         .residual = t[RESIDUAL],
                         .act = t[W].n == 2 * t[Y].c ? ACT_GEGLU : ACT_NONE };
    const matrix_input in = linear_input(t[A], t[W].type == DT_I8G64);
    const conv_geometry g = linear_geometry(t[A]);
    assert(op_prepare_bytes(d, &in, g) <= PREPARED);
    const prepared_input x = op_prepare(d, prepared, &in, g);
    const matrix_rows w = one_block(t[W]);
    op_linear(d, t[Y], &x, &w, &e);
}

static void self_test_conv2d(dev *d, const tensor *t, void *prepared)
{
    const epilogue e = { .bias = t[BIAS], .per_image = t[PER_IMAGE], .residual = t[RESIDUAL] };
    const matrix_input in = { .a = t[A],
                              .b = t[B],
                              .affine = t[AFFINE],
                              .silu = tensor_present(t[AFFINE]),
                              .h = t[A].h,
                              .w = t[A].w,
                              .quantised = t[W].type == DT_I8G64 };
    const conv_geometry g = { .kh = t[W].h,
                              .kw = t[W].w,
                              .stride = t[Y].h < t[A].h ? 2 : 1,
                              .pad = t[W].h / 2,
                              .rows = t[Y].h };
    assert(op_prepare_bytes(d, &in, g) <= PREPARED);
    const prepared_input s = op_prepare(d, prepared, &in, g);
    const matrix_rows w = one_block(t[W]);
    op_conv2d(d, t[Y], &s, &w, g, &e);
}

static void self_test_attention(dev *d, const tensor *t, void *prepared)
{
    (void)prepared;
    const int heads = t[Q].c < 512 ? t[Q].c / 64 : 1;
    const bool causal = t[Q].w == t[K].w;
    op_attention(d, t[Y], t[Q], t[K], t[V], heads, 128, causal);
}

static void self_test_groupnorm(dev *d, const tensor *t, void *prepared)
{
    (void)prepared;
    op_groupnorm_sums(d, t[SUMS], t[A], t[B], 0, t[A].h);
    op_groupnorm(d, t[Y], t[SUMS], t[A].h, t[A].w, t[GAIN], t[BIAS], 12);
}

static void self_test_layernorm(dev *d, const tensor *t, void *prepared)
{
    (void)prepared;
    op_layernorm(d, t[Y], t[A], t[GAIN], t[BIAS], 12);
}

static void self_test_apply_norm(dev *d, const tensor *t, void *prepared)
{
    (void)prepared;
    op_apply_norm(d, t[Y], t[A], t[B], t[AFFINE], ACT_NONE);
}

static void self_test_silu(dev *d, const tensor *t, void *prepared)
{
    (void)prepared;
    op_silu(d, t[Y], t[A]);
}

static void self_test_convert(dev *d, const tensor *t, void *prepared)
{
    (void)prepared;
    op_convert(d, t[Y], t[A]);
}

/* Shapes that fill no tile, and take more than one step of k, or tile of keys.  In integers pixels
 * are 127 or -127, which they remain. */
static const self_test_trial TRIALS[] = {
    { "linear layers with fp16 weights",
      self_test_linear,
      TILES,
      5,
      { [Y] = { DT_F16, 1, 1, 70, 36, 0, 0, 0 },
        [A] = { COMPUTE, 1, 1, 70, 136, -32, 32, 3 },
        [W] = { DT_F16, 72, 1, 1, 136, -1, 1, 3 },
        [BIAS] = { DT_F32, 1, 1, 1, 72, -64, 32, 5 },
        [RESIDUAL] = { COMPUTE, 1, 1, 70, 36, -3072, 2048, 4 } } },
    { "linear layers with int8 weights",
      self_test_linear,
      TILES,
      0,
      { [Y] = { DT_F16, 1, 1, 70, 40, 0, 0, 0 },
        [A] = { COMPUTE, 1, 1, 70, 200, -3, 1, 7 },
        [W] = { DT_I8G64, 40, 1, 1, 200, -3, 1, 7 },
        [BIAS] = { DT_F32, 1, 1, 1, 40, -20, 1, 41 } } },
    { "linear layers of odd shapes with int8 weights",
      self_test_linear,
      TILES,
      0,
      { [Y] = { DT_F16, 1, 1, 21, 20, 0, 0, 0 },
        [A] = { DT_F32, 1, 1, 21, 70, -3, 1, 7 },
        [W] = { DT_I8G64, 20, 1, 1, 70, -3, 1, 7 } } },
    { "1x1 convolutions",
      self_test_conv2d,
      TILES,
      0,
      { [Y] = { DT_F16, 2, 5, 7, 40, 0, 0, 0 },
        [A] = { COMPUTE, 2, 5, 7, 64, -3, 1, 7 },
        [B] = { COMPUTE, 2, 5, 7, 40, -3, 1, 7 },
        [W] = { DT_F16, 40, 1, 1, 104, -3, 1, 7 },
        [RESIDUAL] = { COMPUTE, 2, 5, 7, 40, -20, 1, 41 } } },
    { "3x3 convolutions of norms with fp16 weights",
      self_test_conv2d,
      TILES,
      0,
      { [Y] = { DT_F16, 2, 5, 7, 24, 0, 0, 0 },
        [A] = { COMPUTE, 2, 5, 7, 72, -2, 1, 5 },
        [W] = { DT_F16, 24, 3, 3, 72, -1, 1, 3 },
        [AFFINE] = { DT_F32, 2, 1, 2, 72, 64, 64, 2 },
        [BIAS] = { DT_F32, 1, 1, 1, 24, 16, 32, 9 },
        [PER_IMAGE] = { DT_F32, 2, 1, 1, 24, -64, 32, 5 } } },
    { "3x3 convolutions of norms with int8 weights",
      self_test_conv2d,
      TILES,
      0,
      { [Y] = { DT_F16, 2, 5, 7, 24, 0, 0, 0 },
        [A] = { COMPUTE, 2, 5, 7, 72, -2, 1, 5 },
        [W] = { DT_I8G64, 24, 3, 3, 72, -1, 1, 3 },
        [AFFINE] = { DT_F32, 2, 1, 2, 72, 64, 64, 2 },
        [BIAS] = { DT_F32, 1, 1, 1, 24, 16, 32, 9 } } },
    { "3x3 convolutions of odd shapes",
      self_test_conv2d,
      TILES,
      0,
      { [Y] = { DT_F16, 1, 5, 6, 20, 0, 0, 0 },
        [A] = { DT_F32, 1, 9, 11, 4, -3, 1, 7 },
        [W] = { DT_F16, 20, 3, 3, 4, -3, 1, 7 } } },
    { "attention",
      self_test_attention,
      ONE,
      0,
      { [Y] = { DT_F16, 1, 1, 20, 128, 0, 0, 0 },
        [Q] = { COMPUTE, 1, 1, 20, 128, -1, 1, 3 },
        [K] = { COMPUTE, 1, 1, 130, 128, -1, 1, 3 },
        [V] = { COMPUTE, 1, 1, 130, 128, 9, 1, 15 } } },
    { "attention within 77 tokens",
      self_test_attention,
      ONE,
      0,
      { [Y] = { DT_F16, 1, 1, 77, 64, 0, 0, 0 },
        [Q] = { COMPUTE, 1, 1, 77, 64, -1, 1, 3 },
        [K] = { COMPUTE, 1, 1, 77, 64, -1, 1, 3 },
        [V] = { COMPUTE, 1, 1, 77, 64, 9, 1, 15 } } },
    { "attention of 512 channels",
      self_test_attention,
      ONE,
      0,
      { [Y] = { DT_F16, 1, 1, 10, 512, 0, 0, 0 },
        [Q] = { COMPUTE, 1, 1, 10, 512, -1, 1, 3 },
        [K] = { COMPUTE, 1, 1, 20, 512, -1, 1, 3 },
        [V] = { COMPUTE, 1, 1, 20, 512, 9, 1, 15 } } },
    { "group norms",
      self_test_groupnorm,
      ONE,
      0,
      { [Y] = { DT_F32, 2, 1, 2, 64, 0, 0, 0 },
        [A] = { COMPUTE, 2, 11, 6, 40, 3, 2, DEVIATIONS },
        [B] = { COMPUTE, 2, 11, 6, 24, 3, 2, DEVIATIONS },
        [SUMS] = { DT_F32, 2, 2, 4, 4, 0, 0, 0 },
        [GAIN] = { DT_F32, 1, 1, 1, 64, 4, 4, 3 },
        [BIAS] = { DT_F32, 1, 1, 1, 64, -20, 1, 41 } } },
    { "group norms of odd shapes",
      self_test_groupnorm,
      ONE,
      0,
      { [Y] = { DT_F32, 1, 1, 2, 30, 0, 0, 0 },
        [A] = { COMPUTE, 1, 6, 3, 30, 3, 2, DEVIATIONS },
        [SUMS] = { DT_F32, 1, 1, 2, 4, 0, 0, 0 },
        [GAIN] = { DT_F32, 1, 1, 1, 30, 4, 4, 3 },
        [BIAS] = { DT_F32, 1, 1, 1, 30, -20, 1, 41 } } },
    { "layer norms",
      self_test_layernorm,
      ONE,
      0,
      { [Y] = { DT_F16, 1, 1, 10, 320, 0, 0, 0 },
        [A] = { COMPUTE, 1, 1, 10, 320, 3, 2, DEVIATIONS },
        [GAIN] = { DT_F32, 1, 1, 1, 320, 4, 4, 3 },
        [BIAS] = { DT_F32, 1, 1, 1, 320, -9, 2, 10 } } },
    { "norms without a convolution",
      self_test_apply_norm,
      ONE,
      0,
      { [Y] = { DT_F16, 2, 3, 5, 40, 0, 0, 0 },
        [A] = { COMPUTE, 2, 3, 5, 24, -3, 1, 7 },
        [B] = { COMPUTE, 2, 3, 5, 16, -3, 1, 7 },
        [AFFINE] = { DT_F32, 2, 1, 2, 40, -3, 1, 7 } } },
    { "activations",
      self_test_silu,
      ONE,
      0,
      { [Y] = { DT_F16, 1, 3, 5, 40, 0, 0, 0 }, [A] = { COMPUTE, 1, 3, 5, 40, -192, 64, 7 } } },
    { "conversions",
      self_test_convert,
      ONE,
      0,
      { [Y] = { DT_F16, 1, 3, 5, 37, 0, 0, 0 }, [A] = { DT_F32, 1, 3, 5, 37, -2048, 7, 585 } } },
    { "linear layers in integers",
      self_test_linear,
      INTEGERS,
      0,
      { [Y] = { DT_F16, 1, 1, 70, 72, 0, 0, 0 },
        [A] = { COMPUTE, 1, 1, 70, 136, -127, 254, 2 },
        [W] = { DT_I8G64, 72, 1, 1, 136, -1, 1, 3 },
        [BIAS] = { DT_F32, 1, 1, 1, 72, -64, 32, 5 },
        [RESIDUAL] = { COMPUTE, 1, 1, 70, 72, -3072, 2048, 4 } } },
    { "3x3 convolutions in integers",
      self_test_conv2d,
      INTEGERS,
      0,
      { [Y] = { DT_F16, 2, 5, 7, 24, 0, 0, 0 },
        [A] = { COMPUTE, 2, 5, 7, 72, -127, 254, 2 },
        [W] = { DT_I8G64, 24, 3, 3, 72, -1, 1, 3 },
        [PER_IMAGE] = { DT_F32, 2, 1, 1, 24, -64, 32, 5 } } },
};

/* ---- what a trial starts from ---- */

static uint32_t draw_16_bits(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 16;
}

/* The sign of a deviation: two neighbouring channels or pixels have opposite ones. */
static int deviation_sign(size_t pixel, int c)
{
    uint32_t pair = (uint32_t)(pixel / 2) * 2654435761u + (uint32_t)(c / 2);
    return ((draw_16_bits(&pair) >> 8 ^ pixel ^ (size_t)c) & 1) != 0 ? 1 : -1;
}

static void fill_plain_part(tensor t, const self_test_part *p, uint32_t *seed)
{
    const size_t pixels = (size_t)t.n * tensor_pixels(t);
    for (size_t pixel = 0; pixel < pixels; pixel++)
        for (int c = 0; c < t.c; c++) {
            const size_t i = pixel * (size_t)t.c + (size_t)c;
            const int by = p->count == DEVIATIONS ? deviation_sign(pixel, c)
                                                  : (int)(draw_16_bits(seed) % (uint32_t)p->count);
            const float v = (float)(p->first + p->step * by);
            if (t.type == DT_F32)
                ((float *)t.data)[i] = v;
            else
                ((uint16_t *)t.data)[i] = f32_to_f16(v);
        }
}

/* One tile; a row's scale is 1, 2 or 4. */
static void fill_int8_part(tensor t, const self_test_part *p, uint32_t *seed)
{
    const int slabs = i8_slabs(t.c);
    memset(t.data, 0, tensor_bytes(t));
    for (int slab = 0; slab < t.h * t.w * slabs; slab++) {
        int8_t *at = (int8_t *)t.data + (size_t)slab * i8_slab_bytes(t.n);
        uint16_t *scale = (uint16_t *)(void *)(at + (size_t)i8_rows(t.n) * I8_GROUP);
        for (int row = 0; row < t.n; row++) {
            scale[row] = f32_to_f16((float)(1 << row % 3));
            for (int i = 0; i < I8_GROUP && slab % slabs * I8_GROUP + i < t.c; i++)
                at[row * I8_GROUP + i] = (int8_t)(p->first + p->step * (int)(draw_16_bits(seed) %
                                                                             (uint32_t)p->count));
        }
    }
}

/* Slopes are multiples of 64, shifts odd ones of 32: whole numbers come out at least 32 from 0. */
static void move_shifts(tensor affine)
{
    float *at = affine.data;
    for (int n = 0; n < affine.n; n++)
        for (int c = 0; c < affine.c; c++)
            at[(2 * n + 1) * affine.c + c] -= 96;
}

static void fill_part(tensor t, const self_test_part *p, uint32_t *seed)
{
    if (p->count == 0)
        return;
    if (t.type == DT_I8G64)
        fill_int8_part(t, p, seed);
    else
        fill_plain_part(t, p, seed);
}

/* Lays the tensors of a trial out from `at` on; returns the bytes. */
static size_t make_trial_tensors(tensor t[PARTS], const self_test_trial *of, dtype compute,
                                 char *at)
{
    size_t used = 0;
    for (int i = 0; i < PARTS; i++) {
        const self_test_part *p = &of->parts[i];
        t[i] = (tensor){ 0 };
        if (p->c == 0)
            continue;
        t[i] = tensor_make(at + used, p->type == COMPUTE ? compute : (dtype)p->type, p->n, p->h,
                           p->w, p->c);
        t[i].exp2 = i == Y ? of->exp2 : 0;
        used += (tensor_bytes(t[i]) + DEV_ALIGN - 1) / DEV_ALIGN * DEV_ALIGN;
    }
    assert(used <= ROOM);
    return used;
}

/* ---- trying ---- */

/* The host's memory: what goes to the card and what the referee makes of it, what comes back. */
typedef struct host {
    char given[ROOM], got[ROOM], workspace[WORKSPACE], prepared[PREPARED];
} host;

static float element_value(tensor t, const char *of, size_t i)
{
    return t.type == DT_F32 ? ((const float *)(const void *)of)[i]
                            : f16_to_f32(((const uint16_t *)(const void *)of)[i]);
}

static void refuse_card(cuda_dev *c, const self_test_trial *of, tensor right, const char *got)
{
    char driver[48], text[256];
    const size_t bytes = dtype_bytes(right.type);
    size_t i = 0;
    while (memcmp(got + i * bytes, (const char *)right.data + i * bytes, bytes) == 0)
        i++;
    cuda_driver_name(driver, sizeof driver);
    (void)snprintf(text, sizeof text,
                   "cuda: %.60s with %s computes %s wrongly: element %zu is %g, not %g; update the "
                   "NVIDIA driver, or use --device cpu",
                   c->base.model, driver, of->name, i, (double)element_value(right, got, i),
                   (double)element_value(right, right.data, i));
    dev_fail(&c->base, REFINE_EDEVICE, text);
}

/* `t`: the trial's tensors on the card, from `card` on.  Its result there must be `right`. */
static void check_trial(cuda_dev *c, const self_test_trial *of, const tensor *t, tensor right,
                        char *got, char *card)
{
    dev *d = &c->base;
    const size_t bytes = tensor_bytes(right);
    memset(got, 0xff, bytes); /* NaN */
    dev_put(d, t[Y].data, got, bytes);
    of->run(d, t, card + ROOM);
    dev_get(d, got, t[Y].data, bytes);
    if (dev_status(d) == REFINE_OK && memcmp(got, right.data, bytes) != 0)
        refuse_card(c, of, right, got);
}

static void check_trial_tiles(cuda_dev *c, const self_test_trial *of, const tensor *t, tensor right,
                              char *got, char *card)
{
    for (int i = 0; i < CUDA_TILES; i++) {
        c->only = (cuda_tile)i;
        check_trial(c, of, t, right, got, card);
    }
    c->only = CUDA_TILES;
}

static void run_card_trial(cuda_dev *c, dev *ref, const self_test_trial *of, uint32_t seed, host *h,
                           char *card)
{
    tensor here[PARTS], there[PARTS];
    const size_t bytes = make_trial_tensors(here, of, c->compute, h->given);
    (void)make_trial_tensors(there, of, c->compute, card);
    for (int i = 0; i < PARTS; i++)
        if (tensor_present(here[i]))
            fill_part(here[i], &of->parts[i], &seed);
    if (of->run == self_test_conv2d && tensor_present(here[AFFINE]))
        move_shifts(here[AFFINE]);
    dev_put(&c->base, card, h->given, bytes);
    of->run(ref, here, h->prepared);
    if (of->way == TILES && c->math == CUDA_TENSOR_CORES)
        check_trial_tiles(c, of, there, here[Y], h->got, card);
    else
        check_trial(c, of, there, here[Y], h->got, card);
}

enum { N_TRIALS = sizeof TRIALS / sizeof TRIALS[0] };

static void run_card_trials(cuda_dev *c, dev *ref, int from, int to, host *h, char *card)
{
    const bool int8_math = c->int8_math;
    dev_workspace_set(ref, h->workspace, WORKSPACE);
    for (int i = from; i < to && dev_status(&c->base) == REFINE_OK; i++) {
        c->int8_math = TRIALS[i].way == INTEGERS;
        if (int8_math || !c->int8_math)
            run_card_trial(c, ref, &TRIALS[i], (uint32_t)i, h, card);
    }
    c->int8_math = int8_math;
    assert(dev_status(ref) == REFINE_OK);
}

/* Of the trials those from `from` up to `to`. */
static void test_card(cuda_dev *c, int from, int to)
{
    const dev_options o = { .compute = DT_F32 };
    host *h = mem_alloc(sizeof *h);
    dev *ref = h ? dev_open_ref(&o, NULL) : NULL;
    char *card = NULL;

    if (!ref)
        dev_fail(&c->base, REFINE_ENOMEM, "cuda: out of memory while testing the GPU");
    else if (cuda_check(&c->base, cudaMalloc((void **)&card, ROOM + PREPARED), "testing it"))
        run_card_trials(c, ref, from, to, h, card);
    (void)cudaFree(card);
    dev_close(ref);
    mem_free(h);
}

void cuda_self_test(cuda_dev *c) { test_card(c, 0, N_TRIALS); }

const char *cuda_self_test_family(int i) { return i < N_TRIALS ? TRIALS[i].name : NULL; }

void cuda_self_test_one(cuda_dev *c, int i) { test_card(c, i, i + 1); }
