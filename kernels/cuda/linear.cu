/* kernels/cuda/linear.cu -- y[p][r] = sum_k x[p][k] w[r][k]: the product with one tap. */
#include "kernels/cuda/product_args.cuh"

extern "C" size_t cuda_linear_workspace(const dev *, const linear_args *) { return 0; }

extern "C" void cuda_linear(dev *d, const linear_args *a)
{
    product_args p = product_begin(a->y, &a->w, &a->e);
    const tensor x = a->x.in.a;
    p.in_h = x.h;
    p.in_w = x.w;
    if (a->x.ready.type == DT_I8G64)
        product_source_int8(&p, a->x.ready, x.h, 0);
    else
        product_source(&p, x, tensor(), tensor(), false, x.h, 0);
    product_run(d, p);
}
