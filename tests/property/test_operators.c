/* tests/property/test_operators.c -- every operator, on every device, of any shape.
 *
 * A case is an operator, a shape with its views and sources, a device, and a way to do the work:
 * threads, bands, chunks, images one by one.  Three things must hold:
 *
 *   - done plainly, it agrees with the referee within what rounding can do;
 *   - done in the other way, or by the device's twin, it has the same bits;
 *   - nothing beside the output's channels is written (field_run looks).
 *
 * Devices: the CPU in F32, BF16 and with products of int8 in integers, as any of this machine's
 * instruction sets allows and with AVX-512's shapes; the emulated card in each way of multiplying,
 * its threads in any order.
 *
 * Tolerances are those of tests/kernels and tests/cuda, whose heads derive them.
 */
#define _POSIX_C_SOURCE 200809L
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/isa.h"
#include "tests/property/property.h"
#include "tests/support/attention_case.h"
#include "tests/support/conv_case.h"
#include "tests/support/gemm_twin.h"
#include "tests/support/linear_case.h"
#include "tests/support/norm_case.h"
#include "tests/support/sanitized.h"
#ifdef REFINE_CUDA_EMULATED
#include "tests/support/cuda/emulation.h"
#include "tests/support/cuda_math.h"
#endif

/* Multiply-adds of a case at most, which the referee and the emulated card do one by one. */
enum { MOST_MACS = (SANITIZED ? 1 : 8) << 20, MOST_PIXELS = 20000, MOST_THREADS = 16 };

/* ---- devices ---- */

typedef enum device_kind {
    CPU_F32,
    CPU_BF16,
    CPU_INTS,
    CPU_BF16_INTS,
    CARD_TENSOR,
    CARD_HALF2,
    CARD_F32,
    CARD_INTS
} device_kind;

typedef struct tried_device {
    device_kind kind;
    const char *isa; /* what REFINE_ISA says; of a CPU */
    bool twin;       /* of AVX-512's products */
    int threads;
    int order;   /* of a card's threads */
    bool copies; /* a card's vectors go to shared memory by themselves */
} tried_device;

static const char *const KINDS[] = { "cpu in f32",
                                     "cpu in bf16",
                                     "cpu in integers",
                                     "cpu in bf16 and integers",
                                     "card with tensor cores",
                                     "card in halves",
                                     "card in f32",
                                     "card in integers" };

/* From the best down. */
static const char *const ISAS[] = {
    "avx512bf16", "avx512vnni", "avx512", "avxvnni", "avx2", "base"
};

#ifdef REFINE_CUDA_EMULATED
enum { N_KINDS = CARD_INTS + 1 };
#else
enum { N_KINDS = CPU_BF16_INTS + 1 };
#endif

static bool on_card(const tried_device *p) { return p->kind >= CARD_TENSOR; }
static bool is_place_int8(const tried_device *p)
{
    return p->kind == CPU_INTS || p->kind == CPU_BF16_INTS || p->kind == CARD_INTS;
}

/* What activations are kept in. */
static dtype activation_type(const tried_device *p)
{
    if (on_card(p))
        return p->kind == CARD_F32 ? DT_F32 : DT_F16;
    return p->kind == CPU_BF16 || p->kind == CPU_BF16_INTS ? DT_BF16 : DT_F32;
}

static tried_device draw_place(draws *d)
{
    tried_device p = { .kind = (device_kind)draw_below(d, N_KINDS) };
    if (on_card(&p)) {
        p.order = draw_below(d, 3);
        p.copies = draw_once_in(d, 2);
        return p;
    }
    p.threads = draw_integer(d, 1, MOST_THREADS);
    p.isa = ISAS[draw_below(d, 6)];
    p.twin = draw_once_in(d, 3);
    return p;
}

/* Opening the emulated card takes longer than a case: its devices are opened before the first, and
 * the process of each case has them as they then were. */
static dev *cards[2]; /* in halves, in F32 */

#ifdef REFINE_CUDA_EMULATED
static void open_cards(void)
{
    cards[0] = cuda_math_open(CUDA_TENSOR_CORES);
    cards[1] = cuda_math_open(CUDA_F32);
}

