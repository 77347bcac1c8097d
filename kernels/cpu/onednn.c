/* kernels/cpu/onednn.c -- products as 1x1 convolutions over a row of pixels.
 *
 * Of the library's ways to multiply matrices, the 1x1 convolution is the one that takes
 * weights laid out beforehand, needs no packing of its own and no memory at run time, and
 * on AVX2 it is the fastest (docs/speed.md).  The layout of the weights is asked for once
 * per (rows, k), with CANONICAL pixels, and imposed on every product of these rows and k.
 */
#include "kernels/cpu/onednn.h"

#include "engine/base/mem.h"
#include "engine/base/num.h"

#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <string.h>

enum { TABLE = 1024, CANONICAL = 128, IMAGE_DIMS = 4 };

/* ---- versions 2 and 3 ---- */

/* A blocked memory layout, as either version describes it. */
typedef struct blocking {
    dnnl_dims_t strides, padded, blocks, dims;
    int n; /* of blocks, and of dims that they cut */
} blocking;

#if DNNL_VERSION_MAJOR >= 3

typedef dnnl_memory_desc_t desc;
typedef const_dnnl_memory_desc_t desc_view;

static bool desc_make(desc *d, const dnnl_dims_t dims, dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_create_with_tag(d, IMAGE_DIMS, dims, type, tag) == dnnl_success;
}

static bool desc_copy(desc *d, desc_view from)
{
    return dnnl_memory_desc_clone(d, from) == dnnl_success;
}

static void desc_free(desc *d)
{
    if (*d)
        (void)dnnl_memory_desc_destroy(*d);
    *d = NULL;
}

static desc_view desc_look(const desc *d) { return *d; }

static bool desc_blocking(blocking *b, desc_view d)
{
    dnnl_dims_t *of = NULL;
    const struct {
        dnnl_query_t what;
        dnnl_dims_t *to;
    } want[] = {
        { dnnl_query_strides, &b->strides },
        { dnnl_query_padded_dims, &b->padded },
        { dnnl_query_inner_blks, &b->blocks },
        { dnnl_query_inner_idxs, &b->dims },
    };
    if (dnnl_memory_desc_query(d, dnnl_query_inner_nblks_s32, &b->n) != dnnl_success)
        return false;
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        if (dnnl_memory_desc_query(d, want[i].what, &of) != dnnl_success)
            return false;
        for (int j = 0; j < DNNL_MAX_NDIMS; j++)
            (*want[i].to)[j] = (*of)[j];
    }
    return true;
}

static bool convolution(dnnl_primitive_desc_t *out, dnnl_engine_t engine, desc_view a, desc_view w,
                        desc_view d, dnnl_primitive_attr_t attr)
{
    const dnnl_dims_t ones = { 1, 1 }, none = { 0, 0 };
    return dnnl_convolution_forward_primitive_desc_create(
               out, engine, dnnl_forward_inference, dnnl_convolution_direct, a, w, NULL, d, ones,
               none, none, none, attr) == dnnl_success;
}

static dnnl_status_t append_sum(dnnl_post_ops_t ops)
{
    return dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_f32);
}

#else

typedef dnnl_memory_desc_t desc;
typedef const dnnl_memory_desc_t *desc_view;

static bool desc_make(desc *d, const dnnl_dims_t dims, dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_init_by_tag(d, IMAGE_DIMS, dims, type, tag) == dnnl_success;
}

static bool desc_copy(desc *d, desc_view from)
{
    *d = *from;
    return true;
}

static void desc_free(desc *d) { *d = (desc){ 0 }; }

static desc_view desc_look(const desc *d) { return d; }

static bool desc_blocking(blocking *b, desc_view d)
{
    if (d->format_kind != dnnl_blocked)
        return false;
    b->n = d->format_desc.blocking.inner_nblks;
    for (int j = 0; j < DNNL_MAX_NDIMS; j++) {
        b->strides[j] = d->format_desc.blocking.strides[j];
        b->padded[j] = d->padded_dims[j];
        b->blocks[j] = d->format_desc.blocking.inner_blks[j];
        b->dims[j] = d->format_desc.blocking.inner_idxs[j];
    }
    return true;
}

