/* tests/kernels/test_vec.c -- rows of floats against libm in double, at every width there is. */
#include "kernels/cpu/vec.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { N = 4099, EDGE = 40 }; /* N is no multiple of any width */

static const vec *vec_variant(int i)
{
    const vec *all[] = { &VEC_BASE, vec_pick() };
    return i < 2 ? all[i] : NULL;
}

/* x from -span to span. */
static float sample_point(int i, float span) { return span * (2 * (float)i / (N - 1) - 1); }

static double exact_silu(double x) { return x / (1 + exp(-x)); }
static double exact_gelu(double x) { return x * 0.5 * erfc(-x * sqrt(0.5)); }

static double relative_deviation(double got, double want)
{
    return fabs(got - want) / fmax(fabs(want), 1e-30);
}

/* exp is inside softmax: exp(v - max). */
Test(kernels_vec, exp_is_good_to_2e_7)
{
    for (int w = 0; vec_variant(w); w++) {
        static float v[N];
        double sum = 0;
        for (int i = 0; i < N; i++) {
            v[i] = sample_point(i, 43) - 43;
            sum += exp((double)v[i]);
        }
        const double got = (double)vec_variant(w)->softmax(v, 0, N);
        for (int i = 0; i < N; i++)
            cr_assert(relative_deviation((double)v[i], exp((double)(sample_point(i, 43) - 43))) <
                          2e-7,
                      "%d", i);
        cr_expect(relative_deviation(got, sum) < 1e-6);
    }
}

Test(kernels_vec, softmax_gives_nothing_to_what_is_far_below)
{
    for (int w = 0; vec_variant(w); w++) {
        float v[] = { -88, -INFINITY, -1e30f, 0, -87 };
        (void)vec_variant(w)->softmax(v, 0, 5);
        cr_expect(v[0] == 0 && v[1] == 0 && v[2] == 0 && v[3] == 1 && v[4] > 0);
        float n[] = { 0, NAN };
        cr_expect(isnan(vec_variant(w)->softmax(n, 0, 2)) && isnan(n[1]));
    }
}

Test(kernels_vec, silu_is_good_to_4e_7)
{
    for (int w = 0; vec_variant(w); w++) {
        static float v[N];
        for (int i = 0; i < N; i++)
            v[i] = sample_point(i, 80);
        vec_variant(w)->silu(v, N);
        for (int i = 0; i < N; i++)
            cr_assert(relative_deviation((double)v[i], exact_silu((double)sample_point(i, 80))) <
                          4e-7,
                      "%d", i);
        float e[] = { 1e30f, -1e30f, 0, NAN };
        vec_variant(w)->silu(e, 4);
        cr_expect(e[0] == 1e30f && fabsf(e[1]) < 1e-6f && e[2] == 0 && isnan(e[3]));
    }
}

Test(kernels_vec, gelu_is_good_to_5e_7)
{
    for (int w = 0; vec_variant(w); w++) {
        static float v[N];
        for (int i = 0; i < N; i++)
            v[i] = sample_point(i, 6);
        vec_variant(w)->gelu(v, N);
        for (int i = 0; i < N; i++) {
            const double x = (double)sample_point(i, 6), want = exact_gelu(x);
            /* exp of -x^2/2 errs by an ulp of that */
            const double tolerance = x < 0 ? (5e-7 + x * x * 6e-8) * fabs(want) : 5e-7 * want;
            cr_assert(fabs((double)v[i] - want) <= tolerance + 1e-30, "gelu(%g) = %g", x,
                      (double)v[i]);
        }
        float e[] = { 50, -50, 0, NAN };
        vec_variant(w)->gelu(e, 4);
        cr_expect(e[0] == 50 && e[1] == 0 && e[2] == 0 && isnan(e[3]));
    }
}

Test(kernels_vec, quick_gelu_is_good_to_4e_7)
{
    for (int w = 0; vec_variant(w); w++) {
        static float v[N];
        for (int i = 0; i < N; i++)
            v[i] = sample_point(i, 40);
        vec_variant(w)->quick_gelu(v, N);
        for (int i = 0; i < N; i++) {
            const double x = (double)sample_point(i, 40), want = x / (1 + exp(-1.702 * x));
            /* the exponent is rounded too */
            const double tolerance = (4e-7 + fabs(x) * 1.3e-7) * fabs(want);
            cr_assert(fabs((double)v[i] - want) <= tolerance, "quick gelu(%g) = %g", x,
                      (double)v[i]);
        }
        float e[] = { 1e30f, -1e30f, 0, NAN };
        vec_variant(w)->quick_gelu(e, 4);
        cr_expect(e[0] == 1e30f && fabsf(e[1]) < 1e-6f && e[2] == 0 && isnan(e[3]));
    }
}

