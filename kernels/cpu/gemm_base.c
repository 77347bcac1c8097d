/* kernels/cpu/gemm_base.c -- products of floats on any processor: four lanes, no FMA. */
#define LANES 4

#define VECTORS       4
#define PIXELS        2
#define DEPTH         256
#define STEP(d, a, w) ((d) + (a) * (w))
#define FLIP          0
#define BEGIN         (void)0
#define END           (void)0
#define NAME          "plain"
#define TYPE          DT_F32
#define ELEMENT       DT_F32
#define VARIANT       GEMM_F32_BASE
#include "kernels/cpu/gemm_body.h"

#define VECTORS       4
#define PIXELS        2
#define DEPTH         256
#define STEP(d, a, w) ((d) + (a) * (w))
#define FLIP          1
#define BEGIN         (void)0
#define END           (void)0
#define NAME          "plain"
#define TYPE          DT_BF16
#define ELEMENT       DT_F32
#define VARIANT       GEMM_BF16_BASE
#include "kernels/cpu/gemm_body.h"
