/* tests/kernels/test_native_bf16.c -- the CPU device where the CPU multiplies bf16 itself.
 *
 * Few machines do, so this program brings its own kernels/cpu/onednn.h, which the linker
 * takes instead of the library's: products of BF16 in plain loops, weights in panels of 16
 * rows and groups of 2 as AVX-512 wants them, k padded further than asked, some scratch.
 *
 * Tolerance.  Activations and weights are rounded to 8 bits, by 2^-9 of themselves at most,
 * deviation 2^-9 / sqrt(3).  A sum of K products of numbers uniform in [-1, 1] then deviates
 * by sqrt(K) / 3 * 2^-9 * sqrt(2 / 3); six of these, and the rounding of what is stored.
 */
#include "kernels/cpu/onednn.h"
#include "tests/support/field.h"

#include "engine/base/mem.h"
#include "quant/f16.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { MOST_PRODUCTS = 256, PANEL = 16, GROUP = 2, K_BLOCK = 32, SCRATCH = 64 };

/* ---- the stand-in ---- */

struct product {
    product_shape s;
    product_layout l;
};

struct onednn {
    product p[MOST_PRODUCTS];
    int n;
};

void onednn_thread(void) {}
dtype onednn_type(const onednn *o) { return o ? DT_BF16 : DT_F32; }
void onednn_close(onednn *o) { mem_free(o); }

onednn *onednn_open(dtype multiply, int threads, refine_error *err)
{
    (void)multiply, (void)threads, (void)err;
    return mem_calloc(1, sizeof(onednn));
}

void onednn_make_room(onednn *o, int products)
{
    if (o->n + products > MOST_PRODUCTS)
        o->n = 0;
}

const product *onednn_product(onednn *o, product_shape s)
{
    for (int i = 0; i < o->n; i++)
        if (memcmp(&o->p[i].s, &s, sizeof s) == 0)
            return &o->p[i];
    cr_assert(o->n < MOST_PRODUCTS && s.k % PRODUCT_ALIGN == 0 && s.rows % PRODUCT_ALIGN == 0);
    const int rows = (s.rows + PANEL - 1) / PANEL * PANEL,
              k = (s.k + K_BLOCK - 1) / K_BLOCK * K_BLOCK;
    product *p = &o->p[o->n++];
    *p = (product){ s, { PANEL, GROUP, rows, k, (size_t)rows * (size_t)k * 2 } };
    return p;
}

product_layout product_weights(const product *p) { return p->l; }
size_t product_scratch(const product *p) { return p ? SCRATCH : 0; }

static float weight_at(const product *p, const uint16_t *w, int r, int k)
{
    const int at = r / PANEL * PANEL * p->l.k + k / GROUP * PANEL * GROUP + r % PANEL * GROUP +
                   k % GROUP;
    return bf16_to_f32(w[at]);
}

bool product_run(const product *p, int thread, float *d, const void *a, const void *w,
                 void *scratch)
{
    (void)thread;
    memset(scratch, 0x55, SCRATCH);
    const uint16_t *x = a;
    for (int i = 0; i < p->s.pixels; i++)
        for (int r = 0; r < p->s.rows; r++) {
            float sum = p->s.add ? d[i * p->s.rows + r] : 0;
            for (int k = 0; k < p->s.k; k++)
                sum += bf16_to_f32(x[i * p->s.k + k]) * weight_at(p, w, r, k);
            d[i * p->s.rows + r] = sum;
        }
    return true;
}

/* ---- the cases ---- */

static double tolerance(int k, double peak)
{
    return 6 * sqrt(k) / 3 * 0x1p-9 * sqrt(2.0 / 3) + 2 * field_rounding(DT_BF16, peak);
}

static void expect_like_ref(field *const *f, int n, field_body *body, const void *context, int k)
{
    dev *cpu = field_cpu(DT_BF16, 2), *ref = field_ref();
    field_run(ref, f, n, body, context);
    field theirs = field_copy(f[0]);
    field_run(cpu, f, n, body, context);
    const double most = tolerance(k, field_peak(&theirs)), distance = field_distance(f[0], &theirs);
    cr_expect(distance <= most, "k %d: off by %g of %g", k, distance, most);
    field_free(&theirs);
    dev_close(cpu);
    dev_close(ref);
}

static void run_linear(dev *d, const tensor *t, const void *context)
{
    const epilogue e = { .bias = t[3], .act = *(const act *)context };
    op_linear(d, t[0], t[1], t[2], &e);
}

