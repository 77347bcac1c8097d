/* kernels/cuda/operand.cuh -- what a product multiplies, in shared memory.
 *
 * Rows of vectors of eight elements.  Vector v of row r lies at v ^ (r % 8), so that eight threads
 * at one vector of eight neighbouring rows meet no bank twice: those who fill it, ldmatrix, and
 * those who read it without.
 */
#ifndef REFINE_CUDA_OPERAND_CUH
#define REFINE_CUDA_OPERAND_CUH

#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/view.cuh"

enum { VECTOR = 8 };

struct __align__(16) float8 {
    float x[8];
};

template <class E> struct vector_of;
template <> struct vector_of<__half> {
    typedef half8 type;
};
template <> struct vector_of<float> {
    typedef float8 type;
};
template <class E> using vec8 = typename vector_of<E>::type;

__device__ __forceinline__ void encode_vector8(half8 &v, const float (&x)[8])
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        v.pair[i] = __floats2half2_rn(x[2 * i], x[2 * i + 1]);
}

__device__ __forceinline__ void encode_vector8(float8 &v, const float (&x)[8])
{
#pragma unroll
    for (int i = 0; i < 8; i++)
        v.x[i] = x[i];
}

template <class E> __device__ __forceinline__ vec8<E> zero_vector8()
{
    const float zeros[8] = { 0, 0, 0, 0, 0, 0, 0, 0 };
    vec8<E> v;
    encode_vector8(v, zeros);
    return v;
}

template <class E, int ROWS, int VECTORS> struct operand {
    vec8<E> at[ROWS][VECTORS];

    __device__ __forceinline__ vec8<E> &vector(int row, int v) { return at[row][v ^ (row % 8)]; }
    __device__ __forceinline__ const vec8<E> &vector(int row, int v) const
    {
        return at[row][v ^ (row % 8)];
    }
};

/* A group of 64 int8 of each row, in vectors of 16, and the group's scale.  A row is half of what
 * the banks hold, so vector v of row r lies at v ^ (r / 2 % 4). */
template <int ROWS> struct int8_operand {
    uint4 at[ROWS][4];
    float scale[ROWS];

    __device__ __forceinline__ uint4 &vector(int row, int v) { return at[row][v ^ (row / 2 % 4)]; }
    __device__ __forceinline__ const uint4 &vector(int row, int v) const
    {
        return at[row][v ^ (row / 2 % 4)];
    }
};

/* Vectors of 16 bytes on their way from memory to shared memory: by themselves where the card can,
 * which takes no registers, else through these.  Whoever fetches says twice where a vector goes,
 * keeps it when the place is free for those that come through registers, and then waits for the
 * others. */
template <int N> struct vector_copies {
    uint4 raw[N];

    __device__ __forceinline__ void fetch(int i, void *to, const void *from, bool is_there)
    {
        if (has_copies()) {
            copy16_async(to, from, is_there);
            return;
        }
        raw[i] = make_uint4(0, 0, 0, 0);
        if (is_there)
            raw[i] = *static_cast<const uint4 *>(from);
    }

    __device__ __forceinline__ void keep(int i, void *to) const
    {
        if (!has_copies())
            *static_cast<uint4 *>(to) = raw[i];
    }
};

/* Fragments (kernels/cuda/ptx.cuh) of 16 k, or 32 of int8, which are vectors v and v + 1. */

/* A: rows [row, row + 16). */
template <class Operand>
__device__ __forceinline__ void load_rows(uint32_t (&a)[4], const Operand &s, int row, int v)
{
    const int lane = static_cast<int>(threadIdx.x) % 32;
    load_matrices(a, &s.vector(row + lane % 16, v + lane / 16));
}

/* B, whose columns are rows [row, row + 8 J) of the operand. */
template <int J, class Operand>
__device__ __forceinline__ void load_columns(uint32_t (&b)[J][2], const Operand &s, int row, int v)
{
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int j = 0; j < J; j += 2) {
        uint32_t two[4];
        load_matrices(two, &s.vector(row + 8 * j + lane / 16 * 8 + lane % 8, v + lane / 8 % 2));
        b[j][0] = two[0];
        b[j][1] = two[1];
        b[j + 1][0] = two[2];
        b[j + 1][1] = two[3];
    }
}

/* B, whose k are rows [row, row + 16) of the operand and whose columns its vectors [v, v + J). */
template <int J, int ROWS, int VECTORS>
__device__ __forceinline__ void load_transposed(uint32_t (&b)[J][2],
                                                const operand<__half, ROWS, VECTORS> &s, int row,
                                                int v)
{
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int j = 0; j < J; j += 2) {
        uint32_t two[4];
        load_matrices_transposed(two, &s.vector(row + lane % 16, v + j + lane / 16));
        b[j][0] = two[0];
        b[j][1] = two[1];
        b[j + 1][0] = two[2];
        b[j + 1][1] = two[3];
    }
}

/* 16 rows of F32 on their way from the fragments of a warp to whoever stores them; four more
 * columns, so that rows begin in different banks. */
template <int ROWS, int COLUMNS> struct outputs {
    float at[ROWS][COLUMNS + 4];
};

template <int J, int COLUMNS>
__device__ __forceinline__ void put_fragments(outputs<16, COLUMNS> &out, const float (&d)[J][4])
{
    const int g = static_cast<int>(threadIdx.x) % 32 / 4, t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int j = 0; j < J; j++) {
        *reinterpret_cast<float2 *>(&out.at[g][8 * j + 2 * t]) = make_float2(d[j][0], d[j][1]);
        *reinterpret_cast<float2 *>(&out.at[g + 8][8 * j + 2 * t]) = make_float2(d[j][2], d[j][3]);
    }
}

#endif
