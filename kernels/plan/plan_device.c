/* kernels/plan/plan_device.c -- computes nothing, counts everything.
 *
 * Memory is handed out as tokens: addresses from a range that is never mapped, each
 * different, so that address arithmetic works and a use of one faults at once.  Sizes are
 * answered as the target would answer them; every operator leaves its multiply-adds and
 * its need of workspace behind.  Never fails.
 */
#include "kernels/backend.h"

#include "engine/base/mem.h"
#include "engine/base/num.h"

#include <assert.h>
#include <stdio.h>

typedef struct plan_dev {
    dev base;
    const dev *target; /* borrowed */
    uintptr_t next;    /* token */
    size_t workspace;
    dev_work work;
} plan_dev;

enum { TOKEN_ALIGN = 4096 };
static const uintptr_t FIRST_TOKEN = TOKEN_ALIGN;

static plan_dev *plan_dev_of(dev *d) { return (plan_dev *)(void *)d; }

static void raise_workspace(plan_dev *p, size_t workspace)
{
    p->workspace = num_max(p->workspace, workspace);
}

static uint64_t batch_pixels(tensor t) { return (uint64_t)t.n * tensor_pixels(t); }

/* Bytes of the channels themselves. */
static uint64_t moved_bytes(tensor t)
{
    return batch_pixels(t) * (uint64_t)t.c * dtype_bytes(t.type);
}

static void *plan_alloc(dev *d, size_t bytes, dev_mem kind)
{
    (void)kind;
    plan_dev *p = plan_dev_of(d);
    const uintptr_t token = p->next;
    p->next += num_align(bytes, TOKEN_ALIGN) + TOKEN_ALIGN;
    return (void *)token;
}

static void plan_free(dev *d, void *p, size_t bytes, dev_mem kind)
{
    (void)d, (void)p, (void)bytes, (void)kind;
}

static dev_event *plan_event_open(dev *d) { return plan_alloc(d, 1, DEV_PINNED); }
static void plan_event_close(dev *d, dev_event *e) { (void)d, (void)e; }

static void plan_copy(dev *d, void *dst, const void *src, size_t bytes)
{
    (void)d, (void)dst, (void)src, (void)bytes;
}

static void plan_record(dev *d, dev_event *e, dev_queue q) { (void)d, (void)e, (void)q; }
static void plan_wait(dev *d, dev_queue q, dev_event *e) { (void)d, (void)q, (void)e; }
static void plan_sync(dev *d, dev_event *e) { (void)d, (void)e; }
static void plan_device_close(dev *d) { mem_free(d); }

static size_t plan_linear_workspace(const dev *d, const linear_args *a)
{
    const dev *t = ((const plan_dev *)(const void *)d)->target;
    return t->ops->linear_workspace(t, a);
}

static size_t plan_conv2d_workspace(const dev *d, const conv_args *a)
{
    const dev *t = ((const plan_dev *)(const void *)d)->target;
    return t->ops->conv2d_workspace(t, a);
}

static size_t plan_attention_workspace(const dev *d, const attention_args *a)
{
    const dev *t = ((const plan_dev *)(const void *)d)->target;
    return t->ops->attention_workspace(t, a);
}

static size_t plan_groupnorm_workspace(const dev *d, tensor a, tensor b)
{
    const dev *t = ((const plan_dev *)(const void *)d)->target;
    return t->ops->groupnorm_workspace(t, a, b);
}

static size_t plan_prepare_bytes(const dev *d, const matrix_input *in, conv_geometry g)
{
    const dev *t = ((const plan_dev *)(const void *)d)->target;
    return t->ops->prepare_bytes(t, in, g);
}

static void plan_linear(dev *d, const linear_args *a)
{
    raise_workspace(plan_dev_of(d), plan_linear_workspace(d, a));
    plan_dev_of(d)->work.linear += batch_pixels(a->y) * (uint64_t)a->w.all.n * (uint64_t)a->w.all.c;
}

static prepared_input plan_prepare(dev *d, void *p, const matrix_input *in, conv_geometry g)
{
    (void)p;
    plan_dev_of(d)->work.bytes += 2 * (uint64_t)plan_prepare_bytes(d, in, g);
    return (prepared_input){ .in = *in };
}

