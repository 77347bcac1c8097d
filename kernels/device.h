/* kernels/device.h -- a device is memory, two in-order queues, and events.
 *
 * Everything that enqueues is asynchronous and returns nothing.  The first
 * failure is remembered (dev_status) and turns later work into no-ops, as
 * ferror() does for stdio: that is all an asynchronous device can honestly
 * promise, and it is what lets the model read like the paper.
 *
 * The maths is in kernels/ops.h; offload/ needs only this half.  Included from
 * C11 and from CUDA C++: keep to the common subset.
 *
 * Threads.  Operators and DEV_COMPUTE belong to one thread, DEV_COPY to one
 * other (it may be the same); dev_status, dev_fail and dev_sync may be called
 * from any.  An event is recorded by one thread and may be waited for by others
 * once they know, by their own synchronisation, that it has been recorded.
 */
#ifndef REFINE_DEVICE_H
#define REFINE_DEVICE_H

#include "kernels/tensor.h"
#include <refine/status.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dev dev;
typedef struct dev_event dev_event;

typedef enum { DEV_COMPUTE, DEV_COPY } dev_queue;
typedef enum { DEV_VRAM, DEV_PINNED } dev_mem;

/* compute: the type activations are kept and multiplied in.  ints: where weights are
 * DT_I8G64 and what they meet is of the compute type, quantise that too and multiply
 * integers; a device that cannot do so ignores it.  threads: compute threads, 0 = one per
 * core this process may run on. */
typedef struct dev_options {
    dtype compute;
    bool int8_math;
    int threads;
} dev_options;

/* NULL and a text in err when the device cannot be had.
 *   ref   plain C loops in float; the referee.  F32 only.
 *   cpu   this machine's processor.  F32, or BF16: the same bits on every processor with FMA,
 *         fast where it multiplies pairs of BF16, else at the speed of F32.
 *   cuda  an NVIDIA GPU, by its number.  F16 (sums in F32), or F32.
 *   plan  computes nothing, counts everything; answers every question about
 *         sizes as `target` would, which must outlive it. */
dev *dev_open_ref(const dev_options *o, refine_error *err);
dev *dev_open_cpu(const dev_options *o, refine_error *err);
dev *dev_open_cuda(const dev_options *o, int ordinal, refine_error *err);
dev *dev_open_plan(const dev *target, refine_error *err);
void dev_close(dev *d); /* drains both queues; NULL is fine */

/* What `auto` precision is on this machine's CPU: BF16 if it has instructions for that. */
dtype dev_cpu_best(void);

/* A GPU as the system lists it. */
typedef struct dev_gpu {
    char name[96];
    int major, minor; /* compute capability */
    size_t total;     /* bytes of memory */
} dev_gpu;

/* Fills in the first `most` GPUs and returns how many there are; 0 and a text in err when there
 * are none that can be used. */
int dev_list_gpus(dev_gpu *out, int most, refine_error *err);

const char *dev_name(const dev *d);  /* "cpu", ... */
const char *dev_model(const dev *d); /* what a person calls it: CPU brand, GPU name */
/* What its rounding depends on beside its name and type of compute: where both devices say the
 * same, their results have the same bits. */
const char *dev_rounding(const dev *d);
int dev_threads(const dev *d);       /* compute threads; 1 where that means nothing */

/* True for a discrete device, whose memory is not the process's.  Then: what the device took of it
 * for itself when it was opened (its context and code), and what is free now. */
bool dev_is_discrete(const dev *d);
size_t dev_overhead(const dev *d);
size_t dev_memory_free(dev *d);

refine_status dev_status(const dev *d);
const char *dev_why(const dev *d); /* text of the first failure, "" if none */
refine_status dev_result(const dev *d, refine_error *err); /* the status, and why in `err` */
const char *dev_note(const dev *d); /* what is worth knowing of how it works, "" if nothing */
void dev_fail(dev *d, refine_status st, const char *why); /* first cause wins */

/* Where device memory is cut into parts, each begins at a multiple of this: any device can multiply
 * from there. */
enum { DEV_ALIGN = 256 };

/* Memory.  NULL: none is available (or, on a plan device, always a token that must
 * not be dereferenced).  `bytes` must be the same in both calls.  Freshly
 * allocated memory has unspecified content.  Freeing waits for what was enqueued, which may be
 * under way although the device has failed. */
void *dev_alloc(dev *d, size_t bytes, dev_mem kind);
void dev_free(dev *d, void *p, size_t bytes, dev_mem kind); /* NULL is fine */

/* Copies host -> device on DEV_COPY.  `src` is DEV_PINNED memory and must stay
 * as it is until an event recorded after the copy has passed. */
void dev_copy_in(dev *d, void *dst, const void *src, size_t bytes);

/* Small transfers in order with the compute queue, from ordinary host memory.
 * dev_put has read `src` when it returns; dev_get has filled `dst`. */
void dev_put(dev *d, void *dst, const void *src, size_t bytes);
void dev_get(dev *d, void *dst, const void *src, size_t bytes);

dev_event *dev_event_open(dev *d);                  /* NULL: out of memory */
void dev_event_close(dev *d, dev_event *e);         /* NULL is fine */
void dev_record(dev *d, dev_event *e, dev_queue q); /* passes when all earlier work on q is done */
void dev_wait(dev *d, dev_queue q, dev_event *e);   /* q waits; an event never recorded is free */
void dev_sync(dev *d, dev_event *e);                /* the calling thread waits; NULL is fine */

/* True if work is asynchronous: it goes on when the call that enqueued it has returned.  Then
 * seconds between two events of the compute queue, once both have passed. */
bool dev_is_async(const dev *d);
double dev_elapsed(dev *d, dev_event *from, dev_event *to);

/* Memory that operators need for themselves while they run.  The engine replays
 * the model on a plan device, asks it for the largest need so far, takes that
 * from the arena and hands it to the real device before the first operator.
 * It counts the scratch of every compute thread. */
size_t dev_workspace_needed(const dev *plan);
void dev_workspace_set(dev *d, void *p, size_t bytes);

/* What the operators replayed on a plan device would have cost so far: multiply-adds of each
 * kind, and bytes that elementwise work (norms, preparing, softmax) reads and writes. */
typedef struct dev_work {
    uint64_t linear, conv, attention, bytes;
} dev_work;

dev_work dev_plan_work(const dev *plan);

static inline uint64_t dev_work_macs(dev_work w) { return w.linear + w.conv + w.attention; }

/* What takes a device's time, in the order of dev_work. */
typedef enum dev_kind { DEV_LINEAR, DEV_CONV, DEV_ATTENTION, DEV_MEMORY, DEV_KINDS } dev_kind;

/* Work of one kind; bytes of DEV_MEMORY. */
static inline uint64_t dev_work_of(dev_work w, dev_kind k)
{
    const uint64_t of[DEV_KINDS] = { w.linear, w.conv, w.attention, w.bytes };
    return of[k];
}

/* Lets somebody know of which kind the operators are: at once, and then before one is enqueued that
 * is of another kind than the one before it.  The thread of the compute queue calls.  told NULL:
 * nobody is to know. */
typedef void dev_told(void *context, dev_kind now);
void dev_listen(dev *d, dev_told *told, void *context);

#ifdef __cplusplus
}
#endif
#endif
