/* kernels/cuda/attention.cuh -- what the attention kernels share.
 *
 * softmax(q k^T * scale) v without its scores in memory: a block keeps a tile of queries and walks
 * the keys in tiles,
 *
 *     S = Q K^T;  m' = max(m, max S);  P = 2^(S - m')          per query, in F32
 *     l = l 2^(m - m') + sum P;  O = O 2^(m - m') + P V
 *     y = O / l
 *
 * where S is in units of log2(e), by its scale.  Keys follow each other in one order whatever the
 * tile of queries, the image or the number of images.
 *
 * Reference: Dao, "FlashAttention-2" (2023).
 */
#ifndef REFINE_CUDA_ATTENTION_CUH
#define REFINE_CUDA_ATTENTION_CUH

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/operand.cuh"

struct flash_args {
    view y, q, k, v;
    int heads, hd, tq, tk;
    bool causal;
    float scale; /* of S: scale * log2 e */
    bool vectors; /* every head of q, k and v is F16 in whole vectors */
    int tile0;    /* the launch's first tile of queries */
};

/* The block's place: a tile of queries of one head of one image. */
struct flash_place {
    int query0, head, image;
};

__device__ __forceinline__ flash_place flash_here(const flash_args &a, int queries)
{
    flash_place p;
    p.query0 = (a.tile0 + static_cast<int>(blockIdx.x)) * queries;
    p.head = static_cast<int>(blockIdx.y);
    p.image = static_cast<int>(blockIdx.z);
    return p;
}

/* Keys that a tile of queries sees. */
__device__ __forceinline__ int flash_keys(const flash_args &a, int query0, int queries)
{
    return a.causal ? min(a.tk, query0 + queries) : a.tk;
}

/* Vector v of the head's channels of a token, as halves and in the units it is stored in; 0 beyond
 * the head and the last token. */
__device__ __forceinline__ half8 flash_fetch(const flash_args &a, const view &t, int tokens,
                                             const flash_place &at, int token, int v)
{
    const int c = v * VECTOR;
    half8 h = half8_zero();
    if (token >= tokens || c >= a.hd)
        return h;
    const size_t pixel = static_cast<size_t>(at.image) * tokens + token;
    const size_t first = pixel * t.stride + static_cast<size_t>(at.head * a.hd + c);
    if (a.vectors)
        return half8_load(static_cast<const __half *>(t.data) + first);
    float x[8];
#pragma unroll
    for (int i = 0; i < 8; i++)
        x[i] = c + i < a.hd ? load_element(t.data, t.type, first + static_cast<size_t>(i)) : 0.0f;
    encode_vector8(h, x);
    return h;
}

/* Channels [8 v, 8 v + 8) of the head of a query. */
__device__ __forceinline__ void flash_store(const flash_args &a, const flash_place &at, int query,
                                            int v, const float (&x)[8])
{
    const size_t pixel = static_cast<size_t>(at.image) * a.tq + query;
    const int c = v * VECTOR, c0 = at.head * a.hd + c;
    if (query >= a.tq || c >= a.hd)
        return;
    if (a.y.vectors && a.hd % VECTOR == 0) {
        store_channels8(a.y, pixel, c0, x);
        return;
    }
#pragma unroll
    for (int i = 0; i < 8; i++)
        if (c + i < a.hd)
            store_channel(a.y, pixel, c0 + i, x[i]);
}

typedef void flash_kernel_of(const flash_args a);

/* Launches a kernel whose blocks have so many queries each, on ranges of them: a card that has a
 * display too is taken away from whoever computes for two seconds at a time.  But never on fewer
 * than keep it busy, which would take no less time. */
static inline void flash_launch(dev *d, flash_kernel_of *kernel, flash_args a, int images,
                                int queries, int threads, size_t shared)
{
    const int tiles = static_cast<int>(blocks_of(static_cast<size_t>(a.tq), queries));
    const double of_tile = 2.0 * queries * a.tk * a.hd * a.heads * images;
    const double wave = ceil(2.0 * cuda_of(d)->processors / (a.heads * images));
    const double waves = floor(cuda_of(d)->attention_macs / of_tile / wave);
    const int most = static_cast<int>(fmin(fmax(waves, 1.0) * wave, static_cast<double>(tiles)));
    for (a.tile0 = 0; a.tile0 < tiles; a.tile0 += most) {
        const int n = tiles - a.tile0 < most ? tiles - a.tile0 : most;
        launch_kernel(d, kernel,
                      dim3(static_cast<unsigned>(n), static_cast<unsigned>(a.heads),
                           static_cast<unsigned>(images)),
                      static_cast<unsigned>(threads), shared, a);
    }
}

void flash_wide(dev *d, const flash_args &a, int images);
void flash_simt(dev *d, const flash_args &a, int images);
void flash_wide_load(dev *d);
void flash_simt_load(dev *d);

#endif
