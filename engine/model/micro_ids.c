/* engine/model/micro_ids.c -- sizes and crops of a job, as its kind of run takes them. */
#include "engine/model/micro_ids.h"

typedef struct micro_sizes {
    int original_h, original_w, top, left, target_h, target_w;
} micro_sizes;

static bool is_out_of_range(const refine_job *j)
{
    enum { SIZE_LIMIT = 65536 };
    const int sizes[] = {
        j->original_width,
        j->original_height,
        j->crop_left,
        j->crop_top,
        j->target_width,
        j->target_height,
        j->negative_original_width,
        j->negative_original_height,
        j->negative_crop_left,
        j->negative_crop_top,
        j->negative_target_width,
        j->negative_target_height,
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (sizes[i] < 0 || sizes[i] > SIZE_LIMIT)
            return true;
    return false;
}

const char *micro_ids_fault(const refine_job *j)
{
    if (is_out_of_range(j))
        return "original and target sizes and crops must be between 0 and 65536";
    if (!j->negative_original_width != !j->negative_original_height ||
        !j->negative_target_width != !j->negative_target_height)
        return "a negative size needs both width and height";
    return NULL;
}

static int size_or(int own, int other) { return own ? own : other; }

static micro_sizes prompt_sizes(const refine_job *j)
{
    return (micro_sizes){ .original_h = size_or(j->original_height, j->height),
                          .original_w = size_or(j->original_width, j->width),
                          .top = j->crop_top,
                          .left = j->crop_left,
                          .target_h = size_or(j->target_height, j->height),
                          .target_w = size_or(j->target_width, j->width) };
}

static micro_sizes negative_sizes(const refine_job *j, bool is_base, bool from_text)
{
    const micro_sizes prompt = prompt_sizes(j);
    const bool both = j->negative_original_width > 0 && j->negative_target_width > 0;
    micro_sizes s = { .original_h = size_or(j->negative_original_height, prompt.original_h),
                      .original_w = size_or(j->negative_original_width, prompt.original_w),
                      .top = j->negative_crop_top,
                      .left = j->negative_crop_left,
                      .target_h = size_or(j->negative_target_height, prompt.target_h),
                      .target_w = size_or(j->negative_target_width, prompt.target_w) };
    if (is_base && from_text)
        return both ? s : prompt;
    if (is_base) {
        s.top = prompt.top;
        s.left = prompt.left;
    }
    return s;
}

void fill_micro_ids(float ids[MICRO_IDS_MAX], int n_ids, const refine_job *j, bool from_text,
                    bool negative)
{
    const bool is_base = n_ids == MICRO_IDS_MAX;
    const micro_sizes s = negative ? negative_sizes(j, is_base, from_text) : prompt_sizes(j);
    ids[0] = (float)s.original_h;
    ids[1] = (float)s.original_w;
    ids[2] = (float)s.top;
    ids[3] = (float)s.left;
    if (is_base) {
        ids[4] = (float)s.target_h;
        ids[5] = (float)s.target_w;
    } else
        ids[4] = negative ? j->negative_aesthetic_score : j->aesthetic_score;
}
