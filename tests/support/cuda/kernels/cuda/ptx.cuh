/* tests/support/cuda/kernels/cuda/ptx.cuh -- what stands in for kernels/cuda/ptx.cuh, whose
 * comments say what these functions do.  The last lane to come computes for the whole warp, with
 * fragments laid out as the PTX ISA has them. */
#ifndef EMULATED_PTX_CUH
#define EMULATED_PTX_CUH

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace emulation {

inline float half_of(uint32_t pair, int which)
{
    return __half2float({ static_cast<uint16_t>(pair >> (16 * which)) });
}

template <int I, int J> struct mma_operands {
    float (*d)[J][4];
    const uint32_t (*a)[4];
    const uint32_t (*b)[2];
};

/* Lane and place of the element (row, k) of A and (k, column) of B. */
template <int I, int J> void mma_all(void *const brought[LANES])
{
    static thread_local float a[I * 16][16], b[16][J * 8];
    const auto of = [&](int lane) {
        return static_cast<const mma_operands<I, J> *>(brought[lane]);
    };
    for (int lane = 0; lane < LANES; lane++) {
        const int g = lane / 4, t = lane % 4;
        for (int half = 0; half < 2; half++)
            for (int upper = 0; upper < 2; upper++) {
                const int k = 2 * t + 8 * upper + half;
                for (int i = 0; i < I; i++)
                    for (int below = 0; below < 2; below++)
                        a[i * 16 + g + 8 * below][k] =
                            half_of(of(lane)->a[i][below + 2 * upper], half);
                for (int j = 0; j < J; j++)
                    b[k][j * 8 + g] = half_of(of(lane)->b[j][upper], half);
            }
    }
    for (int row = 0; row < I * 16; row++) {
        float sum[J * 8] = {};
        for (int k = 0; k < 16; k++)
            for (int n = 0; n < J * 8; n++)
                sum[n] += a[row][k] * b[k][n];
        for (int n = 0; n < J * 8; n++) {
            const int lane = row % 8 * 4 + n % 8 / 2;
            of(lane)->d[row / 16][n / 8][row % 16 / 8 * 2 + n % 2] += sum[n];
        }
    }
}

struct matrices {
    uint32_t *out;
    const void *row;
};

template <bool TRANSPOSED> void load_all(void *const brought[LANES])
{
    uint32_t out[LANES][4];
    const auto element = [&](int matrix, int row, int column) {
        const void *at = static_cast<const matrices *>(brought[8 * matrix + row])->row;
        return static_cast<const uint16_t *>(at)[column];
    };
    for (int lane = 0; lane < LANES; lane++)
        for (int i = 0; i < 4; i++) {
            const int g = lane / 4, t = 2 * (lane % 4);
            const uint32_t low = TRANSPOSED ? element(i, t, g) : element(i, g, t);
            const uint32_t high = TRANSPOSED ? element(i, t + 1, g) : element(i, g, t + 1);
            out[lane][i] = low | high << 16;
        }
    for (int lane = 0; lane < LANES; lane++)
        std::memcpy(static_cast<const matrices *>(brought[lane])->out, out[lane], sizeof out[0]);
}

inline void check_aligned(const void *row)
{
    if (reinterpret_cast<uintptr_t>(row) % 16)
        __builtin_trap();
}

} /* namespace emulation */

template <int I, int J>
void mma_tile(float (&d)[I][J][4], const uint32_t (&a)[I][4], const uint32_t (&b)[J][2])
{
    emulation::mma_operands<I, J> mine = { d, a, b };
    emulation::meet_warp(&mine, emulation::mma_all<I, J>);
}

inline void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
    emulation::mma_operands<1, 1> mine = { reinterpret_cast<float(*)[1][4]>(&d), &a, &b };
    emulation::meet_warp(&mine, emulation::mma_all<1, 1>);
}

inline void load_matrices(uint32_t (&out)[4], const void *row)
{
    emulation::check_aligned(row);
    emulation::matrices mine = { out, row };
    emulation::meet_warp(&mine, emulation::load_all<false>);
}

inline void load_matrices_transposed(uint32_t (&out)[4], const void *row)
{
    emulation::check_aligned(row);
    emulation::matrices mine = { out, row };
    emulation::meet_warp(&mine, emulation::load_all<true>);
}

inline float exp2_fast(float x) { return std::exp2(x); }

#endif
