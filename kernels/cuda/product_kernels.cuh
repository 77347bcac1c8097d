/* kernels/cuda/product_kernels.cuh -- the kernels of a tile, by what they read.
 *
 * A tile T has M pixels, N rows, THREADS of a block, its `element`, `shared` memory, and a kernel
 * for every source of pixels and of rows.
 */
#ifndef REFINE_CUDA_PRODUCT_KERNELS_CUH
#define REFINE_CUDA_PRODUCT_KERNELS_CUH

#include "kernels/cuda/product.cuh"

typedef void product_kernel(const product_args);

template <class T> void product_launch(dev *d, product_kernel *kernel, const product_args &p)
{
    const dim3 grid(blocks_of(static_cast<size_t>(p.n), T::N),
                    blocks_of(static_cast<size_t>(p.pixels), T::M));
    launch(d, kernel, grid, T::THREADS, sizeof(typename T::shared), p);
}

/* What lies in whole vectors (in_vectors of kernels/cuda/product.cu). */
template <class T> struct vector_kernels {
    typedef half_pixels<T::M, T::THREADS, false> plain;
    typedef half_pixels<T::M, T::THREADS, true> normed;
    typedef half_rows<T::N, T::THREADS> f16;
    typedef int8_rows<__half, T::N, T::THREADS> int8;

    static void run(dev *d, const product_args &p)
    {
        if (p.w_type == DT_I8G64)
            product_launch<T>(d, normed_raw(p.in) ? T::template kernel<plain, int8>()
                                                  : T::template kernel<normed, int8>(), p);
        else
            product_launch<T>(d, normed_raw(p.in) ? T::template kernel<plain, f16>()
                                                  : T::template kernel<normed, f16>(), p);
    }

    static void load(dev *d)
    {
        const size_t bytes = sizeof(typename T::shared);
        load_kernel<bytes>(d, T::template kernel<plain, f16>());
        load_kernel<bytes>(d, T::template kernel<normed, f16>());
        load_kernel<bytes>(d, T::template kernel<plain, int8>());
        load_kernel<bytes>(d, T::template kernel<normed, int8>());
    }
};

/* Everything. */
template <class T> struct any_kernels {
    typedef typename T::element element;
    typedef any_pixels<element, T::M, T::THREADS> pixels;
    typedef int8_rows<element, T::N, T::THREADS> int8;
    typedef any_rows<element, T::N, T::THREADS> other;

    static void run(dev *d, const product_args &p)
    {
        product_launch<T>(d, p.w_type == DT_I8G64 ? T::template kernel<pixels, int8>()
                                                  : T::template kernel<pixels, other>(), p);
    }

    static void load(dev *d)
    {
        const size_t bytes = sizeof(typename T::shared);
        load_kernel<bytes>(d, T::template kernel<pixels, int8>());
        load_kernel<bytes>(d, T::template kernel<pixels, other>());
    }
};

#endif