static cuda_math math_of(const tried_device *p)
{
    return p->kind == CARD_INTS ? CUDA_TENSOR_CORES : (cuda_math)(p->kind - CARD_TENSOR);
}

/* One on which vectors go to shared memory by themselves, or the last on which none does. */
static void set_card_copies(bool copies) { emulation_set_card(copies ? 8 : 7, copies ? 6 : 5, 2); }

static dev *configure_card(const tried_device *p, bool plain)
{
    dev *d = cards[p->kind == CARD_F32];
    cuda_of(d)->math = math_of(p);
    cuda_of(d)->int8_math = is_place_int8(p);
    emulation_set_order(plain ? EMULATION_FORWARD : (emulation_order)p->order, 7);
    set_card_copies(!plain && p->copies);
    return d;
}
#else
static void open_cards(void) {}

static dev *configure_card(const tried_device *p, bool plain)
{
    (void)p, (void)plain;
    return NULL;
}
#endif

TestSuite(property, .init = open_cards);

static void close_place_device(dev *d)
{
    if (d != cards[0] && d != cards[1])
        dev_close(d);
}

#if defined(__x86_64__)
static void set_gemm_twins(dev *d)
{
    if (!(isa_available() & ISA_AVX2))
        return;
    cpu_of(d)->f32 = &GEMM_F32_TWIN;
    cpu_of(d)->bf16 = &GEMM_BF16_TWIN;
}
#else
static void set_gemm_twins(dev *d) { (void)d; }
#endif

/* plain: one thread; a card's threads in their order, and all through registers. */
static dev *open_place_device(const tried_device *p, bool plain)
{
    const int threads = plain ? 1 : p->threads;
    if (on_card(p))
        return configure_card(p, plain);
    (void)setenv("REFINE_ISA", p->isa, 1);
    dev *d = is_place_int8(p) ? field_cpu_ints(activation_type(p), threads)
                              : field_cpu(activation_type(p), threads);
    if (!plain && p->twin)
        set_gemm_twins(d);
    return d;
}

static void name_place(char out[128], const tried_device *p)
{
    if (on_card(p))
        (void)snprintf(out, 128, "%s, order %d%s", KINDS[p->kind], p->order,
                       p->copies ? ", copies" : "");
    else
        (void)snprintf(out, 128, "%s (%s%s), %d threads", KINDS[p->kind], p->isa,
                       p->twin ? ", twin" : "", p->threads);
}

/* What rounding the operands of k products costs, of values in [-1, 1]: eight deviations. */
static double operand_error(const tried_device *p, int k)
{
#ifdef REFINE_CUDA_EMULATED
    if (on_card(p))
        return cuda_math_error(math_of(p), k);
#endif
    return activation_type(p) == DT_BF16 ? 8 * 0x1p-9 * sqrt(k) / 3 * sqrt(2.0 / 3) : 0;
}

/* ---- shapes ---- */

static const char *const VIEWS[] = { "", ", views", ", views in vectors" };

/* Pixels, most of them few. */
static void draw_image(draws *d, int *n, int *h, int *w)
{
    *n = draw_integer(d, 1, 3);
    *h = draw_scale(d, 1, 400);
    *w = draw_once_in(d, 4) ? 32 * draw_integer(d, 1, 3) - draw_integer(d, 0, 2)
                            : draw_scale(d, 1, 400);
    while (*n * *h * *w > MOST_PIXELS)
        *h = (*h + 1) / 2;
}

static dtype draw_weights(draws *d, const tried_device *p)
{
    static const dtype TYPES[] = { DT_F16, DT_I8G64, DT_BF16, DT_F32 };
    if (is_place_int8(p))
        return DT_I8G64;
    return TYPES[draw_below(d, 4)];
}

/* The device's own, or what the VAE keeps its images in; and floats that are scaled. */
static dtype draw_type(draws *d, const tried_device *p, int *exp2)
{
    *exp2 = 0;
    if (!draw_once_in(d, 6))
        return activation_type(p);
    *exp2 = draw_integer(d, 0, 8) - 3;
    return !on_card(p) && draw_once_in(d, 3) ? DT_F32 : DT_F16;
}

