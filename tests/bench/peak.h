/* tests/bench/peak.h -- how fast this processor multiplies at most.
 *
 *     peak = products of a loop of one instruction, of nothing but registers, a second
 *
 * The instruction is the widest that the kernels have here (kernels/cpu/isa.h, REFINE_ISA):
 *
 *             AVX-512                   AVX2
 *     F32     vfmadd231ps, 512 bits     vfmadd231ps, 256 bits
 *     BF16    vdpbf16ps                 as F32: what kernels/cpu/gemm.h does there
 *     int8    vpdpbusd, 512 bits        vpdpbusd of AVX-VNNI, or vpmaddwd and vpaddd
 *
 * The clock differs by what is measured and by what else runs, so that a share of the peak is one
 * only of a peak that was measured in the same minute.
 */
#ifndef BENCH_PEAK_H
#define BENCH_PEAK_H

typedef enum peak_kind { PEAK_F32, PEAK_BF16, PEAK_INT8 } peak_kind;

/* Floating-point operations (two a multiply-add) a second of so many threads, the median of five
 * turns of `seconds`; 0 where there is no such loop. */
double peak_rate(peak_kind kind, int threads, double seconds);
const char *peak_instruction(peak_kind kind);

#endif
