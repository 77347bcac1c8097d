/* tests/support/cuda/emulation_card.cpp -- the card, its driver and its context, and the errors
 * that a test wants of them. */
#include "emulation_card.h"

#include "emulation.h"
#include "emulation_block.h"
#include "emulation_memory.h"
#include "emulation_streams.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

namespace emulation {

namespace {

enum { MOST_LINGERING = 100 };

const card_state USUAL = {
    CUDART_VERSION, 1, 8, 6, 2, static_cast<size_t>(8) << 30, 0, static_cast<size_t>(64) << 20,
    false, cudaSuccess, 0, 0, -1, 0, -1, nullptr
};

struct {
    cudaError_t next = cudaSuccess, context = cudaSuccess;
    int after = 0, calls = 0;
} failing;

std::mutex lock;

/* A context in which this has happened answers nothing else any more. */
bool is_fatal(cudaError_t e)
{
    return e == cudaErrorECCUncorrectable ||
           (e >= cudaErrorIllegalAddress && e <= cudaErrorLaunchTimeout) ||
           (e >= cudaErrorHardwareStackError && e <= cudaErrorLaunchFailure);
}

/* As the driver is told: no card, or whichever there is. */
bool is_hidden()
{
    const char *visible = std::getenv("CUDA_VISIBLE_DEVICES");
    return visible && std::strcmp(visible, "-1") == 0;
}

cudaError_t find_driver()
{
    if (card.driver / 1000 < CUDART_VERSION / 1000)
        return cudaErrorInsufficientDriver;
    return card.devices > 0 && !is_hidden() ? cudaSuccess : cudaErrorNoDevice;
}

cudaError_t make_context()
{
    if (card.has_context)
        return cudaSuccess;
    if (failing.context != cudaSuccess)
        return failing.context;
    if (card.total - card.used_by_others < card.context_bytes)
        return cudaErrorMemoryAllocation;
    card.has_context = true;
    return cudaSuccess;
}

cudaError_t begin_call(call_need need)
{
    failing.calls++;
    if (card.lost != cudaSuccess)
        return card.lost;
    if (failing.next != cudaSuccess && failing.after-- == 0) {
        const cudaError_t e = failing.next;
        failing.next = cudaSuccess;
        if (is_fatal(e)) {
            card.lost = e;
            streams_drop();
        }
        return e;
    }
    cudaError_t e = cudaSuccess;
    if (need >= NEEDS_DRIVER)
        e = find_driver();
    if (e == cudaSuccess && need >= NEEDS_CONTEXT)
        e = make_context();
    return e;
}

} /* namespace */

card_state card = USUAL;

api_call::api_call(call_need need) : hold(lock), wrong(begin_call(need)) {}

api_call::~api_call()
{
    memory_close_all();
}

cudaError_t api_call::end(cudaError_t e) const
{
    const cudaError_t result = wrong != cudaSuccess ? wrong : e;
    if (result != cudaSuccess && result != cudaErrorNotReady)
        last_error() = result;
    return result;
}

cudaError_t &last_error()
{
    static thread_local cudaError_t last;
    return last;
}

std::unique_lock<std::mutex> card_hold()
{
    return std::unique_lock<std::mutex>(lock);
}

void card_linger()
{
    int seen = -1;
    for (int i = 0; i < MOST_LINGERING && seen != emulation_calls(); i++) {
        seen = emulation_calls();
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

size_t card_free_bytes()
{
    const size_t used =
        card.used_by_others + (card.has_context ? card.context_bytes : 0) + memory_taken();
    return used < card.total ? card.total - used : 0;
}

/* CUDA C++ Programming Guide, "Technical Specifications per Compute Capability". */
int card_most_shared()
{
    const int version = 10 * card.major + card.minor;
    const int kib = version == 75                   ? 64
                    : version == 80 || version == 87 ? 163
                    : version == 90 || version == 100 ? 227
                                                     : 99;
    return kib << 10;
}

/* From 8.0 on each block takes 1 KiB for itself, and that is what the most of one lacks of all. */
int card_blocks_held(int threads, size_t shared)
{
    enum { REGISTERS = 65536, EACH = 168 };
    const bool old = card.major == 7;
    const size_t own = old ? 0 : 1 << 10;
    const int by_registers = REGISTERS / (EACH * threads);
    const int by_threads = (old ? 1024 : card.minor == 0 ? 2048 : 1536) / threads;
    const size_t room = static_cast<size_t>(card_most_shared()) + own;
    const size_t by_shared = room / std::max<size_t>(shared + own, 1);
    return static_cast<int>(std::min<size_t>(std::min(by_registers, by_threads), by_shared));
}

void card_end_context()
{
    streams_drain();
    memory_close_all();
    symbols_restore();
    kernels_forget();
    card.has_context = false;
}

} /* namespace emulation */

using namespace emulation;

int emulation_reset(void)
{
    const std::lock_guard<std::mutex> hold(lock);
    const int live = memory_live() + streams_live();
    streams_reset();
    memory_close_all();
    memory_reset();
    symbols_restore();
    block_reset();
    kernels_forget();
    card = USUAL;
    failing = {};
    last_error() = cudaSuccess;
    return live;
}

int emulation_live(void)
{
    const std::lock_guard<std::mutex> hold(lock);
    return memory_live() + streams_live();
}

void emulation_set_driver(int version)
{
    card.driver = version;
}

void emulation_set_devices(int count)
{
    card.devices = count;
}

void emulation_set_card(int major, int minor, int processors)
{
    card.major = major;
    card.minor = minor;
    card.processors = processors;
}

void emulation_set_memory(size_t total, size_t used_by_others, size_t context)
{
    const std::lock_guard<std::mutex> hold(lock);
    card.total = total;
    card.used_by_others = used_by_others;
    card.context_bytes = context;
}

int emulation_loaded_late(void)
{
    return card.loaded_late;
}

int emulation_launches(void)
{
    return card.launches;
}

int emulation_copies(void)
{
    return card.copies;
}

void emulation_lose_launch(int after_launches)
{
    const std::lock_guard<std::mutex> hold(lock);
    card.lost_launch = after_launches < 0 ? -1 : card.launches + after_launches;
}

void emulation_flip_bit(int after_copies)
{
    const std::lock_guard<std::mutex> hold(lock);
    card.flipped_copy = after_copies < 0 ? -1 : card.copies + after_copies;
}

void emulation_list_launches(emulation_listener *listener)
{
    const std::lock_guard<std::mutex> hold(lock);
    card.listener = listener;
}

int emulation_calls(void)
{
    const std::lock_guard<std::mutex> hold(lock);
    return failing.calls;
}

void emulation_fail_next(cudaError_t e, int after_calls)
{
    const std::lock_guard<std::mutex> hold(lock);
    failing.next = e;
    failing.after = after_calls;
}

void emulation_fail_context(cudaError_t e)
{
    const std::lock_guard<std::mutex> hold(lock);
    failing.context = e;
}

void emulation_lose(cudaError_t e)
{
    const std::lock_guard<std::mutex> hold(lock);
    card.lost = e;
    streams_drop();
}