static int halve_dim(int x) { return (x + 1) / 2; }

/* Halves any of them that is not 1 yet; false: all are. */
static bool lessen_any(draws *d, int *const dim[], int n)
{
    const int from = draw_below(d, n);
    for (int i = 0; i < n; i++) {
        int *const x = dim[(from + i) % n];
        if (*x > 1) {
            *x = halve_dim(*x);
            return true;
        }
    }
    return false;
}

/* ---- judging ---- */

typedef struct verdict {
    field want, plain, other;
} verdict;

static void judge_fields(draws *d, verdict *v, double most)
{
    const double off = field_distance(&v->plain, &v->want);
    if (!(off <= most))
        fail_case(d, "off the referee by %g, where %g may be", off, most);
    if (!field_same_bytes(&v->plain, &v->other))
        fail_case(d, "done in another way it is off by %g", field_distance(&v->plain, &v->other));
    field_free(&v->want);
    field_free(&v->plain);
    field_free(&v->other);
}

/* ---- linear ---- */

enum { CHUNKS = 4 };

typedef enum tried_way { WHOLE, BY_CHUNKS, BY_IMAGES, IN_PLACE, N_WAYS } tried_way;

static linear_case draw_linear(draws *d, const tried_device *p)
{
    const int most = draw_scale(d, 1 << 12, MOST_MACS);
    static const act ACTS[] = { ACT_NONE, ACT_SILU, ACT_GELU, ACT_QUICK_GELU, ACT_GEGLU };
    linear_case c = { .act = ACTS[draw_below(d, 5)] };
    draw_image(d, &c.n, &c.h, &c.w);
    c.k = draw_scale(d, 1, 3000);
    c.rows = draw_scale(d, 1, 3000);
    c.type = draw_type(d, p, &c.exp2);
    c.weights = draw_weights(d, p);
    c.bias = draw_once_in(d, 2);
    c.per_image = draw_once_in(d, 3);
    c.residual = draw_once_in(d, 2);
    c.views = draw_below(d, 3);
    int *const dims[] = { &c.n, &c.h, &c.w, &c.k, &c.rows };
    while ((int64_t)c.n * c.h * c.w * c.k * c.rows > most && lessen_any(d, dims, 5))
        ;
    if (draw_once_in(d, 3)) { /* as it may be multiplied where it lies */
        c.k = 16 * ((c.k + 15) / 16);
        c.views = draw_once_in(d, 2) ? VIEW_VECTORS : VIEW_NONE;
    }
    if (c.act == ACT_GEGLU) {
        c.rows += c.rows % 2;
        c.per_image = false;
    }
    return c;
}

/* Chunks have the bias alone. */
static linear_case for_way(linear_case c, tried_way w)
{
    if (w == BY_CHUNKS || w == BY_IMAGES) {
        c.bias = true;
        c.per_image = c.residual = false;
    }
    if (w == IN_PLACE)
        c.residual = true;
    if (w == BY_IMAGES)
        c.act = ACT_NONE;
    return c;
}

static linear_cut draw_cut(draws *d, const tried_device *p, int rows)
{
    linear_cut cut = { .n = 0 };
    while (rows > 0) {
        const int tiles = cut.n == CHUNKS - 1 ? rows : draw_integer(d, 1, 4) * TILE_ROWS_LINEAR;
        cut.rows[cut.n++] = tiles < rows ? tiles : rows;
        rows -= tiles < rows ? tiles : rows;
    }
    cut.together = on_card(p) && draw_once_in(d, 2);
    return cut;
}

static field linear_done(dev *d, const linear_case *c, bool exact, tried_way w,
                         const linear_cut *cut)
{
    field f[LINEAR_FIELDS];
    linear_fields(f, c, exact);
    switch (w) {
    case BY_CHUNKS: linear_run_chunks(d, f, c->act, cut); break;
    case BY_IMAGES: linear_run_images(d, f); break;
    case IN_PLACE: linear_run_in_place(d, f, c->act); break;
    default: linear_run(d, f, c->act);
    }
    field y = field_copy(&f[LINEAR_Y]);
    linear_free_fields(f);
    close_place_device(d);
    return y;
}

