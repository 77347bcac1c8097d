/* tests/engine/test_rng.c -- torch's noise, from its seeds. */
#include "engine/base/mem.h"
#include "engine/sampling/rng.h"
#include "quant/f16.h"
#include "tests/support/vectors.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { LATENT = 65536 };

/* Where the reference computes in float32 its own builds differ by this much. */
static const double TOLERANCE = 1e-6;

static void expect_rng_near(const float *got, const double *want, size_t n, const char *what)
{
    for (size_t i = 0; i < n; i++)
        cr_expect_float_eq(got[i], want[i], TOLERANCE * fmax(1, fabs(want[i])),
                           "%s: element %zu is %.9g, expected %.9g", what, i, got[i], want[i]);
}

Test(engine_rng, draws_torchs_normals)
{
    static const double zero[16] = { -1.12583983, -1.1523602,  -0.250578582, -0.433878839,
                                     0.848710358, 0.692009211, -0.31601277,  -2.11521959,
                                     0.322274923, -1.26333475, 0.349983186,  0.3081339,
                                     0.119841509, 1.2376579,   1.11677718,   -0.247277647 };
    static const double forty_two[4] = { 1.92691505, 1.48728418, 0.900717199, -2.10552144 };
    float out[16];
    rng r;
    rng_open(&r, RNG_TORCH, 0);
    rng_randn(&r, out, 16);
    expect_rng_near(out, zero, 16, "seed 0");
    rng_open(&r, RNG_TORCH, 42);
    rng_randn(&r, out, 16);
    expect_rng_near(out, forty_two, 4, "seed 42");
    rng_open(&r, RNG_TORCH, 42 + (7ull << 32));
    rng_randn(&r, out, 16);
    expect_rng_near(out, forty_two, 4, "the high half of a seed does not count");
}

Test(engine_rng, draws_short_tensors_in_double_and_keeps_the_spare)
{
    static const double want[3] = { 1.54099607, -0.293428898, -2.17878938 };
    float all[4], one[4];
    rng r, again;
    rng_open(&r, RNG_TORCH, 0);
    rng_open(&again, RNG_TORCH, 0);
    rng_randn(&r, all, 4);
    expect_rng_near(all, want, 3, "seed 0");
    for (int i = 0; i < 4; i++)
        rng_randn(&again, one + i, 1);
    cr_expect_arr_eq(all, one, sizeof all);
}

Test(engine_rng, draws_an_unfinished_block_anew)
{
    static const double want[20] = { -1.12583983, -1.1523602,   -0.250578582, -0.433878839,
                                     0.598839462, -1.55509508,  -0.341360301, 1.85300612,
                                     0.468096405, -0.157712445, 1.44366014,   0.266049415,
                                     1.38936615,  1.58633435,   0.946298361,  -0.843676805,
                                     0.931826651, 1.25900924,   2.00498056,   0.053736899 };
    float out[20];
    rng r;
    rng_open(&r, RNG_TORCH, 0);
    rng_randn(&r, out, 20);
    expect_rng_near(out, want, 20, "20 of seed 0");
}

Test(engine_rng, goes_on_where_it_stopped)
{
    float all[64], half[64];
    rng a, b;
    rng_open(&a, RNG_TORCH, 7);
    rng_open(&b, RNG_TORCH, 7);
    rng_randn(&a, all, 64);
    rng_randn(&b, half, 32);
    rng_randn(&b, half + 32, 32);
    cr_expect_arr_eq(all, half, sizeof all);
}

Test(engine_rng, draws_the_gpus_normals)
{
    static const double first[8] = { -0.924662411, -0.425343931, -2.6438458,   0.145183861,
                                     -0.120866567, -0.579725742, -0.622851551, -0.328387082 };
    static const double second[4] = { 0.1808258, -0.552262664, 0.923813403, -0.734970272 };
    float out[8];
    rng r;
    rng_open(&r, RNG_PHILOX, 0);
    rng_randn(&r, out, 8);
    expect_rng_near(out, first, 8, "first call");
    rng_randn(&r, out, 8);
    expect_rng_near(out, second, 4, "second call");
}

/* A GPU of `blocks` fills element i from thread i mod 256 blocks; the first tensor's
 * first 256 blocks elements are those of any GPU, later ones are other lanes. */
Test(engine_rng, imitates_small_gpus)
{
    enum { N = 4096, THREADS = 512 };
    float large[N], small[N];
    rng a, b;
    rng_open(&a, RNG_PHILOX, 5);
    rng_open(&b, RNG_PHILOX, 5);
    b.blocks = THREADS / 256;
    rng_randn(&a, large, N);
    rng_randn(&b, small, N);
    cr_expect_arr_eq(large, small, THREADS * sizeof *small);
    cr_expect_neq(large[THREADS], small[THREADS]);
    /* Two Philox blocks each were used up: the next call starts at the third. */
    cr_expect_eq(a.offset, 1);
    cr_expect_eq(b.offset, 2);
    /* Lane 0 of the second block is what any GPU draws first in its second call. */
    rng_randn(&a, large, THREADS);
    cr_expect_arr_eq(large, small + 4 * THREADS, THREADS * sizeof *small);
}

