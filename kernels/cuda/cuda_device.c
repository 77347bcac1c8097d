/* kernels/cuda/cuda_device.c -- an NVIDIA GPU as a device.
 *
 * Two streams that wait for nobody but by events.  DEV_PINNED memory is the process's own pages,
 * registered with CUDA so that copies from it run by themselves; io_uring may register the same
 * pages.  Each thread sets the device on first use.
 *
 * Opening takes the context, the code of all kernels and nothing more; what that comes to is
 * measured, for the budget counts it (context_note.cu).  A card that computes wrongly is refused
 * (cuda_self_test.c).  Afterwards device memory is taken by
 * cuda_alloc alone.
 */
#include "kernels/cuda/cuda.h"

#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "kernels/cuda/cuda_memory.h"

#include <stdio.h>

enum { OLDEST = 75 }; /* compute capability, times ten */

/* Multiply-adds of attention that a multiprocessor does in a fifth of a second, at a third of what
 * the slowest are made for: those without tensor cores, 64 a cycle at 1.5 GHz. */
static const double ATTENTION_MACS = 6e9;

struct dev_event {
    cudaEvent_t e;
};

/* Makes the card current in the calling thread. */
static bool make_current(dev *d)
{
    return cuda_check(d, cudaSetDevice(cuda_of(d)->ordinal), "starting");
}

/* ---- memory ---- */

/* How much may be registered is limited in some places (WSL2: half of the memory).  Copies from
 * pages that are not are as right, and slower. */
static void *take_pinned(dev *d, size_t bytes)
{
    void *p = mem_map(bytes);
    const cudaError_t e = p ? cudaHostRegister(p, bytes, cudaHostRegisterDefault) : cudaSuccess;
    if (e == cudaSuccess)
        return p;
    (void)cudaGetLastError();
    (void)snprintf(d->note, sizeof d->note,
                   "copies are slower than they could be: the driver refused to pin %.0f MiB of "
                   "host memory (%s); lower --ram, or give WSL2 or the container more",
                   (double)bytes / 1048576.0, cudaGetErrorName(e));
    return p;
}

static void *cuda_alloc(dev *d, size_t bytes, dev_mem kind)
{
    void *p = NULL;
    if (!make_current(d))
        return NULL;
    if (kind == DEV_PINNED)
        return take_pinned(d, bytes);
    if (cudaMalloc(&p, bytes) == cudaSuccess)
        return p;
    (void)cudaGetLastError();
    return NULL;
}

static void sync_streams(dev *d)
{
    (void)cudaSetDevice(cuda_of(d)->ordinal);
    for (int i = 0; i < 2; i++)
        if (cuda_of(d)->stream[i])
            (void)cudaStreamSynchronize(cuda_of(d)->stream[i]);
}

static void cuda_free(dev *d, void *p, size_t bytes, dev_mem kind)
{
    sync_streams(d);
    if (kind == DEV_VRAM) {
        (void)cudaFree(p);
        return;
    }
    if (p && cudaHostUnregister(p) != cudaSuccess)
        (void)cudaGetLastError(); /* it could not be registered */
    mem_unmap(p, bytes);
}

static size_t cuda_memory_free(dev *d)
{
    size_t free_bytes = 0, total = 0;
    if (!make_current(d) ||
        !cuda_check(d, cudaMemGetInfo(&free_bytes, &total), "asking for the free memory"))
        return 0;
    return free_bytes;
}

/* ---- order ---- */

static dev_event *cuda_event_open(dev *d)
{
    dev_event *e = mem_calloc(1, sizeof *e);
    if (e && make_current(d) &&
        cudaEventCreateWithFlags(&e->e, cudaEventBlockingSync) == cudaSuccess)
        return e;
    (void)cudaGetLastError();
    mem_free(e);
    return NULL;
}

static void cuda_event_close(dev *d, dev_event *e)
{
    (void)cudaSetDevice(cuda_of(d)->ordinal);
    (void)cudaEventDestroy(e->e);
    mem_free(e);
}

/* Under WDDM, which WSL2 is too, the driver keeps what is enqueued until it is enough or somebody
 * asks for that stream: and whoever waits for the event by way of the other stream does not.  So
 * it is asked for here; that it is not ready is no error. */
static void cuda_record(dev *d, dev_event *e, dev_queue q)
{
    const cudaStream_t s = cuda_of(d)->stream[q];
    if (!make_current(d) || !cuda_check(d, cudaEventRecord(e->e, s), "recording an event"))
        return;
    const cudaError_t ready = cudaStreamQuery(s);
    cuda_check(d, ready == cudaErrorNotReady ? cudaSuccess : ready, "computing");
}