static bool convolution(dnnl_primitive_desc_t *out, dnnl_engine_t engine, desc_view a, desc_view w,
                        desc_view d, dnnl_primitive_attr_t attr)
{
    const dnnl_dims_t ones = { 1, 1 }, none = { 0, 0 };
    dnnl_convolution_desc_t c;
    return dnnl_convolution_forward_desc_init(&c, dnnl_forward_inference, dnnl_convolution_direct,
                                              a, w, NULL, d, ones, none, none) == dnnl_success &&
           dnnl_primitive_desc_create(out, &c, attr, engine, NULL) == dnnl_success;
}

static dnnl_status_t append_sum(dnnl_post_ops_t ops) { return dnnl_post_ops_append_sum(ops, 1.0f); }

#endif

/* ---- the table ---- */

/* What one thread needs to run a product; data handles are set anew at each run. */
typedef struct binding {
    dnnl_memory_t a, w, d, scratch;
} binding;

struct product {
    product_shape shape;
    product_layout layout;
    size_t scratch;
    dnnl_primitive_t primitive;
    onednn *owner;
    binding bind[]; /* one per thread */
};

/* How the library wants the weights of some rows and k. */
typedef struct weights {
    int rows, k;
    desc d;
    product_layout layout;
} weights;

struct onednn {
    dnnl_engine_t engine;
    dnnl_stream_t *stream; /* one per thread; owned */
    int threads;
    dtype type;
    product *products[TABLE];
    int n_products;
    weights layouts[TABLE];
    int n_layouts;
};

void onednn_thread(void) { omp_set_num_threads(1); }

static dnnl_data_type_t library_type(const onednn *o)
{
    return o->type == DT_BF16 ? dnnl_bf16 : dnnl_f32;
}

/* From the innermost out: [k in group] row in panel [k]; and panels dense behind each other. */
static bool read_layout(product_layout *l, desc_view d, size_t bytes)
{
    blocking b;
    int i, k_block = 1;

    if (!desc_blocking(&b, d))
        return false;
    *l = (product_layout){
        .panel = 1, .group = 1, .k = (int)b.padded[1], .rows = (int)b.padded[0], .bytes = bytes
    };
    i = b.n - 1;
    if (i >= 0 && b.dims[i] == 1)
        l->group = (int)b.blocks[i--];
    if (i >= 0 && b.dims[i] == 0)
        l->panel = (int)b.blocks[i--];
    for (k_block = l->group; i >= 0 && b.dims[i] == 1; i--)
        k_block *= (int)b.blocks[i];
    if (b.n == 0 && b.strides[0] == 1)
        l->panel = l->rows; /* plain, rows innermost */
    return i < 0 && l->k % k_block == 0 && b.strides[1] == (dnnl_dim_t)k_block * l->panel &&
           (l->panel == l->rows || b.strides[0] == (dnnl_dim_t)l->k * l->panel);
}

static bool make_desc(const onednn *o, dnnl_primitive_desc_t *out, product_shape s, desc_view w)
{
    const dnnl_dims_t a_dims = { 1, s.k, 1, s.pixels }, d_dims = { 1, s.rows, 1, s.pixels };
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t ops = NULL;
    desc a = { 0 }, d = { 0 };

    bool ok = dnnl_primitive_attr_create(&attr) == dnnl_success &&
              dnnl_post_ops_create(&ops) == dnnl_success &&
              (!s.add || append_sum(ops) == dnnl_success) &&
              dnnl_primitive_attr_set_post_ops(attr, ops) == dnnl_success &&
              dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user) ==
                  dnnl_success &&
              desc_make(&a, a_dims, library_type(o), dnnl_nhwc) &&
              desc_make(&d, d_dims, dnnl_f32, dnnl_nhwc);
    ok = ok && convolution(out, o->engine, desc_look(&a), w, desc_look(&d), attr);
    desc_free(&a);
    desc_free(&d);
    if (ops)
        (void)dnnl_post_ops_destroy(ops);
    if (attr)
        (void)dnnl_primitive_attr_destroy(attr);
    return ok;
}

/* The library's last resort, which no one would use by choice. */
static bool is_slow(dnnl_primitive_desc_t p)
{
    const char *name = "";
    return dnnl_primitive_desc_query(p, dnnl_query_impl_info_str, 0, &name) == dnnl_success &&
           strncmp(name, "ref", 3) == 0;
}

