/* tests/engine/test_pipeline.c -- which text each encoder reads, and when it is none.
 *
 * What the encoders gave is told by its hash: a result does not depend on what else is encoded, so
 * that the same text gives the same bits, as the negative prompt and as the prompt.
 */
#include "tests/support/picture_rig.h"
#include "tests/support/tiny_pack.h"
#include "tests/support/vectors.h"

#include <criterion/criterion.h>
#include <string.h>
#include <xxhash.h>

enum { STATES_L, STATES_G, POOLED, N_OUTPUTS };
enum { NEGATIVE, POSITIVE, N_BRANCHES, SIDE = 64, N_LATENTS = 4 * (SIDE / 8) * (SIDE / 8) };

static const char *const OUTPUTS[N_OUTPUTS] = { "text_l.hidden", "text.hidden", "text.pooled" };

typedef struct encoded_run {
    uint64_t hash[N_OUTPUTS][N_BRANCHES];
    float latents[N_LATENTS];
} encoded_run;

static int hash_encoded_text(void *context, const refine_layer_output *s)
{
    encoded_run *r = context;
    for (int i = 0; i < N_OUTPUTS; i++)
        if (strcmp(s->name, OUTPUTS[i]) == 0) {
            uint64_t *at = &r->hash[i][s->batch_index];
            *at = XXH3_64bits_withSeed(s->value, s->count * sizeof *s->value, *at);
        }
    return 0;
}

static refine_job make_encoded_job(const char *prompt)
{
    refine_job j = picture_job(NULL);
    j.width = j.height = SIDE;
    j.rgb_in = NULL;
    j.steps = 1;
    j.prompt = prompt;
    j.negative = NULL;
    return j;
}

/* On a base, or on a refiner, which also needs something to refine. */
static void run_encoded(encoded_run *r, const char *source, refine_job j)
{
    static uint8_t rgb[3 * SIDE * SIDE];
    char pack[512];
    kept_pack_of(pack, sizeof pack, source, "");
    const refine_options o = picture_options(pack, REFINE_DEVICE_CPU, REFINE_F32);
    *r = (encoded_run){ 0 };
    if (strcmp(source, "synthetic:tiny") == 0) {
        j.rgb_in = rgb;
        j.strength = 1;
    }
    j.latents_out = r->latents;
    j.layer_output = hash_encoded_text;
    j.layer_output_context = r;
    picture_run(&o, &j, NULL);
}

static bool is_same_image(const encoded_run *a, const encoded_run *b)
{
    return memcmp(a->latents, b->latents, sizeof a->latents) == 0;
}

/* The encoder gave for this branch what it gives for `text` as a prompt. */
static bool is_encoding_of(const encoded_run *r, int output, int branch, const char *text)
{
    encoded_run own;
    run_encoded(&own, "synthetic:tiny-base", make_encoded_job(text));
    return r->hash[output][branch] && r->hash[output][branch] == own.hash[output][POSITIVE];
}

/* `want`: zeros, or enc("...") of some text. */
static void expect_negative_output(const encoded_run *r, const encoded_run *zeros, int output,
                                   const char *want)
{
    char text[64] = "";
    cr_expect_eq(is_same_image(r, zeros), strcmp(want, "zeros") == 0, "%s", want);
    if (strcmp(want, "zeros") == 0)
        return;
    cr_assert(strncmp(want, "enc(\"", 5) == 0 && strlen(want) < sizeof text, "%s", want);
    memcpy(text, want + 5, strcspn(want + 5, "\""));
    cr_expect(is_encoding_of(r, output, NEGATIVE, text), "%s is not %s", OUTPUTS[output], want);
}

static refine_job make_negative_job(const json_t *row)
{
    refine_job j = make_encoded_job("cat");
    j.negative = json_string_value(json_object_get(row, "negative_prompt"));
    j.negative_2 = json_string_value(json_object_get(row, "negative_prompt_2"));
    return j;
}

static void check_base_row(const json_t *row, const encoded_run *zeros)
{
    static const char *const KEYS[N_OUTPUTS] = { "L", "G", "pooled" };
    encoded_run r;
    run_encoded(&r, "synthetic:tiny-base", make_negative_job(row));
    for (int i = 0; i < N_OUTPUTS; i++)
        expect_negative_output(&r, zeros, i, json_string_value(json_object_get(row, KEYS[i])));
}

/* Where none is forced to zeros, none is an empty one. */
static void check_refiner_row(const json_t *row)
{
    encoded_run r, empty;
    refine_job j = make_negative_job(row);
    cr_assert_str_eq(json_string_value(json_object_get(row, "G")), "enc(\"\")");
    run_encoded(&r, "synthetic:tiny", j);
    j.negative = "";
    run_encoded(&empty, "synthetic:tiny", j);
    cr_expect(is_same_image(&r, &empty));
}

Test(engine_pipeline, encodes_negative_prompts_as_every_shared_vector_has_it)
{
    json_t *root = vectors_load("spec/pipeline_vectors.json"), *row;
    encoded_run zeros;
    size_t i;
    if (!root)
        cr_skip_test("no shared vectors");
    json_t *rows = json_object_get(root, "negative_prompt");
    cr_assert_eq(json_array_size(rows), 7u);
    run_encoded(&zeros, "synthetic:tiny-base", make_encoded_job("cat"));
    json_array_foreach(rows, i, row)
    {
        if (json_is_true(json_object_get(row, "force_zeros")))
            check_base_row(row, &zeros);
        else
            check_refiner_row(row);
    }
    json_decref(root);
}

Test(engine_pipeline, gives_bigg_the_second_prompt_and_takes_an_empty_one_for_none)
{
    encoded_run r;
    refine_job j = make_encoded_job("cat");
    j.prompt_2 = "dog";
    run_encoded(&r, "synthetic:tiny-base", j);
    cr_expect(is_encoding_of(&r, STATES_L, POSITIVE, "cat"));
    cr_expect(is_encoding_of(&r, STATES_G, POSITIVE, "dog"));
    cr_expect(is_encoding_of(&r, POOLED, POSITIVE, "dog"));
    j.prompt_2 = "";
    run_encoded(&r, "synthetic:tiny-base", j);
    cr_expect(is_encoding_of(&r, STATES_G, POSITIVE, "cat"));
}

/* OpenCLIP's tokenizer has it as any other sign, as has diffusers' first one. */
Test(engine_pipeline, takes_an_exclamation_mark_for_padding_in_bigg_alone)
{
    encoded_run diffusers, openclip;
    refine_job j = make_encoded_job("cat!");
    run_encoded(&diffusers, "synthetic:tiny-base", j);
    j.flavour = REFINE_TOKENS_OPENCLIP;
    run_encoded(&openclip, "synthetic:tiny-base", j);
    cr_expect_eq(diffusers.hash[STATES_L][POSITIVE], openclip.hash[STATES_L][POSITIVE]);
    cr_expect_neq(diffusers.hash[STATES_G][POSITIVE], openclip.hash[STATES_G][POSITIVE]);
}
