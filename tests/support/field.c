/* tests/support/field.c -- tensors of a test: host memory, copied to any device. */
#include "tests/support/field.h"

#include "engine/base/guard.h"
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "quant/f16.h"
#include "quant/int8.h"

#include <assert.h>
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { FIELDS = 16, GUARD = 4096 };

static float next_random_float(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    uint32_t x = *state;
    x ^= x >> 15;
    x *= 0x2c1b3c6du;
    x ^= x >> 12;
    return (float)(x >> 8) * 0x1p-23f - 1.0f;
}

field field_view(uint32_t seed, dtype type, int n, int h, int w, int c, int c0, int stride,
                 int exp2, float amplitude)
{
    field f = { NULL, 0, type, n, h, w, stride, 0, stride, exp2 };
    uint32_t state = seed * 2654435761u + 12345u;

    f.bytes = field_pixels(&f) * (size_t)stride * dtype_bytes(type);
    f.data = mem_alloc(f.bytes);
    assert(f.data && c0 + c <= stride);
    for (size_t p = 0; p < field_pixels(&f); p++)
        for (int i = 0; i < stride; i++)
            field_set(&f, p, i, next_random_float(&state) * amplitude);
    f.c0 = c0;
    f.c = c;
    return f;
}

/* A matrix of int8 groups, tile by tile. */
static field encode_matrix(field wide)
{
    const int taps = wide.h * wide.w, tile = tile_rows(wide.h, wide.w);
    const size_t row = (size_t)taps * (size_t)wide.c;
    field f = wide;
    i8_error lost = { 0 };

    f.type = DT_I8G64;
    f.bytes = i8_bytes(f.n, taps, f.c);
    f.data = mem_alloc(f.bytes);
    assert(f.data);
    for (int r = 0; r < f.n; r += tile)
        i8_encode_tile((char *)f.data + i8_bytes(r, taps, f.c),
                       (const float *)wide.data + (size_t)r * row, f.n - r < tile ? f.n - r : tile,
                       taps, f.c, I8_ABSMAX, &lost);
    mem_free(wide.data);
    return f;
}

tensor field_matrix_rows(tensor w, int row, int rows)
{
    const size_t elements = (size_t)row * (size_t)w.h * (size_t)w.w * (size_t)w.c;
    assert(row % tile_rows(w.h, w.w) == 0);
    if (w.data)
        w.data = (char *)w.data + (w.type == DT_I8G64 ? i8_bytes(row, w.h * w.w, w.c)
                                                      : elements * dtype_bytes(w.type));
    w.n = rows;
    return w;
}

/* Copies by way of the host; what is only planned has no address. */
static void copy_piece(dev *d, void *to, tensor from)
{
    const size_t bytes = tensor_bytes(from);
    void *host = malloc(bytes);
    cr_assert_not_null(host);
    dev_get(d, host, from.data, bytes);
    dev_put(d, to, host, bytes);
    free(host);
}

field_blocks field_blocks_of(dev *d, tensor w, int row, const int *rows, int n)
{
    enum { APART = 512 };
    field_blocks p = { .w = { .all = w, .blocks = n } };
    size_t at[MATRIX_BLOCKS_MAX] = { 0 };
    tensor block[MATRIX_BLOCKS_MAX];

    assert(n <= MATRIX_BLOCKS_MAX);
    p.w.all.n = 0;
    for (int i = 0; i < n; i++) {
        p.w.row0[i] = p.w.all.n;
        block[i] = field_matrix_rows(w, row + p.w.all.n, rows[i]);
        p.w.all.n += rows[i];
    }
    for (int i = n - 1; i >= 0; i--) {
        at[i] = p.bytes;
        p.bytes += num_align(tensor_bytes(block[i]), APART) + APART;
    }
    p.space = dev_alloc(d, p.bytes, DEV_VRAM);
    if (w.data)
        field_poison(d, p.space, p.bytes);
    for (int i = 0; i < n; i++) {
        p.w.data[i] = (char *)p.space + at[i];
        if (w.data)
            copy_piece(d, (char *)p.space + at[i], block[i]);
    }
    p.w.all.data = (char *)p.space + at[0];
    return p;
}

void field_blocks_free(dev *d, field_blocks *p) { dev_free(d, p->space, p->bytes, DEV_VRAM); }

void field_make_exact(field *f)
{
    for (size_t p = 0; p < field_pixels(f); p++)
        for (int c = 0; c < f->c; c++) {
            const float q = c % I8_GROUP == 0 ? 127 : rintf(field_at(f, p, c) * 126);
            field_set(f, p, c, ldexpf(q, -6 - c / I8_GROUP % 3));
        }
}

