/* kernels/cpu/absent.c -- the CPU device of a build without oneDNN. */
#include "kernels/device.h"

dtype dev_cpu_best(void) { return DT_F32; }

dev *dev_open_cpu(const dev_options *o, refine_error *err)
{
    (void)o;
    refine_fail(err, REFINE_EDEVICE,
                "this program was built without oneDNN; build it where libdnnl-dev is installed, "
                "or use --device cuda");
    return NULL;
}
