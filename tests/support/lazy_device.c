/* tests/support/lazy_device.c -- two queues of deferred work around a real device.
 *
 *     queue:  items [head, tail); running item i means running all before it
 *     event:  which queue it was recorded on, and the tail then
 *     wait:   an item that first runs the event's queue up to that tail
 *
 * Items keep their arguments, as a CUDA launch does: shapes by value, addresses as they
 * are.  dev_put reads its source at once and writes late; dev_get drains the compute queue.
 */
#include "tests/support/lazy_device.h"

#include "kernels/backend.h"

#include "engine/base/mem.h"

#include <assert.h>
#include <string.h>

typedef enum lazy_kind {
    ITEM_COPY,
    ITEM_PUT,
    ITEM_WAIT,
    ITEM_LINEAR,
    ITEM_PREPARE,
    ITEM_CONV,
    ITEM_ATTENTION,
    ITEM_SUMS,
    ITEM_GROUPNORM,
    ITEM_APPLY,
    ITEM_LAYERNORM,
    ITEM_SILU,
    ITEM_CONVERT
} lazy_kind;

typedef struct lazy_command {
    lazy_kind kind;
    void *dst;
    void *src; /* of a put: an owned copy */
    size_t bytes;
    dev_queue on; /* of a wait */
    uint64_t upto;
    union {
        linear_args linear;
        conv_args conv;
        attention_args attention;
        struct {
            matrix_input in;
            conv_geometry g;
        } prepare;
        struct {
            tensor t[5];
            int h, w; /* of an image; or a band, where it begins and its rows */
            float eps;
            act f;
        } norm;
    } a;
} lazy_command;

enum { PREPARED = 256 };

struct dev_event {
    bool recorded;
    dev_queue on;
    uint64_t upto;
};

typedef struct lazy_fifo {
    lazy_command *item; /* item[i] is number first + i */
    uint64_t first, head, tail, cap;
    bool busy;
} lazy_fifo;

typedef struct lazy {
    dev base;
    dev *real;
    lazy_schedule schedule;
    uint32_t random;
    lazy_fifo q[2];
    int live;
    prepared_input prepared[PREPARED]; /* by address, the last for each */
    int n_prepared;
} lazy;

static lazy *lazy_of(dev *d) { return (lazy *)(void *)d; }
static const lazy *lazy_of_const(const dev *d) { return (const lazy *)(const void *)d; }

static void run_item(lazy *l, lazy_command *it);

/* A queue that is found running when it must run has been waited for in a circle. */
static void run_until(lazy *l, dev_queue q, uint64_t upto)
{
    lazy_fifo *f = &l->q[q];
    if (f->head >= upto)
        return;
    assert(!f->busy && "the queues wait for each other");
    f->busy = true;
    while (f->head < upto) {
        run_item(l, &f->item[f->head - f->first]);
        f->head++;
    }
    f->busy = false;
    if (f->head == f->tail)
        f->first = f->head;
}

static prepared_input *find_prepared(lazy *l, const void *p)
{
    for (int i = 0; i < l->n_prepared; i++)
        if (l->prepared[i].ready.data == p)
            return &l->prepared[i];
    assert(l->n_prepared < PREPARED);
    return &l->prepared[l->n_prepared++];
}

static prepared_input resolve_prepared(lazy *l, prepared_input x)
{
    return tensor_present(x.ready) ? *find_prepared(l, x.ready.data) : x;
}

static void run_lazy_linear(lazy *l, linear_args a)
{
    a.x = resolve_prepared(l, a.x);
    l->real->ops->linear(l->real, &a);
}

static void run_lazy_conv(lazy *l, conv_args a)
{
    a.x = resolve_prepared(l, a.x);
    l->real->ops->conv2d(l->real, &a);
}

static void run_operator(lazy *l, lazy_command *it)
{
    const struct dev_ops *ops = l->real->ops;
    const tensor *t = it->a.norm.t;

    l->real->workspace = l->base.workspace;
    l->real->workspace_bytes = l->base.workspace_bytes;
    switch (it->kind) {
    case ITEM_LINEAR: run_lazy_linear(l, it->a.linear); break;
    case ITEM_CONV: run_lazy_conv(l, it->a.conv); break;
    case ITEM_ATTENTION: ops->attention(l->real, &it->a.attention); break;
    case ITEM_PREPARE:
        *find_prepared(l, it->dst) = ops->prepare(l->real, it->dst, &it->a.prepare.in,
                                                  it->a.prepare.g);
        break;
    case ITEM_SUMS:
        ops->groupnorm_sums(l->real, t[0], t[1], t[2], it->a.norm.h, it->a.norm.w);
        break;
    case ITEM_GROUPNORM:
        ops->groupnorm(l->real, t[0], t[1], it->a.norm.h, it->a.norm.w, t[2], t[3], it->a.norm.eps);
        break;
    case ITEM_APPLY: ops->apply_norm(l->real, t[0], t[1], t[2], t[3], it->a.norm.f); break;
    case ITEM_LAYERNORM: ops->layernorm(l->real, t[0], t[1], t[2], t[3], it->a.norm.eps); break;
    case ITEM_SILU: ops->silu(l->real, t[0], t[1]); break;
    default: ops->convert(l->real, t[0], t[1]); break;
    }
    if (dev_status(l->real) != REFINE_OK)
        dev_fail(&l->base, dev_status(l->real), dev_why(l->real));
}