field field_random(uint32_t seed, dtype type, int n, int h, int w, int c, float amplitude)
{
    if (type == DT_I8G64)
        return encode_matrix(field_random(seed, DT_F32, n, h, w, c, amplitude));
    return field_view(seed, type, n, h, w, c, 0, c, 0, amplitude);
}

field field_copy(const field *f)
{
    field g = *f;
    if (f->c == 0)
        return g;
    g.data = mem_alloc(f->bytes);
    assert(g.data);
    memcpy(g.data, f->data, f->bytes);
    return g;
}

void field_fill(field *to, const field *from)
{
    const size_t size = dtype_bytes(to->type);
    assert(to->type == from->type && to->c == from->c && to->exp2 == from->exp2);
    for (size_t p = 0; p < field_pixels(to); p++)
        memcpy((char *)to->data + (p * (size_t)to->stride + (size_t)to->c0) * size,
               (const char *)from->data + (p * (size_t)from->stride + (size_t)from->c0) * size,
               (size_t)to->c * size);
}

void field_free(field *f)
{
    mem_free(f->data);
    *f = (field){ 0 };
}

size_t field_pixels(const field *f) { return (size_t)f->n * (size_t)f->h * (size_t)f->w; }

float field_at(const field *f, size_t p, int c)
{
    const size_t i = p * (size_t)f->stride + (size_t)(f->c0 + c);
    float v;
    if (f->type == DT_F32)
        v = ((const float *)f->data)[i];
    else if (f->type == DT_F16)
        v = f16_to_f32(((const uint16_t *)f->data)[i]);
    else
        v = bf16_to_f32(((const uint16_t *)f->data)[i]);
    return ldexpf(v, f->exp2);
}

void field_set(field *f, size_t p, int c, float v)
{
    const size_t i = p * (size_t)f->stride + (size_t)(f->c0 + c);
    v = ldexpf(v, -f->exp2);
    if (f->type == DT_F32)
        ((float *)f->data)[i] = v;
    else
        ((uint16_t *)f->data)[i] = f->type == DT_F16 ? f32_to_f16(v) : f32_to_bf16(v);
}

double field_distance(const field *a, const field *b)
{
    double worst = 0;
    assert(a->c == b->c && field_pixels(a) == field_pixels(b));
    for (size_t p = 0; p < field_pixels(a); p++)
        for (int c = 0; c < a->c; c++) {
            const double d = fabs((double)field_at(a, p, c) - (double)field_at(b, p, c));
            if (!(d <= worst))
                worst = isnan(d) ? INFINITY : d;
        }
    return worst;
}

double field_peak(const field *a)
{
    double peak = 0;
    for (size_t p = 0; p < field_pixels(a); p++)
        for (int c = 0; c < a->c; c++)
            peak = fmax(peak, fabs((double)field_at(a, p, c)));
    return peak;
}

bool field_same_bytes(const field *a, const field *b)
{
    return a->bytes == b->bytes && memcmp(a->data, b->data, a->bytes) == 0;
}

static dev *open_field_cpu(dtype compute, bool int8_math, int threads)
{
    refine_error err = { 0 };
    const dev_options o = { .compute = compute, .int8_math = int8_math, .threads = threads };
    dev *d = dev_open_cpu(&o, &err);
    cr_assert(d, "%s", err.text);
    return d;
}

dev *field_cpu(dtype compute, int threads) { return open_field_cpu(compute, false, threads); }
dev *field_cpu_ints(dtype compute, int threads) { return open_field_cpu(compute, true, threads); }

#ifdef REFINE_WITH_CUDA
void field_needs_gpu(void)
{
    refine_error err = { 0 };
    dev_gpu gpu;
    if (dev_list_gpus(&gpu, 1, &err) == 0)
        cr_skip_test("no GPU to test on: %s", err.text);
}

dev *field_cuda(dtype compute)
{
    const dev_options o = { .compute = compute };
    refine_error err;
    field_needs_gpu();
    dev *d = dev_open_cuda(&o, 0, &err);
    cr_assert(d, "%s", err.text);
    return d;
}
#endif

dev *field_ref(void)
{
    refine_error err = { 0 };
    const dev_options o = { .compute = DT_F32, .threads = 0 };
    dev *d = dev_open_ref(&o, &err);
    cr_assert(d, "%s", err.text);
    return d;
}

double field_rounding(dtype type, double peak)
{
    return peak * (type == DT_F32 ? 0x1p-24 : type == DT_F16 ? 0x1p-11 : 0x1p-8);
}

void field_poison(dev *d, void *p, size_t bytes)
{
    if (!p || strcmp(dev_name(d), "plan") == 0)
        return;
    void *poison = mem_alloc(bytes);
    assert(poison);
    memset(poison, 0xff, bytes);
    dev_put(d, p, poison, bytes);
    mem_free(poison);
}

