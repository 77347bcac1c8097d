/* tests/tools/test_output.c -- every member of a job counts where an image is looked for that is
 * there already, or is known not to. */
#include "tools/batch/output.h"

#include "tests/support/random.h"
#include "tests/support/temp_file.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { ROUNDS = 8, SIDE = 64, TEXT_LEN = 12 };

typedef enum member_kind {
    MEMBER_TEXT,
    MEMBER_INT,
    MEMBER_SHARE, /* above 0 and below 1 */
    MEMBER_FLOAT,
    MEMBER_WHOLE,
    MEMBER_FLAG,
    MEMBER_WORD, /* one of two */
    MEMBER_APART /* of no image */
} member_kind;

typedef struct job_member {
    const char *name;
    size_t at, size;
    member_kind kind;
} job_member;

#define MEMBER(name_, kind_)                                                                       \
    {                                                                                              \
        .name = #name_, .at = offsetof(refine_job, name_),                                         \
        .size = sizeof(((refine_job *)NULL)->name_), .kind = (kind_)                               \
    }

static const job_member MEMBERS[] = {
    MEMBER(struct_bytes, MEMBER_APART), /* of the interface */
    MEMBER(prompt, MEMBER_TEXT),
    MEMBER(negative, MEMBER_TEXT),
    MEMBER(prompt_2, MEMBER_TEXT),
    MEMBER(negative_2, MEMBER_TEXT),
    MEMBER(width, MEMBER_INT),
    MEMBER(height, MEMBER_INT),
    MEMBER(rgb_in, MEMBER_APART), /* what is there has a hash */
    MEMBER(latents_in, MEMBER_APART),
    MEMBER(rgb_out, MEMBER_APART),
    MEMBER(latents_out, MEMBER_APART),
    MEMBER(steps, MEMBER_INT),
    MEMBER(strength, MEMBER_SHARE),
    MEMBER(denoising_start, MEMBER_SHARE),
    MEMBER(denoising_end, MEMBER_SHARE),
    MEMBER(handoff, MEMBER_SHARE),
    MEMBER(via_pixels, MEMBER_FLAG),
    MEMBER(guidance, MEMBER_FLOAT),
    MEMBER(clip_skip, MEMBER_INT),
    MEMBER(aesthetic_score, MEMBER_FLOAT),
    MEMBER(negative_aesthetic_score, MEMBER_FLOAT),
    MEMBER(original_width, MEMBER_INT),
    MEMBER(original_height, MEMBER_INT),
    MEMBER(crop_left, MEMBER_INT),
    MEMBER(crop_top, MEMBER_INT),
    MEMBER(target_width, MEMBER_INT),
    MEMBER(target_height, MEMBER_INT),
    MEMBER(negative_original_width, MEMBER_INT),
    MEMBER(negative_original_height, MEMBER_INT),
    MEMBER(negative_crop_left, MEMBER_INT),
    MEMBER(negative_crop_top, MEMBER_INT),
    MEMBER(negative_target_width, MEMBER_INT),
    MEMBER(negative_target_height, MEMBER_INT),
    MEMBER(seed, MEMBER_WHOLE),
    MEMBER(rng, MEMBER_WORD),
    MEMBER(flavour, MEMBER_APART), /* no option asks for another */
    MEMBER(progress, MEMBER_APART),
    MEMBER(progress_context, MEMBER_APART),
    MEMBER(layer_output, MEMBER_APART),
    MEMBER(layer_output_context, MEMBER_APART),
};

enum { N_MEMBERS = sizeof MEMBERS / sizeof MEMBERS[0] };

/* By a compiler that can tell what is padding. */
Test(tools_output, knows_every_member_of_a_job)
{
    int rows[sizeof(refine_job)] = { 0 };
    refine_job solid;
    memset(&solid, 0xff, sizeof solid);
#if defined(__has_builtin)
#if __has_builtin(__builtin_clear_padding)
    __builtin_clear_padding(&solid);
#else
    cr_skip_test("this compiler cannot tell what is padding");
#endif
#endif
    for (int i = 0; i < N_MEMBERS; i++)
        for (size_t k = 0; k < MEMBERS[i].size; k++)
            rows[MEMBERS[i].at + k]++;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        cr_expect_eq(rows[i], ((const unsigned char *)&solid)[i] != 0,
                     "byte %zu of refine_job is in %d rows", i, rows[i]);
}

/* ---- one member changed ---- */

