/* tools/source/demo_model.c -- a refiner of MODEL_TINY's size whose image survives, and a base of
 * MODEL_TINY_BASE's that makes one.
 *
 * Nothing here was trained.  Most weights are random; a few are set so that
 * what the random ones compute is ignored at the end and the rest is linear:
 *
 *     encode   latent j = LOUDNESS * mean of colour j over 8x8 pixels; latent 3 is 0;
 *              times the scaling factor, so that noise is quiet beside it
 *     UNet     eps = EAGERNESS * (x - x smoothed over 3x3)
 *     decode   colour j = latent j / LOUDNESS, smoothly enlarged
 *
 * so that refining gives a soft copy of the image with some of the noise taken out again; and from
 * noise alone, in which every scale is alike, steps take away the fine ones and leave clouds of
 * colour.
 *
 * A signal s travels as the pair of channels 4j = s, 4j + 1 = -s.  Residual branches add
 * nothing (conv2 = 0).  In front of the last norm of each network channels 4j + 2 and
 * 4j + 3 are set to LOUD and -LOUD: they alone make the norm's deviation, LOUD / sqrt(2),
 * and its mean is 0, so the norm is a known factor and not the image's.  The
 * nonlinearity behind it cancels: silu(s) - silu(-s) = s.
 */
#include "tools/source/demo_model.h"

#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"
#include "quant/f16.h"
#include "tools/source/synthetic.h"

#include <stdio.h>
#include <string.h>

enum { BLOCK = 1024, GROUPS = 8, PAIR = 4, COLOURS = 3, LATENTS = 4 };

static const float LOUD = 64, LOUDNESS = 48, EAGERNESS = 1.5f, SURE = -20;

typedef struct demo {
    weight_source source;
    weight_source *random;
    char last_block[32]; /* of the UNet: what its names begin with */
} demo;

/* One element of a tensor: output o, input i, tap (y, x) of a k x k kernel. */
typedef struct weight_element {
    int o, i, y, x, k, c_in;
} weight_element;

typedef float value_at(weight_element p);

/* ---- what elements are ---- */

static float binomial_weight(int tap) { return tap == 1 ? 0.5f : 0.25f; }
static float smoothing_weight(weight_element p)
{
    return binomial_weight(p.y) * binomial_weight(p.x);
}
static float centre_weight(weight_element p) { return p.y == p.k / 2 && p.x == p.k / 2 ? 1 : 0; }

/* 1 where channel c carries signal j, -1 where it carries its negative. */
static float carrier_sign(int c, int j)
{
    return c == PAIR * j ? 1.0f : c == PAIR * j + 1 ? -1.0f : 0.0f;
}

static float zero_value(weight_element p)
{
    (void)p;
    return 0;
}

static float pass_channel(weight_element p) { return p.o == p.i ? centre_weight(p) : 0; }
static float pass_skip(weight_element p) { return p.i == p.c_in / 2 + p.o ? 1 : 0; }
static float halve_side(weight_element p) { return p.o == p.i && p.y < 2 && p.x < 2 ? 0.25f : 0; }
static float enlarge_smoothly(weight_element p) { return p.o == p.i ? smoothing_weight(p) : 0; }

static float loud_pair_bias(weight_element p)
{
    return p.i % PAIR == 2 ? LOUD : p.i % PAIR == 3 ? -LOUD : 0;
}

static float norm_deviation(weight_element p)
{
    (void)p;
    return LOUD * 0.70710678f;
}

static float from_colours(weight_element p) { return carrier_sign(p.o, p.i) * centre_weight(p); }
static float to_colours(weight_element p) { return carrier_sign(p.i, p.o) * centre_weight(p); }
static float from_latents(weight_element p)
{
    return p.i < COLOURS ? from_colours(p) / LOUDNESS : 0;
}

static float to_moments(weight_element p) { return p.o < COLOURS ? to_colours(p) * LOUDNESS : 0; }
static float moments_bias(weight_element p) { return p.i < LATENTS ? 0 : SURE; }

static float sharpness_weight(weight_element p)
{
    return carrier_sign(p.o, p.i) * (centre_weight(p) - smoothing_weight(p));
}
static float to_noise(weight_element p) { return to_colours(p) * EAGERNESS; }

/* ---- which tensors ---- */

typedef struct demo_rule {
    const char *begin, *end;
    value_at *value;
} demo_rule;

