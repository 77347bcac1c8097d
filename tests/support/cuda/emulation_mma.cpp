/* tests/support/cuda/emulation_mma.cpp -- mma of halves and of int8, and ldmatrix, of a whole warp.
 *
 * Of many products at once the lanes' fragments are gathered into matrices, multiplied, and the
 * sums handed back to the lanes.  This is where an emulated kernel spends its time: it is not
 * instrumented by sanitizers, and uses wide vectors where the processor has them; neither changes a
 * bit.  The sum over k is in order, in F32 (a real tensor core has its own order).
 *
 * Reference: PTX ISA, "Matrix Fragments for mma.m16n8k16", "... for mma.m16n8k32", "ldmatrix".
 */
#include "kernels/cuda/ptx.cuh"

extern "C" {
#include "quant/f16.h"
}

#define BARE __attribute__((no_sanitize("address", "undefined"), optimize("O3")))

namespace emulation {

namespace {

enum { MOST = 8, K = 16 };

typedef float vector __attribute__((vector_size(32)));

struct matrices {
    uint32_t a_pairs[MOST * 16][K / 2], b_pairs[MOST * 8][K / 2]; /* b by columns */
    float a[MOST * 16][K], b_columns[MOST * 8][K];
    vector b[K][MOST], sum[MOST * 16][MOST];
};
matrices m;

BARE void gather_fragments(void *const *brought, int n_i, int n_j)
{
    for (int lane = 0; lane < LANES; lane++) {
        const fragments *f = static_cast<const fragments *>(brought[lane]);
        const int g = lane / 4, t = lane % 4;
        for (int upper = 0; upper < 2; upper++) {
            for (int i = 0; i < n_i; i++)
                for (int below = 0; below < 2; below++)
                    m.a_pairs[i * 16 + g + 8 * below][t + 4 * upper] =
                        f->a[i * 4 + below + 2 * upper];
            for (int j = 0; j < n_j; j++)
                m.b_pairs[j * 8 + g][t + 4 * upper] = f->b[j * 2 + upper];
        }
    }
    f16_decode(m.a[0], reinterpret_cast<const uint16_t *>(m.a_pairs),
               static_cast<size_t>(n_i) * 256);
    f16_decode(m.b_columns[0], reinterpret_cast<const uint16_t *>(m.b_pairs),
               static_cast<size_t>(n_j) * 128);
    for (int n = 0; n < n_j * 8; n++)
        for (int k = 0; k < K; k++)
            m.b[k][n / 8][n % 8] = m.b_columns[n][k];
}

BARE inline __attribute__((always_inline)) void multiply_any(int rows, int n_j)
{
    for (int row = 0; row < rows; row++)
        for (int j = 0; j < n_j; j++) {
            vector sum = {};
            for (int k = 0; k < K; k++)
                sum += m.a[row][k] * m.b[k][j];
            m.sum[row][j] = sum;
        }
}

BARE void multiply_plain(int rows, int n_j)
{
    multiply_any(rows, n_j);
}

BARE __attribute__((target("avx2"))) void multiply_wide(int rows, int n_j)
{
    multiply_any(rows, n_j);
}

BARE void scatter_sums(void *const *brought, int n_i, int n_j)
{
    for (int lane = 0; lane < LANES; lane++) {
        float *d = static_cast<const fragments *>(brought[lane])->d;
        const int g = lane / 4, t = lane % 4;
        for (int i = 0; i < n_i; i++)
            for (int j = 0; j < n_j; j++)
                for (int at = 0; at < 4; at++)
                    d[(i * n_j + j) * 4 + at] +=
                        m.sum[i * 16 + g + at / 2 * 8][j][2 * t + at % 2];
    }
}

/* ---- int8 ---- */

enum { K_INT8 = 64 };

struct int8_matrices {
    int8_t a[MOST * 16][K_INT8], b[MOST * 8][K_INT8]; /* b by columns */
};
int8_matrices q;

/* Four bytes of k, the lowest in the lowest. */
BARE void put_word(int8_t *to, uint32_t word)
{
    for (int i = 0; i < 4; i++)
        to[i] = static_cast<int8_t>(word >> 8 * i & 0xff);
}

/* Register r of A's fragment of half h is of row g + 8 (r % 2), k from 32 h + 16 (r / 2) + 4 t on;
 * of B's of column g, k from 32 h + 16 r + 4 t on. */
BARE void gather_int8(void *const *brought, int n_i, int n_j)
{
    for (int lane = 0; lane < LANES; lane++) {
        const int8_fragments *f = static_cast<const int8_fragments *>(brought[lane]);
        const int g = lane / 4, t = lane % 4;
        for (int h = 0; h < 2; h++) {
            for (int i = 0; i < n_i; i++)
                for (int r = 0; r < 4; r++)
                    put_word(&q.a[i * 16 + g + 8 * (r % 2)][32 * h + 16 * (r / 2) + 4 * t],
                             f->a[(h * n_i + i) * 4 + r]);
            for (int j = 0; j < n_j; j++)
                for (int r = 0; r < 2; r++)
                    put_word(&q.b[j * 8 + g][32 * h + 16 * r + 4 * t], f->b[(h * n_j + j) * 2 + r]);
        }
    }
}

BARE int dot_int8(const int8_t *a, const int8_t *b)
{
    int sum = 0;
    for (int k = 0; k < K_INT8; k++)
        sum += a[k] * b[k];
    return sum;
}

BARE void add_int8(void *const *brought, int n_i, int n_j)
{
    for (int lane = 0; lane < LANES; lane++) {
        int *d = static_cast<const int8_fragments *>(brought[lane])->d;
        const int g = lane / 4, t = lane % 4;
        for (int i = 0; i < n_i; i++)
            for (int j = 0; j < n_j; j++)
                for (int at = 0; at < 4; at++)
                    d[(i * n_j + j) * 4 + at] += dot_int8(q.a[i * 16 + g + at / 2 * 8],
                                                          q.b[j * 8 + 2 * t + at % 2]);
    }
}

/* element[8 * matrix + row][column] */
BARE inline __attribute__((always_inline)) void load_warp_matrices(void *const *brought,
                                                                   bool transposed)
{
    static uint16_t element[LANES][8];
    for (int lane = 0; lane < LANES; lane++)
        __builtin_memcpy(element[lane], static_cast<const matrix_rows *>(brought[lane])->row,
                         sizeof element[lane]);
    for (int lane = 0; lane < LANES; lane++) {
        uint32_t *out = static_cast<const matrix_rows *>(brought[lane])->out;
        const int g = lane / 4, t = 2 * (lane % 4);
        for (int i = 0; i < 4; i++) {
            const uint32_t low = transposed ? element[8 * i + t][g] : element[8 * i + g][t];
            const uint32_t high =
                transposed ? element[8 * i + t + 1][g] : element[8 * i + g][t + 1];
            out[i] = low | high << 16;
        }
    }
}

} /* namespace */

BARE void load_rows_of_matrices(void *const *brought)
{
    load_warp_matrices(brought, false);
}

BARE void load_columns_of_matrices(void *const *brought)
{
    load_warp_matrices(brought, true);
}

void multiply_int8_fragments(void *const *brought, int n_i, int n_j)
{
    gather_int8(brought, n_i, n_j);
    add_int8(brought, n_i, n_j);
    done.tensor += static_cast<uint64_t>(n_i * n_j) * 16 * 8 * K_INT8;
}

void multiply_fragments(void *const *brought, int n_i, int n_j)
{
    static const bool wide = __builtin_cpu_supports("avx2");
    gather_fragments(brought, n_i, n_j);
    if (wide)
        multiply_wide(n_i * 16, n_j);
    else
        multiply_plain(n_i * 16, n_j);
    scatter_sums(brought, n_i, n_j);
    done.tensor += static_cast<uint64_t>(n_i * n_j) * 16 * 8 * K;
}

} /* namespace emulation */
