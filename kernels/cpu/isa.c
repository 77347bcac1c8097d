/* kernels/cpu/isa.c -- what cpuid says, less what REFINE_ISA takes away. */
#include "kernels/cpu/isa.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* In the order in which processors learnt them: a cap keeps what stands up to its line, so that
 * AVX-VNNI, which came last and without AVX-512, has a line of its own. */
static const struct {
    const char *name;
    unsigned keeps;
} CAPS[] = {
    { "base", 0 },
    { "avx2", ISA_AVX2 },
    { "avxvnni", ISA_AVX2 | ISA_AVXVNNI },
    { "avx512", ISA_AVX2 | ISA_AVX512 },
    { "avx512vnni", ISA_AVX2 | ISA_AVX512 | ISA_AVX512VNNI },
    { "avx512bf16", ISA_AVX2 | ISA_AVX512 | ISA_AVX512VNNI | ISA_AVX512BF16 },
};

/* What the cap of a name keeps; false: it is none. */
static bool find_cap(const char *name, unsigned *keeps)
{
    for (size_t i = 0; i < sizeof CAPS / sizeof CAPS[0]; i++)
        if (strcmp(name, CAPS[i].name) == 0) {
            *keeps = CAPS[i].keeps;
            return true;
        }
    return false;
}

const char *isa_unknown(void)
{
    const char *name = getenv("REFINE_ISA");
    unsigned keeps;
    return !name || !*name || find_cap(name, &keeps) ? NULL : name;
}

static unsigned read_isa_cap(void)
{
    const char *name = getenv("REFINE_ISA");
    unsigned keeps = ~0u;
    if (name)
        (void)find_cap(name, &keeps);
    return keeps;
}

#if defined(__x86_64__)
#include <cpuid.h>

/* Compilers learnt the names of these two late: leaf 7, subleaf 1, EAX bits 4 and 5. */
static unsigned detect_late_isa(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d))
        return 0;
    return (a >> 4 & 1 ? ISA_AVXVNNI : 0) | (a >> 5 & 1 ? ISA_AVX512BF16 : 0);
}

static unsigned detect_isa(void)
{
    unsigned has = 0;
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return 0;
    has |= ISA_AVX2 | (detect_late_isa() & ISA_AVXVNNI);
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512vl") ||
        !__builtin_cpu_supports("avx512bw"))
        return has;
    has |= ISA_AVX512 | (detect_late_isa() & ISA_AVX512BF16);
    return __builtin_cpu_supports("avx512vnni") ? has | ISA_AVX512VNNI : has;
}
#else
static unsigned detect_isa(void) { return 0; }
#endif

unsigned isa_available(void) { return detect_isa() & read_isa_cap(); }
