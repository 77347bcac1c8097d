/* tests/support/cuda/emulation_block.cpp -- a block of threads as fibers of the calling thread.
 *
 * A fiber runs until it must wait, then gives control back to the loop, which runs the next that
 * can go on.  What it waits for is a counter that moves when the last of a meeting has come.  A
 * round in which nobody could run is a deadlock: threads that wait in different places.
 */
#include "emulation.h"
#include "emulation_block.h"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <sys/mman.h>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(__x86_64__)
#error "the emulation switches stacks on x86-64 only"
#endif

/* Saves the callee's registers and the stack pointer in *from, and goes on where `to` stopped. */
extern "C" void emulation_switch(void **from, void *to);
asm(R"(
.text
.globl emulation_switch
.type emulation_switch, @function
emulation_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emulation_switch, .-emulation_switch
)");

alignas(1024) __thread unsigned char dynamic_shared[emulation::MOST_SHARED];
thread_local uint3 threadIdx, blockIdx;
thread_local dim3 blockDim, gridDim;

namespace emulation {

thread_local place here;

namespace {

const size_t STACK = 256 << 10;

struct meeting {
    unsigned come, times; /* how many wait; how often it has taken place */
};

struct fiber {
    void *sp;
    char *stack;
    uint3 index;
    place at;
    bool done;
    const meeting *waits; /* or NULL */
    unsigned since;       /* of waits->times */
    void *fake;           /* AddressSanitizer's */
};

struct warp {
    meeting m;
    void *brought[LANES];
    void (*act)(void *const *);
};

/* What the calling thread runs; made once for each. */
struct machine {
    std::vector<fiber> fibers;
    std::vector<warp> warps;
    std::vector<int> order;
    char *stacks = nullptr;
    unsigned threads = 0, live = 0;
    meeting block;
    fiber *current = nullptr;
    void *loop = nullptr;
    const void *loop_stack = nullptr;
    size_t loop_stack_bytes = 0;
    void *loop_fake = nullptr;
    const kernel_call *call = nullptr;

    ~machine()
    {
        if (stacks)
            munmap(stacks, STACK * MOST_THREADS);
    }
};

thread_local machine m;

struct {
    emulation_order order;
    uint32_t seed;
} wish;

uint32_t next_random()
{
    wish.seed = wish.seed * 1664525u + 1013904223u;
    return wish.seed >> 8;
}

void pause()
{
    fiber *f = m.current;
#ifdef WITH_ASAN
    __sanitizer_start_switch_fiber(f->done ? nullptr : &f->fake, m.loop_stack,
                                   m.loop_stack_bytes);
#endif
    emulation_switch(&f->sp, m.loop);
#ifdef WITH_ASAN
    __sanitizer_finish_switch_fiber(f->fake, nullptr, nullptr);
#endif
}

void enter_fiber()
{
#ifdef WITH_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &m.loop_stack, &m.loop_stack_bytes);
#endif
    (*m.call)();
    m.current->done = true;
    m.live--;
    pause();
    abort(); /* nobody comes back to what is done */
}

void resume(fiber *f)
{
    m.current = f;
    threadIdx = f->index;
    here = f->at;
    f->waits = nullptr;
#ifdef WITH_ASAN
    __sanitizer_start_switch_fiber(&m.loop_fake, f->stack, STACK);
#endif
    emulation_switch(&m.loop, f->sp);
#ifdef WITH_ASAN
    __sanitizer_finish_switch_fiber(m.loop_fake, nullptr, nullptr);
#endif
}

void wait_for(const meeting *w)
{
    m.current->waits = w;
    m.current->since = w->times;
    pause();
}

void end_meeting(meeting *w)
{
    w->come = 0;
    w->times++;
}

void take_stacks()
{
    if (m.stacks)
        return;
    void *p = mmap(nullptr, STACK * MOST_THREADS, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        abort();
    m.stacks = static_cast<char *>(p);
}

/* A stack that emulation_switch "returns" from into enter_fiber. */
void begin_fiber(unsigned i, dim3 threads)
{
    fiber *f = &m.fibers[i];
    f->stack = m.stacks + STACK * i;
    void **top = reinterpret_cast<void **>(f->stack + STACK);
    *--top = nullptr;
    *--top = reinterpret_cast<void *>(enter_fiber);
    for (int k = 0; k < 6; k++)
        *--top = nullptr;
    f->sp = top;
    f->index = { i % threads.x, i / threads.x % threads.y, i / threads.x / threads.y };
    f->at = { i % LANES, i / LANES };
    f->done = false;
    f->waits = nullptr;
    f->fake = nullptr;
}

void choose_order()
{
    for (unsigned i = 0; i < m.threads; i++)
        m.order[i] = static_cast<int>(wish.order == EMULATION_REVERSE ? m.threads - 1 - i : i);
    if (wish.order == EMULATION_RANDOM)
        for (unsigned i = m.threads - 1; i > 0; i--)
            std::swap(m.order[i], m.order[next_random() % (i + 1)]);
}

void run_all()
{
    choose_order();
    while (m.live) {
        bool moved = false;
        for (unsigned i = 0; i < m.threads; i++) {
            fiber *f = &m.fibers[static_cast<size_t>(m.order[i])];
            if (f->done || (f->waits && f->waits->times == f->since))
                continue;
            resume(f);
            moved = true;
        }
        if (!moved) {
            fprintf(stderr, "emulation: threads of a block wait for each other in different "
                            "places\n");
            abort();
        }
        if (wish.order == EMULATION_RANDOM)
            choose_order();
    }
}

void poison_shared(size_t bytes)
{
#ifdef WITH_ASAN
    __asan_unpoison_memory_region(dynamic_shared, MOST_SHARED);
#endif
    memset(dynamic_shared, 0xff, bytes); /* a NaN of every type */
#ifdef WITH_ASAN
    __asan_poison_memory_region(dynamic_shared + bytes, MOST_SHARED - bytes);
#endif
}

} /* namespace */

void meet_block()
{
    meeting *w = &m.block;
    if (++w->come == m.live)
        end_meeting(w);
    else
        wait_for(w);
}

void meet_warp(void *brought, void (*act)(void *const *))
{
    warp *w = &m.warps[here.warp];
    if (w->m.come == 0)
        w->act = act;
    if (w->act != act) {
        fprintf(stderr, "emulation: lanes of a warp meet in different collectives\n");
        abort();
    }
    w->brought[here.lane] = brought;
    if (++w->m.come < LANES) {
        wait_for(&w->m);
        return;
    }
    act(w->brought);
    end_meeting(&w->m);
}

void run_block(dim3 blocks, dim3 threads, uint3 block, size_t shared, const kernel_call &call)
{
    m.threads = m.live = threads.x * threads.y * threads.z;
    if (m.threads > MOST_THREADS || m.threads % LANES)
        abort();
    take_stacks();
    m.fibers.resize(m.threads);
    m.warps.assign(m.threads / LANES, warp());
    m.order.resize(m.threads);
    m.block = meeting();
    m.call = &call;
    poison_shared(shared);
    blockIdx = block;
    blockDim = threads;
    gridDim = blocks;
    for (unsigned i = 0; i < m.threads; i++)
        begin_fiber(i, threads);
    run_all();
}

} /* namespace emulation */

void emulation_set_order(emulation_order o, uint32_t seed)
{
    emulation::wish = { o, seed };
}