static void cuda_wait(dev *d, dev_queue q, dev_event *e)
{
    if (make_current(d))
        cuda_check(d, cudaStreamWaitEvent(cuda_of(d)->stream[q], e->e, 0), "ordering streams");
}

static void cuda_sync(dev *d, dev_event *e)
{
    if (make_current(d))
        cuda_check(d, cudaEventSynchronize(e->e), "computing");
}

static double cuda_elapsed(dev *d, dev_event *from, dev_event *to)
{
    float ms = 0;
    if (!make_current(d) || !cuda_check(d, cudaEventElapsedTime(&ms, from->e, to->e), "timing"))
        return 0.0;
    return (double)ms * 1e-3;
}

/* ---- copies ---- */

static void cuda_copy_in(dev *d, void *dst, const void *src, size_t bytes)
{
    if (make_current(d))
        cuda_check(
            d,
            cudaMemcpyAsync(dst, src, bytes, cudaMemcpyHostToDevice, cuda_of(d)->stream[DEV_COPY]),
            "copying weights");
}

/* In order with the compute queue, from or to ordinary memory; done when it returns. */
static void copy_and_sync(dev *d, void *dst, const void *src, size_t bytes,
                          enum cudaMemcpyKind kind)
{
    const cudaStream_t s = cuda_of(d)->stream[DEV_COMPUTE];
    if (make_current(d) && cuda_check(d, cudaMemcpyAsync(dst, src, bytes, kind, s), "copying"))
        cuda_check(d, cudaStreamSynchronize(s), "computing");
}

static void cuda_put(dev *d, void *dst, const void *src, size_t bytes)
{
    copy_and_sync(d, dst, src, bytes, cudaMemcpyHostToDevice);
}

static void cuda_get(dev *d, void *dst, const void *src, size_t bytes)
{
    copy_and_sync(d, dst, src, bytes, cudaMemcpyDeviceToHost);
}

/* ---- opening ---- */

static void cuda_close(dev *d)
{
    cuda_dev *c = cuda_of(d);
    sync_streams(d);
    for (int i = 0; i < 2; i++)
        if (c->stream[i])
            (void)cudaStreamDestroy(c->stream[i]);
    mem_free(c);
}

static const struct dev_ops CUDA_OPS = {
    .name = "cuda",
    .alloc = cuda_alloc,
    .free = cuda_free,
    .event_open = cuda_event_open,
    .event_close = cuda_event_close,
    .copy_in = cuda_copy_in,
    .put = cuda_put,
    .get = cuda_get,
    .record = cuda_record,
    .wait = cuda_wait,
    .sync = cuda_sync,
    .close = cuda_close,
    .memory_free = cuda_memory_free,
    .elapsed = cuda_elapsed,
    OPERATORS_OF(cuda),
};

/* The error of a call that no device is there yet to keep. */
static bool report_cuda_error(refine_error *err, cudaError_t e, const char *doing)
{
    char text[256];
    if (e == cudaSuccess)
        return false;
    (void)cudaGetLastError();
    const refine_status st = cuda_explain(text, sizeof text, e, doing);
    refine_fail(err, st, "%s", text);
    return true;
}

int dev_list_gpus(dev_gpu *out, int most, refine_error *err)
{
    int n = 0;
    if (report_cuda_error(err, cudaGetDeviceCount(&n), "looking for GPUs"))
        return 0;
    for (int i = 0; i < n && i < most; i++) {
        struct cudaDeviceProp p;
        if (report_cuda_error(err, cudaGetDeviceProperties(&p, i), "asking for a GPU's properties"))
            return 0;
        out[i] = (dev_gpu){ .major = p.major, .minor = p.minor, .total = p.totalGlobalMem };
        (void)snprintf(out[i].name, sizeof out[i].name, "%.95s", p.name);
    }
    return n;
}

static bool find_card(struct cudaDeviceProp *p, int ordinal, refine_error *err)
{
    int n = 0;
    if (report_cuda_error(err, cudaGetDeviceCount(&n), "looking for GPUs"))
        return false;
    if (ordinal < 0 || ordinal >= n)
        return !report_cuda_error(err, cudaErrorInvalidDevice, "looking for GPUs");
    if (report_cuda_error(err, cudaGetDeviceProperties(p, ordinal),
                          "asking for a GPU's properties"))
        return false;
    return p->major * 10 + p->minor >= OLDEST ||
           !report_cuda_error(err, cudaErrorNoKernelImageForDevice, "looking for GPUs");
}

static void load_kernels(dev *d)
{
    cuda_load_products(d);
    cuda_load_attention(d);
    cuda_load_groupnorm(d);
    cuda_load_layernorm(d);
    cuda_load_elements(d);
    cuda_load_quantise(d);
}

