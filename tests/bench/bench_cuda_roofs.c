/* tests/bench/bench_cuda_roofs.c -- what this card can do at most, to set kernels beside.
 *
 *     bench_cuda_roofs [GPU]
 *
 * A line of JSON for each: multiply-adds of every type that the kernels use, or could; the card's
 * memory; the link, both ways, at once, and in pieces as large as a chunk; what a launch, an event
 * and waking up cost.  Best of some runs: whatever else goes on can only make it slower.
 */
#include "engine/base/clock.h"
#include "tests/bench/roofs.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    RUNS = 5,
    CHUNK = 4 << 20,
    BLOCK = 256 << 20, /* a multiple of CHUNK */
    CALLS = 2000,
    WAKE_UPS = 40,
    WAIT_NS = 2000000
};

typedef struct roofs_bench {
    struct cudaDeviceProp card;
    cudaStream_t s, other;
    cudaEvent_t from, to, blocking;
    char *a, *b; /* BLOCK bytes of the card's memory each; a is the sink too */
    char *host;  /* 2 BLOCK, pinned */
    double pinning;
    bool failed;
} roofs_bench;

/* ---- what is printed ---- */

static void print_roof(const char *name, double value, const char *unit)
{
    printf("{\"stage\":\"roof\",\"name\":\"%s\",\"value\":%.6g,\"unit\":\"%s\"}\n", name, value,
           unit);
}

static bool check_roof_call(roofs_bench *b, cudaError_t e, const char *doing)
{
    if (e != cudaSuccess && !b->failed)
        fprintf(stderr, "bench_cuda_roofs: %s: %s\n", doing, cudaGetErrorString(e));
    b->failed |= e != cudaSuccess;
    return !b->failed;
}

/* ---- timing ---- */

typedef cudaError_t work_fn(roofs_bench *b, int size);

/* Seconds on the card, the best of RUNS. */
static double best_seconds(roofs_bench *b, work_fn *work, int size, const char *what)
{
    float best = 0, ms = 0;
    for (int i = 0; i <= RUNS; i++) {
        if (!check_roof_call(b, cudaEventRecord(b->from, b->s), what) ||
            !check_roof_call(b, work(b, size), what) ||
            !check_roof_call(b, cudaEventRecord(b->to, b->s), what) ||
            !check_roof_call(b, cudaEventSynchronize(b->to), what) ||
            !check_roof_call(b, cudaEventElapsedTime(&ms, b->from, b->to), what))
            return 0;
        if (i <= 1 || ms < best) /* the first only warms up */
            best = ms;
    }
    return 1e-3 * (double)best;
}

static double work_rate(double work, double seconds) { return seconds > 0 ? work / seconds : 0; }

/* ---- multiply-adds ---- */

static const char *const TYPES[N_ROOF_TYPES] = { "mma f16, sums in f32", "mma f16, sums in f16",
                                                 "mma s8", "fma f32", "fma half2" };

enum { BLOCKS_EACH = 8, ROUNDS = 4096 }; /* blocks for each multiprocessor */

static int grid_blocks(const roofs_bench *b) { return BLOCKS_EACH * b->card.multiProcessorCount; }

static cudaError_t enqueue_roof_multiply(roofs_bench *b, int type)
{
    return roof_multiply(b->s, (roof_type)type, grid_blocks(b), ROUNDS, b->a);
}

static void multiply_adds(roofs_bench *b)
{
    for (int t = 0; t < N_ROOF_TYPES && !b->failed; t++) {
        roof_time took = { 0 };
        const double seconds = best_seconds(b, enqueue_roof_multiply, t, TYPES[t]);
        const double macs = roof_multiply_each((roof_type)t) * grid_blocks(b) * ROUNDS;
        print_roof(TYPES[t], 2e-12 * work_rate(macs, seconds), "TFLOP/s");
        if (check_roof_call(b, cudaMemcpy(&took, b->a, sizeof took, cudaMemcpyDeviceToHost),
                            TYPES[t]) &&
            took.nanoseconds > 0)
            printf("{\"stage\":\"roof\",\"name\":\"clock during %s\",\"value\":%.0f,"
                   "\"unit\":\"MHz\"}\n",
                   TYPES[t], 1e3 * (double)took.cycles / (double)took.nanoseconds);
    }
}

/* ---- memory and link ---- */

static cudaError_t enqueue_roof_copy(roofs_bench *b, int size)
{
    return roof_copy(b->s, b->b, b->a, (size_t)size, 4 * b->card.multiProcessorCount);
}

static cudaError_t read_only(roofs_bench *b, int size)
{
    return roof_read(b->s, b->a, (size_t)size, 4 * b->card.multiProcessorCount, b->b);
}