/* Half a step of 1/127 for each of k inputs, where these are rounded to int8. */
static double int8_error(const tried_device *p, dtype type, bool exact, int k)
{
    return is_place_int8(p) && type == activation_type(p) && !exact ? 8 * sqrt(k) / 127 / 6 : 0;
}

static double linear_tolerance(const tried_device *p, const linear_case *c, bool exact, double peak)
{
    const double own = c->type == activation_type(p) || on_card(p) ? operand_error(p, c->k) : 0;
    const double sum = c->k * 0x1p-24 + own + int8_error(p, c->type, exact, c->k);
    return sum * (c->act == ACT_GEGLU ? 2 + 2 * sqrt(peak) : 1.2) + 4e-6 * peak +
           2 * field_rounding(c->type, peak) + 1e-7;
}

CostlyProperty(any_linear)
{
    const tried_device p = draw_place(d);
    const tried_way w = (tried_way)draw_below(d, N_WAYS);
    const linear_case c = for_way(draw_linear(d, &p), w);
    const linear_cut cut = draw_cut(d, &p, c.rows);
    const bool exact = is_place_int8(&p) && activation_type(&p) == DT_F32 && draw_once_in(d, 2);
    char where[128];

    name_place(where, &p);
    describe_case(
        d,
        "linear %d x %dx%d, %d -> %d, types %d and %d, act %d%s%s%s%s, exp2 %d, way %d of %d "
        "chunks%s%s, %s",
        c.n, c.h, c.w, c.k, c.rows, c.type, c.weights, c.act, c.bias ? ", bias" : "",
        c.per_image ? ", per image" : "", c.residual ? ", residual" : "", VIEWS[c.views], c.exp2, w,
        cut.n, cut.together ? " together" : "", exact ? ", exact" : "", where);
    verdict v = { linear_done(field_ref(), &c, exact, WHOLE, NULL),
                  linear_done(open_place_device(&p, true), &c, exact, WHOLE, NULL),
                  linear_done(open_place_device(&p, false), &c, exact, w, &cut) };
    judge_fields(d, &v, linear_tolerance(&p, &c, exact, field_peak(&v.want)));
}

/* ---- convolutions ---- */

static void draw_resampling(draws *d, conv_case *c)
{
    if (c->stride == 2 || !draw_once_in(d, 4))
        return;
    c->to_h = draw_integer(d, c->h, 2 * c->h);
    c->to_w = draw_integer(d, c->w, 2 * c->w);
}

static int64_t macs_of(const conv_case *c)
{
    const int64_t h = c->to_h ? c->to_h : c->h, w = c->to_w ? c->to_w : c->w;
    return c->n * h * w * conv_k(c) * c->rows / (c->stride * c->stride);
}

static conv_case draw_conv(draws *d, const tried_device *p)
{
    const int most = draw_scale(d, 1 << 12, MOST_MACS);
    conv_case c = { .stride = 1 };
    draw_image(d, &c.n, &c.h, &c.w);
    c.kh = draw_once_in(d, 3) ? 1 : 3;
    c.pad = c.kh / 2;
    c.a = draw_scale(d, 1, 1600);
    c.b = draw_once_in(d, 3) ? draw_scale(d, 1, 100) : 0;
    c.rows = draw_scale(d, 1, 600);
    if (c.kh == 3 && draw_once_in(d, 4) && c.h > 1 && c.w > 1) {
        c.stride = 2;
        c.pad = draw_integer(d, 0, 1);
    }
    c.type = draw_type(d, p, &c.exp2);
    c.weights = draw_weights(d, p);
    c.norm = draw_once_in(d, 2);
    c.per_image = draw_once_in(d, 3);
    c.residual = draw_once_in(d, 3);
    c.views = draw_below(d, 3);
    int *const dims[] = { &c.n, &c.h, &c.w, &c.a, &c.rows };
    while (macs_of(&c) > most && lessen_any(d, dims, 5))
        ;
    if (c.stride == 2 && (c.h == 1 || c.w == 1))
        c.stride = c.pad = 1;
    draw_resampling(d, &c);
    if (draw_once_in(d, 3)) { /* as they may be multiplied where they lie */
        c.a = c.b ? 64 * ((c.a + 63) / 64) : 16 * ((c.a + 15) / 16);
        c.b = 16 * ((c.b + 15) / 16);
        c.views = draw_once_in(d, 2) ? VIEW_VECTORS : VIEW_NONE;
    }
    return c;
}