static bool try_layout(const onednn *o, weights *w, dnnl_format_tag_t tag)
{
    const dnnl_dims_t dims = { w->rows, w->k, 1, 1 };
    const product_shape s = { CANONICAL, w->k, w->rows, false };
    dnnl_primitive_desc_t p = NULL;
    desc wanted = { 0 };

    bool ok = desc_make(&wanted, dims, library_type(o), tag) &&
              make_desc(o, &p, s, desc_look(&wanted));
    if (ok) {
        desc_view d = dnnl_primitive_desc_query_md(p, dnnl_query_weights_md, 0);
        ok = (tag == dnnl_format_tag_any || !is_slow(p)) &&
             read_layout(&w->layout, d, dnnl_memory_desc_get_size(d)) && desc_copy(&w->d, d);
        (void)dnnl_primitive_desc_destroy(p);
    }
    desc_free(&wanted);
    return ok;
}

/* In F32 the layouts that suit any number of pixels are preferred: left to itself, version 3
 * picks one by the number of pixels and takes the slow way for all others. */
static bool ask_layout(const onednn *o, weights *w)
{
    return (o->type == DT_F32 &&
            (try_layout(o, w, dnnl_OIhw16i16o) || try_layout(o, w, dnnl_OIhw8i8o))) ||
           try_layout(o, w, dnnl_format_tag_any);
}

/* Data handles are placeholders until product_run sets them. */
static bool make_bindings(product *p, dnnl_primitive_desc_t d)
{
    const onednn *o = p->owner;
    const struct {
        dnnl_query_t what;
        size_t at;
    } want[] = {
        { dnnl_query_src_md, offsetof(binding, a) },
        { dnnl_query_weights_md, offsetof(binding, w) },
        { dnnl_query_dst_md, offsetof(binding, d) },
        { dnnl_query_scratchpad_md, offsetof(binding, scratch) },
    };
    for (int t = 0; t < o->threads; t++)
        for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
            dnnl_memory_t *m = (dnnl_memory_t *)(void *)((char *)&p->bind[t] + want[i].at);
            desc_view view = dnnl_primitive_desc_query_md(d, want[i].what, 0);
            if (dnnl_memory_create(m, view, o->engine, DNNL_MEMORY_NONE) != dnnl_success)
                return false;
        }
    return true;
}

static void product_free(product *p)
{
    if (!p)
        return;
    for (int t = 0; t < p->owner->threads; t++) {
        (void)dnnl_memory_destroy(p->bind[t].a);
        (void)dnnl_memory_destroy(p->bind[t].w);
        (void)dnnl_memory_destroy(p->bind[t].d);
        (void)dnnl_memory_destroy(p->bind[t].scratch);
    }
    (void)dnnl_primitive_destroy(p->primitive);
    mem_free(p);
}

static void forget(onednn *o)
{
    for (int i = 0; i < TABLE; i++) {
        product_free(o->products[i]);
        o->products[i] = NULL;
    }
    for (int i = 0; i < o->n_layouts; i++)
        desc_free(&o->layouts[i].d);
    o->n_products = o->n_layouts = 0;
}

static weights *layout_of(onednn *o, int rows, int k)
{
    for (int i = 0; i < o->n_layouts; i++)
        if (o->layouts[i].rows == rows && o->layouts[i].k == k)
            return &o->layouts[i];
    weights *w = &o->layouts[o->n_layouts];
    *w = (weights){ .rows = rows, .k = k };
    if (!ask_layout(o, w))
        return NULL;
    o->n_layouts++;
    return w;
}

static product *make_product(onednn *o, product_shape s)
{
    const size_t threads = (size_t)o->threads;
    weights *w = layout_of(o, s.rows, s.k);
    product *p = mem_calloc(1, sizeof *p + threads * sizeof p->bind[0]);
    dnnl_primitive_desc_t d = NULL;

    if (!w || !p || !make_desc(o, &d, s, desc_look(&w->d))) {
        mem_free(p);
        return NULL;
    }
    p->shape = s;
    p->layout = w->layout;
    p->owner = o;
    desc_view scratch = dnnl_primitive_desc_query_md(d, dnnl_query_scratchpad_md, 0);
    p->scratch = num_align(dnnl_memory_desc_get_size(scratch), 64);
    const bool ok = make_bindings(p, d) && dnnl_primitive_create(&p->primitive, d) == dnnl_success;
    (void)dnnl_primitive_desc_destroy(d);
    if (!ok) {
        product_free(p);
        return NULL;
    }
    return p;
}