/* The first that matches; what none matches is random. */
static const demo_rule RULES[] = {
    { "vae.encoder.mid_block.resnets.1.", "conv2.bias", loud_pair_bias },
    { "vae.decoder.up_blocks.3.resnets.1.", "conv2.bias", loud_pair_bias },
    { "vae.", "conv2.weight", zero_value },
    { "vae.", "conv2.bias", zero_value },
    { "vae.", "conv_shortcut.weight", pass_channel },
    { "vae.", "conv_shortcut.bias", zero_value },
    { "vae.", "to_out.0.weight", zero_value },
    { "vae.", "to_out.0.bias", zero_value },
    { "vae.", "downsamplers.0.conv.weight", halve_side },
    { "vae.", "downsamplers.0.conv.bias", zero_value },
    { "vae.", "upsamplers.0.conv.weight", enlarge_smoothly },
    { "vae.", "upsamplers.0.conv.bias", zero_value },
    { "vae.", "conv_norm_out.weight", norm_deviation },
    { "vae.", "conv_norm_out.bias", zero_value },
    { "vae.", "quant_conv.weight", pass_channel },
    { "vae.", "quant_conv.bias", zero_value },
    { "vae.encoder.conv_in.", "weight", from_colours },
    { "vae.encoder.conv_in.", "bias", zero_value },
    { "vae.encoder.conv_out.", "weight", to_moments },
    { "vae.encoder.conv_out.", "bias", moments_bias },
    { "vae.decoder.conv_in.", "weight", from_latents },
    { "vae.decoder.conv_in.", "bias", zero_value },
    { "vae.decoder.conv_out.", "weight", to_colours },
    { "vae.decoder.conv_out.", "bias", zero_value },
    { "unet.conv_in.", "weight", sharpness_weight },
    { "unet.conv_in.", "bias", zero_value },
    { "unet.conv_norm_out.", "weight", norm_deviation },
    { "unet.conv_norm_out.", "bias", zero_value },
    { "unet.conv_out.", "weight", to_noise },
    { "unet.conv_out.", "bias", zero_value },
};

/* Of the UNet's last block, the names that go on from there. */
static const demo_rule LAST_BLOCK[] = {
    { "resnets.2.", "conv_shortcut.weight", pass_skip },
    { "resnets.2.", "conv_shortcut.bias", zero_value },
    { "resnets.2.", "conv2.weight", zero_value },
    { "resnets.2.", "conv2.bias", loud_pair_bias },
};

static value_at *match_rules(const demo_rule *rules, size_t n, const char *name)
{
    const size_t len = strlen(name);
    for (size_t i = 0; i < n; i++) {
        const size_t begin = strlen(rules[i].begin), end = strlen(rules[i].end);
        if (begin + end <= len && strncmp(name, rules[i].begin, begin) == 0 &&
            strcmp(name + len - end, rules[i].end) == 0)
            return rules[i].value;
    }
    return NULL;
}

static value_at *find_value_rule(const demo *y, const char *name)
{
    const size_t len = strlen(y->last_block);
    if (strncmp(name, y->last_block, len) == 0)
        return match_rules(LAST_BLOCK, sizeof LAST_BLOCK / sizeof *LAST_BLOCK, name + len);
    return match_rules(RULES, sizeof RULES / sizeof *RULES, name);
}

/* ---- the source ---- */

/* Element `at` of a tensor in diffusers' order: [out][in][kh][kw]. */
static weight_element element_position(const weight_entry *e, uint64_t at)
{
    const uint64_t kw = (uint64_t)e->kw, kh = (uint64_t)e->kh, c_in = (uint64_t)e->c_in;

    return (weight_element){ .o = (int)(at / (kw * kh * c_in)),
                             .i = (int)(at / (kw * kh) % c_in),
                             .y = (int)(at / kw % kh),
                             .x = (int)(at % kw),
                             .k = e->kh,
                             .c_in = e->c_in };
}

static refine_status demo_read(const weight_source *s, int entry, int part, uint64_t first,
                               size_t n, dtype to, void *dst, refine_error *err)
{
    const demo *y = (const demo *)s;
    const weight_entry *e = &s->list.entry[entry];
    value_at *value = find_value_rule(y, e->source[part]);
    float block[BLOCK];

    if (!value)
        return y->random->read(y->random, entry, part, first, n, to, dst, err);
    for (size_t at = 0; at < n; at += BLOCK) {
        const size_t len = num_min(BLOCK, n - at);
        for (size_t i = 0; i < len; i++)
            block[i] = value(element_position(e, first + at + i));
        if (to == DT_F16)
            f16_encode((uint16_t *)dst + at, block, len);
        else
            memcpy((float *)dst + at, block, len * sizeof *block);
    }
    return REFINE_OK;
}

static void demo_expect(const weight_source *s, int entry, int part, uint64_t first, size_t n)
{
    (void)s, (void)entry, (void)part, (void)first, (void)n;
}

static void demo_close(weight_source *s)
{
    demo *y = (demo *)s;

    if (y->random)
        y->random->close(y->random);
    weight_list_free(&s->list);
    mem_free(y);
}

refine_status demo_model_open(weight_source **out, bool base, refine_error *err)
{
    model_config c = base ? MODEL_TINY_BASE : MODEL_TINY;
    refine_status st;

    *out = NULL;
    c.unet.groups = c.vae.groups = GROUPS;
    demo *y = mem_calloc(1, sizeof *y);
    if (!y)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    y->source = (weight_source){ .name = base ? "synthetic:demo-base" : "synthetic:demo",
                                 .kind = "synthetic",
                                 .read = demo_read,
                                 .expect = demo_expect,
                                 .close = demo_close };
    (void)snprintf(y->last_block, sizeof y->last_block, "unet.up_blocks.%d.", c.unet.levels - 1);
    TRY_OR(fail, synthetic_open_config(&y->random, &c, 0, "demo", err));
    TRY_OR(fail, weight_list_build(&y->source.list, &c));
    *out = &y->source;
    return REFINE_OK;

fail:
    demo_close(&y->source);
    return refine_fail(err, st, "out of memory");
}
