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

/* What a job may be part of, and is made by. */
typedef enum situation {
    OF_PHOTO,
    OF_BEGUN_PHOTO, /* denoised in part before */
    OF_TEXT_IN_PART,
    ENSEMBLE,
    TWO_STAGES,
    ENSEMBLE_OF_PHOTO,
    N_SITUATIONS
} situation;

typedef enum member_kind {
    MEMBER_TEXT,
    MEMBER_INT,
    MEMBER_SHARE, /* below 1 */
    MEMBER_FLOAT,
    MEMBER_WHOLE,
    MEMBER_FLAG,
    MEMBER_WORD, /* one of two */
    MEMBER_APART
} member_kind;

typedef struct job_member {
    const char *name;
    size_t at, size;
    member_kind kind;
    unsigned counts; /* bit k: in situation k */
} job_member;

#define MEMBER_IN(name_, kind_, counts_)                                                           \
    {                                                                                              \
        .name = #name_, .at = offsetof(refine_job, name_),                                         \
        .size = sizeof(((refine_job *)NULL)->name_), .kind = (kind_), .counts = (counts_)          \
    }
#define MEMBER(name_, kind_) MEMBER_IN(name_, kind_, (1u << N_SITUATIONS) - 1)
#define APART(name_)         MEMBER_IN(name_, MEMBER_APART, 0)

static const job_member MEMBERS[] = {
    APART(struct_bytes), /* of the interface */
    MEMBER(prompt, MEMBER_TEXT),
    MEMBER(negative, MEMBER_TEXT),
    MEMBER(prompt_2, MEMBER_TEXT),
    MEMBER(negative_2, MEMBER_TEXT),
    MEMBER(width, MEMBER_INT),
    MEMBER(height, MEMBER_INT),
    APART(rgb_in), /* what is there has a hash */
    APART(latents_in),
    APART(rgb_out),
    APART(latents_out),
    MEMBER(steps, MEMBER_INT),
    MEMBER_IN(strength, MEMBER_SHARE, 1u << OF_PHOTO | 1u << TWO_STAGES | 1u << ENSEMBLE_OF_PHOTO),
    MEMBER_IN(denoising_start, MEMBER_SHARE, 1u << OF_BEGUN_PHOTO),
    MEMBER_IN(denoising_end, MEMBER_SHARE, 1u << OF_TEXT_IN_PART),
    MEMBER_IN(handoff, MEMBER_SHARE, 1u << ENSEMBLE | 1u << ENSEMBLE_OF_PHOTO),
    MEMBER_IN(via_pixels, MEMBER_FLAG, 1u << ENSEMBLE | 1u << TWO_STAGES | 1u << ENSEMBLE_OF_PHOTO),
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
    APART(flavour), /* no option asks for another */
    APART(progress),
    APART(progress_context),
    APART(layer_output),
    APART(layer_output_context),
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

/* Another value than the member has; none stays none where that is another flow. */
static void draw_job_member(refine_job *j, const job_member *m, char text[TEXT_LEN], uint64_t *seed)
{
    void *at = (char *)j + m->at;
    switch (m->kind) {
    case MEMBER_TEXT:
        (void)snprintf(text, TEXT_LEN, "%.*s", random_below(seed, TEXT_LEN), "something");
        *(const char **)at = text;
        break;
    case MEMBER_INT: *(int *)at += 1 + random_below(seed, 100); break;
    case MEMBER_SHARE: *(double *)at *= 1 + 0x1p-40; break;
    case MEMBER_FLOAT: *(float *)at *= 1 + 0x1p-20f; break;
    case MEMBER_WHOLE: *(uint64_t *)at = random_bits(seed); break;
    case MEMBER_FLAG: *(bool *)at = !*(bool *)at; break;
    case MEMBER_WORD: *(refine_rng *)at = (refine_rng)(1 - (int)*(refine_rng *)at); break;
    case MEMBER_APART: break;
    }
}

static const uint8_t WHITE[3] = { 255, 255, 255 };

typedef struct sample_output {
    char path[TEMP_NAME];
    job_input in;
    refine_job j;
    refine_report r, base;
} sample_output;

static uint8_t pixels[SIDE * SIDE * 3];

static void save_sample(sample_output *s, situation k)
{
    const bool photo = k == OF_PHOTO || k == OF_BEGUN_PHOTO || k == ENSEMBLE_OF_PHOTO;
    *s = (sample_output){ .in = { .out = { SIDE, SIDE, pixels }, .hash = photo },
                          .j = REFINE_JOB_INIT,
                          .r = REFINE_REPORT_INIT,
                          .base = REFINE_REPORT_INIT };
    s->base.precision = s->r.precision = "f32";
    s->r.sampler = "euler";
    s->r.device = "cpu";
    s->r.base = k >= ENSEMBLE ? &s->base : NULL;
    s->j.prompt = "a cat";
    s->j.rgb_in = photo ? pixels : NULL;
    s->j.denoising_start = k == OF_BEGUN_PHOTO ? 0.5 : 0;
    s->j.denoising_end = k == OF_TEXT_IN_PART ? 0.5 : 0;
    s->j.handoff = k == TWO_STAGES ? 0 : s->j.handoff;
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
    sample_output s[N_SITUATIONS];
    for (int k = 0; k < N_SITUATIONS; k++)
        save_sample(&s[k], (situation)k);
    for (int k = 0; k < N_SITUATIONS; k++)
        for (int i = 0; i < N_MEMBERS * ROUNDS; i++) {
            const job_member *m = &MEMBERS[i / ROUNDS];
            refine_job other = s[k].j;
            draw_job_member(&other, m, text, &seed);
            cr_expect_eq(is_sample_there(&s[k], &other), !(m->counts >> k & 1),
                         "%s in situation %d", m->name, k);
        }
    for (int k = 0; k < N_SITUATIONS; k++)
        (void)unlink(s[k].path);
}

/* As it would be where the other was made. */
Test(tools_output, is_another_in_another_situation)
{
    sample_output s[N_SITUATIONS];
    for (int k = 0; k < N_SITUATIONS; k++)
        save_sample(&s[k], (situation)k);
    for (int k = 0; k < N_SITUATIONS; k++)
        for (int i = 0; i < N_SITUATIONS; i++)
            cr_expect_eq(output_is_done(s[i].path, &s[k].in, &s[k].j, WHITE, &s[k].r, true), i == k,
                         "%d for %d", i, k);
    for (int k = 0; k < N_SITUATIONS; k++)
        (void)unlink(s[k].path);
}

/* Such a job is refused: an image in its place is no answer. */
Test(tools_output, is_another_where_text_is_to_be_denoised_already)
{
    sample_output s;
    save_sample(&s, OF_TEXT_IN_PART);
    refine_job other = s.j;
    other.denoising_start = 0.25;
    cr_expect_not(is_sample_there(&s, &other));
    (void)unlink(s.path);
}

/* ---- of what is no member of it ---- */

Test(tools_output, is_another_of_another_input_model_or_device)
{
    sample_output s, t;
    save_sample(&s, ENSEMBLE_OF_PHOTO);
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
    save_sample(&s, OF_PHOTO);
    refine_job other = s.j;
    other.seed++;
    cr_expect_not(output_is_done(s.path, &s.in, &other, WHITE, &s.r, true));
    cr_expect(output_is_done(s.path, &s.in, &other, WHITE, &s.r, false));
    other.steps++;
    cr_expect_not(output_is_done(s.path, &s.in, &other, WHITE, &s.r, false));
    (void)unlink(s.path);
}
