/* tests/support/cuda/emulation_card.h -- what every call of the runtime API goes through. */
#ifndef EMULATION_CARD_H
#define EMULATION_CARD_H

#include "cuda_runtime_api.h"
#include "emulation.h"

#include <mutex>

namespace emulation {

/* What a call needs to be there. */
enum call_need { NEEDS_NOTHING, NEEDS_DRIVER, NEEDS_CONTEXT };

/* A call of the API from begin to end, holding the card's lock.  What is `wrong` with the card,
 * or is to fail now, is the call's result whatever it does; it should then do nothing but give
 * back what it was to give back. */
class api_call {
    const std::lock_guard<std::mutex> hold;

public:
    explicit api_call(call_need need);
    ~api_call();
    api_call(const api_call &) = delete;
    api_call &operator=(const api_call &) = delete;

    const cudaError_t wrong;

    /* The result: what is wrong, else e; the thread's last error if it is one. */
    cudaError_t end(cudaError_t e) const;
};

cudaError_t &last_error(); /* the calling thread's */

/* Of the card in the slot, under the lock. */
struct card_state {
    int driver, devices, major, minor, processors;
    size_t total, used_by_others, context_bytes;
    bool has_context;
    cudaError_t lost; /* or cudaSuccess */
    int loaded_late;
    int launches, lost_launch, copies, flipped_copy; /* so far, and which of them; -1: none */
    emulation_listener *listener;                    /* of launches, or NULL */
};
extern card_state card;

/* The lock, for what is no call of the API. */
std::unique_lock<std::mutex> card_hold();

/* Lets other threads get as far as they can while this one waits for the card: returns when none
 * has called anything for a while.  Without the lock. */
void card_linger();

size_t card_free_bytes();
int card_most_shared(); /* dynamic shared memory of a block, when asked for */
int card_blocks_held(int threads, size_t shared); /* by a multiprocessor, with 168 registers each */
void card_end_context();
void kernels_forget(); /* what was loaded and allowed */

} /* namespace emulation */

#endif