static void check_linear(dtype type, int k, int rows, int stride, act f)
{
    const int out = f == ACT_GEGLU ? rows / 2 : rows;
    field t[] = { field_random(1, type, 2, 5, 31, out, 1),
                  field_view(2, type, 2, 5, 31, k, 0, stride, 0, 1),
                  field_random(3, DT_F16, rows, 1, 1, k, 1),
                  field_random(4, DT_F32, 1, 1, 1, rows, 1) };
    field *p[] = { &t[0], &t[1], &t[2], &t[3] };
    expect_like_ref(p, 4, run_linear, &f, f == ACT_GEGLU ? k * k : k);
    for (int i = 0; i < 4; i++)
        field_free(&t[i]);
}

Test(kernels_native_bf16, linear_agrees_with_the_referee)
{
    check_linear(DT_BF16, 64, 160, 64, ACT_NONE);  /* taken as it lies */
    check_linear(DT_BF16, 64, 160, 96, ACT_NONE);  /* fetched */
    check_linear(DT_BF16, 48, 80, 48, ACT_GELU);   /* k shorter than the library's block */
    check_linear(DT_F32, 300, 130, 300, ACT_NONE); /* converted, more than fits at once */
    check_linear(DT_BF16, 33, 64, 40, ACT_GEGLU);
}

static void run_conv(dev *d, const tensor *t, const void *context)
{
    const conv_geometry g = *(const conv_geometry *)context;
    const epilogue none = { .act = ACT_NONE };
    const conv_input in = {
        .a = t[1], .b = t[2], .affine = t[4], .silu = t[4].c != 0, .h = t[1].h, .w = t[1].w
    };
    const size_t bytes = op_conv_prepare_bytes(d, &in, g);
    void *space = bytes ? dev_alloc(d, bytes, DEV_VRAM) : NULL;
    field_poison(d, space, bytes);
    const conv_source src = op_conv_prepare(d, space, &in, g);
    op_conv2d(d, t[0], &src, t[3], g, &none);
    dev_free(d, space, bytes, DEV_VRAM);
}

static void check_conv(int a, int b, int rows, conv_geometry g, bool norm)
{
    const int h = g.stride == 1 ? 18 : 9, k = g.kh * g.kw * (a + b);
    g.rows = h;
    field t[] = { field_random(1, DT_BF16, 2, h, h, rows, 1),
                  field_random(2, DT_BF16, 2, 18, 18, a, 1),
                  { 0 },
                  field_random(4, DT_F16, rows, g.kh, g.kw, a + b, 1),
                  { 0 } };
    if (b)
        t[2] = field_random(3, DT_BF16, 2, 18, 18, b, 1);
    if (norm)
        t[4] = field_random(5, DT_F32, 2, 1, 2, a + b, 1);
    field *p[] = { &t[0], &t[1], &t[2], &t[3], &t[4] };
    expect_like_ref(p, 5, run_conv, &g, k);
    for (int i = 0; i < 5; i++)
        field_free(&t[i]);
}

Test(kernels_native_bf16, conv2d_agrees_with_the_referee)
{
    check_conv(32, 0, 40, (conv_geometry){ 3, 3, 1, 1, 0, 0 }, true);
    check_conv(20, 13, 70, (conv_geometry){ 3, 3, 1, 1, 0, 0 }, true);
    check_conv(16, 0, 16, (conv_geometry){ 3, 3, 2, 1, 0, 0 }, false);
    check_conv(600, 0, 16, (conv_geometry){ 3, 3, 2, 0, 0, 0 }, false);
    check_conv(4, 0, 16, (conv_geometry){ 3, 3, 1, 1, 0, 0 }, false);
    check_conv(32, 16, 48, (conv_geometry){ 1, 1, 1, 0, 0, 0 }, false);
}

typedef struct heads {
    int heads, hd;
    bool causal;
} heads;

static void run_attention(dev *d, const tensor *t, const void *context)
{
    const heads *c = context;
    op_attention(d, t[0], t[1], t[2], t[3], c->heads, 1 / sqrtf((float)c->hd), c->causal);
}

/* Weights and values are rounded to 2^-9 of themselves; scores by a few times that. */
static void check_attention(int tq, int tk, heads c)
{
    const int ch = c.heads * c.hd;
    field t[] = { field_random(1, DT_BF16, 2, 1, tq, ch, 1),
                  field_view(2, DT_BF16, 2, 1, tq, ch, 0, 2 * ch, 0, 1),
                  field_view(3, DT_BF16, 2, 1, tk, ch, ch, 2 * ch, 0, 1),
                  field_random(4, DT_BF16, 2, 1, tk, ch, 1) };
    field *p[] = { &t[0], &t[1], &t[2], &t[3] };
    expect_like_ref(p, 4, run_attention, &c, 1);
    for (int i = 0; i < 4; i++)
        field_free(&t[i]);
}

Test(kernels_native_bf16, attention_agrees_with_the_referee)
{
    check_attention(70, 77, (heads){ 3, 64, false });
    check_attention(300, 300, (heads){ 1, 20, true });
    check_attention(20, 530, (heads){ 1, 512, false });
}
