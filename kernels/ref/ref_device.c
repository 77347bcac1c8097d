/* kernels/ref/ref_device.c -- the referee as a device: its memory is the host's. */
#include "kernels/ref/ref.h"

#include "engine/base/mem.h"
#include "kernels/host_device.h"

#include <stdio.h>

size_t ref_groupnorm_workspace(const dev *d, tensor a, tensor b)
{
    (void)d, (void)a, (void)b;
    return 0;
}

static const struct dev_ops REF_OPS = {
    .name = "ref",
    HOST_DEVICE_OPS,
    OPERATORS_OF(ref),
    .close = host_device_close,
};

dev *dev_open_ref(const dev_options *o, refine_error *err)
{
    if (o->compute != DT_F32) {
        refine_fail(err, REFINE_EINVAL, "device ref computes in f32 only; choose precision f32");
        return NULL;
    }
    host_dev *r = mem_calloc(1, sizeof *r);
    if (!r) {
        refine_fail(err, REFINE_ENOMEM, "device ref: out of memory (%zu bytes)", sizeof *r);
        return NULL;
    }
    if (!host_device_open(r, &REF_OPS, err)) {
        host_device_close(&r->base);
        return NULL;
    }
    (void)snprintf(r->base.model, sizeof r->base.model, "reference loops");
    return &r->base;
}