static bool same_shape(product_shape a, product_shape b)
{
    return a.pixels == b.pixels && a.k == b.k && a.rows == b.rows && a.add == b.add;
}

static unsigned slot_of(product_shape s)
{
    uint64_t h = (uint64_t)(unsigned)s.pixels;
    h = h * 1000003u + (uint64_t)(unsigned)s.k;
    h = h * 1000003u + (uint64_t)(unsigned)s.rows;
    h = (h * 2u + s.add) * 0x9e3779b97f4a7c15u;
    return (unsigned)(h >> 32) % TABLE;
}

void onednn_make_room(onednn *o, int products)
{
    if (o->n_products + products > TABLE / 2)
        forget(o);
}

const product *onednn_product(onednn *o, product_shape s)
{
    unsigned i = slot_of(s);
    for (; o->products[i]; i = (i + 1) % TABLE)
        if (same_shape(o->products[i]->shape, s))
            return o->products[i];
    if (o->n_products == TABLE / 2)
        return NULL;

    /* The primitive keeps the number of threads it was made under. */
    const int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    o->products[i] = make_product(o, s);
    omp_set_num_threads(threads);
    o->n_products += o->products[i] != NULL;
    return o->products[i];
}

product_layout product_weights(const product *p) { return p->layout; }
size_t product_scratch(const product *p) { return p->scratch; }

bool product_run(const product *p, int thread, float *d, const void *a, const void *w,
                 void *scratch)
{
    const binding *b = &p->bind[thread];
    const dnnl_exec_arg_t args[] = {
        { DNNL_ARG_SRC, b->a },
        { DNNL_ARG_WEIGHTS, b->w },
        { DNNL_ARG_DST, b->d },
        { DNNL_ARG_SCRATCHPAD, b->scratch },
    };
    /* The library takes writable handles and does not write through the inputs'. */
    return dnnl_memory_set_data_handle(b->a, (void *)(uintptr_t)a) == dnnl_success &&
           dnnl_memory_set_data_handle(b->w, (void *)(uintptr_t)w) == dnnl_success &&
           dnnl_memory_set_data_handle(b->d, d) == dnnl_success &&
           dnnl_memory_set_data_handle(b->scratch, scratch) == dnnl_success &&
           dnnl_primitive_execute(p->primitive, p->owner->stream[thread], p->scratch ? 4 : 3,
                                  args) == dnnl_success;
}

/* ---- opening ---- */

/* Does this CPU multiply bf16 itself?  Elsewhere the library would emulate it, slower than
 * f32, or refuse. */
static bool multiplies_bf16(onednn *o)
{
    const unsigned need = dnnl_cpu_isa_avx512_core_bf16;
    weights w = { .rows = 64, .k = 64 };
    if (((unsigned)dnnl_get_effective_cpu_isa() & need) != need || !ask_layout(o, &w))
        return false;
    desc_free(&w.d);
    return true;
}

onednn *onednn_open(dtype multiply, int threads, refine_error *err)
{
    onednn *o = mem_calloc(1, sizeof *o);
    if (!o)
        goto no_memory;
    o->threads = threads;
    o->type = multiply;
    o->stream = mem_calloc((size_t)threads, sizeof o->stream[0]);
    if (!o->stream)
        goto no_memory;
    if (dnnl_engine_create(&o->engine, dnnl_cpu, 0) != dnnl_success)
        goto refused;
    for (int t = 0; t < threads; t++)
        if (dnnl_stream_create(&o->stream[t], o->engine, dnnl_stream_default_flags) != dnnl_success)
            goto refused;
    if (o->type == DT_BF16 && !multiplies_bf16(o))
        o->type = DT_F32;
    return o;

no_memory:
    refine_fail(err, REFINE_ENOMEM, "device cpu: out of memory");
    onednn_close(o);
    return NULL;
refused:
    refine_fail(err, REFINE_EDEVICE, "device cpu: oneDNN %d.%d cannot be started",
                dnnl_version()->major, dnnl_version()->minor);
    onednn_close(o);
    return NULL;
}

void onednn_close(onednn *o)
{
    if (!o)
        return;
    forget(o);
    for (int t = 0; o->stream && t < o->threads; t++)
        (void)dnnl_stream_destroy(o->stream[t]);
    if (o->engine)
        (void)dnnl_engine_destroy(o->engine);
    mem_free(o->stream);
    mem_free(o);
}

dtype onednn_type(const onednn *o) { return o->type; }
