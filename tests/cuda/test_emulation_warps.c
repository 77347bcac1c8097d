/* tests/cuda/test_emulation_warps.c -- what a warp of the emulated card does together, against
 * positions by hand, from the PTX ISA and from CUTLASS.
 */
#include "tests/cuda/emulation_calls.h"
#include "tests/cuda/emulation_kernels.h"
#include "tests/support/cuda/emulation.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static void warps_test_teardown(void) { (void)emulation_reset(); }

TestSuite(cuda_emulation_warps, .fini = warps_test_teardown);

Test(cuda_emulation_warps, a_product_of_two_elements_lands_where_the_ptx_isa_says)
{
    /* A (9, 13): groupID 1, eighth row below; column 8 + 2 * 2 + 1.  B (13, 5).  D (9, 5). */
    trial_fragments f[32] = { 0 };
    f[6].a[3] = 0x3c00u << 16;  /* 1 */
    f[22].b[1] = 0x4000u << 16; /* 2 */
    f[6].d[3] = 0.5f;

    cudaStream_t s = open_card_stream();
    trial_fragments *lanes = upload_bytes(s, f, sizeof f);
    cr_assert_eq(trial_mma(s, lanes), cudaSuccess);
    download_bytes(s, f, lanes, sizeof f);
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 4; i++)
            cr_expect_eq(f[lane].d[i], lane == 6 && i == 3 ? 2.5f : 0.0f, "lane %d, %d", lane, i);
}

static uint16_t small_half(int n) /* -8..8 */
{
    static const uint16_t halves[] = { 0x0000, 0x3c00, 0x4000, 0x4200, 0x4400,
                                       0x4500, 0x4600, 0x4700, 0x4800 };
    return (uint16_t)(halves[abs(n)] | (n < 0 ? 0x8000 : 0));
}

static int mma_element(int which, int row, int column)
{
    return (which * 31 + row * 7 + column * 5 + row * column) % 17 - 8;
}

static uint32_t pack_half_pair(int low, int high)
{
    return (uint32_t)small_half(low) | (uint32_t)small_half(high) << 16;
}

/* Elements a0..a7, b0..b3 and c0..c3 of a thread, as in the section on mma.m16n8k16. */
static int a_row(int lane, int i) { return lane / 4 + ((i < 2 || (i >= 4 && i < 6)) ? 0 : 8); }
static int a_column(int lane, int i) { return lane % 4 * 2 + i % 2 + (i < 4 ? 0 : 8); }
static int b_row(int lane, int i) { return lane % 4 * 2 + i % 2 + (i < 2 ? 0 : 8); }
static int d_row(int lane, int i) { return lane / 4 + (i < 2 ? 0 : 8); }
static int d_column(int lane, int i) { return lane % 4 * 2 + i % 2; }

static uint32_t a_register(int tile, int lane, int r)
{
    return pack_half_pair(mma_element(tile, a_row(lane, 2 * r), a_column(lane, 2 * r)),
                          mma_element(tile, a_row(lane, 2 * r + 1), a_column(lane, 2 * r + 1)));
}

static uint32_t b_register(int tile, int lane, int r)
{
    return pack_half_pair(mma_element(8 + tile, b_row(lane, 2 * r), lane / 4),
                          mma_element(8 + tile, b_row(lane, 2 * r + 1), lane / 4));
}

static float expected_d(int i, int j, int lane, int at)
{
    int sum = mma_element(20 + i + 2 * j, lane, at);
    for (int k = 0; k < 16; k++)
        sum += mma_element(i, d_row(lane, at), k) * mma_element(8 + j, k, d_column(lane, at));
    return (float)sum;
}

Test(cuda_emulation_warps, mma_is_a_product_of_matrices)
{
    trial_tile t[32];
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 2; i++) {
            for (int r = 0; r < 4; r++)
                t[lane].a[i][r] = a_register(i, lane, r);
            for (int r = 0; r < 2; r++)
                t[lane].b[i][r] = b_register(i, lane, r);
            for (int j = 0; j < 2; j++)
                for (int at = 0; at < 4; at++)
                    t[lane].d[i][j][at] = (float)mma_element(20 + i + 2 * j, lane, at);
        }
    cudaStream_t s = open_card_stream();
    trial_tile *lanes = upload_bytes(s, t, sizeof t);
    cr_assert_eq(trial_mma_tile(s, lanes), cudaSuccess);
    download_bytes(s, t, lanes, sizeof t);
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 2; i++)
            for (int j = 0; j < 2; j++)
                for (int at = 0; at < 4; at++)
                    cr_expect_eq(t[lane].d[i][j][at], expected_d(i, j, lane, at));
}