/* In pieces of so many bytes. */
static cudaError_t copy_host_to_card(roofs_bench *b, int block)
{
    cudaError_t e = cudaSuccess;
    for (int at = 0; at < BLOCK && e == cudaSuccess; at += block)
        e = cudaMemcpyAsync(b->a + at, b->host + at, (size_t)block, cudaMemcpyHostToDevice, b->s);
    return e;
}

static cudaError_t copy_card_to_host(roofs_bench *b, int block)
{
    cudaError_t e = cudaSuccess;
    for (int at = 0; at < BLOCK && e == cudaSuccess; at += block)
        e = cudaMemcpyAsync(b->host + BLOCK + at, b->b + at, (size_t)block, cudaMemcpyDeviceToHost,
                            b->s);
    return e;
}

/* One way in each stream; the first waits for the other. */
static cudaError_t copy_both_ways(roofs_bench *b, int size)
{
    cudaError_t e = cudaStreamWaitEvent(b->other, b->from, 0);
    if (e == cudaSuccess)
        e = cudaMemcpyAsync(b->host + BLOCK, b->b, (size_t)size, cudaMemcpyDeviceToHost, b->other);
    if (e == cudaSuccess)
        e = cudaMemcpyAsync(b->a, b->host, (size_t)size, cudaMemcpyHostToDevice, b->s);
    if (e == cudaSuccess)
        e = cudaEventRecord(b->blocking, b->other);
    return e == cudaSuccess ? cudaStreamWaitEvent(b->s, b->blocking, 0) : e;
}

static void measure_memory_roofs(roofs_bench *b)
{
    print_roof("memory, copied: read and written",
               2e-9 * work_rate(BLOCK, best_seconds(b, enqueue_roof_copy, BLOCK, "copying")),
               "GB/s");
    print_roof("memory, read",
               1e-9 * work_rate(BLOCK, best_seconds(b, read_only, BLOCK, "reading")), "GB/s");
    print_roof("link, to the card",
               1e-9 * work_rate(BLOCK, best_seconds(b, copy_host_to_card, BLOCK, "bringing")),
               "GB/s");
    print_roof("link, to the card in pieces of 4 MiB",
               1e-9 * work_rate(BLOCK, best_seconds(b, copy_host_to_card, CHUNK, "bringing")),
               "GB/s");
    print_roof("link, from the card",
               1e-9 * work_rate(BLOCK, best_seconds(b, copy_card_to_host, BLOCK, "fetching")),
               "GB/s");
    print_roof("link, both ways at once, together",
               2e-9 * work_rate(BLOCK, best_seconds(b, copy_both_ways, BLOCK, "both ways")),
               "GB/s");
    print_roof("pinning host memory", 1e3 * b->pinning * (1 << 30) / (2.0 * BLOCK), "ms a GiB");
}

/* ---- what calls cost ---- */

static cudaError_t launch_nothing(roofs_bench *b) { return roof_nothing(b->s); }
static cudaError_t record_from_event(roofs_bench *b) { return cudaEventRecord(b->from, b->s); }
static cudaError_t order_streams(roofs_bench *b)
{
    return cudaStreamWaitEvent(b->other, b->from, 0);
}

static cudaError_t launch_and_wait(roofs_bench *b)
{
    const cudaError_t e = roof_nothing(b->s);
    return e == cudaSuccess ? cudaStreamSynchronize(b->s) : e;
}

/* Of the host, a call, until the last has been enqueued. */
static void call_cost(roofs_bench *b, cudaError_t (*call)(roofs_bench *b), int calls,
                      const char *what)
{
    double best = 0;
    for (int r = 0; r <= RUNS && !b->failed; r++) {
        const double t0 = clock_seconds();
        for (int i = 0; i < calls && check_roof_call(b, call(b), what); i++)
            continue;
        const double t = (clock_seconds() - t0) / calls;
        if (!check_roof_call(b, cudaStreamSynchronize(b->s), what) ||
            !check_roof_call(b, cudaStreamSynchronize(b->other), what))
            return;
        if (r <= 1 || t < best)
            best = t;
    }
    print_roof(what, 1e6 * best, "us");
}

static int compare_wake_ups(const void *pa, const void *pb)
{
    const double a = *(const double *)pa, b = *(const double *)pb;
    return (a > b) - (a < b);
}

/* From when the card is done until the thread that waits is told: median, and the worst of WAKE_UPS
 * but one. */