static void open_streams(cuda_dev *c)
{
    for (int i = 0; i < 2; i++)
        cuda_check(&c->base, cudaStreamCreateWithFlags(&c->stream[i], cudaStreamNonBlocking),
                   "making a stream");
}

/* No context is smaller: where others give memory back meanwhile, the difference may be. */
static const size_t CONTEXT_MIN = (size_t)64 << 20;

/* What opening took.  The driver's list of processes says it, less what this one had; under WDDM
 * and in most containers it does not: then what is in use now that was not before; where that is
 * not known either, all that is in use, which is more. */
static size_t measure_overhead(cuda_dev *c, const struct cudaDeviceProp *p, bool known,
                               size_t before, size_t own_before)
{
    size_t own = 0, after = 0, total = 0, free_bytes = 0;
    if (cuda_memory_own(&own, p->pciDomainID, p->pciBusID, p->pciDeviceID))
        return num_max(own > own_before ? own - own_before : 0, CONTEXT_MIN);
    if (known && cuda_memory_used(&after, p->pciDomainID, p->pciBusID, p->pciDeviceID))
        return num_max(after > before ? after - before : 0, CONTEXT_MIN);
    if (!cuda_check(&c->base, cudaMemGetInfo(&free_bytes, &total), "asking for the free memory"))
        return 0;
    return total - free_bytes;
}

static void init_card(cuda_dev *c, const struct cudaDeviceProp *p)
{
    size_t before = 0, own_before = 0, noted = 0;
    (void)cuda_memory_own(&own_before, p->pciDomainID, p->pciBusID, p->pciDeviceID);
    const bool known = cuda_memory_used(&before, p->pciDomainID, p->pciBusID, p->pciDeviceID);
    /* A thread that waits gives its core away: decoding needs it. */
    if (!cuda_check(&c->base, cudaInitDevice(c->ordinal, cudaDeviceScheduleBlockingSync, 1),
                    "opening the GPU") ||
        !make_current(&c->base))
        return;
    open_streams(c);
    load_kernels(&c->base);
    cuda_probe(c);
    if (c->int8_math && c->math != CUDA_TENSOR_CORES)
        dev_fail(&c->base, REFINE_EINVAL,
                 "precision int8 needs a GPU with tensor cores: leave --precision out, and int8 "
                 "weights are multiplied in fp16");
    cuda_self_test(c);
    noted = cuda_context_noted(&c->base);
    c->base.overhead = noted ? noted : measure_overhead(c, p, known, before, own_before);
    if (!noted && dev_status(&c->base) == REFINE_OK)
        cuda_context_note(&c->base, c->base.overhead);
}

/* Those for data centres are 8.0, 9.0 and 10.x, and have four times the rate of the others or more.
 * CUDA C++ Programming Guide, "Compute Capabilities"; NVIDIA's white papers of GA100 and GA102. */
static int mma_rate(const struct cudaDeviceProp *p)
{
    const bool data_centre = p->major == 10 || (p->minor == 0 && p->major < 10);
    return data_centre ? 1024 : 256;
}

dev *dev_open_cuda(const dev_options *o, int ordinal, refine_error *err)
{
    struct cudaDeviceProp p;
    if (o->compute != DT_F16 && o->compute != DT_F32) {
        refine_fail(err, REFINE_EINVAL, "device cuda computes in fp16 or f32; choose one of these");
        return NULL;
    }
    if (!find_card(&p, ordinal, err))
        return NULL;
    cuda_dev *c = mem_calloc(1, sizeof *c);
    if (!c) {
        refine_fail(err, REFINE_ENOMEM, "device cuda: out of memory (%zu bytes)", sizeof *c);
        return NULL;
    }
    c->base.ops = &CUDA_OPS;
    c->base.threads = 1;
    c->base.blocks = MATRIX_BLOCKS_MAX;
    c->ordinal = ordinal;
    c->compute = o->compute;
    c->int8_math = o->int8_math && o->compute == DT_F16;
    c->processors = p.multiProcessorCount;
    c->mma_rate = mma_rate(&p);
    c->attention_macs = ATTENTION_MACS * p.multiProcessorCount;
    c->only = CUDA_TILES;
    (void)snprintf(c->base.model, sizeof c->base.model, "%.95s", p.name);
    init_card(c, &p);
    (void)snprintf(c->base.rounding, sizeof c->base.rounding, "%s, %d", c->base.model,
                   (int)c->math);
    if (dev_status(&c->base) == REFINE_OK)
        return &c->base;
    refine_fail(err, dev_status(&c->base), "%s", dev_why(&c->base));
    cuda_close(&c->base);
    return NULL;
}
