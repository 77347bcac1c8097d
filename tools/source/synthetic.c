/* tools/source/synthetic.c -- a model of random weights that any language can compute again.
 *
 * Element i (flat, in diffusers' shape and order: a convolution is [out][in][kh][kw]) of
 * the tensor with canonical name s ("unet.conv_in.weight", "vae.quant_conv.bias",
 * "text.text_model.final_layer_norm.weight"; engine/model/weight_list.h), all in 64-bit unsigned
 * arithmetic modulo 2^64:
 *
 *     mix(z):  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9
 *              z = (z ^ z >> 27) * 0x94D049BB133111EB
 *              return z ^ z >> 31
 *     fnv(s):  h = 0xCBF29CE484222325;  for each byte b of s:  h = (h ^ b) * 0x100000001B3
 *
 *     key  = mix(seed + 0x9E3779B97F4A7C15) ^ fnv(s)
 *     k_i  = mix(key + (i + 1) * 0x9E3779B97F4A7C15) >> 40          24 bits
 *     u_i  = (2 k_i + 1 - 2^24) / 2^24                              in (-1, 1), exact in float32
 *
 * Then, each operation rounded to float32, and the result rounded once more to fp16 (to
 * nearest, ties to even), so that every value is an fp16 number whatever it is stored as:
 *
 *     module's name contains "norm"   weight 1 + u_i / 8     bias u_i / 8
 *     token and position embeddings   u_i / 32
 *     every other weight and bias     u_i * b,  b = float32(1 / sqrt(fan_in))
 *
 * The module's name is the last part but one of s ("norm1", "conv_norm_out"); embeddings are
 * those whose module's name ends in "_embedding" in a text encoder.  fan_in = in * kh * kw of the
 * weight, also for the bias beside it: PyTorch's default initialisation of Linear and Conv2d.
 */
#include "tools/source/synthetic.h"

#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"
#include "quant/f16.h"
#include "tools/source/demo_model.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "synthetic:"

enum { BLOCK = 4096, NAME = 64 };

typedef struct synthetic {
    weight_source source;
    uint64_t seed;
    char name[NAME];
} synthetic;

/* value = offset + scale * u */
typedef struct weight_scale {
    float offset, factor;
} weight_scale;

static const uint64_t GOLDEN = 0x9E3779B97F4A7C15u;

static inline uint64_t mix_splitmix64(uint64_t z)
{
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static uint64_t hash_name_fnv1a(const char *s)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * 0x100000001B3u;
    return h;
}

static void fill_synthetic(float *dst, uint64_t key, uint64_t first, size_t n, weight_scale by)
{
    const uint64_t start = key + (first + 1) * GOLDEN;
    for (size_t i = 0; i < n; i++) {
        const uint64_t k = mix_splitmix64(start + i * GOLDEN) >> 40;
        const float u = (float)(2 * (int32_t)k + 1 - (1 << 24)) * 0x1p-24f;
        dst[i] = by.offset + by.factor * u;
    }
}

/* The last part but one of a dotted name. */
static const char *module_of(const char *name, size_t *len)
{
    const char *end = strrchr(name, '.'), *begin = end;
    while (begin > name && begin[-1] != '.')
        begin--;
    *len = (size_t)(end - begin);
    return begin;
}

static bool name_contains(const char *s, size_t len, const char *word)
{
    const size_t n = strlen(word);
    for (size_t i = 0; i + n <= len; i++)
        if (memcmp(s + i, word, n) == 0)
            return true;
    return false;
}

static bool name_ends_with(const char *s, size_t len, const char *word)
{
    const size_t n = strlen(word);
    return len >= n && memcmp(s + len - n, word, n) == 0;
}

/* The entry "x.weight" beside "x.bias": vectors precede matrices, so it lies behind. */
static const weight_entry *weight_beside(const weight_list *l, const weight_entry *bias)
{
    char name[WEIGHT_NAME];
    const size_t stem = strlen(bias->name) - strlen("bias");
    if (snprintf(name, sizeof name, "%.*sweight", (int)stem, bias->name) >= (int)sizeof name)
        return bias;
    const int i = weight_list_find(l, name);
    return i < 0 ? bias : &l->entry[i];
}