static void plan_conv2d(dev *d, const conv_args *a)
{
    const uint64_t outputs = (uint64_t)a->y.n * (uint64_t)a->g.rows * (uint64_t)a->y.w;
    const uint64_t k = (uint64_t)a->g.kh * (uint64_t)a->g.kw * (uint64_t)a->w.all.c;
    raise_workspace(plan_dev_of(d), plan_conv2d_workspace(d, a));
    plan_dev_of(d)->work.conv += outputs * (uint64_t)a->w.all.n * k;
}

static void plan_attention(dev *d, const attention_args *a)
{
    raise_workspace(plan_dev_of(d), plan_attention_workspace(d, a));
    plan_dev_of(d)->work.attention += 2 * batch_pixels(a->q) * tensor_pixels(a->k) *
                                      (uint64_t)a->q.c;
}

static void plan_groupnorm_sums(dev *d, tensor sums, tensor a, tensor b, int row0, int rows)
{
    (void)sums, (void)row0;
    raise_workspace(plan_dev_of(d), plan_groupnorm_workspace(d, a, b));
    plan_dev_of(d)->work.bytes += (moved_bytes(a) + moved_bytes(b)) / (uint64_t)a.h *
                                  (uint64_t)rows;
}

static void plan_groupnorm(dev *d, tensor affine, tensor sums, int h, int w, tensor gain,
                           tensor bias, float eps)
{
    (void)d, (void)affine, (void)sums, (void)h, (void)w, (void)gain, (void)bias, (void)eps;
}

static void plan_apply_norm(dev *d, tensor y, tensor a, tensor b, tensor affine, act f)
{
    (void)affine, (void)f;
    plan_dev_of(d)->work.bytes += moved_bytes(y) + moved_bytes(a) + moved_bytes(b);
}

static void plan_layernorm(dev *d, tensor y, tensor x, tensor gain, tensor bias, float eps)
{
    (void)gain, (void)bias, (void)eps;
    plan_dev_of(d)->work.bytes += moved_bytes(y) + moved_bytes(x);
}

static void plan_unary(dev *d, tensor y, tensor x)
{
    plan_dev_of(d)->work.bytes += moved_bytes(y) + moved_bytes(x);
}

static const struct dev_ops PLAN_OPS = {
    .name = "plan",
    .alloc = plan_alloc,
    .free = plan_free,
    .event_open = plan_event_open,
    .event_close = plan_event_close,
    .copy_in = plan_copy,
    .put = plan_copy,
    .get = plan_copy,
    .record = plan_record,
    .wait = plan_wait,
    .sync = plan_sync,
    .close = plan_device_close,
    .linear_workspace = plan_linear_workspace,
    .conv2d_workspace = plan_conv2d_workspace,
    .attention_workspace = plan_attention_workspace,
    .groupnorm_workspace = plan_groupnorm_workspace,
    .prepare_bytes = plan_prepare_bytes,
    .linear = plan_linear,
    .prepare = plan_prepare,
    .conv2d = plan_conv2d,
    .attention = plan_attention,
    .groupnorm_sums = plan_groupnorm_sums,
    .groupnorm = plan_groupnorm,
    .apply_norm = plan_apply_norm,
    .layernorm = plan_layernorm,
    .silu = plan_unary,
    .convert = plan_unary,
};

dev *dev_open_plan(const dev *target, refine_error *err)
{
    plan_dev *p = mem_calloc(1, sizeof *p);
    if (!p) {
        refine_fail(err, REFINE_ENOMEM, "plan device: out of memory (%zu bytes)", sizeof *p);
        return NULL;
    }
    p->base.ops = &PLAN_OPS;
    p->target = target;
    p->next = FIRST_TOKEN;
    p->base.overhead = target->overhead;
    p->base.blocks = target->blocks;
    (void)snprintf(p->base.model, sizeof p->base.model, "%s", target->model);
    return &p->base;
}

static const plan_dev *plan_peek(const dev *d)
{
    assert(d->ops == &PLAN_OPS);
    return (const plan_dev *)(const void *)d;
}

size_t dev_workspace_needed(const dev *plan) { return plan_peek(plan)->workspace; }
dev_work dev_plan_work(const dev *plan) { return plan_peek(plan)->work; }