Test(engine_rng, fills_four_normal_lanes_from_each_block_of_a_small_gpu)
{
    enum { THREADS = 256 };
    float out[4 * THREADS];
    rng r;
    rng_open(&r, RNG_PHILOX, 11);
    r.blocks = 1;
    rng_randn(&r, out, 4 * THREADS);
    double mean = 0, square = 0;
    for (int i = 0; i < 4 * THREADS; i++) {
        mean += out[i];
        square += (double)out[i] * out[i];
    }
    cr_expect_lt(fabs(mean / (4 * THREADS)), 0.12);
    cr_expect_lt(fabs(square / (4 * THREADS) - 1), 0.15);
    cr_expect_eq(r.offset, 1);
}

/* torch 1.13.1 on AVX2: the first and the last four of torch.randn(n, generator=g). */
Test(engine_rng, matches_a_run_of_torch)
{
    static const struct {
        uint64_t seed;
        size_t n;
        double want[8];
    } runs[] = {
        { 1099511627781,
          15,
          { -0.486780763, -0.603821576, -0.55809623, 0.667524278, 0.69071877, 0.222458586,
            -0.666225255, 0.684642196 } },
        { 1099511627781,
          100,
          { 1.84232986, 0.518887162, -1.71192133, -1.7013793, 0.126051709, 0.0603490062,
            -0.567702115, -1.09596348 } },
        { 1099511627781,
          LATENT,
          { 1.84232986, 0.518887162, -1.71192133, -1.7013793, 0.337956846, -0.707132697, -1.0378679,
            -0.0670071766 } },
        { 42,
          17,
          { 1.92691529, -0.159597471, -0.497397542, 0.439589262, 0.041759491, -0.251575291,
            0.859858513, -0.309726775 } },
    };
    float *out = mem_alloc(LATENT * sizeof *out);
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        rng r;
        rng_open(&r, RNG_TORCH, runs[i].seed);
        rng_randn(&r, out, runs[i].n);
        expect_rng_near(out, runs[i].want, 4, "first");
        expect_rng_near(out + runs[i].n - 4, runs[i].want + 4, 4, "last");
    }
    mem_free(out);
}

/* As above, one generator, tensors of 3, 16 and 5: the spare of the 3 waits for the 5. */
Test(engine_rng, keeps_the_spare_across_a_long_tensor)
{
    static const double want[5] = { 0.345928162, -0.838661969, -0.422899097, 0.0214538425,
                                    -0.154650807 };
    float out[16];
    rng r;
    rng_open(&r, RNG_TORCH, 9);
    rng_randn(&r, out, 3);
    rng_randn(&r, out, 16);
    rng_randn(&r, out, 5);
    expect_rng_near(out, want, 5, "the 5");
}

/* One shared vector, named like "cpu_f32_seed42_n65536_last8". */
static bool check_rng_vector(const char *name, const json_t *v, float *buffer)
{
    unsigned long long seed;
    int call = 0, n = LATENT;
    double want[32];
    const size_t count = json_array_size(v);
    const bool cuda = strncmp(name, "cuda", 4) == 0;
    const char *at = strstr(name, "seed"), *tail;

    if (!at || sscanf(at, "seed%llu", &seed) != 1 || count > 32 || strncmp(name, "mt", 2) == 0 ||
        strstr(name, "_f16_"))
        return false;
    for (size_t i = 0; i < count; i++)
        want[i] = json_number_value(json_array_get(v, i));
    if ((tail = strstr(name, "_n")) != NULL)
        cr_assert_eq(sscanf(tail, "_n%d", &n), 1);
    if ((tail = strstr(name, "_call")) != NULL)
        sscanf(tail, "_call%d", &call);
    call += strstr(name, "second_call") != NULL && !cuda;

    rng r;
    rng_open(&r, cuda ? RNG_PHILOX : RNG_TORCH, seed);
    for (int i = 0; i <= call; i++)
        rng_randn(&r, buffer, (size_t)n);
    expect_rng_near(strstr(name, "_last") ? buffer + n - count : buffer, want, count, name);
    return true;
}

Test(engine_rng, matches_every_shared_vector)
{
    json_t *root = vectors_load("spec/rng_vectors.json"), *v;
    const char *name;
    int n = 0;
    if (!root)
        cr_skip_test("no shared vectors");
    float *buffer = mem_alloc(LATENT * sizeof *buffer);
    json_object_foreach(root, name, v) n += check_rng_vector(name, v, buffer);
    cr_assert_geq(n, 28);
    mem_free(buffer);
    json_decref(root);
}

/* What a pipeline of 16 bits draws, by torch 2.15. */
Test(engine_rng, rounded_is_what_newer_torch_draws_in_halves)
{
    static const char *const NAMES[] = { "seed0_n64_first8", "seed42_n64_first8" };
    static const uint64_t SEEDS[] = { 0, 42 };
    json_t *root = vectors_load("spec/pipeline_vectors.json");
    if (!root)
        cr_skip_test("no shared vectors");
    for (int i = 0; i < 2; i++) {
        float x[64];
        uint16_t half[64];
        double want[8];
        rng r;
        cr_assert_eq(vectors_doubles(json_object_get(root, "rng_fp16_cpu"), NAMES[i], want, 8), 8u);
        rng_open(&r, RNG_TORCH, SEEDS[i]);
        rng_randn(&r, x, 64);
        f16_encode(half, x, 64);
        f16_decode(x, half, 64);
        for (int k = 0; k < 8; k++) /* the vectors have nine digits */
            cr_expect_float_eq((double)x[k], want[k], 1e-8, "%s, %d", NAMES[i], k);
    }
    json_decref(root);
}
