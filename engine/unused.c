/* engine/unused.c -- each value is tried: does anything depend on it? */
#include "engine/unused.h"

#include <stdio.h>
#include <string.h>

typedef struct readers {
    const phases *const *part;
    int n;
} readers;

/* ---- micro-conditioning ---- */

static bool tells_the_same(const phases *p, const refine_job *a, const refine_job *b, bool negative)
{
    float of_a[MICRO_IDS_MAX] = { 0 }, of_b[MICRO_IDS_MAX] = { 0 };
    const int n = model_config_ids(&p->m->l.config);
    fill_micro_ids(of_a, n, a, p->from_noise, negative);
    fill_micro_ids(of_b, n, b, p->from_noise, negative);
    return memcmp(of_a, of_b, sizeof of_a) == 0;
}

static bool is_told_apart(const readers *r, const refine_job *a, const refine_job *b)
{
    for (int i = 0; i < r->n; i++)
        for (int negative = 0; negative < r->part[i]->branches; negative++)
            if (!tells_the_same(r->part[i], a, b, negative))
                return true;
    return false;
}

static bool is_size_unused(const readers *r, const refine_job *j, refine_job *other, int *one,
                           int *two)
{
    if (*one == 0 && *two == 0)
        return false;
    ++*one;
    ++*two;
    const bool unused = !is_told_apart(r, j, other);
    --*one;
    --*two;
    return unused;
}

static bool is_score_unused(const readers *r, const refine_job *j, refine_job *other, float *score,
                            float usual)
{
    const float given = *score;
    if (given >= usual && given <= usual)
        return false;
    *score = usual;
    const bool unused = !is_told_apart(r, j, other);
    *score = given;
    return unused;
}

/* ---- prompts ---- */

static bool is_text(const char *s) { return s && *s; }

static bool is_guided(const readers *r) { return r->part[0]->branches > 1; }

static bool encodes_second(const readers *r)
{
    for (int i = 0; i < r->n; i++)
        if (r->part[i]->n_encoders > 1)
            return true;
    return false;
}

/* A model that wants zeros for want of a negative prompt encodes no second one either. */
static bool encodes_second_negative(const readers *r, const refine_job *j)
{
    for (int i = 0; i < r->n; i++) {
        const phases *p = r->part[i];
        if (p->branches > 1 && p->n_encoders > 1 && (j->negative || !p->zeros))
            return true;
    }
    return false;
}

/* ---- the list ---- */

/* What can be given to no end, in the order in which it is listed. */
enum {
    PROMPT_2,
    TARGET,
    SCORE,
    NEGATIVE,
    NEGATIVE_2,
    NEGATIVE_ORIGINAL,
    NEGATIVE_CROP,
    NEGATIVE_TARGET,
    NEGATIVE_SCORE,
    KINDS
};

static const char *const WORDS[KINDS] = {
    [PROMPT_2] = "prompt 2",
    [TARGET] = "target size",
    [SCORE] = "aesthetic score",
    [NEGATIVE] = "negative prompt (guidance is off)",
    [NEGATIVE_2] = "negative prompt 2",
    [NEGATIVE_ORIGINAL] = "negative original size",
    [NEGATIVE_CROP] = "negative crop",
    [NEGATIVE_TARGET] = "negative target size",
    [NEGATIVE_SCORE] = "negative aesthetic score",
};

static unsigned bit_of(int kind, bool unused) { return (unsigned)unused << kind; }

unsigned find_unused(const phases *const *parts, int n_parts, const refine_job *j)
{
    const refine_job usual = REFINE_JOB_INIT;
    const readers all = { parts, n_parts }, *r = &all;
    refine_job o = *j;
    unsigned u = bit_of(PROMPT_2, is_text(j->prompt_2) && !encodes_second(r));
    u |= bit_of(TARGET, is_size_unused(r, j, &o, &o.target_width, &o.target_height));
    u |= bit_of(SCORE, is_score_unused(r, j, &o, &o.aesthetic_score, usual.aesthetic_score));
    u |= bit_of(NEGATIVE, is_text(j->negative) && !is_guided(r));
    u |= bit_of(NEGATIVE_2, is_text(j->negative_2) && !encodes_second_negative(r, j));
    u |= bit_of(NEGATIVE_ORIGINAL,
                is_size_unused(r, j, &o, &o.negative_original_width, &o.negative_original_height));
    u |= bit_of(NEGATIVE_CROP,
                is_size_unused(r, j, &o, &o.negative_crop_left, &o.negative_crop_top));
    u |= bit_of(NEGATIVE_TARGET,
                is_size_unused(r, j, &o, &o.negative_target_width, &o.negative_target_height));
    u |= bit_of(NEGATIVE_SCORE, is_score_unused(r, j, &o, &o.negative_aesthetic_score,
                                                usual.negative_aesthetic_score));
    return u;
}

void unused_words(char out[REFINE_UNUSED_TEXT], unsigned unused)
{
    size_t n = 0;
    out[0] = '\0';
    for (int i = 0; i < KINDS; i++)
        if ((unused >> i & 1) != 0 && n < REFINE_UNUSED_TEXT)
            n += (size_t)snprintf(out + n, REFINE_UNUSED_TEXT - n, "%s%s", n ? ", " : "", WORDS[i]);
}
