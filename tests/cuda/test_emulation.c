/* tests/cuda/test_emulation.c -- the emulated card computes what CUDA's documents say, does not
 * let pass what a card would stumble over, and finds what a program has forgotten. */
#define _POSIX_C_SOURCE 200809L

#include "tests/cuda/emulation_calls.h"
#include "tests/cuda/emulation_kernels.h"
#include "tests/support/cuda/emulation.h"
#include "tests/support/own_process.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { SEEDS = 50 };

static void emulation_test_teardown(void) { (void)emulation_reset(); }

TestSuite(cuda_emulation, .fini = emulation_test_teardown);

/* Something done with a stream and so much memory, if any. */
typedef struct misdeed {
    void (*commit)(cudaStream_t s, void *memory);
    size_t bytes;
} misdeed;

static bool commit_misdeed(const void *context)
{
    const misdeed *what = context;
    cudaStream_t s = open_card_stream();
    what->commit(s, what->bytes ? alloc_card_bytes(what->bytes) : NULL);
    (void)cudaStreamSynchronize(s);
    return false;
}

static bool is_misdeed_fatal(void (*deed)(cudaStream_t s, void *memory), size_t bytes)
{
    const misdeed what = { deed, bytes };
    return own_process_fails(commit_misdeed, &what, 60);
}

/* ---- barriers ---- */

static unsigned partner_of_block(unsigned t) { return TRIAL_THREADS - 1 - t; }
static unsigned partner_of_warp(unsigned t) { return t / 32 * 32 + (t + 1) % 32; }

typedef cudaError_t exchange(cudaStream_t s, unsigned *v, bool after_writing, bool after_reading);

static bool exchanges_right(exchange *f, unsigned (*partner)(unsigned), bool writing, bool reading)
{
    unsigned v[TRIAL_THREADS], want[TRIAL_THREADS], next[TRIAL_THREADS];
    for (unsigned t = 0; t < TRIAL_THREADS; t++)
        v[t] = want[t] = 1000 + t * t;
    for (int i = 0; i < TRIAL_ROUNDS; i++) {
        for (unsigned t = 0; t < TRIAL_THREADS; t++)
            next[t] = 3 * want[partner(t)] + t;
        memcpy(want, next, sizeof want);
    }
    cudaStream_t s = open_card_stream();
    unsigned *on_card = upload_bytes(s, v, sizeof v);
    cr_assert_eq(f(s, on_card, writing, reading), cudaSuccess);
    download_bytes(s, v, on_card, sizeof v);
    cr_assert_eq(cudaFree(on_card), cudaSuccess);
    cr_assert_eq(cudaStreamDestroy(s), cudaSuccess);
    return memcmp(v, want, sizeof v) == 0;
}

Test(cuda_emulation, a_missing_barrier_makes_a_wrong_number_in_every_order)
{
    for (int order = EMULATION_FORWARD; order <= EMULATION_RANDOM; order++)
        for (uint32_t seed = 0; seed < (order == EMULATION_RANDOM ? SEEDS : 1); seed++) {
            emulation_set_order((emulation_order)order, seed);
            cr_expect(exchanges_right(trial_exchange, partner_of_block, true, true));
            cr_expect_not(exchanges_right(trial_exchange, partner_of_block, false, true));
            cr_expect_not(exchanges_right(trial_exchange, partner_of_block, true, false));
            cr_expect(exchanges_right(trial_rotate, partner_of_warp, true, true));
            cr_expect_not(exchanges_right(trial_rotate, partner_of_warp, false, true));
            cr_expect_not(exchanges_right(trial_rotate, partner_of_warp, true, false));
        }
}

Test(cuda_emulation, barriers_are_found_and_each_can_be_left_out)
{
    emulation_watch_barriers();
    cr_expect(exchanges_right(trial_exchange, partner_of_block, true, true));
    cr_expect(exchanges_right(trial_rotate, partner_of_warp, true, true));
    cr_assert_eq(emulation_barriers(), 4);
    for (int i = 0; i < 4; i++) {
        emulation_skip_barrier(i);
        cr_expect_not_null(strstr(emulation_barrier(i), "emulation_kernels.cpp:"));
        cr_expect_eq(exchanges_right(trial_exchange, partner_of_block, true, true), i >= 2);
        cr_expect_eq(exchanges_right(trial_rotate, partner_of_warp, true, true), i < 2);
    }
    emulation_skip_barrier(-1);
    cr_expect(exchanges_right(trial_exchange, partner_of_block, true, true));
}

/* ---- copies to shared memory ---- */

static bool is_filled(uint32_t (*v)[4], uint32_t with)
{
    for (int t = 0; t < TRIAL_THREADS; t++)
        for (int i = 0; i < 4; i++)
            if (v[t][i] != with)
                return false;
    return true;
}