Test(kernels_vec, geglu_multiplies_values_by_gates_and_may_overwrite_them)
{
    for (int w = 0; vec_variant(w); w++)
        for (size_t n = 0; n < EDGE; n++) {
            float pair[2 * EDGE], out[EDGE], gate[EDGE];
            for (size_t i = 0; i < n; i++) {
                pair[2 * i] = (float)i - 5;
                pair[2 * i + 1] = gate[i] = 0.1f * (float)i - 1;
            }
            vec_variant(w)->gelu(gate, n);
            vec_variant(w)->geglu(out, pair, n);
            for (size_t i = 0; i < n; i++)
                cr_assert(fabsf(out[i] - ((float)i - 5) * gate[i]) <= 1e-6f * fabsf(out[i]));
            vec_variant(w)->geglu(pair, pair, n);
            cr_assert(memcmp(pair, out, n * sizeof *out) == 0);
        }
}

/* Every elementwise function, at every length: nothing beyond the row is touched, and an
 * element comes out the same wherever in the row it stands. */
Test(kernels_vec, treats_every_element_alike_and_writes_no_further)
{
    for (int w = 0; vec_variant(w); w++) {
        const vec *v = vec_variant(w);
        for (size_t n = 0; n < EDGE; n++)
            for (int f = 0; f < 6; f++) {
                float row[EDGE + 1], a[EDGE], b[EDGE];
                for (size_t i = 0; i <= EDGE; i++)
                    row[i] = 0.7f;
                for (size_t i = 0; i < EDGE; i++) {
                    a[i] = 1.3f;
                    b[i] = -0.2f;
                }
                if (f == 0)
                    v->scale(row, 3, n);
                else if (f == 1)
                    v->add(row, a, n);
                else if (f == 2)
                    v->affine(row, a, b, n);
                else if (f == 3)
                    v->silu(row, n);
                else if (f == 4)
                    v->gelu(row, n);
                else
                    v->normalise(row, 0.1f, 2, a, b, n);
                for (size_t i = 0; i < n; i++)
                    cr_assert(row[i] == row[0] && row[i] != 0.7f, "function %d, %zu of %zu", f, i,
                              n);
                for (size_t i = n; i <= EDGE; i++)
                    cr_assert(row[i] == 0.7f);
            }
    }
}

Test(kernels_vec, computes_what_its_names_say)
{
    for (int w = 0; vec_variant(w); w++) {
        const vec *v = vec_variant(w);
        for (size_t n = 1; n < EDGE; n++) {
            float row[EDGE], other[EDGE];
            double sum[EDGE] = { 0 }, squares[EDGE] = { 0 }, total = 0, about = 0;
            float max = -INFINITY;
            for (size_t i = 0; i < n; i++) {
                row[i] = (float)((i * 7 + n) % 11) - 5.5f;
                other[i] = (float)i;
                max = fmaxf(max, row[i]);
                total += (double)row[i];
                about += ((double)row[i] - 0.25) * ((double)row[i] - 0.25);
            }
            cr_assert(v->max(row, n) == max);
            cr_assert(fabs(v->sum(row, n) - total) < 1e-12);
            cr_assert(fabs(v->squares_about(row, 0.25, n) - about) < 1e-10);
            v->moments(sum, squares, row, n);
            v->moments(sum, squares, row, n);
            for (size_t i = 0; i < n; i++) {
                cr_assert(sum[i] == 2 * (double)row[i]);
                cr_assert(squares[i] == 2 * (double)row[i] * (double)row[i]);
            }
            v->affine(row, other, other, n);
            for (size_t i = 0; i < n; i++) {
                const float was = (float)((i * 7 + n) % 11) - 5.5f;
                cr_assert(fabsf(row[i] - (was * other[i] + other[i])) < 1e-4f);
            }
        }
    }
}

Test(kernels_vec, transposes_any_shape)
{
    enum { MOST = 21, STRIDE = 23 };
    for (int w = 0; vec_variant(w); w++)
        for (size_t rows = 0; rows < MOST; rows++)
            for (size_t columns = 0; columns < MOST; columns++) {
                uint32_t from[MOST * STRIDE], to[MOST * STRIDE];
                for (size_t i = 0; i < MOST * STRIDE; i++) {
                    from[i] = (uint32_t)i;
                    to[i] = 0xffffffffu;
                }
                vec_variant(w)->transpose(to, STRIDE, from, STRIDE, rows, columns);
                for (size_t c = 0; c < MOST; c++)
                    for (size_t r = 0; r < STRIDE; r++)
                        cr_assert(to[c * STRIDE + r] ==
                                  (c < columns && r < rows ? from[r * STRIDE + c] : 0xffffffffu));
            }
}
