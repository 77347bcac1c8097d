/* tests/bench/cublas.c -- products by the cuBLAS that is here when the bench runs.
 *
 * It is asked of the loader, by the name in REFINE_CUBLAS or the usual ones, so that a bench built
 * where there is none finds it where there is one, and of either version.  The few of its names
 * that are called are written down here; their types and numbers are those of <cublas_v2.h>, and
 * have been the same since CUDA 11.
 *
 * cuBLAS counts down columns, so it is asked for c^T = b a^T.
 */
#include "tests/bench/cublas.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, OP_N = 0, OP_T = 1, R_16F = 2, COMPUTE_32F = 68, ALGO_DEFAULT = -1 };

typedef struct cublas_context *handle;
typedef int create_fn(handle *);
typedef int destroy_fn(handle);
typedef int stream_fn(handle, cudaStream_t);
typedef int gemm_fn(handle, int, int, int, int, int, const void *, const void *, int, int,
                    long long, const void *, int, int, long long, const void *, void *, int, int,
                    long long, int, int, int);

struct cublas {
    void *library;
    handle h;
    destroy_fn *destroy;
    gemm_fn *multiply;
};

static void *open_library(void)
{
    void *library = NULL;
#ifndef REFINE_CUDA_EMULATED /* cuBLAS would look for a real card */
    const char *const names[] = { getenv("REFINE_CUBLAS"), "libcublas.so.13", "libcublas.so.12" };
    for (size_t i = 0; !library && i < sizeof names / sizeof names[0]; i++)
        if (names[i] && names[i][0])
            library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
#endif
    return library;
}

/* ISO C has no way from void * to a function. */
static bool find_cublas_symbol(void *library, const char *name, void *function, size_t size)
{
    void *const p = dlsym(library, name);
    memcpy(function, &p, size);
    return p != NULL;
}

static bool start_cublas(cublas *g, cudaStream_t s)
{
    create_fn *create;
    stream_fn *set_stream;
    g->library = open_library();
    return g->library &&
           find_cublas_symbol(g->library, "cublasCreate_v2", &create, sizeof create) &&
           find_cublas_symbol(g->library, "cublasDestroy_v2", &g->destroy, sizeof g->destroy) &&
           find_cublas_symbol(g->library, "cublasSetStream_v2", &set_stream, sizeof set_stream) &&
           find_cublas_symbol(g->library, "cublasGemmStridedBatchedEx", &g->multiply,
                              sizeof g->multiply) &&
           create(&g->h) == SUCCESS && set_stream(g->h, s) == SUCCESS;
}

cublas *cublas_open(cudaStream_t s)
{
    cublas *g = calloc(1, sizeof *g);
    if (g && start_cublas(g, s))
        return g;
    cublas_close(g);
    return NULL;
}

void cublas_close(cublas *g)
{
    if (g && g->h)
        (void)g->destroy(g->h);
    if (g && g->library)
        (void)dlclose(g->library);
    free(g);
}

bool cublas_multiply(cublas *g, const cublas_args *a)
{
    const float one = 1, zero = 0;
    return g->multiply(g->h, a->b_transposed ? OP_N : OP_T, OP_N, a->n, a->m, a->k, &one, a->b,
                       R_16F, a->ldb, a->b_step, a->a, R_16F, a->lda, a->a_step, &zero, a->c, R_16F,
                       a->ldc, a->c_step, a->batch, COMPUTE_32F, ALGO_DEFAULT) == SUCCESS;
}
