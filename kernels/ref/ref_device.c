/* kernels/ref/ref_device.c -- the referee as a device: its memory is the host's. */
#include "kernels/ref/ref.h"

#include "engine/base/mem.h"
#include "kernels/host_queue.h"

#include <stdio.h>
#include <string.h>

typedef struct ref_dev {
    dev base;
    host_queue *queue;
} ref_dev;

static host_queue *queue_of(dev *d) { return ((ref_dev *)(void *)d)->queue; }

static void *ref_alloc(dev *d, size_t bytes, dev_mem kind)
{
    (void)d, (void)kind;
    return host_memory_alloc(bytes);
}

static void ref_free(dev *d, void *p, size_t bytes, dev_mem kind)
{
    (void)d, (void)kind;
    host_memory_free(p, bytes);
}

static dev_event *ref_event_open(dev *d)
{
    (void)d;
    return host_event_open();
}

static void ref_event_close(dev *d, dev_event *e)
{
    (void)d;
    host_event_close(e);
}

static void ref_copy_in(dev *d, void *dst, const void *src, size_t bytes)
{
    host_queue_copy(queue_of(d), dst, src, bytes);
}

static void ref_move(dev *d, void *dst, const void *src, size_t bytes)
{
    (void)d;
    memcpy(dst, src, bytes);
}

static void ref_record(dev *d, dev_event *e, dev_queue q) { host_queue_record(queue_of(d), e, q); }
static void ref_wait(dev *d, dev_queue q, dev_event *e) { host_queue_wait(queue_of(d), q, e); }
static void ref_sync(dev *d, dev_event *e) { host_queue_sync(queue_of(d), e); }

static void ref_close(dev *d)
{
    host_queue_close(queue_of(d));
    mem_free(d);
}

static size_t ref_groupnorm_workspace(const dev *d, tensor a, tensor b)
{
    (void)d, (void)a, (void)b;
    return 0;
}

static const struct dev_ops REF_OPS = {
    .name = "ref",
    .alloc = ref_alloc,
    .free = ref_free,
    .event_open = ref_event_open,
    .event_close = ref_event_close,
    .copy_in = ref_copy_in,
    .put = ref_move,
    .get = ref_move,
    .record = ref_record,
    .wait = ref_wait,
    .sync = ref_sync,
    .close = ref_close,
    .linear_workspace = ref_linear_workspace,
    .conv2d_workspace = ref_conv2d_workspace,
    .attention_workspace = ref_attention_workspace,
    .groupnorm_workspace = ref_groupnorm_workspace,
    .prepare_bytes = ref_prepare_bytes,
    .linear = ref_linear,
    .prepare = ref_prepare,
    .conv2d = ref_conv2d,
    .attention = ref_attention,
    .groupnorm_sums = ref_groupnorm_sums,
    .groupnorm = ref_groupnorm,
    .apply_norm = ref_apply_norm,
    .layernorm = ref_layernorm,
    .silu = ref_silu,
    .convert = ref_convert,
};

dev *dev_open_ref(const dev_options *o, refine_error *err)
{
    if (o->compute != DT_F32) {
        refine_fail(err, REFINE_EINVAL, "device ref computes in f32 only; choose precision f32");
        return NULL;
    }
    ref_dev *r = mem_calloc(1, sizeof *r);
    if (!r) {
        refine_fail(err, REFINE_ENOMEM, "device ref: out of memory (%zu bytes)", sizeof *r);
        return NULL;
    }
    r->queue = host_queue_open(err);
    if (!r->queue) {
        mem_free(r);
        return NULL;
    }
    r->base.ops = &REF_OPS;
    (void)snprintf(r->base.model, sizeof r->base.model, "reference loops");
    return &r->base;
}