/* Another value than the member has. */
static void draw_job_member(refine_job *j, const job_member *m, char text[TEXT_LEN], uint64_t *seed)
{
    void *at = (char *)j + m->at;
    switch (m->kind) {
    case MEMBER_TEXT:
        (void)snprintf(text, TEXT_LEN, "%d", random_below(seed, 1 << 30));
        *(const char **)at = text;
        break;
    case MEMBER_INT: *(int *)at += 1 + random_below(seed, 100); break;
    case MEMBER_SHARE:
        *(double *)at = *(double *)at > 0 ? *(double *)at * (1 + 0x1p-40) : 0.25;
        break;
    case MEMBER_FLOAT: *(float *)at *= 1 + 0x1p-20f; break;
    case MEMBER_WHOLE: *(uint64_t *)at = random_bits(seed); break;
    case MEMBER_FLAG: *(bool *)at = !*(bool *)at; break;
    case MEMBER_WORD: *(refine_rng *)at = (refine_rng)(1 - (int)*(refine_rng *)at); break;
    case MEMBER_APART: break;
    }
}

/* What a job may be part of. */
typedef struct situation {
    bool of_photo, by_two, in_stages, partly;
} situation;

static const situation SITUATIONS[] = {
    { .of_photo = true },
    { .of_photo = true, .partly = true },
    { .of_photo = false },
    { .by_two = true },
    { .by_two = true, .in_stages = true },
    { .of_photo = true, .by_two = true },
};

enum { N_SITUATIONS = sizeof SITUATIONS / sizeof SITUATIONS[0] };

static const uint8_t WHITE[3] = { 255, 255, 255 };

typedef struct sample_output {
    char path[TEMP_NAME];
    job_input in;
    refine_job j;
    refine_report r, base;
} sample_output;

static uint8_t pixels[SIDE * SIDE * 3];

static void save_sample(sample_output *s, const situation *at)
{
    *s = (sample_output){ .in = { .out = { SIDE, SIDE, pixels }, .hash = at->of_photo },
                          .j = REFINE_JOB_INIT,
                          .r = REFINE_REPORT_INIT,
                          .base = REFINE_REPORT_INIT };
    s->base.precision = s->r.precision = "f32";
    s->r.sampler = "euler";
    s->r.device = "cpu";
    s->r.base = at->by_two ? &s->base : NULL;
    s->j.prompt = "a cat";
    s->j.rgb_in = at->of_photo ? pixels : NULL;
    s->j.denoising_start = at->partly ? 0.5 : 0;
    s->j.handoff = at->in_stages ? 0 : s->j.handoff;
    temp_file(s->path, ".png");
    cr_assert_eq(output_save(s->path, &s->in, &s->j, WHITE, &s->r, NULL), REFINE_OK);
}

static bool is_sample_there(const sample_output *s, const refine_job *j)
{
    return output_is_done(s->path, &s->in, j, WHITE, &s->r, true);
}

Test(tools_output, is_another_where_any_member_of_its_job_is)
{
    uint64_t seed = 3;
    char text[TEXT_LEN];
    bool noticed[N_MEMBERS] = { false };
    for (int k = 0; k < N_SITUATIONS; k++) {
        sample_output s;
        save_sample(&s, &SITUATIONS[k]);
        cr_expect(is_sample_there(&s, &s.j));
        for (int i = 0; i < N_MEMBERS * ROUNDS; i++) {
            refine_job other = s.j;
            draw_job_member(&other, &MEMBERS[i / ROUNDS], text, &seed);
            noticed[i / ROUNDS] |= !is_sample_there(&s, &other);
        }
        (void)unlink(s.path);
    }
    for (int i = 0; i < N_MEMBERS; i++)
        cr_expect_eq(noticed[i], MEMBERS[i].kind != MEMBER_APART, "%s", MEMBERS[i].name);
}

/* ---- of what is no member of it ---- */

Test(tools_output, is_another_of_another_input_model_or_device)
{
    sample_output s, t;
    save_sample(&s, &(situation){ .of_photo = true, .by_two = true });
    t = s;
    t.in.hash++;
    cr_expect_not(is_sample_there(&t, &t.j));
    t = s;
    t.r.source_hash++;
    cr_expect_not(is_sample_there(&t, &t.j));
    t = s;
    t.r.model_hash++;
    cr_expect_not(is_sample_there(&t, &t.j));
    t = s;
    t.r.device_hash++;
    cr_expect_not(is_sample_there(&t, &t.j));
    t = s;
    t.r.precision = "bf16";
    cr_expect_not(is_sample_there(&t, &t.j));
    t = s;
    t.r.base = &t.base;
    cr_expect(is_sample_there(&t, &t.j));
    t.base.model_hash++;
    cr_expect_not(is_sample_there(&t, &t.j));
    (void)unlink(s.path);
}

Test(tools_output, is_the_same_of_any_seed_where_none_is_asked_for)
{
    sample_output s;
    save_sample(&s, &(situation){ .of_photo = true });
    refine_job other = s.j;
    other.seed++;
    cr_expect_not(output_is_done(s.path, &s.in, &other, WHITE, &s.r, true));
    cr_expect(output_is_done(s.path, &s.in, &other, WHITE, &s.r, false));
    other.steps++;
    cr_expect_not(output_is_done(s.path, &s.in, &other, WHITE, &s.r, false));
    (void)unlink(s.path);
}