static void run_item(lazy *l, lazy_command *it)
{
    switch (it->kind) {
    case ITEM_COPY: memcpy(it->dst, it->src, it->bytes); break;
    case ITEM_PUT:
        memcpy(it->dst, it->src, it->bytes);
        mem_free(it->src);
        break;
    case ITEM_WAIT: run_until(l, it->on, it->upto); break;
    default: run_operator(l, it); break;
    }
}

static bool at_once(lazy *l, dev_queue q)
{
    switch (l->schedule) {
    case LAZY_EAGER: return true;
    case LAZY_COPY_FIRST: return q == DEV_COPY;
    case LAZY_COMPUTE_FIRST: return q == DEV_COMPUTE;
    case LAZY_RANDOM: l->random = l->random * 1664525u + 1013904223u; return l->random >> 30 == 0;
    default: return false;
    }
}

static void push_lazy_item(dev *d, dev_queue q, lazy_command it)
{
    lazy *l = lazy_of(d);
    lazy_fifo *f = &l->q[q];
    if (f->tail - f->first == f->cap) {
        const uint64_t cap = f->cap ? 2 * f->cap : 64;
        lazy_command *bigger = mem_realloc(f->item, cap * sizeof *bigger);
        assert(bigger);
        f->item = bigger;
        f->cap = cap;
    }
    f->item[f->tail++ - f->first] = it;
    if (at_once(l, q))
        run_until(l, q, f->tail);
}

/* ---- memory and order ---- */

static void *lazy_alloc(dev *d, size_t bytes, dev_mem kind)
{
    void *p = dev_alloc(lazy_of(d)->real, bytes, kind);
    if (p) {
        memset(p, 0xff, bytes);
        lazy_of(d)->live++;
    }
    return p;
}

static void lazy_free(dev *d, void *p, size_t bytes, dev_mem kind)
{
    dev_free(lazy_of(d)->real, p, bytes, kind);
    lazy_of(d)->live--;
}

static dev_event *lazy_event_open(dev *d)
{
    dev_event *e = mem_calloc(1, sizeof *e);
    lazy_of(d)->live += e != NULL;
    return e;
}

static void lazy_event_close(dev *d, dev_event *e)
{
    mem_free(e);
    lazy_of(d)->live--;
}

static void lazy_copy_in(dev *d, void *dst, const void *src, size_t bytes)
{
    push_lazy_item(
        d, DEV_COPY,
        (lazy_command){
            .kind = ITEM_COPY, .dst = dst, .src = (void *)(uintptr_t)src, .bytes = bytes });
}

static void lazy_put(dev *d, void *dst, const void *src, size_t bytes)
{
    void *copy = mem_alloc(bytes);
    assert(copy);
    memcpy(copy, src, bytes);
    push_lazy_item(d, DEV_COMPUTE,
                   (lazy_command){ .kind = ITEM_PUT, .dst = dst, .src = copy, .bytes = bytes });
}

static void lazy_get(dev *d, void *dst, const void *src, size_t bytes)
{
    run_until(lazy_of(d), DEV_COMPUTE, lazy_of(d)->q[DEV_COMPUTE].tail);
    memcpy(dst, src, bytes);
}

static void lazy_record(dev *d, dev_event *e, dev_queue q)
{
    *e = (dev_event){ true, q, lazy_of(d)->q[q].tail };
}

static void lazy_wait(dev *d, dev_queue q, dev_event *e)
{
    if (e->recorded)
        push_lazy_item(d, q, (lazy_command){ .kind = ITEM_WAIT, .on = e->on, .upto = e->upto });
}

static void lazy_sync(dev *d, dev_event *e)
{
    if (e->recorded)
        run_until(lazy_of(d), e->on, e->upto);
}

void lazy_drain(dev *d)
{
    run_until(lazy_of(d), DEV_COPY, lazy_of(d)->q[DEV_COPY].tail);
    run_until(lazy_of(d), DEV_COMPUTE, lazy_of(d)->q[DEV_COMPUTE].tail);
}

int lazy_live(const dev *d) { return lazy_of_const(d)->live; }

static void lazy_close(dev *d)
{
    lazy_drain(d);
    mem_free(lazy_of(d)->q[DEV_COPY].item);
    mem_free(lazy_of(d)->q[DEV_COMPUTE].item);
    mem_free(d);
}

/* ---- operators ---- */

static size_t lazy_linear_workspace(const dev *d, const linear_args *a)
{
    return lazy_of_const(d)->real->ops->linear_workspace(lazy_of_const(d)->real, a);
}

static size_t lazy_conv2d_workspace(const dev *d, const conv_args *a)
{
    return lazy_of_const(d)->real->ops->conv2d_workspace(lazy_of_const(d)->real, a);
}

