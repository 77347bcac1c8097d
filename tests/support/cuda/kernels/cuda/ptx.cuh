/* tests/support/cuda/kernels/cuda/ptx.cuh -- what stands in for kernels/cuda/ptx.cuh, whose
 * comments say what these functions do.  The last lane to come computes for the whole warp, with
 * fragments laid out as the PTX ISA has them. */
#ifndef EMULATED_PTX_CUH
#define EMULATED_PTX_CUH

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace emulation {

/* A lane's fragments of I x J products: d[I][J][4], a[I][4], b[J][2]. */
struct fragments {
    float *d;
    const uint32_t *a, *b;
};

/* For a whole warp; at most 8 x 8 products. */
void multiply_fragments(void *const brought[LANES], int i, int j);

template <int I, int J> void mma_all(void *const brought[LANES])
{
    static_assert(I <= 8 && J <= 8, "more than multiply_fragments has room for");
    multiply_fragments(brought, I, J);
}

/* Of I x J products of int8, 64 deep: d[I][J][4], a[2][I][4], b[2][J][2]. */
struct int8_fragments {
    int *d;
    const uint32_t *a, *b;
};

void multiply_int8_fragments(void *const brought[LANES], int i, int j);

template <int I, int J> void mma_int8_all(void *const brought[LANES])
{
    static_assert(I <= 8 && J <= 8, "more than multiply_int8_fragments has room for");
    multiply_int8_fragments(brought, I, J);
}

struct matrix_rows {
    uint32_t *out;
    const void *row;
};

/* For a whole warp. */
void load_rows_of_matrices(void *const brought[LANES]);
void load_columns_of_matrices(void *const brought[LANES]);

/* The row is looked at where sanitizers see it. */
inline void check_matrix_row(const void *row)
{
    if (reinterpret_cast<uintptr_t>(row) % 16)
        __builtin_trap();
    for (int i = 0; i < 2; i++)
        (void)static_cast<const volatile uint64_t *>(row)[i];
}

} /* namespace emulation */

template <int I, int J>
void mma_tile(float (&d)[I][J][4], const uint32_t (&a)[I][4], const uint32_t (&b)[J][2])
{
    emulation::fragments mine = { d[0][0], a[0], b[0] };
    emulation::meet_warp(&mine, emulation::mma_all<I, J>);
}

inline void mma_half(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
    emulation::fragments mine = { d, a, b };
    emulation::meet_warp(&mine, emulation::mma_all<1, 1>);
}

template <int I, int J>
void mma_int8_tile(int (&d)[I][J][4], const uint32_t (&a)[2][I][4], const uint32_t (&b)[2][J][2])
{
    emulation::int8_fragments mine = { d[0][0], a[0][0], b[0][0] };
    emulation::meet_warp(&mine, emulation::mma_int8_all<I, J>);
}

inline void load_matrices(uint32_t (&out)[4], const void *row)
{
    emulation::check_matrix_row(row);
    emulation::matrix_rows mine = { out, row };
    emulation::meet_warp(&mine, emulation::load_rows_of_matrices);
}

inline void load_matrices_transposed(uint32_t (&out)[4], const void *row)
{
    emulation::check_matrix_row(row);
    emulation::matrix_rows mine = { out, row };
    emulation::meet_warp(&mine, emulation::load_columns_of_matrices);
}

/* Where the card is 8.0 or later. */
inline bool has_copies() { return emulation::has_copies; }

inline void copy16_async(void *to, const void *from, bool is_there)
{
    emulation::check_matrix_row(to);
    if (is_there)
        emulation::check_matrix_row(from);
    emulation::begin_copy(to, is_there ? from : nullptr);
}

inline void copies_wait(const char *file = __builtin_FILE(), int line = __builtin_LINE())
{
    if (emulation::has_copies)
        emulation::end_copies(file, line);
}

/* Subnormal results are 0. */
inline float flush_subnormal(float x)
{
    return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x;
}

inline float exp2_fast(float x) { return flush_subnormal(std::exp2(flush_subnormal(x))); }
inline float reciprocal_fast(float x) { return flush_subnormal(1.0f / flush_subnormal(x)); }

#endif
