/* engine/model/layer_output.c -- tensors of any type as pieces of floats. */
#include "engine/model/layer_output.h"

#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/model/model_config.h"
#include "quant/f16.h"

#include <assert.h>
#include <math.h>

enum { PIECE = 1 << 15 };

struct layer_outputs {
    float value[PIECE];
    uint16_t half[PIECE];
};

layer_outputs *layer_outputs_open(void) { return mem_alloc(sizeof(layer_outputs)); }
void layer_outputs_close(layer_outputs *s) { mem_free(s); }
size_t layer_outputs_bytes(void) { return sizeof(layer_outputs); }

static void report_output_block(const refine_job *j, dev *d, const refine_layer_output *block)
{
    const bool allowed = mem_allow(true);
    const bool stop = j->layer_output(j->layer_output_context, block) != 0;
    (void)mem_allow(allowed);
    if (stop)
        dev_fail(d, REFINE_ECANCELLED, "interrupted");
}

/* Values [first, first + n) of a dense tensor. */
static void read_output_values(layer_outputs *s, dev *d, tensor t, size_t first, size_t n)
{
    const char *from = (const char *)t.data + first * dtype_bytes(t.type);
    if (t.type == DT_F32) {
        dev_get(d, s->value, from, n * sizeof(float));
    } else {
        dev_get(d, s->half, from, n * sizeof(uint16_t));
        (t.type == DT_F16 ? f16_decode : bf16_decode)(s->value, s->half, n);
    }
    for (size_t i = 0; i < n && t.exp2 != 0; i++)
        s->value[i] = ldexpf(s->value[i], t.exp2);
}

static void report_output_image(layer_outputs *s, const refine_job *j, dev *d,
                                refine_layer_output at, tensor t)
{
    const size_t all = tensor_pixels(t) * (size_t)t.c;
    at.value = s->value;
    for (at.first = 0; at.first < all && dev_status(d) == REFINE_OK; at.first += at.count) {
        at.count = num_min(PIECE, all - at.first);
        read_output_values(s, d, t, at.first, at.count);
        report_output_block(j, d, &at);
    }
}

void layer_outputs_report(layer_outputs *s, const refine_job *j, dev *d, refine_layer_output at,
                          tensor t)
{
    assert(t.stride == t.c);
    at.h = t.h;
    at.w = t.w;
    at.c = t.c;
    for (int n = 0; n < t.n; n++, at.batch_index++)
        report_output_image(s, j, d, at, tensor_images(t, n, 1));
}

void layer_outputs_report_latents(layer_outputs *s, const refine_job *j, dev *d,
                                  refine_layer_output at, const float *latents)
{
    const size_t hw = (size_t)at.h * (size_t)at.w, all = hw * LATENT_CHANNELS;
    at.c = LATENT_CHANNELS;
    at.value = s->value;
    for (at.first = 0; at.first < all && dev_status(d) == REFINE_OK; at.first += at.count) {
        at.count = num_min(PIECE, all - at.first);
        for (size_t i = 0; i < at.count; i++) {
            const size_t k = at.first + i;
            s->value[i] = latents[k % LATENT_CHANNELS * hw + k / LATENT_CHANNELS];
        }
        report_output_block(j, d, &at);
    }
}