static weight_scale scale_of(const weight_list *l, const weight_entry *e, const char *name)
{
    size_t len;
    const char *module = module_of(name, &len);
    const bool bias = name_ends_with(name, strlen(name), ".bias");

    if (name_contains(module, len, "norm"))
        return (weight_scale){ bias ? 0.0f : 1.0f, 0.125f };
    if (strncmp(name, "text", 4) == 0 && name_ends_with(module, len, "_embedding"))
        return (weight_scale){ 0.0f, 0.03125f };
    const weight_entry *w = bias ? weight_beside(l, e) : e;
    const double fan_in = (double)w->kh * w->kw * w->c_in;
    return (weight_scale){ 0.0f, (float)(1.0 / sqrt(fan_in)) };
}

static refine_status synthetic_read(const weight_source *s, int entry, int part, uint64_t first,
                                    size_t n, dtype to, void *dst, refine_error *err)
{
    const synthetic *y = (const synthetic *)s;
    const weight_entry *e = &s->list.entry[entry];
    const uint64_t key = mix_splitmix64(y->seed + GOLDEN) ^ hash_name_fnv1a(e->source[part]);
    const weight_scale by = scale_of(&s->list, e, e->source[part]);
    float wide[BLOCK];
    uint16_t narrow[BLOCK];

    (void)err;
    for (size_t at = 0; at < n; at += BLOCK) {
        const size_t len = num_min(BLOCK, n - at);
        fill_synthetic(wide, key, first + at, len, by);
        if (to == DT_F16) {
            f16_encode((uint16_t *)dst + at, wide, len);
        } else {
            f16_encode(narrow, wide, len);
            f16_decode((float *)dst + at, narrow, len);
        }
    }
    return REFINE_OK;
}

static void synthetic_expect(const weight_source *s, int entry, int part, uint64_t first, size_t n)
{
    (void)s, (void)entry, (void)part, (void)first, (void)n;
}

static void synthetic_close(weight_source *s)
{
    weight_list_free(&s->list);
    mem_free(s);
}

refine_status synthetic_open_config(weight_source **out, const model_config *c, uint64_t seed,
                                    const char *name, refine_error *err)
{
    *out = NULL;
    TRY(model_config_check(c, err));
    synthetic *y = mem_calloc(1, sizeof *y);
    if (!y)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    (void)snprintf(y->name, sizeof y->name, "%s", name);
    y->seed = seed;
    y->source = (weight_source){ .name = y->name,
                                 .kind = "synthetic",
                                 .read = synthetic_read,
                                 .expect = synthetic_expect,
                                 .close = synthetic_close };
    if (weight_list_build(&y->source.list, c) != REFINE_OK) {
        synthetic_close(&y->source);
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    }
    *out = &y->source;
    return REFINE_OK;
}

bool synthetic_named(const char *spec) { return strncmp(spec, PREFIX, strlen(PREFIX)) == 0; }

static const char *match_variant(const char *s, const char *word)
{
    const size_t n = strlen(word);
    return strncmp(s, word, n) == 0 && (s[n] == 0 || s[n] == ':') ? s + n : NULL;
}

static bool parse_seed(const char *s, uint64_t *seed)
{
    char *end;
    if (*s == 0)
        return true;
    s++;
    if (*s < '0' || *s > '9')
        return false;
    errno = 0;
    *seed = strtoull(s, &end, 10);
    return *end == 0 && errno == 0;
}

refine_status synthetic_open(weight_source **out, const char *spec, refine_error *err)
{
    static const struct {
        const char *name;
        const model_config *config;
    } MODELS[] = { { "full", &MODEL_REFINER },
                   { "tiny", &MODEL_TINY },
                   { "base", &MODEL_BASE },
                   { "tiny-base", &MODEL_TINY_BASE } };
    const char *which = synthetic_named(spec) ? spec + strlen(PREFIX) : "";
    uint64_t seed = 0;

    *out = NULL;
    if (strcmp(which, "demo") == 0 || strcmp(which, "demo-base") == 0)
        return demo_model_open(out, strcmp(which, "demo-base") == 0, err);
    for (size_t i = 0; i < sizeof MODELS / sizeof MODELS[0]; i++) {
        const char *rest = match_variant(which, MODELS[i].name);
        if (rest && parse_seed(rest, &seed))
            return synthetic_open_config(out, MODELS[i].config, seed, spec, err);
    }
    return refine_fail(
        err, REFINE_EINVAL,
        "%s: write synthetic:demo or synthetic:demo-base, or synthetic:full, "
        "synthetic:tiny, synthetic:base or synthetic:tiny-base, these with a seed if "
        "wanted, as in synthetic:tiny:42",
        spec);
}
