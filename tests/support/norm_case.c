/* tests/support/norm_case.c -- the cases and how one is run. */
#include "tests/support/norm_case.h"

void norm_group(dev *d, const tensor *t, const void *context)
{
    const norm_case *c = context;
    op_groupnorm_sums(d, t[NORM_SUMS], t[NORM_A], t[NORM_B], 0, c->h);
    op_groupnorm(d, t[NORM_Y], t[NORM_SUMS], c->h, c->w, t[NORM_GAIN], t[NORM_BIAS], 1e-5f);
}

void norm_group_images(dev *d, const tensor *t, const void *context)
{
    const norm_case *c = context;
    for (int n = 0; n < c->n; n++) {
        const tensor sums = tensor_images(t[NORM_SUMS], n, 1);
        op_groupnorm_sums(d, sums, tensor_images(t[NORM_A], n, 1),
                          tensor_present(t[NORM_B]) ? tensor_images(t[NORM_B], n, 1) : t[NORM_B], 0,
                          c->h);
        op_groupnorm(d, tensor_images(t[NORM_Y], n, 1), sums, c->h, c->w, t[NORM_GAIN],
                     t[NORM_BIAS], 1e-5f);
    }
}

/* Bands of two units, the last one first. */
void norm_group_bands(dev *d, const tensor *t, const void *context)
{
    const norm_case *c = context;
    const int band = 2 * BAND_UNIT;
    for (int row = (c->h - 1) / band * band; row >= 0; row -= band)
        op_groupnorm_sums(d, t[NORM_SUMS], t[NORM_A], t[NORM_B], row,
                          c->h - row < band ? c->h - row : band);
    op_groupnorm(d, t[NORM_Y], t[NORM_SUMS], c->h, c->w, t[NORM_GAIN], t[NORM_BIAS], 1e-5f);
}

void norm_apply(dev *d, const tensor *t, const void *context)
{
    const norm_case *c = context;
    op_apply_norm(d, t[NORM_Y], t[NORM_A], t[NORM_B], t[NORM_AFFINE], c->act);
}

void norm_layer(dev *d, const tensor *t, const void *context)
{
    (void)context;
    op_layernorm(d, t[NORM_Y], t[NORM_A], t[NORM_GAIN], t[NORM_BIAS], 1e-5f);
}

void norm_silu(dev *d, const tensor *t, const void *context)
{
    (void)context;
    op_silu(d, t[NORM_Y], t[NORM_A]);
}

void norm_convert(dev *d, const tensor *t, const void *context)
{
    (void)context;
    op_convert(d, t[NORM_Y], t[NORM_A]);
}

static void shift_field(field *f, float by)
{
    for (size_t p = 0; p < field_pixels(f); p++)
        for (int c = 0; c < f->c; c++)
            field_set(f, p, c, field_at(f, p, c) + by);
}

static void make_norm_fields(field f[NORM_FIELDS], const norm_case *c)
{
    const int ch = c->a + c->b;
    for (int i = 0; i < NORM_FIELDS; i++)
        f[i] = (field){ 0 };
    f[NORM_A] = field_view(2, c->type, c->n, c->h, c->w, c->a, 2, c->a + 5, c->exp2, 1);
    if (c->b)
        f[NORM_B] = field_view(3, c->type, c->n, c->h, c->w, c->b, 1, c->b + 1, c->exp2, 1);
    f[NORM_GAIN] = field_random(4, DT_F32, 1, 1, 1, ch, 1);
    f[NORM_BIAS] = field_random(5, DT_F32, 1, 1, 1, ch, 1);
    if (c->groups)
        f[NORM_SUMS] = field_random(7, DT_F32, c->n, band_units(c->h), c->groups, 4, 1);
    f[NORM_AFFINE] = field_random(6, DT_F32, c->n, 1, 2, ch, 1);
    shift_field(&f[NORM_A], c->offset);
}

/* GroupNorm's result is the affine. */
static bool is_affine_body(field_body *body)
{
    return body == norm_group || body == norm_group_images || body == norm_group_bands;
}

static void make_output(field f[NORM_FIELDS], const norm_case *c, field_body *body)
{
    if (is_affine_body(body))
        f[NORM_Y] = field_random(1, DT_F32, c->n, 1, 2, c->a + c->b, 1);
    else
        f[NORM_Y] = field_view(1, c->type, c->n, c->h, c->w, c->a + c->b, 3, c->a + c->b + 4,
                               c->exp2, 1);
}

void norm_fields(field f[NORM_FIELDS], const norm_case *c, field_body *body)
{
    make_norm_fields(f, c);
    make_output(f, c, body);
}

void norm_free_fields(field f[NORM_FIELDS])
{
    for (int i = 0; i < NORM_FIELDS; i++)
        field_free(&f[i]);
}

void norm_run(dev *d, field f[NORM_FIELDS], field_body *body, const norm_case *c)
{
    field *p[NORM_FIELDS];
    for (int i = 0; i < NORM_FIELDS; i++)
        p[i] = &f[i];
    field_run(d, p, NORM_FIELDS, body, c);
}

double norm_rounding(field_body *body, const norm_case *c, double peak)
{
    return field_rounding(is_affine_body(body) ? DT_F32 : c->type, peak);
}

double norm_distance(dev *d, field_body *body, const norm_case *c, double *peak)
{
    field f[NORM_FIELDS];
    dev *ref = field_ref();

    norm_fields(f, c, body);
    norm_run(ref, f, body, c);
    field theirs = field_copy(&f[NORM_Y]);
    norm_run(d, f, body, c);
    const double distance = field_distance(&f[NORM_Y], &theirs);
    *peak = field_peak(&theirs);
    field_free(&theirs);
    norm_free_fields(f);
    dev_close(ref);
    return distance;
}

const norm_case NORM_CASES[] = {
    { 2, 16, 16, 64, 0, 32, DT_F32, 0, 0, ACT_NONE },
    { 2, 9, 21, 24, 40, 4, DT_F32, 0, 0, ACT_SILU },  /* groups of 16: one straddles */
    { 1, 33, 5, 30, 0, 3, DT_F32, 0, 100, ACT_SILU }, /* mean 170 deviations from zero */
    { 2, 7, 5, 12, 4, 2, DT_BF16, 0, 1, ACT_SILU },
    { 1, 40, 9, 32, 0, 8, DT_F16, 6, 0, ACT_SILU },
    { 1, 1, 1, 8, 0, 2, DT_F32, 0, 0, ACT_GELU },
    { 1, 2, 3, 2500, 600, 31, DT_F32, 0, 0, ACT_NONE },
};

const int N_NORM_CASES = sizeof NORM_CASES / sizeof NORM_CASES[0];
