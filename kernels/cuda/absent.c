/* kernels/cuda/absent.c -- the CUDA device of a build without the CUDA toolkit. */
#include "kernels/device.h"

static void say_absent(refine_error *err)
{
    refine_fail(err, REFINE_EDEVICE,
                "this program was built without CUDA; build it where nvcc is installed, or use "
                "--device cpu");
}

dev *dev_open_cuda(const dev_options *o, int ordinal, refine_error *err)
{
    (void)o, (void)ordinal;
    say_absent(err);
    return NULL;
}

int dev_list_gpus(dev_gpu *out, int most, refine_error *err)
{
    (void)out, (void)most;
    say_absent(err);
    return 0;
}
