/* tests/property/test_unused.c -- of what a job gives, just what is called unused makes no
 * difference.
 *
 * Every kind of value is given or not, to any job of any flow.  One that is given is taken away:
 * the same bits come out if and only if it was in the list.
 */
#include "tests/property/any_job.h"

#include <string.h>

TestSuite(property, .init = any_job_packs);

typedef struct gift {
    const char *word; /* in refine_report.unused */
    void (*give)(refine_job *j);
    void (*take)(refine_job *j);
} gift;

static const refine_job USUAL = REFINE_JOB_INIT;

static void give_prompt_2(refine_job *j) { j->prompt_2 = "seven zebras"; }
static void take_prompt_2(refine_job *j) { j->prompt_2 = NULL; }
static void give_negative(refine_job *j) { j->negative = "an odd number of hats"; }
static void take_negative(refine_job *j) { j->negative = NULL; }
static void give_negative_2(refine_job *j) { j->negative_2 = "rain"; }
static void take_negative_2(refine_job *j) { j->negative_2 = NULL; }
static void give_score(refine_job *j) { j->aesthetic_score = 3.5f; }
static void take_score(refine_job *j) { j->aesthetic_score = USUAL.aesthetic_score; }
static void give_negative_score(refine_job *j) { j->negative_aesthetic_score = 5.5f; }
static void take_negative_score(refine_job *j)
{
    j->negative_aesthetic_score = USUAL.negative_aesthetic_score;
}

#define GIFT_OF_PAIR(name, first, second, a, b)                                                    \
    static void give_##name(refine_job *j)                                                         \
    {                                                                                              \
        j->first = (a);                                                                            \
        j->second = (b);                                                                           \
    }                                                                                              \
    static void take_##name(refine_job *j) { j->first = j->second = 0; }

GIFT_OF_PAIR(original, original_width, original_height, 3001, 2003)
GIFT_OF_PAIR(crop, crop_left, crop_top, 301, 203)
GIFT_OF_PAIR(target, target_width, target_height, 1501, 1703)
GIFT_OF_PAIR(negative_original, negative_original_width, negative_original_height, 401, 603)
GIFT_OF_PAIR(negative_crop, negative_crop_left, negative_crop_top, 101, 53)
GIFT_OF_PAIR(negative_target, negative_target_width, negative_target_height, 701, 803)

#define GIFT(word, name)                                                                           \
    {                                                                                              \
        word, give_##name, take_##name                                                             \
    }

static const gift GIFTS[] = {
    GIFT("prompt 2", prompt_2),
    GIFT("negative prompt (guidance is off)", negative),
    GIFT("negative prompt 2", negative_2),
    GIFT("aesthetic score", score),
    GIFT("negative aesthetic score", negative_score),
    GIFT("original size", original),
    GIFT("crop", crop),
    GIFT("target size", target),
    GIFT("negative original size", negative_original),
    GIFT("negative crop", negative_crop),
    GIFT("negative target size", negative_target),
};
enum { N_GIFTS = sizeof GIFTS / sizeof GIFTS[0] };

/* As a whole item: "crop" is none of "negative crop, target size". */
static bool is_in_words(const char *list, const char *word)
{
    const size_t n = strlen(word);
    for (const char *p = list; *p; p += strspn(p, ", ")) {
        const size_t item = strcspn(p, ",");
        if (item == n && memcmp(p, word, n) == 0)
            return true;
        p += item;
    }
    return false;
}

static any_result run_with(draws *d, const any_job *a, const refine_job *j)
{
    any_job b = *a;
    any_result r;
    refine_error err = { 0 };
    b.j[0] = *j;
    if (any_job_run(&b, &b.o, &r, &err) != REFINE_OK)
        fail_case(d, "%s", err.text);
    return r;
}

CostlyProperty(just_what_is_unused_makes_no_difference)
{
    any_job a;
    bool given[N_GIFTS];
    char text[512] = "";
    draw_job(d, &a, 1, 4096);
    a.o.precision = REFINE_F32; /* nothing is rounded away */
    refine_job with = a.j[0];
    const int taken = draw_below(d, N_GIFTS);
    for (int i = 0; i < N_GIFTS; i++) {
        GIFTS[i].take(&with);
        given[i] = i == taken || draw_once_in(d, 2);
        if (given[i])
            GIFTS[i].give(&with);
        if (given[i] && i != taken)
            (void)snprintf(text + strlen(text), sizeof text - strlen(text), ", %s", GIFTS[i].word);
    }
    refine_job without = with;
    GIFTS[taken].take(&without);
    describe_case(d, "%s: %s; beside it%s", a.text, GIFTS[taken].word, text);
    any_result one = run_with(d, &a, &with), other = run_with(d, &a, &without);
    const bool listed = is_in_words(one.report.unused, GIFTS[taken].word);
    if (!is_wrong(d) && any_job_same(&one, &other) != listed)
        fail_case(d, "\"%s\" is unused, and the results are %s", one.report.unused,
                  listed ? "not the same" : "the same");
    for (int i = 0; i < N_GIFTS; i++)
        if (!given[i] && is_in_words(one.report.unused, GIFTS[i].word))
            fail_case(d, "the %s was not given", GIFTS[i].word);
    any_job_free(&one);
    any_job_free(&other);
    any_job_close(&a);
}