static tensor as_tensor(const field *f, void *data)
{
    if (f->c == 0)
        return (tensor){ 0 };
    tensor t = tensor_make(data, f->type, f->n, f->h, f->w, f->stride);
    t.exp2 = f->exp2;
    return tensor_channels(t, f->c0, f->c);
}

static size_t workspace_needed(dev *d, field *const *f, int n, field_body *body,
                               const void *context)
{
    tensor t[FIELDS];
    dev *plan = dev_open_plan(d, NULL);
    cr_assert(plan);
    for (int i = 0; i < n; i++)
        t[i] = as_tensor(f[i], NULL);
    body(plan, t, context);
    cr_assert(dev_status(plan) == REFINE_OK, "%s", dev_why(plan));
    const size_t need = dev_workspace_needed(plan);
    dev_close(plan);
    return need;
}

/* Memory of a device between two guards. */
typedef struct guarded {
    char *block;
    size_t bytes;
} guarded;

static void *guarded_data(guarded g) { return g.block + GUARD; }

/* Nobody may even read the guards, where a sanitizer can tell. */
static void shut_guards(dev *d, guarded g, bool shut)
{
    void (*const set)(const void *, size_t) = shut ? guard_shut : guard_open;
    if (dev_is_discrete(d))
        return;
    set(g.block, GUARD);
    set(g.block + GUARD + g.bytes, GUARD);
}

static guarded take_guarded(dev *d, size_t bytes)
{
    const size_t room = bytes + 2 * (size_t)GUARD;
    const guarded g = { dev_alloc(d, room, DEV_VRAM), bytes };
    cr_assert(g.block);
    char done;
    field_poison(d, g.block, room);
    dev_get(d, &done, g.block, 1); /* a device may put later than it is told to */
    shut_guards(d, g, true);
    return g;
}

/* Its bytes are as field_poison left them. */
static bool is_poison(dev *d, const char *at)
{
    unsigned char guard[GUARD];
    dev_get(d, guard, at, sizeof guard);
    for (size_t i = 0; i < sizeof guard; i++)
        if (guard[i] != 0xff)
            return false;
    return true;
}

static void give_guarded(dev *d, guarded g, const char *what, int i)
{
    shut_guards(d, g, false);
    cr_assert(is_poison(d, g.block), "written before %s %d", what, i);
    cr_assert(is_poison(d, g.block + GUARD + g.bytes), "written behind %s %d", what, i);
    dev_free(d, g.block, g.bytes + 2 * (size_t)GUARD, DEV_VRAM);
}

/* The channels beside the view are what they were. */
static void expect_gaps_kept(const field *f, const char *before)
{
    const size_t size = dtype_bytes(f->type), pixel = (size_t)f->stride * size;
    const size_t from = (size_t)f->c0 * size, to = from + (size_t)f->c * size;
    const char *after = f->data;
    for (size_t p = 0; f->c < f->stride && p < field_pixels(f); p++)
        cr_assert(memcmp(after + p * pixel, before + p * pixel, from) == 0 &&
                      memcmp(after + p * pixel + to, before + p * pixel + to, pixel - to) == 0,
                  "written beside the channels of pixel %zu", p);
}

static void copy_field_back(dev *d, field *f, const void *from)
{
    void *before = f->data;
    f->data = mem_alloc(f->bytes);
    assert(f->data);
    dev_get(d, f->data, from, f->bytes);
    cr_assert(dev_status(d) == REFINE_OK, "%s", dev_why(d));
    expect_gaps_kept(f, before);
    mem_free(before);
}

void field_run(dev *d, field *const *f, int n, field_body *body, const void *context)
{
    tensor t[FIELDS];
    guarded data[FIELDS];
    assert(n <= FIELDS);
    const size_t need = workspace_needed(d, f, n, body, context);
    const guarded workspace = take_guarded(d, need);

    dev_workspace_set(d, guarded_data(workspace), need);
    for (int i = 0; i < n; i++) {
        if (f[i]->c > 0) {
            data[i] = take_guarded(d, f[i]->bytes);
            dev_put(d, guarded_data(data[i]), f[i]->data, f[i]->bytes);
        }
        t[i] = as_tensor(f[i], f[i]->c > 0 ? guarded_data(data[i]) : NULL);
    }
    body(d, t, context);
    copy_field_back(d, f[0], guarded_data(data[0]));
    for (int i = 0; i < n; i++)
        if (f[i]->c > 0)
            give_guarded(d, data[i], "field", i);
    dev_workspace_set(d, NULL, 0);
    give_guarded(d, workspace, "the workspace", 0);
}
