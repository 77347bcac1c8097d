/* tests/bench/peak.c -- independent sums in registers, as many as hide the latency. */
#define _POSIX_C_SOURCE 200809L
#include "tests/bench/peak.h"

#include "engine/base/thread.h"
#include "kernels/cpu/isa.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

enum { SUMS = 12, ROUNDS = 20000, TURNS = 5, MOST_THREADS = 256 };

typedef struct loop {
    peak_kind kind;
    const char *instruction;
    unsigned needs;
    int products; /* of an instruction */
    void (*run)(void);
} loop;

#if defined(__x86_64__)
#include <immintrin.h>

/* What is multiplied is hidden from the compiler, and so is what comes of it. */
#define LOOP(name, isa, type, d_type, step)                                                        \
    __attribute__((target(isa))) static void name(void)                                            \
    {                                                                                              \
        type a = { 0 }, w = { 0 };                                                                 \
        d_type d[SUMS] = { { 0 } };                                                                \
        for (int i = 0; i < ROUNDS; i++)                                                           \
            _Pragma("GCC unroll 16") for (int s = 0; s < SUMS; s++)                                \
            {                                                                                      \
                __asm__ volatile("" : "+x"(a), "+x"(w));                                           \
                d[s] = step;                                                                       \
            }                                                                                      \
        __asm__ volatile(""                                                                        \
                         :                                                                         \
                         : "x"(d[0]), "x"(d[1]), "x"(d[2]), "x"(d[3]), "x"(d[4]), "x"(d[5]),       \
                           "x"(d[6]), "x"(d[7]), "x"(d[8]), "x"(d[9]), "x"(d[10]), "x"(d[11]));    \
    }

LOOP(f32_avx2, "avx2,fma", __m256, __m256, _mm256_fmadd_ps(a, w, d[s]))
LOOP(f32_avx512, "avx512f", __m512, __m512, _mm512_fmadd_ps(a, w, d[s]))
LOOP(bf16_avx512, "avx512f,avx512bf16", __m512bh, __m512, _mm512_dpbf16_ps(d[s], a, w))
LOOP(int8_avx2, "avx2", __m256i, __m256i, _mm256_add_epi32(_mm256_madd_epi16(a, w), d[s]))
LOOP(int8_avxvnni, "avx2,avxvnni", __m256i, __m256i, _mm256_dpbusd_avx_epi32(d[s], a, w))
LOOP(int8_avx512, "avx512f,avx512vnni", __m512i, __m512i, _mm512_dpbusd_epi32(d[s], a, w))

/* The first of a kind that this processor has. */
static const loop LOOPS[] = {
    { PEAK_F32, "vfmadd231ps, 512 bits", ISA_AVX512, 16, f32_avx512 },
    { PEAK_F32, "vfmadd231ps, 256 bits", ISA_AVX2, 8, f32_avx2 },
    { PEAK_BF16, "vdpbf16ps, 512 bits", ISA_AVX512BF16, 32, bf16_avx512 },
    { PEAK_BF16, "vfmadd231ps, 512 bits", ISA_AVX512, 16, f32_avx512 },
    { PEAK_BF16, "vfmadd231ps, 256 bits", ISA_AVX2, 8, f32_avx2 },
    { PEAK_INT8, "vpdpbusd, 512 bits", ISA_AVX512VNNI, 64, int8_avx512 },
    { PEAK_INT8, "vpdpbusd, 256 bits", ISA_AVXVNNI, 32, int8_avxvnni },
    { PEAK_INT8, "vpmaddwd and vpaddd, 256 bits", ISA_AVX2, 16, int8_avx2 },
};
enum { N_LOOPS = sizeof LOOPS / sizeof LOOPS[0] };
#else
static const loop LOOPS[1];
enum { N_LOOPS = 0 };
#endif

static const loop *find_loop(peak_kind kind)
{
    const unsigned has = isa_available();
    for (int i = 0; i < N_LOOPS; i++)
        if (LOOPS[i].kind == kind && (has & LOOPS[i].needs) == LOOPS[i].needs)
            return &LOOPS[i];
    return NULL;
}

const char *peak_instruction(peak_kind kind)
{
    const loop *l = find_loop(kind);
    return l ? l->instruction : "no vectors";
}

static double wall_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* One turn of all threads. */
typedef struct turn {
    const loop *loop;
    double until;
    atomic_llong runs;
} turn;

static void run_peak_loop(void *context)
{
    turn *t = context;
    do {
        t->loop->run();
        atomic_fetch_add_explicit(&t->runs, 1, memory_order_relaxed);
    } while (wall_seconds() < t->until);
}

static double measure_peak_turn(const loop *l, int threads, double seconds)
{
    const double began = wall_seconds();
    turn t = { .loop = l, .until = began + seconds };
    thread others[MOST_THREADS] = { 0 };

    for (int i = 1; i < threads && i < MOST_THREADS; i++)
        if (!thread_start(&others[i], "peak", run_peak_loop, &t))
            exit(1);
    run_peak_loop(&t);
    for (int i = 1; i < threads && i < MOST_THREADS; i++)
        thread_join(&others[i]);
    return 2.0 * (double)t.runs * ROUNDS * SUMS * l->products / (wall_seconds() - began);
}

static int compare_peak_rates(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double peak_rate(peak_kind kind, int threads, double seconds)
{
    const loop *l = find_loop(kind);
    double rate[TURNS];

    if (!l)
        return 0;
    for (int i = 0; i < TURNS; i++)
        rate[i] = measure_peak_turn(l, threads, seconds);
    qsort(rate, TURNS, sizeof rate[0], compare_peak_rates);
    return rate[TURNS / 2];
}
