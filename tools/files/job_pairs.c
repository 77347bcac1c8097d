/* tools/files/job_pairs.c -- see job_pairs.h. */
#include "tools/files/job_pairs.h"

#include <string.h>

void list_job_pairs(job_pair pairs[JOB_PAIRS], const refine_job *j)
{
    const job_pair all[JOB_PAIRS] = {
        { "original_size", 'x', j->original_width, j->original_height },
        { "crop", ',', j->crop_left, j->crop_top },
        { "target_size", 'x', j->target_width, j->target_height },
        { "negative_original_size", 'x', j->negative_original_width, j->negative_original_height },
        { "negative_crop", ',', j->negative_crop_left, j->negative_crop_top },
        { "negative_target_size", 'x', j->negative_target_width, j->negative_target_height },
    };
    memcpy(pairs, all, sizeof all);
}
