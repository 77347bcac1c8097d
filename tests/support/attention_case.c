/* tests/support/attention_case.c -- the cases and how one is run. */
#include "tests/support/attention_case.h"

#include <math.h>

static void attention_whole(dev *d, const tensor *t, const void *context)
{
    const attention_case *c = context;
    op_attention(d, t[ATTENTION_Y], t[ATTENTION_Q], t[ATTENTION_K], t[ATTENTION_V], c->heads,
                 1.0f / sqrtf((float)c->hd), c->causal);
}

static void attention_by_images(dev *d, const tensor *t, const void *context)
{
    const attention_case *c = context;
    for (int n = 0; n < c->n; n++)
        op_attention(d, tensor_images(t[ATTENTION_Y], n, 1), tensor_images(t[ATTENTION_Q], n, 1),
                     tensor_images(t[ATTENTION_K], n, 1), tensor_images(t[ATTENTION_V], n, 1),
                     c->heads, 1.0f / sqrtf((float)c->hd), c->causal);
}

/* q, k, v are views of wider tensors, as they come out of one matrix; where they are scaled, each
 * by a power of its own. */
void attention_fields(field f[ATTENTION_FIELDS], const attention_case *c)
{
    const int ch = c->heads * c->hd, e = c->exp2, of_k = e ? e - 1 : 0, of_v = e ? e + 2 : 0;
    f[ATTENTION_Y] = field_view(1, c->type, c->n, c->h, c->w, ch, 0, ch, e, 1);
    f[ATTENTION_Q] = field_view(2, c->type, c->n, c->h, c->w, ch, 0, 3 * ch, e, c->amplitude);
    f[ATTENTION_K] = field_view(3, c->type, c->n, 1, c->tk, ch, ch, 3 * ch, of_k, 1);
    f[ATTENTION_V] = field_view(4, c->type, c->n, 1, c->tk, ch, 2 * ch, 3 * ch, of_v, 1);
}

void attention_free_fields(field f[ATTENTION_FIELDS])
{
    for (int i = 0; i < ATTENTION_FIELDS; i++)
        field_free(&f[i]);
}

static void run_attention_case(dev *d, field f[ATTENTION_FIELDS], field_body *body,
                               const attention_case *c)
{
    field *p[] = { &f[ATTENTION_Y], &f[ATTENTION_Q], &f[ATTENTION_K], &f[ATTENTION_V] };
    field_run(d, p, ATTENTION_FIELDS, body, c);
}

void attention_run(dev *d, field f[ATTENTION_FIELDS], const attention_case *c)
{
    run_attention_case(d, f, attention_whole, c);
}

void attention_run_images(dev *d, field f[ATTENTION_FIELDS], const attention_case *c)
{
    run_attention_case(d, f, attention_by_images, c);
}

double attention_distance(dev *d, const attention_case *c)
{
    field f[ATTENTION_FIELDS];
    dev *ref = field_ref();

    attention_fields(f, c);
    attention_run(ref, f, c);
    field theirs = field_copy(&f[ATTENTION_Y]);
    attention_run(d, f, c);
    const double distance = field_distance(&f[ATTENTION_Y], &theirs);
    field_free(&theirs);
    attention_free_fields(f);
    dev_close(ref);
    return distance;
}

const attention_case ATTENTION_CASES[] = {
    { 2, 16, 16, 256, 3, 64, false, DT_F32, 0, 1 },  /* to itself */
    { 2, 9, 31, 77, 2, 64, false, DT_F32, 0, 1 },    /* to the prompt */
    { 2, 1, 77, 77, 4, 64, true, DT_F32, 0, 1 },     /* text */
    { 1, 1, 600, 600, 1, 32, true, DT_F32, 0, 8 },   /* causal over several tiles */
    { 1, 15, 20, 300, 1, 512, false, DT_F32, 0, 1 }, /* VAE */
    { 1, 1, 1, 1, 1, 8, false, DT_F32, 0, 1 },
    { 1, 5, 7, 300, 2, 20, false, DT_F32, 0, 60 }, /* one key takes it all */
    { 1, 16, 17, 272, 1, 64, false, DT_F16, 1, 1 },
};

const int N_ATTENTION_CASES = sizeof ATTENTION_CASES / sizeof ATTENTION_CASES[0];
