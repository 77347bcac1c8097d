/* kernels/cpu/int8.c -- which of the compiled variants this CPU can run. */
#include "kernels/cpu/int8_variants.h"

static bool always(void) { return true; }

#if defined(__x86_64__)
#include <cpuid.h>

static bool has_avx2(void) { return __builtin_cpu_supports("avx2"); }

/* Compilers learnt the name of this one late: leaf 7, subleaf 1, EAX bit 4. */
static bool has_avxvnni(void)
{
    unsigned a, b, c, d;
    return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw");
}
#endif

/* The fastest first. */
static const struct {
    const int8_variant *variant;
    bool (*runs)(void);
} VARIANTS[] = {
#if defined(__x86_64__)
    { &INT8_AVX512, has_avx512 },
    { &INT8_AVXVNNI, has_avxvnni },
    { &INT8_AVX2, has_avx2 },
#endif
    { &INT8_BASE, always },
};

const int8_variant *int8_nth(int i, bool *runs)
{
    if (i < 0 || (size_t)i >= sizeof VARIANTS / sizeof VARIANTS[0])
        return NULL;
    *runs = VARIANTS[i].runs();
    return VARIANTS[i].variant;
}

const int8_variant *int8_pick(void)
{
    int i = 0;
    while (!VARIANTS[i].runs())
        i++;
    return VARIANTS[i].variant;
}