static size_t lazy_attention_workspace(const dev *d, const attention_args *a)
{
    return lazy_of_const(d)->real->ops->attention_workspace(lazy_of_const(d)->real, a);
}

static size_t lazy_groupnorm_workspace(const dev *d, tensor a, tensor b)
{
    return lazy_of_const(d)->real->ops->groupnorm_workspace(lazy_of_const(d)->real, a, b);
}

static size_t lazy_prepare_bytes(const dev *d, const matrix_input *in, conv_geometry g)
{
    return lazy_of_const(d)->real->ops->prepare_bytes(lazy_of_const(d)->real, in, g);
}

static void lazy_linear(dev *d, const linear_args *a)
{
    push_lazy_item(d, DEV_COMPUTE, (lazy_command){ .kind = ITEM_LINEAR, .a.linear = *a });
}

/* What the real device calls the prepared input is known when it has prepared it; until then
 * its address stands for it (find_prepared). */
static prepared_input lazy_prepare(dev *d, void *p, const matrix_input *in, conv_geometry g)
{
    prepared_input s = { .in = *in };
    if (!p)
        return s;
    push_lazy_item(d, DEV_COMPUTE,
                   (lazy_command){ .kind = ITEM_PREPARE, .dst = p, .a.prepare = { *in, g } });
    s.ready = tensor_make(p, DT_F32, 1, 1, 1, 1);
    return s;
}

static void lazy_conv2d(dev *d, const conv_args *a)
{
    push_lazy_item(d, DEV_COMPUTE, (lazy_command){ .kind = ITEM_CONV, .a.conv = *a });
}

static void lazy_attention(dev *d, const attention_args *a)
{
    push_lazy_item(d, DEV_COMPUTE, (lazy_command){ .kind = ITEM_ATTENTION, .a.attention = *a });
}

static void lazy_groupnorm_sums(dev *d, tensor sums, tensor a, tensor b, int row0, int rows)
{
    push_lazy_item(d, DEV_COMPUTE,
                   (lazy_command){ .kind = ITEM_SUMS,
                                   .a.norm = { .t = { sums, a, b }, .h = row0, .w = rows } });
}

static void lazy_groupnorm(dev *d, tensor affine, tensor sums, int h, int w, tensor gain,
                           tensor bias, float eps)
{
    push_lazy_item(
        d, DEV_COMPUTE,
        (lazy_command){
            .kind = ITEM_GROUPNORM,
            .a.norm = { .t = { affine, sums, gain, bias }, .h = h, .w = w, .eps = eps } });
}

static void lazy_apply_norm(dev *d, tensor y, tensor a, tensor b, tensor affine, act f)
{
    push_lazy_item(
        d, DEV_COMPUTE,
        (lazy_command){ .kind = ITEM_APPLY, .a.norm = { .t = { y, a, b, affine }, .f = f } });
}

static void lazy_layernorm(dev *d, tensor y, tensor x, tensor gain, tensor bias, float eps)
{
    push_lazy_item(d, DEV_COMPUTE,
                   (lazy_command){ .kind = ITEM_LAYERNORM,
                                   .a.norm = { .t = { y, x, gain, bias }, .eps = eps } });
}

static void lazy_silu(dev *d, tensor y, tensor x)
{
    push_lazy_item(d, DEV_COMPUTE, (lazy_command){ .kind = ITEM_SILU, .a.norm.t = { y, x } });
}

static void lazy_convert(dev *d, tensor y, tensor x)
{
    push_lazy_item(d, DEV_COMPUTE, (lazy_command){ .kind = ITEM_CONVERT, .a.norm.t = { y, x } });
}

static const struct dev_ops LAZY_OPS = {
    .name = "lazy",
    .alloc = lazy_alloc,
    .free = lazy_free,
    .event_open = lazy_event_open,
    .event_close = lazy_event_close,
    .copy_in = lazy_copy_in,
    .put = lazy_put,
    .get = lazy_get,
    .record = lazy_record,
    .wait = lazy_wait,
    .sync = lazy_sync,
    .close = lazy_close,
    .linear_workspace = lazy_linear_workspace,
    .conv2d_workspace = lazy_conv2d_workspace,
    .attention_workspace = lazy_attention_workspace,
    .groupnorm_workspace = lazy_groupnorm_workspace,
    .prepare_bytes = lazy_prepare_bytes,
    .linear = lazy_linear,
    .prepare = lazy_prepare,
    .conv2d = lazy_conv2d,
    .attention = lazy_attention,
    .groupnorm_sums = lazy_groupnorm_sums,
    .groupnorm = lazy_groupnorm,
    .apply_norm = lazy_apply_norm,
    .layernorm = lazy_layernorm,
    .silu = lazy_silu,
    .convert = lazy_convert,
};

dev *lazy_open(dev *real, lazy_schedule s, uint32_t seed)
{
    lazy *l = mem_calloc(1, sizeof *l);
    if (!l)
        return NULL;
    l->base.ops = &LAZY_OPS;
    l->base.blocks = real->blocks;
    l->real = real;
    l->schedule = s;
    l->random = seed;
    return &l->base;
}
