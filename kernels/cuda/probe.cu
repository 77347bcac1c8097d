/* kernels/cuda/probe.cu -- has this card tensor cores worth using?
 *
 * Compute capability does not say: cards of 7.5 come with and without, and those without run
 * mma.sync all the same, as slowly as anything else.  So a product of the UNet's kind is timed
 * both ways, on memory that is given back.  A card with tensor cores multiplies at least twice as
 * fast with them; the line is drawn well below that and above chance, so that one card always
 * takes the same way.
 */
#include "kernels/cuda/product_args.cuh"

/* One or two blocks for every multiprocessor. */
enum { PIXELS_EACH = 128, CHANNELS = 512, ROWS = 128, RUNS = 3 };

static const float GAIN_MIN = 1.4f;

/* Where the product lies. */
struct product_trial {
    tensor y, x, w;
};

static product_trial make_trial(const cuda_dev *c, char *memory)
{
    const int pixels = PIXELS_EACH * c->processors;
    product_trial t = {};
    t.x = tensor_make(memory, DT_F16, 1, 1, pixels, CHANNELS);
    t.w = tensor_make(memory + tensor_bytes(t.x), DT_F16, ROWS, 1, 1, CHANNELS);
    t.y = tensor_make(memory + tensor_bytes(t.x) + tensor_bytes(t.w), DT_F16, 1, 1,
                      pixels, ROWS);
    return t;
}

static size_t trial_bytes(const cuda_dev *c)
{
    const product_trial t = make_trial(c, NULL);
    return tensor_bytes(t.x) + tensor_bytes(t.w) + tensor_bytes(t.y);
}

static void run_probe_product(dev *d, const product_trial *t, cuda_math math)
{
    linear_args a = {};
    a.y = t->y;
    a.x.in = linear_input(t->x, false);
    a.w = one_block(t->w);
    cuda_of(d)->math = math;
    cuda_linear(d, &a);
}

/* Milliseconds of the best of some runs, the first of which only warms up. */
static float measure_probe_ms(dev *d, const product_trial *t, cuda_math math, cudaEvent_t begin,
                              cudaEvent_t end)
{
    const cudaStream_t s = cuda_of(d)->stream[DEV_COMPUTE];
    float best = 0, ms = 0;
    for (int i = 0; i < RUNS && dev_status(d) == REFINE_OK; i++) {
        cuda_check(d, cudaEventRecord(begin, s), "probing");
        run_probe_product(d, t, math);
        cuda_check(d, cudaEventRecord(end, s), "probing");
        cuda_check(d, cudaEventSynchronize(end), "probing");
        cuda_check(d, cudaEventElapsedTime(&ms, begin, end), "probing");
        if (i <= 1 || ms < best)
            best = ms;
    }
    return best;
}

static cuda_math choose_faster_math(dev *d, const product_trial *t, cudaEvent_t begin,
                                    cudaEvent_t end)
{
    const float without = measure_probe_ms(d, t, CUDA_HALF2, begin, end);
    const float with = measure_probe_ms(d, t, CUDA_TENSOR_CORES, begin, end);
    return with * GAIN_MIN < without ? CUDA_TENSOR_CORES : CUDA_HALF2;
}

extern "C" void cuda_probe(cuda_dev *c)
{
    dev *d = &c->base;
    cudaEvent_t begin = NULL, end = NULL;
    void *memory = NULL;

    c->math = CUDA_F32;
    if (c->compute == DT_F32)
        return;
    if (cuda_check(d, cudaMalloc(&memory, trial_bytes(c)), "probing") &&
        cuda_check(d, cudaEventCreateWithFlags(&begin, cudaEventDefault), "probing") &&
        cuda_check(d, cudaEventCreateWithFlags(&end, cudaEventDefault), "probing") &&
        cuda_check(d, cudaMemsetAsync(memory, 0, trial_bytes(c), c->stream[DEV_COMPUTE]),
                   "probing")) {
        const product_trial t = make_trial(c, static_cast<char *>(memory));
        c->math = choose_faster_math(d, &t, begin, end);
    }
    if (begin)
        (void)cudaEventDestroy(begin);
    if (end)
        (void)cudaEventDestroy(end);
    (void)cudaFree(memory);
}
