/* tools/batch/output.h -- the image that was made, with everything needed to make it again. */
#ifndef REFINE_OUTPUT_H
#define REFINE_OUTPUT_H

#include "tools/image/image_io.h"
#include <refine/refine.h>

#include <stdbool.h>

/* A PNG or JPEG, as the name asks, with the parameters as its texts.  background: what the input
 * was read on. */
refine_status output_save(const char *path, const image *im, const refine_job *j,
                          const uint8_t background[3], const refine_report *r, refine_error *err);

/* Whether `path` is an image made with these parameters; without `seeded`, of any seed. */
bool output_is_done(const char *path, const refine_job *j, const uint8_t background[3],
                    const refine_report *r, bool seeded);

#endif
