/* kernels/cpu/isa.h -- which instructions of this processor the kernels may use.
 *
 * What the processor and the operating system offer, capped by the environment variable
 * REFINE_ISA (base, avx2, avxvnni, avx512, avx512vnni, avx512bf16): a machine then runs what a
 * lesser one would.  Sources compiled for an instruction set are called only where its bit is set.
 */
#ifndef REFINE_ISA_H
#define REFINE_ISA_H

typedef enum isa {
    ISA_AVX2 = 1,        /* with FMA and F16C */
    ISA_AVXVNNI = 2,     /* quadruples of bytes, in 256 bits */
    ISA_AVX512 = 4,      /* F, BW, VL */
    ISA_AVX512VNNI = 8,  /* quadruples of bytes, in 512 bits */
    ISA_AVX512BF16 = 16, /* pairs of bf16 */
} isa;

unsigned isa_available(void);

/* What REFINE_ISA says where that is no name and caps nothing; NULL: it is unset, empty or one of
 * ISA_NAMES. */
const char *isa_unknown(void);
#define ISA_NAMES "base, avx2, avxvnni, avx512, avx512vnni or avx512bf16"

#endif
