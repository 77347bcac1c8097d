/* tests/engine/test_sinusoid.c -- against the reference's values. */
#include "engine/model/sinusoid.h"
#include "tests/support/vectors.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { DIM_MAX = 384 };

/* One ulp of the angle's float32 rounding, at the largest angle: 1152 radians. */
static const double TOLERANCE = 6.2e-5;

static void expect_sinusoid_near(double got, double want, double v, const char *what)
{
    const double tolerance = 1e-6 + fabs(v) / 1152 * TOLERANCE;
    cr_expect_float_eq(got, want, tolerance, "%s: %.9g, expected %.9g", what, got, want);
}

Test(engine_embed, puts_cosines_first)
{
    float out[8];
    embed_sinusoid(out, 0.0f, 8);
    for (int i = 0; i < 4; i++) {
        cr_expect_eq(out[i], 1.0f);
        cr_expect_eq(out[4 + i], 0.0f);
    }
    embed_sinusoid(out, 1.0f, 8);
    expect_sinusoid_near(out[0], cos(1.0), 1, "cos 1");
    expect_sinusoid_near(out[3], cos(1e-3), 1, "cos 10000^(-3/4)");
    expect_sinusoid_near(out[4], sin(1.0), 1, "sin 1");
    expect_sinusoid_near(out[7], sin(1e-3), 1, "sin 10000^(-3/4)");
}

Test(engine_embed, matches_the_reference_at_timestep_181)
{
    float out[DIM_MAX];
    embed_sinusoid(out, 181.0f, 384);
    expect_sinusoid_near(out[0], 0.35079736, 181, "cos 0");
    expect_sinusoid_near(out[1], -0.96501714, 181, "cos 1");
    expect_sinusoid_near(out[3], 0.94272125, 181, "cos 3");
    expect_sinusoid_near(out[192], -0.93645138, 181, "sin 0");
    expect_sinusoid_near(out[383], 0.018988289, 181, "sin 191");
}

static void check_embed_vector(const char *name, const json_t *v)
{
    double want[4], value = 0;
    float out[DIM_MAX];
    const int dim = (int)json_integer_value(json_object_get(v, "dim"));
    cr_assert(sscanf(name, "t=%lf", &value) == 1 ||
              sscanf(name, "add_time value %lf", &value) == 1);
    cr_assert(dim > 0 && dim <= DIM_MAX);

    embed_sinusoid(out, (float)value, dim);
    cr_assert_eq(vectors_doubles(v, "first4", want, 4), 4);
    for (int i = 0; i < 4; i++)
        expect_sinusoid_near(out[i], want[i], value, name);
    cr_assert_eq(vectors_doubles(v, "mid4_at_half", want, 4), 4);
    for (int i = 0; i < 4; i++)
        expect_sinusoid_near(out[dim / 2 + i], want[i], value, name);
    cr_assert_eq(vectors_doubles(v, "last2", want, 2), 2);
    for (int i = 0; i < 2; i++)
        expect_sinusoid_near(out[dim - 2 + i], want[i], value, name);
    double sum = 0;
    for (int i = 0; i < dim; i++)
        sum += out[i];
    cr_expect_float_eq(sum, json_number_value(json_object_get(v, "sum")), 1e-3, "%s: sum", name);
}

Test(engine_embed, matches_every_shared_vector)
{
    json_t *root = vectors_load("spec/embedding_vectors.json");
    if (!root)
        cr_skip_test("no shared vectors");
    int n = 0;
    const char *name;
    json_t *v;
    json_object_foreach(root, name, v) if (json_is_object(v))
    {
        check_embed_vector(name, v);
        n++;
    }
    cr_assert_geq(n, 20);
    json_decref(root);
}
