/* tests/support/cuda/emulation.h -- how a test makes the emulated card behave.
 *
 * There is one card in a process; what is said here holds for every thread, from the next call of
 * the runtime on.  emulation_reset puts all of it back to what the comments call usual.
 */
#ifndef EMULATION_H
#define EMULATION_H

#include "cuda_runtime_api.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Everything as usual.  All streams, events and memory must have been given back: what has not is
 * lost, and counted by the result. */
int emulation_reset(void);

/* Streams, events, allocations and registrations that are open. */
int emulation_live(void);

/* ---- order ---- */

/* Which thread of a block goes first where several may; one warp goes on as far as it can before
 * the next does.  RANDOM also stops in between.  Likewise of blocks, but each is run to its end.
 * Usually FORWARD. */
typedef enum { EMULATION_FORWARD, EMULATION_REVERSE, EMULATION_RANDOM } emulation_order;
void emulation_set_order(emulation_order o, uint32_t seed);

/* When what is enqueued is run: at once (usual; hides every missing wait); not before somebody
 * waits for it; one stream as early and the other as late as is legal; by chance; not before it is
 * sent, as a driver does that batches (WDDM): by a query or a wait for this very stream.  Who waits
 * for what stays unsent ends the process.  Streams are numbered as they are made, the first open
 * one being compute, the second copy. */
typedef enum {
    EMULATION_EAGER,
    EMULATION_LAZY,
    EMULATION_COPY_FIRST,
    EMULATION_COMPUTE_FIRST,
    EMULATION_BY_CHANCE,
    EMULATION_BATCHED,
    EMULATION_SCHEDULES
} emulation_schedule;
void emulation_set_schedule(emulation_schedule s, uint32_t seed);

/* A wait that is left out, as if the program under test had forgotten it: the copy stream's for
 * events, the compute stream's, or the host's for what the copy stream has recorded. */
typedef enum {
    EMULATION_NOTHING,
    EMULATION_COPY_WAITS,
    EMULATION_COMPUTE_WAITS,
    EMULATION_HOST_WAITS,
    EMULATION_OMISSIONS
} emulation_omission;
void emulation_ignore(emulation_omission o);
/* Waits left out since then. */
int emulation_ignored(void);

/* __syncthreads and __syncwarp by where they stand in the source: watching notes those that are
 * met; skipping makes all that stand there no meeting.  -1: none. */
void emulation_watch_barriers(void);
int emulation_barriers(void);
const char *emulation_barrier(int i); /* "file:line" */
void emulation_skip_barrier(int i);

/* ---- the card ---- */

/* 0: there is none.  Usually CUDART_VERSION. */
void emulation_set_driver(int version);
/* Usually 1. */
void emulation_set_devices(int count);
/* Usually 8.6 with 2 processors.  On 7.5 nothing goes to shared memory by itself. */
void emulation_set_card(int major, int minor, int processors);
/* Bytes; a context is taken when the first call needs one.  Usually 8 GiB, 0, 64 MiB. */
void emulation_set_memory(size_t total, size_t used_by_others, size_t context);
/* Multiply-adds a nanosecond with mma and with __hfma2, as events see it: 0 for free.  Usually
 * 8000 and 1000; a card without tensor cores has 1000 and 1000. */
void emulation_set_performance(double tensor, double half2);
/* Kernels that were launched before they had been loaded by cudaFuncGetAttributes. */
int emulation_loaded_late(void);

/* ---- listing ---- */

typedef struct emulation_launch {
    const void *kernel; /* its address */
    unsigned blocks, threads;
    size_t shared; /* bytes */
} emulation_launch;
/* From now on kernels do not run, which takes no time and leaves what they write as it was, and
 * fresh memory is 0: each launch is told to the listener instead.  NULL: none; usually so. */
typedef void emulation_listener(const emulation_launch *l);
void emulation_list_launches(emulation_listener *listener);

/* ---- failures ---- */

/* A card that computes wrongly: after so many others, one launch does nothing, or one copy to the
 * host brings a wrong bit.  -1: none; usually so. */
void emulation_lose_launch(int after_launches);
void emulation_flip_bit(int after_copies);
/* Launches, and copies to the host, so far. */
int emulation_launches(void);
int emulation_copies(void);

/* Calls of the runtime so far that may fail, kernel launches included. */
int emulation_calls(void);
/* The call after `after_calls` others fails, and does nothing but give back what it is asked to
 * give back.  Errors that a card does not survive make all later ones fail as well. */
void emulation_fail_next(cudaError_t e, int after_calls);
/* No context can be made. */
void emulation_fail_context(cudaError_t e);
/* The card is lost: every call fails from now on. */
void emulation_lose(cudaError_t e);

#ifdef __cplusplus
}
#endif
#endif