static bool copies_right(bool wait, bool meet)
{
    static trial_copies of;
    bool right = true;
    for (uint32_t t = 0; t < TRIAL_THREADS; t++)
        for (uint32_t i = 0; i < 4; i++)
            of.from[t][i] = 10 * t + i;
    cudaStream_t s = open_card_stream();
    trial_copies *on_card = upload_bytes(s, &of, sizeof of);
    cr_assert_eq(trial_copy(s, on_card, wait, meet), cudaSuccess);
    download_bytes(s, &of, on_card, sizeof of);
    for (uint32_t t = 0; t < TRIAL_THREADS; t++)
        for (uint32_t i = 0; i < 4; i++) {
            const uint32_t partner = TRIAL_THREADS - 1 - t;
            right &= of.found[t][i] == (partner % 4 == 3 ? 0 : 10 * partner + i);
        }
    cr_expect(is_filled(of.then, ~0u), "NaN until then");
    cr_assert_eq(cudaFree(on_card), cudaSuccess);
    cr_assert_eq(cudaStreamDestroy(s), cudaSuccess);
    return right;
}

Test(cuda_emulation, copies_come_when_they_are_waited_for_and_to_others_after_a_barrier)
{
    for (int order = EMULATION_FORWARD; order <= EMULATION_RANDOM; order++) {
        emulation_set_order((emulation_order)order, 5);
        cr_expect(copies_right(true, true));
        cr_expect_not(copies_right(false, true));
        cr_expect_not(copies_right(true, false));
    }
}

Test(cuda_emulation, a_wait_for_copies_is_found_and_can_be_left_out)
{
    emulation_watch_barriers();
    cr_expect(copies_right(true, true));
    cr_assert_eq(emulation_barriers(), 2);
    for (int i = 0; i < 2; i++) {
        emulation_skip_barrier(i);
        cr_expect_not(copies_right(true, true));
    }
}

/* ---- deadlocks ---- */

static void cause_deadlock(cudaStream_t s, void *memory)
{
    (void)memory;
    (void)trial_deadlock(s);
}

static void mix_collectives(cudaStream_t s, void *memory)
{
    (void)memory;
    (void)trial_mixed_collectives(s);
}

Test(cuda_emulation, threads_that_wait_in_different_places_are_a_deadlock)
{
    cr_expect(is_misdeed_fatal(cause_deadlock, 0));
    cr_expect(is_misdeed_fatal(mix_collectives, 0));
}

Test(cuda_emulation, threads_that_have_ended_are_not_waited_for)
{
    unsigned v[TRIAL_THREADS];
    cudaStream_t s = open_card_stream();
    unsigned *on_card = alloc_card_bytes(sizeof v);
    for (int order = EMULATION_FORWARD; order <= EMULATION_RANDOM; order++) {
        emulation_set_order((emulation_order)order, 1);
        cr_assert_eq(trial_early_end(s, on_card), cudaSuccess);
        download_bytes(s, v, on_card, sizeof v);
        for (unsigned t = 0; t < TRIAL_THREADS; t += 2)
            cr_expect_eq(v[t], TRIAL_THREADS - 2 - t);
    }
}

enum { BLOCKS = 2 * 3 * 4 };

static void record_block_order(cudaStream_t s, emulation_order order, unsigned out[BLOCKS])
{
    const unsigned zero = 0;
    unsigned seen = 0, *count = upload_bytes(s, &zero, sizeof zero),
             *on_card = alloc_card_bytes(BLOCKS * sizeof *out);
    emulation_set_order(order, 5);
    cr_assert_eq(trial_turns(s, count, on_card), cudaSuccess);
    download_bytes(s, out, on_card, BLOCKS * sizeof *out);
    for (int i = 0; i < BLOCKS; i++)
        seen |= 1u << out[i];
    cr_expect_eq(seen, (1u << BLOCKS) - 1);
}

Test(cuda_emulation, every_block_runs_once_in_the_order_of_choice)
{
    cudaStream_t s = open_card_stream();
    unsigned forward[BLOCKS], reverse[BLOCKS], random[BLOCKS];
    record_block_order(s, EMULATION_FORWARD, forward);
    record_block_order(s, EMULATION_REVERSE, reverse);
    record_block_order(s, EMULATION_RANDOM, random);
    for (unsigned i = 0; i < BLOCKS; i++) {
        cr_expect_eq(forward[i], i);
        cr_expect_eq(reverse[i], BLOCKS - 1 - i);
    }
    cr_expect_neq(random[0], forward[0]);
    cr_expect_neq(random[0], reverse[0]);
}

/* ---- memory ---- */

enum { WHOLE = 4096, ODD = 1000 };