/* Fragments of mma.m16n8k32 of int8, as CUTLASS has them (MMA_Traits of
 * SM80_16x8x32_S32S8S8S32_TN): where a thread's value lies in a matrix whose rows are next to each
 * other, by the strides of the two parts of its lane and of the parts of the value's number.  A
 * second source beside the PTX ISA, after which the emulation was written. */
static int a_place(int lane, int v)
{
    return lane % 4 * 64 + lane / 4 + v % 4 * 16 + v / 4 % 2 * 8 + v / 8 * 256;
}
static int b_place(int lane, int v) { return lane % 4 * 32 + lane / 4 + v % 4 * 8 + v / 4 * 128; }
static int d_place(int lane, int v) { return lane % 4 * 32 + lane / 4 + v % 2 * 16 + v / 2 * 8; }

enum { M_INT8 = 16, N_INT8 = 8, K_INT8 = 32 };

static int8_t a_int8(int half, int place) /* row + M_INT8 k */
{
    return (int8_t)(mma_element(half, place % M_INT8, place / M_INT8) * 15);
}

static int8_t b_int8(int half, int j, int place) /* column + N_INT8 k */
{
    return (int8_t)(mma_element(3 + half + 2 * j, place / N_INT8, place % N_INT8) * -13);
}

static uint32_t pack_int8x4(const int8_t v[4])
{
    uint32_t word;
    memcpy(&word, v, sizeof word);
    return word;
}

static void fill_int8_trial(trial_int8 *t, int lane)
{
    int8_t v[4];
    for (int half = 0; half < 2; half++) {
        for (int r = 0; r < 4; r++) {
            for (int i = 0; i < 4; i++)
                v[i] = a_int8(half, a_place(lane, 4 * r + i));
            t->a[half][0][r] = pack_int8x4(v);
        }
        for (int j = 0; j < 2; j++)
            for (int r = 0; r < 2; r++) {
                for (int i = 0; i < 4; i++)
                    v[i] = b_int8(half, j, b_place(lane, 4 * r + i));
                t->b[half][j][r] = pack_int8x4(v);
            }
    }
}

static int product_int8(int j, int place)
{
    const int row = place % M_INT8, column = place / M_INT8;
    int sum = 0;
    for (int half = 0; half < 2; half++)
        for (int k = 0; k < K_INT8; k++)
            sum += a_int8(half, row + M_INT8 * k) * b_int8(half, j, column + N_INT8 * k);
    return sum;
}

Test(cuda_emulation_warps, mma_of_int8_is_a_product_of_matrices)
{
    trial_int8 t[32] = { 0 };
    for (int lane = 0; lane < 32; lane++) {
        fill_int8_trial(&t[lane], lane);
        for (int i = 0; i < 8; i++)
            t[lane].d[0][i / 4][i % 4] = 1000 * lane + i;
    }
    cudaStream_t s = open_card_stream();
    trial_int8 *lanes = upload_bytes(s, t, sizeof t);
    cr_assert_eq(trial_mma_int8(s, lanes), cudaSuccess);
    download_bytes(s, t, lanes, sizeof t);
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 8; i++)
            cr_expect_eq(t[lane].d[0][i / 4][i % 4],
                         1000 * lane + i + product_int8(i / 4, d_place(lane, i % 4)));
}

