/* kernels/cuda/cuda_error.c -- what CUDA's errors mean to whoever runs the program. */
#include "kernels/cuda/cuda.h"

#include <stdio.h>

/* What to say of an error, and with which status.  `doing` is used where the cause is unclear. */
typedef struct meaning {
    cudaError_t error;
    refine_status status;
    const char *text;
} meaning;

static const meaning MEANINGS[] = {
    { cudaErrorNoDevice, REFINE_EDEVICE,
      "no NVIDIA GPU is to be seen; if there is one, `nvidia-smi` tells more; else use "
      "--device cpu" },
    { cudaErrorInvalidDevice, REFINE_EDEVICE,
      "there is no GPU of that number; --list-devices shows those there are" },
    { cudaErrorDevicesUnavailable, REFINE_EDEVICE,
      "the GPU is reserved by another process; wait until that has ended, or set it free with "
      "`nvidia-smi -c 0`" },
    { cudaErrorSystemDriverMismatch, REFINE_EDEVICE,
      "the NVIDIA driver was updated while in use; restart the computer" },
    { cudaErrorSystemNotReady, REFINE_EDEVICE,
      "the GPU is not ready yet; `nvidia-smi` tells more; try again" },
    { cudaErrorNoKernelImageForDevice, REFINE_EDEVICE,
      "the program has no code for this GPU; if it is older than GTX 16 and RTX 20 (compute "
      "capability 7.5), use --device cpu; if it is newer than the program, build that anew with a "
      "newer CUDA" },
    { cudaErrorUnsupportedPtxVersion, REFINE_EDEVICE,
      "the NVIDIA driver is too old for this GPU and program; update the driver" },
    { cudaErrorMemoryAllocation, REFINE_EBUDGET,
      "the GPU's memory is used up, perhaps by another process (`nvidia-smi` lists them); end "
      "that, or give a lower --vram" },
};

/* Without a driver CUDA says that the driver is too old. */
static const char *explain_driver(char *text, size_t size)
{
    int have = 0;
    if (cudaDriverGetVersion(&have) != cudaSuccess || have == 0)
        return "no NVIDIA driver is installed; install one, or use --device cpu";
    (void)snprintf(text, size,
                   "the NVIDIA driver is too old: it knows CUDA %d.%d, this program needs %d.%d; "
                   "update it, or use --device cpu",
                   have / 1000, have % 1000 / 10, CUDART_VERSION / 1000,
                   CUDART_VERSION % 1000 / 10);
    return text;
}

static const meaning *find_meaning(cudaError_t e)
{
    for (size_t i = 0; i < sizeof MEANINGS / sizeof MEANINGS[0]; i++)
        if (MEANINGS[i].error == e)
            return &MEANINGS[i];
    return NULL;
}

refine_status cuda_explain(char *text, size_t size, cudaError_t e, const char *doing)
{
    char driver[192];
    const meaning *m = find_meaning(e);
    if (e == cudaErrorInsufficientDriver) {
        (void)snprintf(text, size, "cuda: %s", explain_driver(driver, sizeof driver));
        return REFINE_EDEVICE;
    }
    if (m) {
        (void)snprintf(text, size, "cuda: %s", m->text);
        return m->status;
    }
    (void)snprintf(text, size,
                   "cuda: the GPU failed while %s: %s (%s); run again, and if it stays, look for "
                   "Xid errors in the system's log",
                   doing, cudaGetErrorName(e), cudaGetErrorString(e));
    return REFINE_EDEVICE;
}

bool cuda_check(dev *d, cudaError_t e, const char *doing)
{
    char text[256];
    if (e == cudaSuccess)
        return true;
    (void)cudaGetLastError(); /* or it would be told again to whoever asks next */
    const refine_status st = cuda_explain(text, sizeof text, e, doing);
    dev_fail(d, st, text);
    return false;
}