static void write_behind(cudaStream_t s, void *memory) { (void)trial_poke(s, memory, WHOLE, 0); }
static void read_behind(cudaStream_t s, void *memory)
{
    (void)trial_peek(s, memory, memory, WHOLE);
}
static void write_before(cudaStream_t s, void *memory) { (void)trial_poke(s, memory, -1, 0); }
static void write_behind_odd(cudaStream_t s, void *memory)
{
    (void)trial_poke(s, memory, ODD, 0);
    (void)cudaStreamSynchronize(s);
    (void)cudaFree(memory);
}
static void write_freed(cudaStream_t s, void *memory)
{
    (void)cudaFree(memory);
    (void)trial_poke(s, memory, 0, 0);
}
static void free_before_copy(cudaStream_t s, void *memory)
{
    emulation_set_schedule(EMULATION_LAZY, 0);
    (void)cudaMemcpyAsync(memory, &(int){ 0 }, sizeof(int), cudaMemcpyHostToDevice, s);
    (void)cudaFree(memory);
}
static void touch_from_host(cudaStream_t s, void *memory)
{
    (void)s;
    *(volatile char *)memory = 0;
}
static void stay_within_bounds(cudaStream_t s, void *memory)
{
    (void)trial_poke(s, memory, WHOLE - 1, 0);
    (void)trial_peek(s, memory, memory, WHOLE - 1);
    (void)cudaFree(memory);
}
static void write_behind_shared(cudaStream_t s, void *memory)
{
    (void)memory;
    (void)trial_poke_shared(s, 512, 512);
}

Test(cuda_emulation, memory_is_touched_by_who_may_and_where_it_is)
{
    cr_expect_not(is_misdeed_fatal(stay_within_bounds, WHOLE));
    cr_expect(is_misdeed_fatal(write_behind, WHOLE));
    cr_expect(is_misdeed_fatal(read_behind, WHOLE));
    cr_expect(is_misdeed_fatal(write_before, WHOLE));
    cr_expect(is_misdeed_fatal(write_behind_odd, ODD));
    cr_expect(is_misdeed_fatal(write_freed, WHOLE));
    cr_expect(is_misdeed_fatal(free_before_copy, WHOLE));
    cr_expect(is_misdeed_fatal(touch_from_host, WHOLE));
    cr_expect(is_misdeed_fatal(write_behind_shared, 0));
}

Test(cuda_emulation, fresh_memory_is_nan_and_aligned)
{
    cudaStream_t s = open_card_stream();
    for (size_t bytes = 1; bytes < 3000; bytes += 97) {
        unsigned char was[3000];
        void *p = alloc_card_bytes(bytes);
        cr_expect_eq((uintptr_t)p % 256, 0);
        download_bytes(s, was, p, bytes);
        for (size_t i = 0; i < bytes; i++)
            cr_assert_eq(was[i], 0xff);
    }
}

Test(cuda_emulation, memory_is_accounted_for)
{
    const size_t mib = (size_t)1 << 20;
    size_t free_bytes = 0, total = 0;
    void *p = NULL, *q = NULL;
    emulation_set_memory(1000 * mib, 300 * mib, 100 * mib);
    cr_assert_eq(cudaMemGetInfo(&free_bytes, &total), cudaSuccess);
    cr_expect_eq(free_bytes, 600 * mib);
    cr_expect_eq(total, 1000 * mib);
    cr_expect_eq(cudaMalloc(&p, 601 * mib), cudaErrorMemoryAllocation);
    cr_expect_null(p);
    cr_expect_eq(cudaGetLastError(), cudaErrorMemoryAllocation);
    cr_expect_eq(cudaGetLastError(), cudaSuccess);
    cr_expect_eq(cudaMalloc(&p, 10 * mib), cudaSuccess);
    cr_expect_eq(emulation_live(), 1);
    cr_assert_eq(cudaMemGetInfo(&free_bytes, &total), cudaSuccess);
    cr_expect_eq(free_bytes, 590 * mib);
    emulation_set_memory(1000 * mib, 895 * mib, 100 * mib);
    cr_assert_eq(cudaMemGetInfo(&free_bytes, &total), cudaSuccess);
    cr_expect_eq(free_bytes, 0);
    cr_expect_eq(cudaMalloc(&q, 1), cudaErrorMemoryAllocation);
    cr_expect_eq(cudaFree((char *)p + 256), cudaErrorInvalidValue);
    cr_expect_eq(cudaFree(p), cudaSuccess);
    cr_expect_eq(cudaFree(p), cudaErrorInvalidValue);
    cr_expect_eq(cudaFree(NULL), cudaSuccess);
    cr_expect_eq(emulation_live(), 0);
}

Test(cuda_emulation, variables_of_the_card_live_as_long_as_the_context)
{
    int value = 0;
    for (int i = 0; i < 3; i++) {
        cr_expect_eq(trial_symbol_get(&value), cudaSuccess);
        cr_expect_eq(value, 7);
        cr_expect_eq(trial_symbol_set(8), cudaSuccess);
        cr_expect_eq(trial_symbol_set(9), cudaSuccess);
        cr_expect_eq(trial_symbol_get(&value), cudaSuccess);
        cr_expect_eq(value, 9);
        if (i == 0)
            cr_expect_eq(cudaDeviceReset(), cudaSuccess);
        else
            emulation_reset();
    }
}

