/* kernels/ref/ref_linear.c -- y[p][r] = sum_k x[p][k] w[r][k], row by row of w. */
#include "kernels/ref/ref.h"

/* Value and gate rows of w. */
size_t ref_linear_workspace(const dev *d, const linear_args *a)
{
    (void)d;
    return 2 * (size_t)a->w.all.c * sizeof(float);
}

void ref_linear(dev *d, const linear_args *a)
{
    const size_t k = (size_t)a->w.all.c, pixels = tensor_pixels(a->y);
    float *value = ref_workspace(d, ref_linear_workspace(d, a));
    if (!value)
        return;
    float *gate = value + k;
    const bool pairs = a->e.act == ACT_GEGLU;

    for (int c = 0; c < a->y.c; c++) {
        ref_row(value, a->w.all, (size_t)c * (pairs ? 2 : 1), k);
        if (pairs)
            ref_row(gate, a->w.all, (size_t)c * 2 + 1, k);
        for (size_t p = 0; p < (size_t)a->y.n * pixels; p++) {
            const float *x = (const float *)a->x.ready.data + p * k;
            ref_finish(&a->e, a->y, p / pixels, p, c, ref_dot(x, value, k),
                       pairs ? ref_dot(x, gate, k) : 0.0);
        }
    }
}