/* Bands are of output rows; chunks of whole tiles. */
static conv_cut draw_conv_cut(draws *d, const conv_case *c)
{
    return (conv_cut){ .c = c,
                       .band = draw_once_in(d, 2) ? BAND_UNIT * draw_integer(d, 1, 6) : 0,
                       .chunk = draw_once_in(d, 2) ? tile_rows(c->kh, c->kh) * draw_integer(d, 1, 3)
                                                   : 0,
                       .together = draw_integer(d, 1, MATRIX_BLOCKS_MAX),
                       .detach = draw_once_in(d, 3),
                       .in_place = c->residual && draw_once_in(d, 2),
                       .per_image_calls = draw_once_in(d, 3) };
}

static field conv_done(dev *d, const conv_cut *k)
{
    field y = conv_result(d, k);
    close_place_device(d);
    return y;
}

/* What is normalised reaches beyond [-1, 1], by its affine's two numbers of that range. */
static double conv_tolerance(const tried_device *p, const conv_case *c, bool exact, double peak)
{
    const int k = conv_k(c);
    const double own = c->type == activation_type(p) || on_card(p) ? operand_error(p, k) : 0;
    const double sum = k * 0x1p-24 + own + int8_error(p, c->type, exact, k);
    return sum * (c->norm ? 2 : 1) + 4e-6 * peak + 2 * field_rounding(c->type, peak) + 1e-7;
}

CostlyProperty(any_convolution)
{
    const tried_device p = draw_place(d);
    conv_case c = draw_conv(d, &p);
    const bool exact = is_place_int8(&p) && activation_type(&p) == DT_F32 && !c.norm &&
                       draw_once_in(d, 2);
    if (exact && c.b)
        c.a = 64 * ((c.a + 63) / 64); /* groups of b begin at its first channel */
    conv_cut cut = draw_conv_cut(d, &c), whole = { .c = &c };
    char where[128];

    cut.exact = whole.exact = exact;
    cut.no_affine = whole.no_affine = c.norm && draw_once_in(d, 6);
    cut.no_silu = whole.no_silu = c.norm && draw_once_in(d, 6);
    name_place(where, &p);
    describe_case(d,
                  "conv %d x %dx%d to %dx%d, %d+%d -> %d, %dx%d stride %d pad %d, types %d and "
                  "%d%s%s%s%s%s%s, exp2 %d, bands of %d, chunks of %d, %d together%s%s%s%s, %s",
                  c.n, c.h, c.w, c.to_h, c.to_w, c.a, c.b, c.rows, c.kh, c.kh, c.stride, c.pad,
                  c.type, c.weights, c.norm ? ", norm" : "", cut.no_affine ? " without affine" : "",
                  cut.no_silu ? " without silu" : "", c.per_image ? ", per image" : "",
                  c.residual ? ", residual" : "", VIEWS[c.views], c.exp2, cut.band, cut.chunk,
                  cut.together, cut.detach ? ", detached" : "", cut.in_place ? ", in place" : "",
                  cut.per_image_calls ? ", by images" : "", exact ? ", exact" : "", where);
    verdict v = { conv_done(field_ref(), &whole), conv_done(open_place_device(&p, true), &whole),
                  conv_done(open_place_device(&p, false), &cut) };
    judge_fields(d, &v, conv_tolerance(&p, &c, exact, field_peak(&v.want)));
}

/* ---- products of integers on a card, against those of the CPU ---- */

#ifdef REFINE_CUDA_EMULATED

/* From the same numbers in fp16 and in floats. */
static void copy_values(field *to, const field *from)
{
    for (size_t p = 0; p < field_pixels(from); p++)
        for (int c = 0; c < from->c; c++)
            field_set(to, p, c, field_at(from, p, c));
}

