/* tools/files/job_pairs.h -- sizes and crops of a job by name, as files and options have them. */
#ifndef REFINE_JOB_PAIRS_H
#define REFINE_JOB_PAIRS_H

#include <refine/refine.h>

enum { JOB_PAIRS = 6 };

/* "original_size" 1024x768, "negative_crop" 16,0; both numbers 0: not given, or as good as that. */
typedef struct job_pair {
    const char *name;
    char between;
    int first, second;
} job_pair;

void list_job_pairs(job_pair pairs[JOB_PAIRS], const refine_job *j);

static inline bool has_job_pair(const job_pair *p) { return p->first != 0 || p->second != 0; }

#endif
