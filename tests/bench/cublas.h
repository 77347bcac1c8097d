/* tests/bench/cublas.h -- products by cuBLAS, to set our kernels beside.
 *
 *     c[i] = a[i] * b[i]^T        i = 0..batch-1, fp16, summed in F32
 *
 * a: m rows of k, b: n rows of k (transposed: k rows of n), c: m rows of n; rows lie lda, ldb, ldc
 * elements apart, members of a batch a_step, b_step, c_step.
 */
#ifndef BENCH_GEMM_H
#define BENCH_GEMM_H

#include <cuda_runtime_api.h>
#include <stdbool.h>

typedef struct cublas cublas;

typedef struct cublas_args {
    const void *a, *b;
    void       *c;
    int         m, n, k, lda, ldb, ldc;
    bool        b_transposed;
    int         batch;
    long long   a_step, b_step, c_step;
} cublas_args;

/* NULL: there is no cuBLAS here when it runs. */
cublas *cublas_open(cudaStream_t s);
void  cublas_close(cublas *g); /* NULL is fine */

/* False: cuBLAS does not do this. */
bool cublas_multiply(cublas *g, const cublas_args *a);

#endif