/* What the CPU left in floats is what the card rounded to fp16. */
static void judge_ints(draws *d, const field *card, const field *cpu)
{
    field want = field_copy(card);
    copy_values(&want, cpu);
    if (!field_same_bytes(card, &want))
        fail_case(d, "the card is off the CPU by %g", field_distance(card, &want));
    field_free(&want);
}

static tried_device draw_card_in_ints(draws *d)
{
    return (tried_device){ .kind = CARD_INTS, .order = draw_below(d, 3) };
}

CostlyProperty(any_linear_in_integers_has_the_bits_of_the_cpu)
{
    const tried_device p = draw_card_in_ints(d);
    linear_case c = draw_linear(d, &p), floats;
    field card[LINEAR_FIELDS], cpu[LINEAR_FIELDS];
    c.type = DT_F16;
    c.act = ACT_NONE;
    c.exp2 = 0;
    floats = c;
    floats.type = DT_F32;
    describe_case(d, "linear in integers, %d x %dx%d, %d -> %d%s%s%s%s", c.n, c.h, c.w, c.k, c.rows,
                  c.bias ? ", bias" : "", c.per_image ? ", per image" : "",
                  c.residual ? ", residual" : "", VIEWS[c.views]);
    linear_fields(card, &c, false);
    linear_fields(cpu, &floats, false);
    copy_values(&cpu[LINEAR_X], &card[LINEAR_X]);
    if (c.residual)
        copy_values(&cpu[LINEAR_RESIDUAL], &card[LINEAR_RESIDUAL]);
    dev *int8_math = field_cpu_ints(DT_F32, 1);
    linear_run(int8_math, cpu, ACT_NONE);
    linear_run(configure_card(&p, false), card, ACT_NONE);
    judge_ints(d, &card[LINEAR_Y], &cpu[LINEAR_Y]);
    linear_free_fields(card);
    linear_free_fields(cpu);
    dev_close(int8_math);
}

CostlyProperty(any_convolution_in_integers_has_the_bits_of_the_cpu)
{
    const tried_device p = draw_card_in_ints(d);
    conv_case c = draw_conv(d, &p), floats;
    field card[CONV_FIELDS], cpu[CONV_FIELDS];
    c.type = DT_F16;
    c.exp2 = 0;
    c.norm = false;
    floats = c;
    floats.type = DT_F32;
    conv_cut cut = draw_conv_cut(d, &c);
    const conv_cut whole = { .c = &floats };
    cut.in_place = false;
    describe_case(
        d,
        "conv in integers, %d x %dx%d to %dx%d, %d+%d -> %d, %dx%d stride %d pad %d%s%s%s, bands "
        "of %d, chunks of %d, %d together%s",
        c.n, c.h, c.w, c.to_h, c.to_w, c.a, c.b, c.rows, c.kh, c.kh, c.stride, c.pad,
        c.per_image ? ", per image" : "", c.residual ? ", residual" : "", VIEWS[c.views], cut.band,
        cut.chunk, cut.together, cut.per_image_calls ? ", by images" : "");
    conv_fields(card, &cut);
    conv_fields(cpu, &whole);
    copy_values(&cpu[CONV_A], &card[CONV_A]);
    if (c.b)
        copy_values(&cpu[CONV_B], &card[CONV_B]);
    if (c.residual)
        copy_values(&cpu[CONV_RESIDUAL], &card[CONV_RESIDUAL]);
    dev *int8_math = field_cpu_ints(DT_F32, 1);
    conv_run(int8_math, cpu, &whole);
    conv_run(configure_card(&p, false), card, &cut);
    judge_ints(d, &card[CONV_Y], &cpu[CONV_Y]);
    conv_free_fields(card);
    conv_free_fields(cpu);
    dev_close(int8_math);
}
#endif

/* ---- attention ---- */

static int64_t attention_macs(const attention_case *c, bool itself)
{
    const int64_t queries = (int64_t)c->h * c->w, keys = itself ? queries : c->tk;
    return c->n * queries * keys * c->heads * c->hd;
}

