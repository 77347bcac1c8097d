/* kernels/cuda/product_kernels.cuh -- the kernels of a tile, by what they read.
 *
 * A tile T has M pixels, N rows, THREADS of a block, its `element`, `shared` memory, and a kernel
 * for every source of pixels and of rows.
 */
#ifndef REFINE_CUDA_PRODUCT_KERNELS_CUH
#define REFINE_CUDA_PRODUCT_KERNELS_CUH

#include "kernels/cuda/product.cuh"

typedef void product_kernel(const product_args);

template <class T, class K> constexpr product_way make_product_way()
{
    return { K::run, K::load, T::M, T::N, K::NORMS };
}

/* Loads one of T's kernels and returns how many blocks of it a multiprocessor holds. */
template <class T> int product_load(dev *d, product_kernel *kernel)
{
    const size_t bytes = sizeof(typename T::shared);
    load_kernel<bytes>(d, kernel);
    return blocks_held(d, kernel, T::THREADS, bytes);
}

template <class T> void product_launch(dev *d, product_kernel *kernel, const product_args &p)
{
    const unsigned rows = blocks_of(static_cast<size_t>(p.n), T::N);
    const unsigned pixels = blocks_of(static_cast<size_t>(p.pixels), T::M);
    launch_kernel(d, kernel, rows * pixels, T::THREADS, sizeof(typename T::shared), p);
}

/* What lies in whole vectors (in_vectors of kernels/cuda/product.cu): as it is, */
template <class T> struct plain_kernels {
    enum { NORMS = false };
    typedef half_pixels<T::M, T::THREADS> pixels;
    typedef half_rows<T::N, T::THREADS> f16;
    typedef int8_rows<__half, T::N, T::THREADS> int8;

    static void run(dev *d, const product_args &p)
    {
        product_launch<T>(d, p.w_type == DT_I8G64 ? T::template kernel<pixels, int8>()
                                                  : T::template kernel<pixels, f16>(), p);
    }

    static int load(dev *d)
    {
        product_load<T>(d, T::template kernel<pixels, int8>());
        return product_load<T>(d, T::template kernel<pixels, f16>());
    }
};

/* or normalised too. */
template <class T> struct vector_kernels {
    enum { NORMS = true };
    typedef plain_kernels<T> plain;
    typedef normed_pixels<T::M, T::THREADS> pixels;

    static void run(dev *d, const product_args &p)
    {
        if (normed_raw(p.in))
            plain::run(d, p);
        else
            product_launch<T>(d,
                              p.w_type == DT_I8G64
                                  ? T::template kernel<pixels, typename plain::int8>()
                                  : T::template kernel<pixels, typename plain::f16>(),
                              p);
    }

    static int load(dev *d)
    {
        product_load<T>(d, T::template kernel<pixels, typename plain::int8>());
        product_load<T>(d, T::template kernel<pixels, typename plain::f16>());
        return plain::load(d);
    }
};

/* Everything. */
template <class T> struct any_kernels {
    enum { NORMS = true };
    typedef typename T::element element;
    typedef any_pixels<element, T::M, T::THREADS> pixels;
    typedef int8_rows<element, T::N, T::THREADS> int8;
    typedef any_rows<element, T::N, T::THREADS> other;

    static void run(dev *d, const product_args &p)
    {
        product_launch<T>(d, p.w_type == DT_I8G64 ? T::template kernel<pixels, int8>()
                                                  : T::template kernel<pixels, other>(), p);
    }

    static int load(dev *d)
    {
        product_load<T>(d, T::template kernel<pixels, int8>());
        return product_load<T>(d, T::template kernel<pixels, other>());
    }
};

#endif
