/* tests/bench/gemm_cublas.c -- products by the toolkit's cuBLAS.
 *
 * cuBLAS counts down columns, so it is asked for c^T = b a^T.
 */
#include "tests/bench/gemm.h"

#include <cublas_v2.h>
#include <stdlib.h>

struct gemm {
    cublasHandle_t handle;
};

gemm *gemm_open(cudaStream_t s)
{
    gemm *g = calloc(1, sizeof *g);
    if (g && cublasCreate(&g->handle) == CUBLAS_STATUS_SUCCESS) {
        if (cublasSetStream(g->handle, s) == CUBLAS_STATUS_SUCCESS)
            return g;
        (void)cublasDestroy(g->handle);
    }
    free(g);
    return NULL;
}

void gemm_close(gemm *g)
{
    if (g)
        (void)cublasDestroy(g->handle);
    free(g);
}

bool gemm_run(gemm *g, const gemm_args *a)
{
    const float one = 1, zero = 0;
    return cublasGemmStridedBatchedEx(g->handle, a->b_transposed ? CUBLAS_OP_N : CUBLAS_OP_T,
                                      CUBLAS_OP_N, a->n, a->m, a->k, &one, a->b, CUDA_R_16F, a->ldb,
                                      a->b_step, a->a, CUDA_R_16F, a->lda, a->a_step, &zero, a->c,
                                      CUDA_R_16F, a->ldc, a->c_step, a->batch, CUBLAS_COMPUTE_32F,
                                      CUBLAS_GEMM_DEFAULT) == CUBLAS_STATUS_SUCCESS;
}