Test(cuda_emulation, copies_outside_of_allocations_are_refused)
{
    char host[512] = { 0 };
    cudaStream_t s = open_card_stream();
    char *p = alloc_card_bytes(256);
    cr_expect_eq(cudaMemcpyAsync(p, host, 256, cudaMemcpyHostToDevice, s), cudaSuccess);
    cr_expect_eq(cudaMemcpyAsync(p, host, 257, cudaMemcpyHostToDevice, s), cudaErrorInvalidValue);
    cr_expect_eq(cudaMemcpyAsync(p + 1, host, 256, cudaMemcpyHostToDevice, s),
                 cudaErrorInvalidValue);
    cr_expect_eq(cudaMemcpyAsync(host, host + 256, 9, cudaMemcpyHostToDevice, s),
                 cudaErrorInvalidValue);
    cr_expect_eq(cudaMemcpyAsync(host, p + 9, 256, cudaMemcpyDeviceToHost, s),
                 cudaErrorInvalidValue);
    cr_expect_eq(cudaMemcpyAsync(p, p + 200, 100, cudaMemcpyDeviceToDevice, s),
                 cudaErrorInvalidValue);
    cr_expect_eq(cudaMemsetAsync(p, 0, 257, s), cudaErrorInvalidValue);
    cr_expect_eq(cudaHostRegister(host, 256, cudaHostRegisterDefault), cudaSuccess);
    cr_expect_eq(cudaMemcpyAsync(p, host + 100, 200, cudaMemcpyHostToDevice, s),
                 cudaErrorInvalidValue);
    cr_expect_eq(cudaHostRegister(host + 255, 2, cudaHostRegisterDefault),
                 cudaErrorHostMemoryAlreadyRegistered);
    cr_expect_eq(cudaHostUnregister(host + 1), cudaErrorHostMemoryNotRegistered);
    cr_expect_eq(cudaHostUnregister(host), cudaSuccess);
}

Test(cuda_emulation, pinned_memory_is_read_late_and_other_memory_at_once)
{
    int pinned = 1, plain = 1, out[2];
    cudaStream_t s = open_card_stream();
    int *p = alloc_card_bytes(sizeof out);
    emulation_set_schedule(EMULATION_LAZY, 0);
    cr_assert_eq(cudaHostRegister(&pinned, sizeof pinned, cudaHostRegisterDefault), cudaSuccess);
    cr_assert_eq(cudaMemcpyAsync(p, &pinned, sizeof *p, cudaMemcpyHostToDevice, s), cudaSuccess);
    cr_assert_eq(cudaMemcpyAsync(p + 1, &plain, sizeof *p, cudaMemcpyHostToDevice, s), cudaSuccess);
    pinned = plain = 2;
    cr_assert_eq(cudaMemcpyAsync(out, p, sizeof out, cudaMemcpyDeviceToHost, s), cudaSuccess);
    cr_expect_eq(out[0], 2);
    cr_expect_eq(out[1], 1);

    /* Out of the card: into pinned memory later, into other memory before the call returns. */
    pinned = 0;
    cr_assert_eq(cudaMemcpyAsync(&pinned, p, sizeof *p, cudaMemcpyDeviceToHost, s), cudaSuccess);
    cr_expect_eq(pinned, 0);
    cr_assert_eq(cudaStreamSynchronize(s), cudaSuccess);
    cr_expect_eq(pinned, 2);
    cr_assert_eq(cudaHostUnregister(&pinned), cudaSuccess);
}

/* ---- streams ---- */

enum { SLOTS = 2, CHUNKS = 9 };

/* So that a driver that batches does not keep it back. */
static void record_and_send(cudaEvent_t e, cudaStream_t s)
{
    (void)cudaEventRecord(e, s);
    (void)cudaStreamQuery(s);
}

/* Chunk by chunk through pinned memory into a slot of the card, and used there. */
static unsigned stream_chunks(void)
{
    cudaStream_t compute = open_card_stream(), copy = open_card_stream();
    cudaEvent_t copied[SLOTS], used[SLOTS];
    unsigned staging[SLOTS] = { 0 }, sum = 0, *slot[SLOTS],
             *total = upload_bytes(compute, &sum, sizeof sum);

    cr_assert_eq(cudaHostRegister(staging, sizeof staging, cudaHostRegisterDefault), cudaSuccess);
    for (int i = 0; i < SLOTS; i++) {
        slot[i] = alloc_card_bytes(sizeof sum);
        copied[i] = open_card_event(cudaEventDisableTiming);
        used[i] = open_card_event(cudaEventDisableTiming);
    }
    for (unsigned c = 0; c < CHUNKS; c++) {
        const unsigned i = c % SLOTS;
        (void)cudaEventSynchronize(copied[i]);
        staging[i] = c + 1;
        (void)cudaStreamWaitEvent(copy, used[i], 0);
        (void)cudaMemcpyAsync(slot[i], &staging[i], sizeof sum, cudaMemcpyHostToDevice, copy);
        record_and_send(copied[i], copy);
        (void)cudaStreamWaitEvent(compute, copied[i], 0);
        (void)trial_accumulate(compute, total, slot[i]);
        record_and_send(used[i], compute);
    }
    download_bytes(compute, &sum, total, sizeof sum);
    cr_expect_eq(cudaDeviceSynchronize(), cudaSuccess);
    for (int i = 0; i < SLOTS; i++) {
        cr_expect_eq(cudaFree(slot[i]), cudaSuccess);
        cr_expect_eq(cudaEventDestroy(copied[i]), cudaSuccess);
        cr_expect_eq(cudaEventDestroy(used[i]), cudaSuccess);
    }
    cr_expect_eq(cudaFree(total), cudaSuccess);
    cr_expect_eq(cudaHostUnregister(staging), cudaSuccess);
    cr_expect_eq(cudaStreamDestroy(compute), cudaSuccess);
    cr_expect_eq(cudaStreamDestroy(copy), cudaSuccess);
    return sum;
}