Test(cuda_emulation_warps, matrices_are_loaded_in_rows_and_in_columns)
{
    uint16_t rows[32][8];
    uint32_t out[32][4];
    for (int r = 0; r < 32; r++)
        for (int c = 0; c < 8; c++)
            rows[r][c] = (uint16_t)(100 * r + c);
    cudaStream_t s = open_card_stream();
    const uint16_t(*from)[8] = upload_bytes(s, rows, sizeof rows);
    uint32_t(*to)[4] = alloc_card_bytes(sizeof out);

    cr_assert_eq(trial_load_matrices(s, to, from, false), cudaSuccess);
    download_bytes(s, out, to, sizeof out);
    cr_expect_eq(out[6][3], 2504u | 2505u << 16); /* row 1 of matrix 3, columns 4 and 5 */
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 4; i++) {
            const uint16_t *row = rows[8 * i + lane / 4] + lane % 4 * 2;
            cr_expect_eq(out[lane][i], row[0] | (uint32_t)row[1] << 16);
        }

    cr_assert_eq(trial_load_matrices(s, to, from, true), cudaSuccess);
    download_bytes(s, out, to, sizeof out);
    cr_expect_eq(out[6][3], 2801u | 2901u << 16); /* column 1, rows 4 and 5 */
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 4; i++) {
            const int row = 8 * i + lane % 4 * 2;
            cr_expect_eq(out[lane][i],
                         rows[row][lane / 4] | (uint32_t)rows[row + 1][lane / 4] << 16);
        }
}

Test(cuda_emulation_warps, lanes_see_each_other)
{
    trial_seen seen[32];
    cudaStream_t s = open_card_stream();
    trial_seen *lanes = alloc_card_bytes(sizeof seen);
    cr_assert_eq(trial_collectives(s, lanes), cudaSuccess);
    download_bytes(s, seen, lanes, sizeof seen);
    for (int lane = 0; lane < 32; lane++) {
        cr_expect_eq(seen[lane].from_3, 103);
        cr_expect_eq(seen[lane].from_xor_5, 100 + (lane ^ 5));
        cr_expect_eq(seen[lane].from_down_4, 100 + (lane + 4 < 32 ? lane + 4 : lane));
        cr_expect_eq(seen[lane].from_up_4, 100 + (lane >= 4 ? lane - 4 : lane));
        cr_expect_eq(seen[lane].thirds, 0x49249249u);
        cr_expect(seen[lane].any && seen[lane].all && !seen[lane].none);
    }
}

Test(cuda_emulation_warps, atomic_sums_are_whole_and_everybody_sees_another_value)
{
    unsigned sum = 5, before[TRIAL_THREADS];
    cudaStream_t s = open_card_stream();
    unsigned *on_card = upload_bytes(s, &sum, sizeof sum), *seen = alloc_card_bytes(sizeof before);
    emulation_set_order(EMULATION_RANDOM, 3);
    cr_assert_eq(trial_atomics(s, on_card, seen), cudaSuccess);
    download_bytes(s, &sum, on_card, sizeof sum);
    download_bytes(s, before, seen, sizeof before);
    cr_expect_eq(sum, 5u + TRIAL_THREADS * (TRIAL_THREADS - 1) / 2);
    for (int i = 1; i < TRIAL_THREADS; i++)
        for (int k = 1; k < i; k++)
            cr_expect_neq(before[i], before[k]);
}

Test(cuda_emulation_warps, a_fused_multiply_add_of_halves_is_rounded_once)
{
    /* (1 + 2^-10) + (1 + 2^-10)(1 - 2^-10) 2^-11 lies below the middle by 2^-31, which a float in
     * between would not hold. */
    uint16_t out = 0;
    cudaStream_t s = open_card_stream();
    uint16_t *on_card = alloc_card_bytes(sizeof out);
    cr_assert_eq(trial_hfma(s, on_card, 0x3c01, 0x0ffe, 0x3c01), cudaSuccess);
    download_bytes(s, &out, on_card, sizeof out);
    cr_expect_eq(out, 0x3c01);
    /* 2^-24, the smallest; too large; infinity less infinity */
    cr_assert_eq(trial_hfma(s, on_card, 0x0001, 0x3c00, 0x0000), cudaSuccess);
    download_bytes(s, &out, on_card, sizeof out);
    cr_expect_eq(out, 0x0001);
    cr_assert_eq(trial_hfma(s, on_card, 0x7bff, 0xbc00, 0xcc00), cudaSuccess);
    download_bytes(s, &out, on_card, sizeof out);
    cr_expect_eq(out, 0xfc00);
    cr_assert_eq(trial_hfma(s, on_card, 0x7c00, 0x3c00, 0xfc00), cudaSuccess);
    download_bytes(s, &out, on_card, sizeof out);
    cr_expect_gt(out & 0x7fff, 0x7c00);
}
