/* kernels/ref/ref_attention.c -- softmax(q k^T * scale) v, one query of one head at a time. */
#include "kernels/ref/ref.h"

#include <math.h>

size_t ref_attention_workspace(const dev *d, const attention_args *a)
{
    (void)d;
    return tensor_pixels(a->k) * sizeof(double);
}

typedef struct query {
    size_t pixel;      /* of q and y */
    size_t key0, keys; /* pixels of k and v it sees */
    int c0, hd;        /* channels of its head */
} query;

/* p[i] = exp(q . k_i * scale - max), and their sum. */
static double weigh(double *p, const attention_args *a, query s)
{
    double max = -INFINITY, sum = 0;
    for (size_t i = 0; i < s.keys; i++) {
        p[i] = 0;
        for (int c = s.c0; c < s.c0 + s.hd; c++)
            p[i] += (double)ref_load(a->q, s.pixel, c) * (double)ref_load(a->k, s.key0 + i, c);
        p[i] *= (double)a->scale;
        max = fmax(max, p[i]);
    }
    for (size_t i = 0; i < s.keys; i++)
        sum += p[i] = exp(p[i] - max);
    return sum;
}

static void attend(double *p, const attention_args *a, query s)
{
    const double sum = weigh(p, a, s);
    for (int c = s.c0; c < s.c0 + s.hd; c++) {
        double v = 0;
        for (size_t i = 0; i < s.keys; i++)
            v += p[i] * (double)ref_load(a->v, s.key0 + i, c);
        ref_store(a->y, s.pixel, c, (float)(v / sum));
    }
}

void ref_attention(dev *d, const attention_args *a)
{
    const size_t tq = tensor_pixels(a->q), tk = tensor_pixels(a->k);
    double *p = (double *)(void *)ref_workspace(d, ref_attention_workspace(d, a));
    if (!p)
        return;
    const int hd = a->q.c / a->heads;
    for (size_t n = 0; n < (size_t)a->q.n; n++)
        for (size_t i = 0; i < tq; i++)
            for (int h = 0; h < a->heads; h++)
                attend(p, a, (query){ n * tq + i, n * tk, a->causal ? i + 1 : tk, h * hd, hd });
}