static attention_case draw_attention(draws *d, const tried_device *p)
{
    const int most = draw_scale(d, 1 << 12, MOST_MACS);
    static const int HEADS[] = { 64, 8, 512, 40, 80, 512, 20, 13 };
    attention_case c = { .heads = draw_integer(d, 1, 4), .hd = HEADS[draw_below(d, 8)] };
    draw_image(d, &c.n, &c.h, &c.w);
    c.causal = draw_once_in(d, 4);
    c.amplitude = (float)draw_scale(d, 1, 40);
    c.type = draw_type(d, p, &c.exp2);
    const bool itself = c.causal || draw_once_in(d, 2);
    const bool many = draw_once_in(d, 2); /* keys, whatever else must be few then */
    if (c.causal && many)
        c.h = 1, c.w = draw_integer(d, 200, 1200);
    c.tk = many ? draw_integer(d, 200, 1200) : draw_scale(d, 1, 1200);
    int *const dims[] = { &c.n, &c.heads, &c.h, &c.w, &c.tk };
    const int n = c.causal && many ? 2 : itself || many ? 4 : 5;
    while (attention_macs(&c, itself) > most && lessen_any(d, dims, n))
        ;
    if (itself)
        c.tk = c.h * c.w;
    return c;
}

static field attention_done(dev *d, const attention_case *c, bool images)
{
    field f[ATTENTION_FIELDS];
    attention_fields(f, c);
    if (images)
        attention_run_images(d, f, c);
    else
        attention_run(d, f, c);
    field y = field_copy(&f[ATTENTION_Y]);
    attention_free_fields(f);
    close_place_device(d);
    return y;
}

/* tests/kernels/test_attention.c, tests/cuda/test_attention.c. */
static double attention_tolerance(const tried_device *p, const attention_case *c)
{
    const double amplitude = (double)c->amplitude, stored = 2 * field_rounding(c->type, 1);
    if (p->kind == CARD_TENSOR || p->kind == CARD_INTS)
        return 2 * (0x1p-11 * 2 * amplitude + 0x1p-10) + stored;
    if (on_card(p))
        return 2 * (c->hd * 0x1p-24 / sqrt(c->hd) * 2 * amplitude + 4e-7) + stored;
    const double bf16 = c->type == DT_BF16 ? 8 * 0x1p-9 * amplitude / 3 / sqrt(3) + 0x1p-9 : 0;
    return 2 * (c->hd * 0x1p-24 * amplitude + 2e-7 + bf16) + stored;
}

CostlyProperty(any_attention)
{
    const tried_device p = draw_place(d);
    const attention_case c = draw_attention(d, &p);
    const bool images = draw_once_in(d, 2);
    char where[128];

    name_place(where, &p);
    describe_case(
        d, "attention %d x %dx%d, %d keys, %d heads of %d%s, amplitude %g, type %d, exp2 %d%s, %s",
        c.n, c.h, c.w, c.tk, c.heads, c.hd, c.causal ? ", causal" : "", (double)c.amplitude, c.type,
        c.exp2, images ? ", by images" : "", where);
    verdict v = { attention_done(field_ref(), &c, false),
                  attention_done(open_place_device(&p, true), &c, false),
                  attention_done(open_place_device(&p, false), &c, images) };
    judge_fields(d, &v, attention_tolerance(&p, &c));
}

/* ---- norms and elementwise operators ---- */

typedef struct simple_op {
    const char *name;
    field_body *plain, *other;
    bool groups, second; /* it has groups; it may have a second source */
    double ulps;
} simple_op;

static const simple_op SIMPLE[] = {
    { "silu", norm_silu, norm_silu, false, false, 8 },
    { "apply_norm", norm_apply, norm_apply, false, true, 8 },
    { "layernorm", norm_layer, norm_layer, false, false, 8 },
    { "groupnorm by images", norm_group, norm_group_images, true, true, 4 },
    { "groupnorm in bands", norm_group, norm_group_bands, true, true, 4 },
};

