/* tests/support/cuda/emulation_block.cpp -- a block of threads as fibers of the calling thread.
 * Only one runs at a time in the process: the caller holds the card's lock.
 *
 * A thread of the block is ready, waits for its warp, waits for the block, or is done:
 *
 *     ready --meets its warp--> in warp.come --the last lane has come--> ready
 *     ready --meets the block-> in warp.held --all live threads have come--> ready
 *
 * Who must wait switches straight to a lane of its warp that is ready, else to another warp; the
 * last to come goes on itself.  When nobody is ready and somebody is not done, threads wait for
 * each other in different places, and the process is aborted.
 *
 * Stacks begin at different places of a page, or else 256 of them would share one set of the
 * first-level cache; each has a guard page below.
 */
#include "emulation_block.h"

#include "emulation_card.h"

#include <cstdio>
#include <cstdlib>
#include <string>
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
.hidden emulation_switch
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

alignas(1024) unsigned char dynamic_shared[emulation::MOST_SHARED + emulation::BEHIND_SHARED];
uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace emulation {

place here;
bool has_copies;

namespace {

const size_t PAGE = 4096, STACK = 256 << 10, COLOUR = 1088, COLOURS = 60;
const unsigned ALL_LANES = ~0u;

struct fiber {
    void *sp;
    char *stack;
    size_t stack_bytes;
    uint3 index;
    place at;
    void *fake; /* AddressSanitizer's */
};

/* Sixteen bytes on their way. */
struct copy {
    void *to;
    const void *from; /* NULL: zeros */
};

/* Lanes as bits. */
struct warp {
    unsigned ready, come, held, done;
    void (*act)(void *const *);
    void *brought[LANES];
};

/* What runs. */
struct {
    fiber fibers[MOST_THREADS];
    std::vector<copy> copies[MOST_THREADS], awaited; /* not waited for; at the next barrier there */
    warp warps[MOST_THREADS / LANES];
    char *stacks;
    unsigned n_warps, live, held; /* threads */
    fiber *current;
    fiber outside; /* who called run_block */
    const kernel_call *call;
} m;

struct {
    emulation_order order = EMULATION_FORWARD;
    uint32_t random = 0;
    bool watch = false;
    int skip = -1;
    std::vector<std::pair<const char *, int>> sites;
    std::vector<std::string> names;
} wish;

uint32_t next_random()
{
    wish.random = wish.random * 1664525u + 1013904223u;
    return wish.random >> 8;
}

[[noreturn]] void give_up(const char *why)
{
    fprintf(stderr, "emulation: block (%u, %u, %u), thread (%u, %u, %u): %s\n", blockIdx.x,
            blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z, why);
    abort();
}

/* ---- from fiber to fiber ---- */

void switch_to(fiber *next)
{
    fiber *self = m.current;
    m.current = next;
    threadIdx = next->index;
    here = next->at;
#ifdef WITH_ASAN
    const bool over = self != &m.outside && m.warps[self->at.warp].done >> self->at.lane & 1u;
    __sanitizer_start_switch_fiber(over ? nullptr : &self->fake, next->stack, next->stack_bytes);
#endif
    emulation_switch(&self->sp, next->sp);
#ifdef WITH_ASAN
    __sanitizer_finish_switch_fiber(self->fake, nullptr, nullptr);
#endif
}

unsigned pick_lane(unsigned ready)
{
    if (wish.order == EMULATION_FORWARD)
        return static_cast<unsigned>(__builtin_ctz(ready));
    if (wish.order == EMULATION_REVERSE)
        return 31 - static_cast<unsigned>(__builtin_clz(ready));
    const unsigned turn = next_random() % LANES;
    const unsigned turned = ready >> turn | ready << (LANES - turn) % LANES;
    return (static_cast<unsigned>(__builtin_ctz(turned)) + turn) % LANES;
}

/* A warp with a lane that is ready, or NULL. */
warp *pick_warp()
{
    const unsigned n = m.n_warps;
    const unsigned first = wish.order == EMULATION_RANDOM ? next_random() % n : 0;
    for (unsigned i = 0; i < n; i++) {
        const unsigned at = wish.order == EMULATION_REVERSE ? n - 1 - i : (first + i) % n;
        if (m.warps[at].ready)
            return &m.warps[at];
    }
    return nullptr;
}

fiber *fiber_of(const warp *w)
{
    return &m.fibers[static_cast<size_t>(w - m.warps) * LANES + pick_lane(w->ready)];
}

/* The calling thread waits or is done. */
void go_elsewhere()
{
    const warp *w = &m.warps[here.warp];
    if (!w->ready || (wish.order == EMULATION_RANDOM && next_random() % 8 == 0))
        w = pick_warp();
    if (w)
        switch_to(fiber_of(w));
    else if (m.live == 0)
        switch_to(&m.outside);
    else
        give_up("threads of the block wait for each other in different places");
}

/* ---- meetings ---- */

/* What was waited for is there from now on, for all. */
void deliver_copies()
{
    for (const copy &c : m.awaited) {
        if (c.from)
            memcpy(c.to, c.from, 16);
        else
            memset(c.to, 0, 16);
    }
    m.awaited.clear();
}

void end_block_meeting()
{
    deliver_copies();
    m.held = 0;
    for (unsigned i = 0; i < m.n_warps; i++) {
        m.warps[i].ready |= m.warps[i].held;
        m.warps[i].held = 0;
    }
}

void end_thread()
{
    warp *w = &m.warps[here.warp];
    w->ready &= ~(1u << here.lane);
    w->done |= 1u << here.lane;
    if (--m.live && m.held == m.live)
        end_block_meeting();
}

bool is_skipped(const char *file, int line)
{
    size_t i = 0;
    while (i < wish.sites.size() &&
           (wish.sites[i].second != line || strcmp(wish.sites[i].first, file) != 0))
        i++;
    if (i == wish.sites.size() && wish.watch) {
        wish.sites.emplace_back(file, line);
        wish.names.push_back(std::string(file) + ":" + std::to_string(line));
    }
    return static_cast<int>(i) == wish.skip;
}

/* ---- the life of a block ---- */

/* Frames that are never left must hold nothing that AddressSanitizer guards: stacks are used over
 * and over. */
#ifdef WITH_ASAN
__attribute__((noinline)) void say_entered()
{
    const void *bottom;
    size_t bytes;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
    if (!m.outside.stack) { /* the first fiber is entered from there */
        m.outside.stack = static_cast<char *>(const_cast<void *>(bottom));
        m.outside.stack_bytes = bytes;
    }
}
#else
void say_entered() {}
#endif

void enter_fiber()
{
    say_entered();
    (*m.call)();
    end_thread();
    go_elsewhere();
    abort(); /* nobody comes back to what is done */
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
    for (size_t i = 0; i < MOST_THREADS; i++)
        if (mprotect(m.stacks + i * STACK, PAGE, PROT_NONE) != 0)
            abort();
}

/* A stack that emulation_switch "returns" from into enter_fiber. */
void begin_fiber(unsigned i, dim3 threads)
{
    fiber *f = &m.fibers[i];
    const size_t colour = i % COLOURS * COLOUR / 64 * 64;
    f->stack = m.stacks + STACK * i + PAGE;
    f->stack_bytes = STACK - PAGE;
    void **top = reinterpret_cast<void **>(f->stack + f->stack_bytes - colour);
    *--top = nullptr;
    *--top = reinterpret_cast<void *>(enter_fiber);
    for (int k = 0; k < 6; k++)
        *--top = nullptr;
    f->sp = top;
    f->index = { i % threads.x, i / threads.x % threads.y, i / threads.x / threads.y };
    f->at = { i % LANES, i / LANES };
    f->fake = nullptr;
}

/* What lies behind the block's is not its own. */
#ifdef WITH_ASAN
void fill_shared(size_t bytes)
{
    __asan_unpoison_memory_region(dynamic_shared, sizeof dynamic_shared);
    memset(dynamic_shared, 0xff, bytes); /* a NaN of every type */
    __asan_poison_memory_region(dynamic_shared + bytes, sizeof dynamic_shared - bytes);
}

void check_shared(size_t) {}
#else
void fill_shared(size_t bytes)
{
    memset(dynamic_shared, 0xff, bytes + BEHIND_SHARED);
}

void check_shared(size_t bytes)
{
    for (size_t i = 0; i < BEHIND_SHARED; i++)
        if (dynamic_shared[bytes + i] != 0xff)
            give_up("the block has written behind its shared memory");
}
#endif

} /* namespace */

void meet_block(const char *file, int line)
{
    if ((wish.watch || wish.skip >= 0) && is_skipped(file, line))
        return;
    if (m.held + 1 == m.live) {
        end_block_meeting();
        return;
    }
    m.held++;
    warp *w = &m.warps[here.warp];
    w->ready &= ~(1u << here.lane);
    w->held |= 1u << here.lane;
    go_elsewhere();
}

void meet_warp(void *brought, void (*act)(void *const *))
{
    warp *w = &m.warps[here.warp];
    const unsigned self = 1u << here.lane;
    if (w->come == 0)
        w->act = act;
    if (w->act != act)
        give_up("lanes of a warp meet in different collectives");
    w->brought[here.lane] = brought;
    w->come |= self;
    if (w->come != ALL_LANES) {
        w->ready &= ~self;
        go_elsewhere();
        return;
    }
    w->come = 0;
    w->ready = ALL_LANES;
    act(w->brought);
}

void sync_warp(const char *file, int line)
{
    if ((wish.watch || wish.skip >= 0) && is_skipped(file, line))
        return;
    meet_warp(nullptr, exchange_nothing);
}

void begin_copy(void *to, const void *from)
{
    m.copies[here.warp * LANES + here.lane].push_back({ to, from });
    memset(to, 0xff, 16);
}

void end_copies(const char *file, int line)
{
    if ((wish.watch || wish.skip >= 0) && is_skipped(file, line))
        return;
    std::vector<copy> &mine = m.copies[here.warp * LANES + here.lane];
    m.awaited.insert(m.awaited.end(), mine.begin(), mine.end());
    mine.clear();
}

static void run_block(dim3 blocks, dim3 threads, uint3 block, size_t shared,
                      const kernel_call &call)
{
    const unsigned n = threads.x * threads.y * threads.z;
    take_stacks();
    m.n_warps = n / LANES;
    for (unsigned i = 0; i < m.n_warps; i++)
        m.warps[i] = { ALL_LANES, 0, 0, 0, nullptr, {} };
    m.live = n;
    m.held = 0;
    m.call = &call;
    fill_shared(shared);
    blockIdx = block;
    blockDim = threads;
    gridDim = blocks;
    m.awaited.clear();
    for (unsigned i = 0; i < n; i++) {
        m.copies[i].clear();
        begin_fiber(i, threads);
    }
    m.current = &m.outside;
    m.outside.stack = nullptr;
    switch_to(fiber_of(pick_warp()));
    check_shared(shared);
}

void run_grid(dim3 blocks, dim3 threads, size_t shared, const kernel_call &call)
{
    const uint64_t layer = static_cast<uint64_t>(blocks.x) * blocks.y, n = layer * blocks.z;
    const uint64_t first = wish.order == EMULATION_RANDOM ? next_random() % n : 0;
    has_copies = card.major >= 8;
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t at = wish.order == EMULATION_FORWARD ? i : n - 1 - (first + i) % n;
        run_block(blocks, threads,
                  { static_cast<unsigned>(at % blocks.x),
                    static_cast<unsigned>(at % layer / blocks.x),
                    static_cast<unsigned>(at / layer) },
                  shared, call);
    }
}

void block_reset()
{
    wish = {};
}

} /* namespace emulation */

void emulation_set_order(emulation_order o, uint32_t seed)
{
    emulation::wish.order = o;
    emulation::wish.random = seed;
}

void emulation_watch_barriers(void)
{
    emulation::wish.watch = true;
    emulation::wish.sites.clear();
    emulation::wish.names.clear();
}

int emulation_barriers(void)
{
    return static_cast<int>(emulation::wish.sites.size());
}

const char *emulation_barrier(int i)
{
    return emulation::wish.names[static_cast<size_t>(i)].c_str();
}

void emulation_skip_barrier(int i)
{
    emulation::wish.skip = i;
}
