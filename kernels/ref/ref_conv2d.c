/* kernels/ref/ref_conv2d.c -- convolution as its definition.
 *
 *     y[i][j][r] = sum over u, v, c of  in[i*stride - pad + u][j*stride - pad + v][c] w[r][u][v][c]
 *
 * The input is always materialised, in float: concatenated, normalised, through silu and
 * resampled.  Reads outside it are zero.
 */
#include "kernels/ref/ref.h"

#include <math.h>

static tensor ref_prepared_tensor(void *p, const matrix_input *in, conv_rows rows)
{
    return tensor_make(p, DT_F32, in->a.n, rows.end - rows.first, in->w, in->a.c + in->b.c);
}

size_t ref_prepare_bytes(const dev *d, const matrix_input *in, conv_geometry g)
{
    (void)d;
    return tensor_bytes(ref_prepared_tensor(NULL, in, conv_rows_resampled(in, g)));
}

/* One element of what the convolution reads; p is a pixel of the source. */
static float input_at(const matrix_input *in, size_t n, size_t p, int c)
{
    const bool second = c >= in->a.c;
    float v = second ? ref_load(in->b, p, c - in->a.c) : ref_load(in->a, p, c);
    if (tensor_present(in->affine))
        v = v * ref_load(in->affine, 2 * n, c) + ref_load(in->affine, 2 * n + 1, c);
    return in->silu ? ref_act(ACT_SILU, v) : v;
}

prepared_input ref_prepare(dev *d, void *p, const matrix_input *in, conv_geometry g)
{
    (void)d;
    const conv_rows rows = conv_rows_resampled(in, g);
    prepared_input s = { *in, ref_prepared_tensor(p, in, rows), rows.first };

    size_t to = 0;
    for (int n = 0; n < s.ready.n; n++)
        for (int i = rows.first; i < rows.end; i++)
            for (int j = 0; j < in->w; j++, to++) {
                const int row = (int)((int64_t)i * in->a.h / in->h);
                const int column = (int)((int64_t)j * in->a.w / in->w);
                const size_t from = ((size_t)n * (size_t)in->a.h + (size_t)row) * (size_t)in->a.w +
                                    (size_t)column;
                for (int c = 0; c < s.ready.c; c++)
                    ref_store(s.ready, to, c, input_at(in, (size_t)n, from, c));
            }
    return s;
}

size_t ref_conv2d_workspace(const dev *d, const conv_args *a)
{
    (void)d;
    return (size_t)a->g.kh * (size_t)a->g.kw * (size_t)a->w.all.c * sizeof(float);
}

/* The sum for output (i, j) of image n with one row of w. */
static double convolve_pixel(const prepared_input *x, const float *w, conv_geometry g, int n, int i,
                             int j)
{
    const tensor r = x->ready;
    double sum = 0;
    for (int u = 0; u < g.kh; u++)
        for (int v = 0; v < g.kw; v++, w += r.c) {
            const int row = i * g.stride - g.pad + u, column = j * g.stride - g.pad + v;
            if (row < 0 || row >= x->in.h || column < 0 || column >= x->in.w)
                continue;
            const size_t p = ((size_t)n * (size_t)r.h + (size_t)(row - x->first)) * (size_t)r.w +
                             (size_t)column;
            sum += ref_dot((const float *)r.data + p * (size_t)r.c, w, (size_t)r.c);
        }
    return sum;
}

void ref_conv2d(dev *d, const conv_args *a)
{
    const size_t k = (size_t)a->g.kh * (size_t)a->g.kw * (size_t)a->w.all.c;
    float *row = ref_workspace(d, ref_conv2d_workspace(d, a));
    if (!row)
        return;
    for (int c = 0; c < a->y.c; c++) {
        ref_row(row, a->w.all, (size_t)c, k);
        for (int n = 0; n < a->y.n; n++)
            for (int i = a->g.row0; i < a->g.row0 + a->g.rows; i++)
                for (int j = 0; j < a->y.w; j++) {
                    const size_t p = ((size_t)n * (size_t)a->y.h + (size_t)i) * (size_t)a->y.w +
                                     (size_t)j;
                    ref_finish(&a->e, a->y, (size_t)n, p, c,
                               convolve_pixel(&a->x, row, a->g, n, i, j), 0.0);
                }
    }
}
