/* kernels/cpu/isa.c -- what cpuid says, less what REFINE_ISA takes away. */
#include "kernels/cpu/isa.h"

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

/* All that is left, where it does not say or says what is no name. */
static unsigned cap(bool *named)
{
    const char *name = getenv("REFINE_ISA");
    *named = !name || !*name;
    for (size_t i = 0; !*named && i < sizeof CAPS / sizeof CAPS[0]; i++)
        if (strcmp(name, CAPS[i].name) == 0) {
            *named = true;
            return CAPS[i].keeps;
        }
    return ~0u;
}

bool isa_is_named(void)
{
    bool named;
    (void)cap(&named);
    return named;
}

#if defined(__x86_64__)
#include <cpuid.h>

/* Compilers learnt the names of these two late: leaf 7, subleaf 1, EAX bits 4 and 5. */
static unsigned late(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d))
        return 0;
    return (a >> 4 & 1 ? ISA_AVXVNNI : 0) | (a >> 5 & 1 ? ISA_AVX512BF16 : 0);
}

static unsigned offered(void)
{
    unsigned has = 0;
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return 0;
    has |= ISA_AVX2 | (late() & ISA_AVXVNNI);
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512vl") ||
        !__builtin_cpu_supports("avx512bw"))
        return has;
    has |= ISA_AVX512 | (late() & ISA_AVX512BF16);
    return __builtin_cpu_supports("avx512vnni") ? has | ISA_AVX512VNNI : has;
}
#else
static unsigned offered(void) { return 0; }
#endif

unsigned isa_available(void)
{
    bool named;
    return offered() & cap(&named);
}
