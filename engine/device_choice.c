/* engine/device_choice.c -- the only file that picks a device.
 *
 *                 auto    f32   fp16   bf16   int8
 *     GPU         fp16    f32   fp16   no     fp16, integers in the UNet
 *     CPU         (*)     f32   no     bf16   bf16, integers in the UNet
 *     referee     f32     f32   no     -      -           (opens in f32 alone, and says so)
 *
 * (*) bf16 where the processor multiplies it, else f32.
 */
#include "engine/device_choice.h"

#include <stdio.h>

static dtype compute_type(bool cuda, refine_device device, refine_precision p)
{
    if (cuda)
        return p == REFINE_F32 ? DT_F32 : DT_F16;
    if (p == REFINE_BF16 || p == REFINE_INT8)
        return DT_BF16;
    return p == REFINE_PRECISION_AUTO && device != REFINE_DEVICE_REF ? dev_cpu_best() : DT_F32;
}

/* Precisions that only the other kind of device has. */
static refine_status check_precision(bool cuda, refine_precision p, refine_error *err)
{
    if (!cuda && p == REFINE_FP16)
        return refine_fail(err, REFINE_EINVAL,
                           "fp16 is for CUDA devices; this device computes in f32 or bf16");
    if (cuda && p == REFINE_BF16)
        return refine_fail(err, REFINE_EINVAL,
                           "bf16 is for the CPU; a CUDA device computes in fp16 or f32");
    return REFINE_OK;
}

static dev *open_kind(bool cuda, const refine_options *o, dev_options *want, refine_error *err)
{
    want->compute = compute_type(cuda, o->device, o->precision);
    if (check_precision(cuda, o->precision, err) != REFINE_OK)
        return NULL;
    if (cuda)
        return dev_open_cuda(want, o->device_index, err);
    return o->device == REFINE_DEVICE_REF ? dev_open_ref(want, err) : dev_open_cpu(want, err);
}

static dev *open_best(device_choice *c, const refine_options *o, dev_options *want,
                      refine_error *err)
{
    refine_error why = { 0 };
    dev *d = check_precision(true, o->precision, NULL) == REFINE_OK ? open_kind(true, o, want, &why)
                                                                    : NULL;
    if (d)
        return d;
    if (o->precision == REFINE_FP16) {
        refine_fail(err, REFINE_EDEVICE, "%s", why.text);
        return NULL;
    }
    if (why.text[0])
        (void)snprintf(c->note, sizeof c->note, "on the CPU: %.180s", why.text);
    return open_kind(false, o, want, err);
}

refine_status device_choose(device_choice *out, const refine_options *o, refine_error *err)
{
    refine_error mine = { 0 };
    dev_options want = { .int8_math = o->precision == REFINE_INT8, .threads = o->threads };

    if (!err)
        err = &mine;
    out->note[0] = '\0';
    out->d = o->device == REFINE_DEVICE_AUTO
                 ? open_best(out, o, &want, err)
                 : open_kind(o->device == REFINE_DEVICE_CUDA, o, &want, err);
    if (!out->d)
        return err->status != REFINE_OK ? err->status : REFINE_EDEVICE;
    out->compute = want.compute;
    out->int8_math = want.int8_math;
    return REFINE_OK;
}
