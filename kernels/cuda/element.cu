/* kernels/cuda/element.cu -- the elementwise operators: one kernel serves them all. */
#include "kernels/cuda/element.cuh"

enum { ELEMENT_THREADS = 256 };

struct element_args {
    view y;
    normed in;
    int vectors, pixels, total; /* of a pixel; of an image; of all */
    size_t first, in_pixels;
};

/* A thread computes eight channels of a pixel.  Unasked for blocks, ptxas spills for 8.0. */
__global__ void __launch_bounds__(ELEMENT_THREADS, 4) element_kernel(const element_args e)
{
    const size_t at = static_cast<size_t>(blockIdx.x) * ELEMENT_THREADS + threadIdx.x;
    const int pixel = static_cast<int>(at / e.vectors), c = static_cast<int>(at % e.vectors) * 8;
    if (pixel >= e.total)
        return;
    const int image = pixel / e.pixels;
    float x[8];
    gather_channels8(x, e.in,
                     static_cast<size_t>(image) * e.in_pixels + e.first + pixel % e.pixels, c);
    apply_affine8(x, e.in, image, c);
    apply_act8(x, e.in.act);
    store_channels8(e.y, static_cast<size_t>(pixel), c, x);
}

void element_run(dev *d, const view &y, int images, int pixels, const normed &in, size_t first,
                 size_t in_pixels)
{
    element_args e = {};
    e.y = y;
    e.in = in;
    e.vectors = (in.c + 7) / 8;
    e.pixels = pixels;
    e.total = images * pixels;
    e.first = first;
    e.in_pixels = in_pixels;
    const size_t work = static_cast<size_t>(e.total) * e.vectors;
    launch_kernel(d, element_kernel, blocks_of(work, ELEMENT_THREADS), ELEMENT_THREADS, 0, e);
}

static void run_whole_tensor(dev *d, tensor y, tensor a, tensor b, tensor affine, int act)
{
    const int pixels = static_cast<int>(tensor_pixels(y));
    element_run(d, view_of(y), y.n, pixels, normed_of(a, b, affine, act), 0,
                static_cast<size_t>(pixels));
}

extern "C" void cuda_apply_norm(dev *d, tensor y, tensor a, tensor b, tensor affine, act f)
{
    run_whole_tensor(d, y, a, b, affine, f);
}

extern "C" void cuda_silu(dev *d, tensor y, tensor x)
{
    run_whole_tensor(d, y, x, tensor(), tensor(), ACT_SILU);
}

extern "C" void cuda_convert(dev *d, tensor y, tensor x)
{
    run_whole_tensor(d, y, x, tensor(), tensor(), ACT_NONE);
}

extern "C" void cuda_load_elements(dev *d) { load_kernel<0>(d, element_kernel); }
