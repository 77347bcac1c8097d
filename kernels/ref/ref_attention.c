/* kernels/ref/ref_attention.c -- softmax(q k^T * scale) v, one query of one head at a time. */
#include "kernels/ref/ref.h"

#include <math.h>

/* The workspace. */
typedef struct sums {
    double *p;      /* weights of keys */
    double *y;      /* hd sums */
    float *q, *row; /* hd elements: of the query, and of a key or value */
} sums;

size_t ref_attention_workspace(const dev *d, const attention_args *a)
{
    const size_t hd = (size_t)(a->q.c / a->heads);
    (void)d;
    return (tensor_pixels(a->k) + hd) * sizeof(double) + 2 * hd * sizeof(float);
}

static sums split_attention_workspace(void *workspace, const attention_args *a)
{
    const int hd = a->q.c / a->heads;
    sums s = { .p = workspace };
    s.y = s.p + tensor_pixels(a->k);
    s.q = (float *)(s.y + hd);
    s.row = s.q + hd;
    return s;
}

/* One head of one query. */
typedef struct query {
    tensor q, k, v, y;
    size_t pixel;      /* of q and y */
    size_t key0, keys; /* pixels of k and v it sees */
    float scale;
} query;

/* p[i] = exp(q . k_i * scale - max), and their sum. */
static double compute_softmax_weights(const sums *s, const query *a)
{
    const size_t hd = (size_t)a->q.c;
    double max = -INFINITY, sum = 0;
    ref_row(s->q, a->q, a->pixel, hd);
    for (size_t i = 0; i < a->keys; i++) {
        ref_row(s->row, a->k, a->key0 + i, hd);
        s->p[i] = ref_dot(s->q, s->row, hd) * (double)a->scale;
        max = fmax(max, s->p[i]);
    }
    for (size_t i = 0; i < a->keys; i++)
        sum += s->p[i] = exp(s->p[i] - max);
    return sum;
}

static void attend_query(const sums *s, const query *a)
{
    const double sum = compute_softmax_weights(s, a);
    for (int c = 0; c < a->y.c; c++)
        s->y[c] = 0;
    for (size_t i = 0; i < a->keys; i++) {
        ref_row(s->row, a->v, a->key0 + i, (size_t)a->v.c);
        for (int c = 0; c < a->y.c; c++)
            s->y[c] += s->p[i] * (double)s->row[c];
    }
    for (int c = 0; c < a->y.c; c++)
        ref_store(a->y, a->pixel, c, (float)(s->y[c] / sum));
}

void ref_attention(dev *d, const attention_args *a)
{
    const size_t tq = tensor_pixels(a->q), tk = tensor_pixels(a->k);
    void *workspace = ref_workspace(d, ref_attention_workspace(d, a));
    if (!workspace)
        return;
    const sums s = split_attention_workspace(workspace, a);
    const int hd = a->q.c / a->heads;
    for (size_t n = 0; n < (size_t)a->q.n; n++)
        for (size_t i = 0; i < tq; i++)
            for (int h = 0; h < a->heads; h++) {
                const query one = { .q = tensor_channels(a->q, h * hd, hd),
                                    .k = tensor_channels(a->k, h * hd, hd),
                                    .v = tensor_channels(a->v, h * hd, hd),
                                    .y = tensor_channels(a->y, h * hd, hd),
                                    .pixel = n * tq + i,
                                    .key0 = n * tk,
                                    .keys = a->causal ? i + 1 : tk,
                                    .scale = a->scale };
                attend_query(&s, &one);
            }
}
