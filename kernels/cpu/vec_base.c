/* kernels/cpu/vec_base.c -- rows of floats on any CPU: four lanes, no fused multiply-add. */
#define LANES                 4
#define MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#define VEC_TABLE             VEC_BASE
#include "kernels/cpu/vec_body.h"