static void wake_up(roofs_bench *b, cudaEvent_t e, const char *what, const char *worst)
{
    double late[WAKE_UPS];
    for (int i = 0; i < WAKE_UPS && !b->failed; i++) {
        const double t0 = clock_seconds();
        if (!check_roof_call(b, roof_wait(b->s, WAIT_NS), what) ||
            !check_roof_call(b, cudaEventRecord(e, b->s), what) ||
            !check_roof_call(b, cudaEventSynchronize(e), what))
            return;
        late[i] = clock_seconds() - t0 - 1e-9 * WAIT_NS;
    }
    qsort(late, WAKE_UPS, sizeof *late, compare_wake_ups);
    print_roof(what, 1e6 * late[WAKE_UPS / 2], "us");
    print_roof(worst, 1e6 * late[WAKE_UPS - 2], "us");
}

static void measure_call_costs(roofs_bench *b)
{
    call_cost(b, launch_nothing, CALLS, "launch, enqueued");
    call_cost(b, launch_and_wait, CALLS / 10, "launch, and waited for");
    call_cost(b, record_from_event, CALLS, "event, recorded");
    call_cost(b, order_streams, CALLS, "event, waited for by a stream");
    wake_up(b, b->blocking, "launch to wake-up, blocking", "launch to wake-up, blocking, worst");
    wake_up(b, b->to, "launch to wake-up, spinning", "launch to wake-up, spinning, worst");
}

/* ---- all of it ---- */

/* The process's own pages, registered, as the device has them. */
static bool take_host(roofs_bench *b)
{
    const size_t bytes = 2 * (size_t)BLOCK;
    b->host = aligned_alloc(1 << 21, bytes);
    if (!b->host)
        return false;
    memset(b->host, 1, bytes);
    const double t0 = clock_seconds();
    const bool done = check_roof_call(b, cudaHostRegister(b->host, bytes, cudaHostRegisterDefault),
                                      "pinning");
    b->pinning = clock_seconds() - t0;
    return done;
}

static bool open_roofs_bench(roofs_bench *b, int gpu)
{
    return check_roof_call(b, cudaInitDevice(gpu, cudaDeviceScheduleBlockingSync, 1),
                           "opening the GPU") &&
           check_roof_call(b, cudaSetDevice(gpu), "opening the GPU") &&
           check_roof_call(b, cudaGetDeviceProperties(&b->card, gpu),
                           "asking for its properties") &&
           check_roof_call(b, cudaStreamCreateWithFlags(&b->s, cudaStreamNonBlocking),
                           "making a stream") &&
           check_roof_call(b, cudaStreamCreateWithFlags(&b->other, cudaStreamNonBlocking),
                           "a stream") &&
           check_roof_call(b, cudaEventCreateWithFlags(&b->from, cudaEventDefault),
                           "making an event") &&
           check_roof_call(b, cudaEventCreateWithFlags(&b->to, cudaEventDefault),
                           "making an event") &&
           check_roof_call(b, cudaEventCreateWithFlags(&b->blocking, cudaEventBlockingSync),
                           "an event") &&
           check_roof_call(b, cudaMalloc((void **)&b->a, BLOCK), "taking memory") &&
           check_roof_call(b, cudaMalloc((void **)&b->b, BLOCK), "taking memory") &&
           check_roof_call(b, cudaMemset(b->a, 1, BLOCK), "clearing memory") && take_host(b);
}

static void print_card(const roofs_bench *b)
{
    printf("{\"stage\":\"card\",\"name\":\"%s\",\"capability\":%d,\"processors\":%d,"
           "\"l2_mib\":%.1f,\"shared_kib\":%zu,\"memory_mib\":%zu,\"pci\":\"%04x:%02x:%02x\"}\n",
           b->card.name, 10 * b->card.major + b->card.minor, b->card.multiProcessorCount,
           (double)b->card.l2CacheSize / 1048576.0, b->card.sharedMemPerMultiprocessor >> 10,
           b->card.totalGlobalMem >> 20, (unsigned)b->card.pciDomainID, (unsigned)b->card.pciBusID,
           (unsigned)b->card.pciDeviceID);
}

int main(int argc, char **argv)
{
    roofs_bench b = { 0 };
    (void)setvbuf(stdout, NULL, _IOLBF, 0); /* or a line is lost when this is ended */
    if (open_roofs_bench(&b, argc > 1 ? (int)strtol(argv[1], NULL, 10) : 0)) {
        print_card(&b);
        multiply_adds(&b);
        measure_memory_roofs(&b);
        measure_call_costs(&b);
    }
    if (b.host)
        (void)cudaHostUnregister(b.host);
    free(b.host);
    (void)cudaFree(b.a); /* the process's end gives back the rest */
    (void)cudaFree(b.b);
    return b.failed || !b.host;
}
