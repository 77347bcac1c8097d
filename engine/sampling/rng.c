/* engine/sampling/rng.c -- torch's normal deviates.
 *
 *     MT19937     u = draw & (2^24 - 1), scaled to [0, 1)
 *                 16 of them: r = sqrt(-2 ln(1 - u[j])), th = 2 pi u[j + 8]
 *                 out[j] = r cos th, out[j + 8] = r sin th                    j < 8
 *     Philox      (x, y, z, w) = philox(counter), each scaled to (0, 1)
 *                 sqrt(-2 ln x) * sin or cos of 2 pi y; likewise (z, w)
 *
 * Reference: ATen/native/cpu/DistributionTemplates.h normal_fill, ATen/core/
 * DistributionsHelper.h normal_distribution, ATen/native/cuda/DistributionTemplates.h;
 * Matsumoto and Nishimura 1998; Salmon et al. 2011.
 */
#include "engine/sampling/rng.h"

#include <math.h>
#include <string.h>

enum { MT_N = 624, MT_M = 397, BLOCK = 16, CUDA_THREADS = 256 };

static const double TWO_PI = 6.283185307179586476925286766559;

/* ---- Mersenne Twister ---- */

static void mt_seed(rng *r, uint32_t seed)
{
    r->state[0] = seed;
    for (uint32_t i = 1; i < MT_N; i++)
        r->state[i] = 1812433253u * (r->state[i - 1] ^ r->state[i - 1] >> 30) + i;
    r->at = MT_N;
}

static void mt_refill(rng *r)
{
    for (unsigned i = 0; i < MT_N; i++) {
        const uint32_t y = (r->state[i] & 0x80000000u) | (r->state[(i + 1) % MT_N] & 0x7fffffffu);
        r->state[i] = r->state[(i + MT_M) % MT_N] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
    }
    r->at = 0;
}

static uint32_t mt_draw(rng *r)
{
    if (r->at == MT_N)
        mt_refill(r);
    uint32_t y = r->state[r->at++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

/* 53 random bits in [0, 1); the first draw is the high half. */
static double mt_uniform53(rng *r)
{
    const uint64_t high = mt_draw(r), low = mt_draw(r);
    return (double)((high << 32 | low) & ((1ull << 53) - 1)) * 0x1p-53;
}

static float mt_uniform24(rng *r) { return (float)(mt_draw(r) & 0xffffffu) * 0x1p-24f; }

/* Tensors of fewer than 16 elements go one by one, in double; the generator keeps the
 * spare half of a pair, even for the next tensor. */
static double mt_normal_double(rng *r)
{
    if (r->has_spare) {
        r->has_spare = false;
        return r->spare;
    }
    const double u1 = mt_uniform53(r), u2 = mt_uniform53(r);
    const double radius = sqrt(-2.0 * log1p(-u2)), theta = TWO_PI * u1;
    r->spare = radius * sin(theta);
    r->has_spare = true;
    return radius * cos(theta);
}

static void box_muller(float d[BLOCK])
{
    for (int j = 0; j < BLOCK / 2; j++) {
        const float radius = sqrtf(-2.0f * logf(1.0f - d[j]));
        const float theta = (float)TWO_PI * d[j + 8];
        d[j] = radius * cosf(theta);
        d[j + 8] = radius * sinf(theta);
    }
}

/* Whole blocks in order; what is left over is the *last* 16 elements drawn anew. */
static void mt_randn(rng *r, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = mt_uniform24(r);
    for (size_t i = 0; i + BLOCK <= n; i += BLOCK)
        box_muller(out + i);
    if (n % BLOCK == 0)
        return;
    float *last = out + n - BLOCK;
    for (int i = 0; i < BLOCK; i++)
        last[i] = mt_uniform24(r);
    box_muller(last);
}

/* ---- Philox ---- */

static void philox_block(uint32_t c[4], uint64_t seed)
{
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t p = 0xD2511F53ull * c[0], q = 0xCD9E8D57ull * c[2];
        const uint32_t c1 = c[1], c3 = c[3];
        c[0] = (uint32_t)(q >> 32) ^ c1 ^ k0;
        c[1] = (uint32_t)q;
        c[2] = (uint32_t)(p >> 32) ^ c3 ^ k1;
        c[3] = (uint32_t)p;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

/* Element i of a tensor drawn by `threads` threads: each takes every threads-th element
 * and gets four out of one Philox block. */
static float philox_normal(const rng *r, size_t i, size_t threads)
{
    const uint64_t block = r->offset + i / (4 * threads), thread = i % threads;
    const unsigned lane = (unsigned)(i / threads % 4);
    uint32_t c[4] = { (uint32_t)block, (uint32_t)(block >> 32), (uint32_t)thread,
                      (uint32_t)(thread >> 32) };
    philox_block(c, r->seed);

    const uint32_t *pair = c + lane / 2 * 2;
    const float u = (float)pair[0] * 0x1p-32f + 0x1p-33f;
    const float v = (float)pair[1] * (float)(TWO_PI * 0x1p-32) + (float)(TWO_PI * 0x1p-33);
    const float radius = sqrtf(-2.0f * logf(u));
    return radius * (lane % 2 == 0 ? sinf(v) : cosf(v));
}

static void philox_randn(rng *r, float *out, size_t n)
{
    size_t blocks = n / CUDA_THREADS + (n % CUDA_THREADS != 0);
    if (r->blocks != 0 && blocks > r->blocks)
        blocks = r->blocks;
    const size_t threads = blocks * CUDA_THREADS;
    for (size_t i = 0; i < n; i++)
        out[i] = philox_normal(r, i, threads);
    if (n > 0)
        r->offset += (n - 1) / (4 * threads) + 1;
}

/* ---- */

void rng_open(rng *r, rng_kind kind, uint64_t seed)
{
    memset(r, 0, sizeof *r);
    r->kind = kind;
    r->seed = seed;
    if (kind == RNG_TORCH)
        mt_seed(r, (uint32_t)seed); /* torch drops the high half here */
}

void rng_randn(rng *r, float *out, size_t n)
{
    if (r->kind == RNG_PHILOX)
        philox_randn(r, out, n);
    else if (n >= BLOCK)
        mt_randn(r, out, n);
    else
        for (size_t i = 0; i < n; i++)
            out[i] = (float)mt_normal_double(r);
}
