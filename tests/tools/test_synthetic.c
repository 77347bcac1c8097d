/* tests/tools/test_synthetic.c -- the random weights are the ones another language computes. */
#include "engine/base/mem.h"
#include "quant/f16.h"
#include "tools/source/synthetic.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static weight_source *open_model_seed(const char *model, uint64_t seed)
{
    weight_source *s;
    char spec[64];
    refine_error err = { 0 };
    (void)snprintf(spec, sizeof spec, "synthetic:%s:%llu", model, (unsigned long long)seed);
    cr_assert_eq(synthetic_open(&s, spec, &err), REFINE_OK, "%s", err.text);
    return s;
}

static weight_source *open_seed(uint64_t seed) { return open_model_seed("tiny", seed); }

/* Which entry and part a canonical name is. */
static int find_source(const weight_list *l, const char *name, int *part)
{
    for (int e = 0; e < l->n; e++)
        for (*part = 0; *part < l->entry[e].n_sources; ++*part)
            if (strcmp(l->entry[e].source[*part], name) == 0)
                return e;
    cr_assert_fail("%s", name);
    return -1;
}

typedef struct defined_value {
    const char *name;
    uint64_t at, seed;
    uint16_t value;
} defined_value;

static void check_defined(const char *model, const defined_value *want)
{
    weight_source *s = open_model_seed(model, want->seed);
    uint16_t half;
    float wide;
    int part;
    const int e = find_source(&s->list, want->name, &part);
    cr_assert_eq(s->read(s, e, part, want->at, 1, DT_F16, &half, NULL), REFINE_OK);
    cr_assert_eq(half, want->value, "%s: %04x", want->name, half);
    cr_assert_eq(s->read(s, e, part, want->at, 1, DT_F32, &wide, NULL), REFINE_OK);
    cr_assert_eq(wide, f16_to_f32(half));
    s->close(s);
}

Test(tools_synthetic, values_are_those_of_the_definition)
{
    /* Computed from the comment at the head of tools/source/synthetic.c in Python's integers. */
    static const defined_value WANT[] = {
        { "unet.conv_in.weight", 0, 0, 0x298f },
        { "unet.conv_in.weight", 1151, 0, 0xaf1a },
        { "unet.conv_in.bias", 7, 0, 0xae70 },
        { "unet.conv_in.weight", 0, 42, 0xad2e },
        { "unet.mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj.bias", 1023, 0, 0x2212 },
        { "vae.quant_conv.weight", 63, 0, 0xb239 },
        { "text.text_model.encoder.layers.2.self_attn.v_proj.bias", 5, 7, 0xacaf },
        { "text.text_model.embeddings.token_embedding.weight", 3162111, 0, 0x263d },
        { "text.text_model.embeddings.position_embedding.weight", 4927, 0, 0xa7ad },
        { "unet.conv_norm_out.weight", 3, 0, 0x3c18 },
        { "vae.encoder.mid_block.attentions.0.group_norm.bias", 63, 0, 0x2c7f },
    };
    static const defined_value BASE[] = {
        { "text_l.text_model.embeddings.token_embedding.weight", 77, 0, 0x2496 },
        { "text_l.text_model.embeddings.position_embedding.weight", 4927, 0, 0xa73f },
        { "text_l.text_model.encoder.layers.1.mlp.fc2.weight", 8191, 0, 0x17e0 },
        { "unet.conv_in.weight", 0, 0, 0x298f },
    };
    for (size_t i = 0; i < sizeof WANT / sizeof WANT[0]; i++)
        check_defined("tiny", &WANT[i]);
    for (size_t i = 0; i < sizeof BASE / sizeof BASE[0]; i++)
        check_defined("tiny-base", &BASE[i]);
    cr_assert_eq(mem_used().now, 0u);
}

