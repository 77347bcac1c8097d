/* engine/model/micro_ids.h -- micro-conditioning: what the UNet is told of sizes and crops.
 *
 *     [original height, original width, top, left, target height, target width]     a base
 *     [original height, original width, top, left, aesthetic score]                 a refiner
 *
 * The negative prompt's numbers follow a rule of their own in each of diffusers' pipelines:
 *
 *     base, from text      both negative sizes are given: these, and the negative crop;
 *                          else the prompt's, all of them
 *     base, from an image  each negative size that is given, else the prompt's; the prompt's crop
 *     refiner              the negative size if it is given, else the prompt's; the negative crop
 *
 * Reference: StableDiffusionXLPipeline.__call__ and
 * StableDiffusionXLImg2ImgPipeline._get_add_time_ids.
 */
#ifndef REFINE_MICRO_IDS_H
#define REFINE_MICRO_IDS_H

#include <refine/refine.h>

enum { MICRO_IDS_MAX = 6 /* a base's; a refiner has fewer */ };

/* What is wrong with the job's sizes and crops, or NULL. */
const char *micro_ids_fault(const refine_job *j);

/* n_ids of them, of a prompt or of a negative one.  from_text: the image begins as noise. */
void fill_micro_ids(float ids[MICRO_IDS_MAX], int n_ids, const refine_job *j, bool from_text,
                    bool negative);

#endif