static bool is_chunk_sum_right(emulation_schedule schedule, uint32_t seed,
                               emulation_omission without)
{
    unsigned want = 0;
    for (unsigned c = 1; c <= CHUNKS; c++)
        want += c * c + c;
    emulation_set_schedule(schedule, seed);
    emulation_ignore(without);
    const unsigned sum = stream_chunks();
    cr_expect(without == EMULATION_NOTHING || emulation_ignored() >= CHUNKS - SLOTS);
    cr_expect_eq(emulation_live(), 0);
    return sum == want;
}

Test(cuda_emulation, a_program_with_all_its_waits_is_right_under_every_schedule)
{
    for (int s = 0; s < EMULATION_SCHEDULES; s++)
        for (uint32_t seed = 0; seed < SEEDS; seed++)
            cr_expect(is_chunk_sum_right((emulation_schedule)s, seed, EMULATION_NOTHING));
}

Test(cuda_emulation, a_missing_wait_is_found_by_the_schedule_made_for_it_and_by_chance)
{
    static const emulation_schedule made_for[] = {
        [EMULATION_COPY_WAITS] = EMULATION_COPY_FIRST,
        [EMULATION_COMPUTE_WAITS] = EMULATION_COMPUTE_FIRST,
        [EMULATION_HOST_WAITS] = EMULATION_LAZY
    };
    for (int o = EMULATION_COPY_WAITS; o < EMULATION_OMISSIONS; o++) {
        const emulation_omission without = (emulation_omission)o;
        int by_chance = 0;
        cr_expect(is_chunk_sum_right(EMULATION_EAGER, 0, without));
        for (uint32_t seed = 0; seed < SEEDS; seed++) {
            cr_expect_not(is_chunk_sum_right(made_for[o], seed, without), "%d", o);
            by_chance += !is_chunk_sum_right(EMULATION_BY_CHANCE, seed, without);
        }
        cr_expect_geq(by_chance, SEEDS * 9 / 10, "%d: %d of %d", o, by_chance, SEEDS);
    }
}

static int peek_int(cudaStream_t s, const int *p)
{
    int v;
    download_bytes(s, &v, p, sizeof v);
    return v;
}

/* The copy waits for what was recorded in `s`, which nobody sends. */
static void wait_for_unsent(cudaStream_t s, void *memory)
{
    cudaStream_t copy = open_card_stream();
    cudaEvent_t recorded = open_card_event(cudaEventDisableTiming);
    emulation_set_schedule(EMULATION_BATCHED, 0);
    (void)cudaMemsetAsync(memory, 0, 1, s);
    (void)cudaEventRecord(recorded, s);
    (void)cudaStreamWaitEvent(copy, recorded, 0);
    (void)cudaStreamSynchronize(copy);
}

static void wait_for_sent(cudaStream_t s, void *memory)
{
    cudaStream_t copy = open_card_stream();
    cudaEvent_t recorded = open_card_event(cudaEventDisableTiming);
    emulation_set_schedule(EMULATION_BATCHED, 0);
    (void)cudaMemsetAsync(memory, 0, 1, s);
    record_and_send(recorded, s);
    (void)cudaStreamWaitEvent(copy, recorded, 0);
    (void)cudaStreamSynchronize(copy);
}

Test(cuda_emulation, what_a_driver_that_batches_was_never_sent_is_waited_for_in_vain)
{
    cr_expect(is_misdeed_fatal(wait_for_unsent, 256));
    cr_expect_not(is_misdeed_fatal(wait_for_sent, 256));
}

