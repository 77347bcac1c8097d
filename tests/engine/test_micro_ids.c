/* tests/engine/test_micro_ids.c -- sizes and crops against the rules of diffusers' pipelines. */
#include "engine/model/micro_ids.h"
#include "tests/support/vectors.h"

#include <criterion/criterion.h>
#include <string.h>

enum { REFINER_IDS = 5 };

/* What was given to the pipelines whose ids are below. */
static refine_job sized_job(void)
{
    refine_job j = REFINE_JOB_INIT;
    j.width = 1152;
    j.height = 768;
    return j;
}

static void expect_ids(const refine_job *j, int n, bool from_text, bool negative,
                       const double *want, const char *what)
{
    float ids[MICRO_IDS_MAX] = { 0 };
    cr_expect_null(micro_ids_fault(j), "%s", what);
    fill_micro_ids(ids, n, j, from_text, negative);
    for (int i = 0; i < n; i++)
        cr_expect_eq((double)ids[i], want[i], "%s: number %d is %g, expected %g", what, i,
                     (double)ids[i], want[i]);
}

Test(engine_micro_ids, are_the_images_own_where_nothing_is_given)
{
    static const double BASE[] = { 768, 1152, 0, 0, 768, 1152 }, FOR[] = { 768, 1152, 0, 0, 6 },
                        AGAINST[] = { 768, 1152, 0, 0, 2.5 };
    const refine_job j = sized_job();
    for (int way = 0; way < 4; way++)
        expect_ids(&j, MICRO_IDS_MAX, way & 1, way & 2, BASE, "base");
    expect_ids(&j, REFINER_IDS, false, false, FOR, "refiner");
    expect_ids(&j, REFINER_IDS, false, true, AGAINST, "refiner, negative");
}

Test(engine_micro_ids, of_the_negative_prompt_follow_each_pipelines_own_rule)
{
    static const double PROMPTS[] = { 768, 1152, 10, 20, 768, 1152 },
                        OWN[] = { 512, 500, 3, 4, 640, 704 },
                        UNCROPPED[] = { 512, 500, 10, 20, 640, 704 },
                        HALF[] = { 512, 500, 10, 20, 768, 1152 },
                        REFINERS[] = { 512, 500, 3, 4, 2.5 }, ELSE[] = { 768, 1152, 3, 4, 2.5 };
    refine_job j = sized_job();
    j.crop_top = 10;
    j.crop_left = 20;
    j.negative_crop_top = 3;
    j.negative_crop_left = 4;
    expect_ids(&j, REFINER_IDS, false, true, ELSE, "refiner, a crop alone");
    j.negative_original_height = 512;
    j.negative_original_width = 500;
    expect_ids(&j, MICRO_IDS_MAX, true, true, PROMPTS, "from text, one size");
    expect_ids(&j, MICRO_IDS_MAX, false, true, HALF, "from an image, one size");
    j.negative_target_height = 640;
    j.negative_target_width = 704;
    expect_ids(&j, MICRO_IDS_MAX, true, true, OWN, "from text, both sizes");
    expect_ids(&j, MICRO_IDS_MAX, false, true, UNCROPPED, "from an image, both sizes");
    expect_ids(&j, REFINER_IDS, false, true, REFINERS, "refiner");
    for (int text = 0; text < 2; text++)
        expect_ids(&j, MICRO_IDS_MAX, text, false, PROMPTS, "the prompt's");
}

/* Of (height, width), or (top, left). */
static void read_vector_pair(const json_t *args, const char *key, int *first, int *second)
{
    const json_t *pair = json_object_get(args, key);
    if (!pair)
        return;
    *first = (int)json_integer_value(json_array_get(pair, 0));
    *second = (int)json_integer_value(json_array_get(pair, 1));
}

static refine_job job_of_vector(const json_t *args)
{
    refine_job j = sized_job();
    const json_t *score = json_object_get(args, "aesthetic_score"),
                 *negative = json_object_get(args, "negative_aesthetic_score");
    read_vector_pair(args, "original_size", &j.original_height, &j.original_width);
    read_vector_pair(args, "crops_coords_top_left", &j.crop_top, &j.crop_left);
    read_vector_pair(args, "target_size", &j.target_height, &j.target_width);
    read_vector_pair(args, "negative_original_size", &j.negative_original_height,
                     &j.negative_original_width);
    read_vector_pair(args, "negative_crops_coords_top_left", &j.negative_crop_top,
                     &j.negative_crop_left);
    read_vector_pair(args, "negative_target_size", &j.negative_target_height,
                     &j.negative_target_width);
    if (score)
        j.aesthetic_score = (float)json_number_value(score);
    if (negative)
        j.negative_aesthetic_score = (float)json_number_value(negative);
    return j;
}

Test(engine_micro_ids, match_every_shared_vector)
{
    json_t *root = vectors_load("spec/pipeline_vectors.json"), *v;
    size_t i;
    if (!root)
        cr_skip_test("no shared vectors");
    json_t *cases = json_object_get(root, "time_ids");
    cr_assert_geq(json_array_size(cases), 8u);
    json_array_foreach(cases, i, v)
    {
        double want[MICRO_IDS_MAX];
        const char *kind = json_string_value(json_object_get(v, "kind"));
        const refine_job j = job_of_vector(json_object_get(v, "args"));
        const int n = strstr(kind, "refiner") ? REFINER_IDS : MICRO_IDS_MAX;
        const bool from_text = strstr(kind, "txt2img") != NULL;
        cr_assert_eq(vectors_doubles(v, "positive", want, MICRO_IDS_MAX), (size_t)n);
        expect_ids(&j, n, from_text, false, want, kind);
        cr_assert_eq(vectors_doubles(v, "negative", want, MICRO_IDS_MAX), (size_t)n);
        expect_ids(&j, n, from_text, true, want, kind);
    }
    json_decref(root);
}

Test(engine_micro_ids, are_refused_where_they_are_no_sizes)
{
    refine_job j = sized_job();
    j.crop_left = -1;
    cr_expect_not_null(micro_ids_fault(&j));
    j.crop_left = 65536;
    cr_expect_null(micro_ids_fault(&j));
    j.negative_target_height = 8;
    cr_expect_not_null(micro_ids_fault(&j));
}