Test(tools_synthetic, each_name_is_its_model)
{
    static const struct {
        const char *spec;
        const model_config *config;
    } MODELS[] = { { "synthetic:full", &MODEL_REFINER },
                   { "synthetic:tiny", &MODEL_TINY },
                   { "synthetic:base", &MODEL_BASE },
                   { "synthetic:tiny-base:3", &MODEL_TINY_BASE } };
    for (size_t i = 0; i < sizeof MODELS / sizeof MODELS[0]; i++) {
        weight_source *s;
        cr_assert_eq(synthetic_open(&s, MODELS[i].spec, NULL), REFINE_OK);
        char *have = model_config_dump(&s->list.config);
        char *want = model_config_dump(MODELS[i].config);
        cr_expect_str_eq(have, want);
        cr_expect_str_eq(s->name, MODELS[i].spec);
        mem_free(have);
        mem_free(want);
        s->close(s);
    }
}

Test(tools_synthetic, a_piece_is_the_same_as_in_the_whole)
{
    enum { N = 20000 };
    static uint16_t whole[N], piece[N];
    weight_source *s = open_seed(0);
    int part;
    const int e = find_source(&s->list, "unet.mid_block.resnets.0.conv1.weight", &part);
    cr_assert_eq(s->read(s, e, part, 0, N, DT_F16, whole, NULL), REFINE_OK);
    for (size_t at = 0, n = 1; at + n <= N; at += n, n += n / 2 + 1) {
        cr_assert_eq(s->read(s, e, part, at, n, DT_F16, piece, NULL), REFINE_OK);
        cr_assert_arr_eq(piece, whole + at, n * sizeof *piece, "%zu at %zu", n, at);
    }
    s->close(s);
}

Test(tools_synthetic, weights_spread_evenly_over_their_range)
{
    enum { N = 100000 };
    static float w[N];
    weight_source *s = open_seed(3);
    double sum = 0, squares = 0, most = 0;
    int part;
    const int e = find_source(&s->list, "unet.up_blocks.0.resnets.0.conv1.weight", &part);
    const double bound = 1.0 / 48.0; /* 256 channels * 9 */
    cr_assert_eq(s->read(s, e, part, 0, N, DT_F32, w, NULL), REFINE_OK);
    for (int i = 0; i < N; i++) {
        const double v = (double)w[i];
        sum += v;
        squares += v * v;
        most = v > most ? v : most;
    }
    /* Mean 0 and variance bound^2 / 3, within five standard errors. */
    cr_assert_lt(sum * sum / N, 25 * bound * bound / 3);
    cr_assert_float_eq(squares / N, bound * bound / 3, 0.02 * bound * bound);
    cr_assert_leq(most, bound * 1.0005);
    cr_assert_gt(most, bound * 0.999);
    s->close(s);
}

Test(tools_synthetic, other_specifications_are_refused)
{
    static const char *const BAD[] = { "synthetic:",        "synthetic:huge",
                                       "synthetic:tiny:",   "synthetic:tiny:x",
                                       "synthetic:tiny:1x", "synthetic:tiny:-1",
                                       "synthetic:tinyx",   "synthetic:full:18446744073709551616",
                                       "synthetic:basex",   "synthetic:tiny-base:" };
    weight_source *s;
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        refine_error err = { 0 };
        cr_assert_eq(synthetic_open(&s, BAD[i], &err), REFINE_EINVAL, "%s", BAD[i]);
        cr_assert_null(s);
    }
    cr_assert(synthetic_named("synthetic:tiny"));
    cr_assert_not(synthetic_named("synthetic.safetensors"));
}

Test(tools_synthetic, survives_the_failure_of_any_allocation)
{
    weight_source *s;
    long k = 0;
    for (;; k++) {
        mem_fail_after(k, MEM_FAIL_ONCE);
        const refine_status st = synthetic_open(&s, "synthetic:tiny", NULL);
        mem_fail_after(-1, MEM_FAIL_ONCE);
        if (st == REFINE_OK)
            break;
        cr_assert_eq(st, REFINE_ENOMEM);
        cr_assert_eq(mem_used().now, 0u);
    }
    cr_assert_geq(k, 2);
    s->close(s);
}