Test(cuda_emulation, an_event_is_its_last_record_when_the_wait_is_enqueued)
{
    static const int ONE = 1, TWO = 2;
    cudaStream_t first = open_card_stream(), second = open_card_stream(),
                 reader = open_card_stream();
    cudaEvent_t e = open_card_event(cudaEventDisableTiming);
    int zero = 0, *p = upload_bytes(first, &zero, sizeof zero),
        *q = upload_bytes(first, &zero, sizeof zero);
    cr_assert_eq(cudaDeviceSynchronize(), cudaSuccess);
    emulation_set_schedule(EMULATION_LAZY, 0);

    /* never recorded: nothing to wait for */
    cr_expect_eq(cudaStreamWaitEvent(second, e, 0), cudaSuccess);
    cr_expect_eq(cudaEventSynchronize(e), cudaSuccess);
    cr_expect_eq(cudaEventQuery(e), cudaSuccess);

    (void)cudaMemcpyAsync(p, &ONE, sizeof ONE, cudaMemcpyHostToDevice, first);
    cr_expect_eq(cudaEventRecord(e, first), cudaSuccess);
    cr_expect_eq(cudaStreamWaitEvent(second, e, 0), cudaSuccess);
    (void)cudaMemcpyAsync(p, &TWO, sizeof TWO, cudaMemcpyHostToDevice, first);
    cr_expect_eq(cudaEventRecord(e, first), cudaSuccess);
    (void)cudaMemcpyAsync(q, p, sizeof *q, cudaMemcpyDeviceToDevice, second);

    /* second has waited for the first record only */
    cr_expect_eq(peek_int(second, q), 1);
    cr_expect_eq(peek_int(reader, p), 1);
    cr_expect_eq(cudaEventSynchronize(e), cudaSuccess);
    cr_expect_eq(peek_int(reader, p), 2);
}

Test(cuda_emulation, waiting_for_an_event_runs_what_is_before_it_and_asking_gets_there_too)
{
    static const int ONE = 1, TWO = 2;
    cudaStream_t s = open_card_stream(), reader = open_card_stream();
    cudaEvent_t e = open_card_event(cudaEventDisableTiming);
    int zero = 0, *p = upload_bytes(s, &zero, sizeof zero);
    cr_assert_eq(cudaDeviceSynchronize(), cudaSuccess);
    emulation_set_schedule(EMULATION_LAZY, 0);

    (void)cudaMemcpyAsync(p, &ONE, sizeof ONE, cudaMemcpyHostToDevice, s);
    cr_expect_eq(cudaEventRecord(e, s), cudaSuccess);
    (void)cudaMemcpyAsync(p, &TWO, sizeof TWO, cudaMemcpyHostToDevice, s);
    cr_expect_eq(peek_int(reader, p), 0);
    int asked = 0;
    while (cudaEventQuery(e) == cudaErrorNotReady)
        cr_assert_lt(++asked, 10);
    cr_expect_gt(asked, 0);
    cr_expect_eq(cudaGetLastError(), cudaSuccess);
    cr_expect_eq(peek_int(reader, p), 1);
    cr_expect_eq(cudaStreamDestroy(s), cudaSuccess); /* what it has to do is done all the same */
    cr_expect_eq(cudaDeviceSynchronize(), cudaSuccess);
    cr_expect_eq(peek_int(reader, p), 2);
    cr_expect_eq(cudaStreamSynchronize(s), cudaErrorInvalidResourceHandle);
}

/* ---- threads ---- */

enum { TURNS = 200 };

typedef struct relay {
    cudaStream_t compute, copy;
    cudaEvent_t copied[TURNS], used[TURNS];
    pthread_mutex_t lock;
    pthread_cond_t moved;
    int n_copied, n_used; /* recorded */
    unsigned *slot, staging;
} relay;

static void relay_signal(relay *r, int *counter)
{
    (void)pthread_mutex_lock(&r->lock);
    (*counter)++;
    (void)pthread_cond_broadcast(&r->moved);
    (void)pthread_mutex_unlock(&r->lock);
}

static void relay_wait(relay *r, const int *counter, int least)
{
    (void)pthread_mutex_lock(&r->lock);
    while (*counter < least)
        (void)pthread_cond_wait(&r->moved, &r->lock);
    (void)pthread_mutex_unlock(&r->lock);
}

static void *copy_chunks(void *context)
{
    relay *r = context;
    for (int i = 0; i < TURNS; i++) {
        if (i > 0) {
            (void)cudaEventSynchronize(r->copied[i - 1]);
            relay_wait(r, &r->n_used, i);
            (void)cudaStreamWaitEvent(r->copy, r->used[i - 1], 0);
        }
        r->staging = (unsigned)i;
        (void)cudaMemcpyAsync(r->slot, &r->staging, sizeof(unsigned), cudaMemcpyHostToDevice,
                              r->copy);
        record_and_send(r->copied[i], r->copy);
        relay_signal(r, &r->n_copied);
    }
    return NULL;
}

