/* tools/packer/weights_policy.c -- which matrices stay in 16 bits when the others become int8. */
#include "tools/packer/weights_policy.h"

#include "quant/int8.h"

#include <fnmatch.h>
#include <stdbool.h>
#include <string.h>

/* One line a kind of weight, as in a shell's patterns.  Every other convolution and linear of
 * UNet, text encoder and VAE becomes int8.  Vectors (norms, biases, positions) are always f32. */
static const char *const SIXTEEN_BITS[] = {
    /* Read a row at a time, and each row is the whole meaning of a word. */
    "text*.token_embedding.weight",
    /* Latents in, noise out: small, and what they lose nothing averages out any more. */
    "unet.conv_in.weight",
    "unet.conv_out.weight",
    /* Image to latents and back: the same, and their error is seen as it is. */
    "vae.*coder.conv_in.weight",
    "vae.*coder.conv_out.weight",
    "vae.*quant_conv.weight",
    /* One vector of time, size and score goes through these and is then added to every pixel:
     * an error here is an offset everywhere, at every step.  Streamed once an image. */
    "unet.time_embedding.*.weight",
    "unet.add_embedding.*.weight",
    "unet.*.time_emb_proj.weight",
};

const char *const weights_names[N_WEIGHTS_KINDS + 1] = { "fp16", "int8", NULL };

const char *weights_name(weights_kind kind) { return weights_names[kind]; }

static bool needs_sixteen_bits(const char *name)
{
    for (size_t i = 0; i < sizeof SIXTEEN_BITS / sizeof SIXTEEN_BITS[0]; i++)
        if (fnmatch(SIXTEEN_BITS[i], name, 0) == 0)
            return true;
    return false;
}

/* Groups of few channels are mostly padding. */
static bool is_int8_smaller(const weight_entry *e)
{
    return i8_bytes(e->rows, e->kh * e->kw, e->c_in) < weight_elements(e) * sizeof(uint16_t);
}

dtype weights_type(weights_kind kind, const weight_entry *e)
{
    if (e->seg == SEG_VECTORS)
        return DT_F32;
    return kind == WEIGHTS_INT8 && !needs_sixteen_bits(e->name) && is_int8_smaller(e) ? DT_I8G64
                                                                                      : DT_F16;
}
