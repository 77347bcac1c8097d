/* tools/batch/job_input.h -- from what the user named to what the engine takes. */
#ifndef REFINE_JOB_INPUT_H
#define REFINE_JOB_INPUT_H

#include "tools/batch/size_wish.h"
#include "tools/files/latents_io.h"
#include "tools/image/image_io.h"
#include <refine/refine.h>

typedef struct job_input {
    image input_image;               /* of the job's size; unless latents were given */
    latents l;                   /* the input's, or room for those wanted */
    image out;                   /* room for the result, unless only latents are wanted */
    const char *note;            /* what the user should know of the input; NULL: nothing */
    int from_width, from_height; /* of the image before it was cut and resized */
    size_fit fit;                /* how it was */
    uint64_t hash;               /* of the pixels or latents that the job is given; 0: of none */
} job_input;

/* How inputs are read. */
typedef struct input_settings {
    float scaling_factor; /* of the VAE */
    image_reading image;
    size_wish size;
} input_settings;

/* Reads an image or latents (path NULL: nothing), cuts and resizes an image as is wished (Lanczos),
 * by SIZE_OWN to multiples of 8 downwards as diffusers does, and points the job's inputs and
 * outputs at what `in` holds.  Without an input a wish is the job's size; without either it has
 * one. */
refine_status job_input_load(job_input *in, refine_job *j, const char *path, bool want_image,
                             bool want_latents, const input_settings *how, refine_error *err);
/* Memory that writing the result takes beyond `in`: a PNG is made whole before it is written. */
size_t job_input_later(const job_input *in);
void job_input_free(job_input *in); /* a zeroed one is fine */

#endif