Test(cuda_emulation, two_threads_get_on_under_every_schedule, .timeout = 60)
{
    for (int schedule = 0; schedule < EMULATION_SCHEDULES; schedule++) {
        relay r = { .lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER };
        unsigned sum = 0, want = 0;
        pthread_t copier;
        r.compute = open_card_stream();
        r.copy = open_card_stream();
        r.slot = alloc_card_bytes(sizeof sum);
        unsigned *total = upload_bytes(r.compute, &sum, sizeof sum);
        for (int i = 0; i < TURNS; i++) {
            r.copied[i] = open_card_event(cudaEventDisableTiming);
            r.used[i] = open_card_event(cudaEventDisableTiming);
        }
        cr_assert_eq(cudaHostRegister(&r.staging, sizeof sum, cudaHostRegisterDefault),
                     cudaSuccess);
        emulation_set_schedule((emulation_schedule)schedule, 4);
        cr_assert_eq(pthread_create(&copier, NULL, copy_chunks, &r), 0);
        for (unsigned i = 0; i < TURNS; i++) {
            relay_wait(&r, &r.n_copied, (int)i + 1);
            (void)cudaStreamWaitEvent(r.compute, r.copied[i], 0);
            (void)trial_accumulate(r.compute, total, r.slot);
            record_and_send(r.used[i], r.compute);
            relay_signal(&r, &r.n_used);
            want += i * i + i;
        }
        download_bytes(r.compute, &sum, total, sizeof sum);
        cr_assert_eq(pthread_join(copier, NULL), 0);
        cr_expect_eq(sum, want);
        cr_expect_gt(emulation_reset(), 0);
    }
}

/* ---- launches ---- */

Test(cuda_emulation, a_launch_that_a_card_would_refuse_is_refused)
{
    cudaStream_t s = open_card_stream();
    cr_expect_eq(trial_nothing(s, 1, 32, 48 << 10), cudaSuccess);
    cr_expect_eq(emulation_loaded_late(), 1);
    cr_expect_eq(trial_nothing(s, 1, 32, (48 << 10) + 1), cudaErrorInvalidValue);
    emulation_set_card(7, 5, 2);
    cr_expect_eq(trial_nothing_allow((64 << 10) + 1), cudaErrorInvalidValue);
    cr_expect_eq(trial_nothing_allow(64 << 10), cudaSuccess);
    cr_expect_eq(trial_nothing(s, 1, 32, 64 << 10), cudaSuccess);
    cr_expect_eq(trial_nothing(s, 0, 32, 0), cudaErrorInvalidConfiguration);
    cr_expect_eq(trial_nothing(s, 1, 1056, 0), cudaErrorInvalidConfiguration);
    emulation_set_card(8, 6, 20);
    cr_expect_eq(trial_nothing_allow(99 << 10), cudaSuccess);
    cr_expect_eq(emulation_loaded_late(), 1);
}

Test(cuda_emulation, a_kernel_that_was_loaded_is_not_loaded_late)
{
    cudaStream_t s = open_card_stream();
    cr_expect_eq(trial_nothing_load(), cudaSuccess);
    cr_expect_eq(trial_nothing(s, 3, 64, 0), cudaSuccess);
    cr_expect_eq(emulation_loaded_late(), 0);
}

static float measure_card_ms(cudaStream_t s, cudaError_t (*work)(cudaStream_t, float *), float *out)
{
    float ms = -1;
    cudaEvent_t begin = open_card_event(cudaEventDefault), end = open_card_event(cudaEventDefault);
    cr_expect_eq(cudaEventElapsedTime(&ms, begin, end), cudaErrorInvalidResourceHandle);
    cr_assert_eq(cudaEventRecord(begin, s), cudaSuccess);
    cr_assert_eq(work(s, out), cudaSuccess);
    cr_assert_eq(cudaEventRecord(end, s), cudaSuccess);
    cr_assert_eq(cudaEventSynchronize(end), cudaSuccess);
    cr_assert_eq(cudaEventElapsedTime(&ms, begin, end), cudaSuccess);
    return ms;
}

Test(cuda_emulation, time_is_what_multiply_adds_cost_on_such_a_card)
{
    cudaStream_t s = open_card_stream();
    float *out = alloc_card_bytes(32 * sizeof(float));
    emulation_set_schedule(EMULATION_LAZY, 0);
    emulation_set_performance(1, 0.25);
    cr_expect_float_eq(measure_card_ms(s, trial_tensor_work, out), 1.0506f, 1e-3f);
    cr_expect_float_eq(measure_card_ms(s, trial_half2_work, out), 4.1963f, 1e-3f);
}

/* ---- failures ---- */

Test(cuda_emulation, without_a_driver_or_a_card_there_is_no_device)
{
    int n = -1, version = -1;
    emulation_set_driver(0);
    cr_expect_eq(cudaDriverGetVersion(&version), cudaSuccess);
    cr_expect_eq(version, 0);
    cr_expect_eq(cudaGetDeviceCount(&n), cudaErrorInsufficientDriver);
    emulation_set_driver(CUDART_VERSION);
    emulation_set_devices(0);
    cr_expect_eq(cudaGetDeviceCount(&n), cudaErrorNoDevice);
    emulation_set_devices(2);
    cr_assert_eq(setenv("CUDA_VISIBLE_DEVICES", "-1", 1), 0);
    cr_expect_eq(cudaGetDeviceCount(&n), cudaErrorNoDevice);
    cr_assert_eq(unsetenv("CUDA_VISIBLE_DEVICES"), 0);
    cr_expect_eq(cudaGetDeviceCount(&n), cudaSuccess);
    cr_expect_eq(n, 2);
    cr_expect_eq(cudaSetDevice(2), cudaErrorInvalidDevice);
    emulation_fail_context(cudaErrorDevicesUnavailable);
    cr_expect_eq(cudaGetDeviceCount(&n), cudaSuccess);
    cr_expect_eq(cudaSetDevice(1), cudaErrorDevicesUnavailable);
    emulation_reset();
    cr_expect_eq(cudaSetDevice(0), cudaSuccess);
}