static norm_case draw_norm(draws *d, const tried_device *p, const simple_op *op)
{
    const int most = draw_scale(d, 1 << 10, MOST_MACS / 4);
    static const act ACTS[] = { ACT_NONE, ACT_SILU, ACT_GELU, ACT_QUICK_GELU };
    norm_case c = { .act = ACTS[draw_below(d, 4)] };
    draw_image(d, &c.n, &c.h, &c.w);
    c.type = draw_type(d, p, &c.exp2);
    c.groups = op->groups ? draw_integer(d, 1, 32) : 0;
    const int channels = op->groups ? c.groups * draw_scale(d, 1, 160) : draw_scale(d, 1, 5000);
    c.b = op->second && channels > 1 && draw_once_in(d, 3) ? draw_integer(d, 1, channels - 1) : 0;
    c.a = channels - c.b;
    c.offset = (float)draw_integer(d, 0, 2);
    while (c.n * c.h * c.w > 1 && (int64_t)c.n * c.h * c.w * channels > most)
        *(c.h > 1 ? &c.h : c.w > 1 ? &c.w : &c.n) /= 2;
    return c;
}

static field norm_done(dev *d, field_body *body, const norm_case *c)
{
    field f[NORM_FIELDS];
    norm_fields(f, c, body);
    norm_run(d, f, body, c);
    field y = field_copy(&f[NORM_Y]);
    norm_free_fields(f);
    close_place_device(d);
    return y;
}

/* A mean far from zero takes digits of what differs from it by little; what is left is divided by
 * a deviation, which is small by chance where few values are. */
static double norm_tolerance(const simple_op *op, const norm_case *c, double peak)
{
    const int values = op->groups ? (c->a + c->b) / c->groups * c->h * c->w : c->a;
    const double blown_up = values < 16 ? 1 / sqrt(1e-5) : 6, far = 1 + (double)c->offset;
    const double lost = op->plain == norm_silu || op->plain == norm_apply ? 0
                        : op->plain == norm_layer                         ? far * blown_up
                                                                          : far * peak;
    return op->ulps * 0x1p-23 * (peak + lost) + 2 * norm_rounding(op->plain, c, peak) + 1e-7;
}

Property(any_norm)
{
    const tried_device p = draw_place(d);
    const simple_op *op = &SIMPLE[draw_below(d, sizeof SIMPLE / sizeof SIMPLE[0])];
    const norm_case c = draw_norm(d, &p, op);
    char where[128];

    name_place(where, &p);
    describe_case(d, "%s %d x %dx%d, %d+%d in %d groups, type %d, exp2 %d, act %d, offset %g, %s",
                  op->name, c.n, c.h, c.w, c.a, c.b, c.groups, c.type, c.exp2, c.act,
                  (double)c.offset, where);
    verdict v = { norm_done(field_ref(), op->plain, &c),
                  norm_done(open_place_device(&p, true), op->plain, &c),
                  norm_done(open_place_device(&p, false), op->other, &c) };
    judge_fields(d, &v, norm_tolerance(op, &c, field_peak(&v.want)));
}

/* Between any two types it is what storing says, and exact but for that. */
Property(any_conversion)
{
    static const dtype TYPES[] = { DT_F32, DT_F16, DT_BF16 };
    const tried_device p = draw_place(d);
    const dtype from = TYPES[draw_below(d, 3)], to = TYPES[draw_below(d, 3)];
    const int e = draw_integer(d, 0, 8), c = draw_scale(d, 1, 300), c0 = draw_integer(d, 0, 9);
    char where[128];
    int n, h, w;

    draw_image(d, &n, &h, &w);
    while (n * h * w > 3000)
        h = halve_dim(h);
    name_place(where, &p);
    describe_case(d, "%d x %dx%d, %d channels at %d, type %d to %d, exp2 %d, %s", n, h, w, c, c0,
                  from, to, e, where);
    field x = field_view(1, from, n, h, w, c, c0, c + c0 + 3, e, 3);
    field y = field_view(2, to, n, h, w, c, 1, c + c0 + 1, -e, 1), expected = field_copy(&y);
    field *f[] = { &y, &x };
    dev *on = open_place_device(&p, false);
    for (size_t i = 0; i < field_pixels(&x); i++)
        for (int k = 0; k < c; k++)
            field_set(&expected, i, k, field_at(&x, i, k));
    field_run(on, f, 2, norm_convert, NULL);
    if (!field_same_bytes(&y, &expected))
        fail_case(d, "other bits than the format says");
    close_place_device(on);
    field_free(&x);
    field_free(&y);
    field_free(&expected);
}
