/* tools/batch/output.h -- the image that was made, with everything needed to make it again. */
#ifndef REFINE_OUTPUT_H
#define REFINE_OUTPUT_H

#include "tools/batch/job_input.h"
#include <refine/refine.h>

#include <stdbool.h>

/* A PNG or JPEG of in->out, as the name asks, with the parameters as its texts.  background: what
 * the input was read on. */
refine_status output_save(const char *path, const job_input *in, const refine_job *j,
                          const uint8_t background[3], const refine_report *r, refine_error *err);

/* Whether `path` is an image, all of it, made of this input with these parameters; without
 * `seeded`, of any seed. */
bool output_is_done(const char *path, const job_input *in, const refine_job *j,
                    const uint8_t background[3], const refine_report *r, bool seeded);

/* Whether what is at `path` was not made by this program, and is not to be replaced unasked. */
bool output_is_foreign(const char *path);

#endif