Test(cuda_emulation, the_call_that_is_to_fail_fails_and_no_other)
{
    void *p[4];
    const int before = emulation_calls();
    emulation_fail_next(cudaErrorMemoryAllocation, 2);
    for (int i = 0; i < 4; i++)
        cr_expect_eq(cudaMalloc(&p[i], 8), i == 2 ? cudaErrorMemoryAllocation : cudaSuccess);
    cr_expect_null(p[2]);
    cr_expect_eq(emulation_calls() - before, 4);
    cr_expect_eq(cudaPeekAtLastError(), cudaErrorMemoryAllocation);
    cr_expect_eq(cudaGetLastError(), cudaErrorMemoryAllocation);
    cr_expect_eq(cudaPeekAtLastError(), cudaSuccess);
    emulation_fail_next(cudaErrorUnknown, 0);
    cr_expect_eq(cudaFree(p[0]), cudaErrorUnknown);
    cr_expect_eq(emulation_live(), 2);
}

Test(cuda_emulation, a_lost_card_stays_lost_and_gives_back_what_it_has)
{
    int host = 0;
    cudaStream_t s = open_card_stream();
    cudaEvent_t e = open_card_event(cudaEventDefault);
    int *p = upload_bytes(s, &host, sizeof host);
    emulation_set_schedule(EMULATION_LAZY, 0);
    cr_assert_eq(cudaMemsetAsync(p, 1, sizeof *p, s), cudaSuccess);
    cr_assert_eq(cudaEventRecord(e, s), cudaSuccess);
    emulation_fail_next(cudaErrorIllegalAddress, 0);
    for (int i = 0; i < 2; i++)
        cr_expect_eq(cudaEventSynchronize(e), cudaErrorIllegalAddress);
    cr_expect_eq(cudaGetLastError(), cudaErrorIllegalAddress);
    cr_expect_eq(cudaGetLastError(), cudaErrorIllegalAddress);
    cr_expect_eq(cudaMemcpyAsync(&host, p, sizeof host, cudaMemcpyDeviceToHost, s),
                 cudaErrorIllegalAddress);
    cr_expect_eq(trial_nothing(s, 1, 32, 0), cudaErrorIllegalAddress);
    cr_expect_eq(cudaFree(p), cudaErrorIllegalAddress);
    cr_expect_eq(cudaEventDestroy(e), cudaErrorIllegalAddress);
    cr_expect_eq(cudaStreamDestroy(s), cudaErrorIllegalAddress);
    cr_expect_eq(emulation_live(), 0);
    emulation_reset();
    emulation_lose(cudaErrorLaunchFailure);
    cr_expect_eq(cudaSetDevice(0), cudaErrorLaunchFailure);
}

/* ---- listing ---- */

static emulation_launch listed[2];
static int n_listed;

static void append_launch(const emulation_launch *l)
{
    if (n_listed < 2)
        listed[n_listed] = *l;
    n_listed++;
}

Test(cuda_emulation, a_launch_that_is_listed_does_not_run)
{
    unsigned char seen[2] = { 9, 9 };
    cudaStream_t s = open_card_stream();
    emulation_list_launches(append_launch);
    unsigned char *p = alloc_card_bytes(2); /* 0 */
    cr_assert_eq(trial_poke(s, p, 1, 7), cudaSuccess);
    cr_assert_eq(trial_nothing(s, 3, 64, 100), cudaSuccess);
    download_bytes(s, seen, p, 2);
    cr_expect(seen[0] == 0 && seen[1] == 0, "%d, %d", seen[0], seen[1]);
    cr_assert_eq(n_listed, 2);
    cr_expect(listed[0].kernel != listed[1].kernel);
    cr_expect(listed[1].blocks == 3 && listed[1].threads == 64 && listed[1].shared == 100);

    emulation_list_launches(NULL);
    cr_assert_eq(trial_poke(s, p, 1, 7), cudaSuccess);
    download_bytes(s, seen, p, 2);
    cr_expect_eq(seen[1], 7);
    cr_expect_eq(n_listed, 2);
}

Test(cuda_emulation, errors_have_their_names)
{
    cr_expect_str_eq(cudaGetErrorName(cudaErrorMemoryAllocation), "cudaErrorMemoryAllocation");
    cr_expect_str_eq(cudaGetErrorString(cudaErrorMemoryAllocation), "out of memory");
    cr_expect_str_eq(cudaGetErrorString((cudaError_t)12345), "unrecognized error code");
}
