/* tests/support/picture_rig.h -- a small image on any device, and what it must not depend on.
 *
 * Base options name the pack, the device and the precision, and leave the plan's choices to the
 * plan.  A job may be made smaller than picture_job's, and need say nothing of where its image
 * goes.  Whatever goes wrong fails the test.
 */
#ifndef TEST_PICTURE_RIG_H
#define TEST_PICTURE_RIG_H

#include <refine/refine.h>

enum {
    PICTURE_W = 72,
    PICTURE_H = 104,
    PICTURE_BYTES = PICTURE_W * PICTURE_H * 3,
    PICTURE_LATENTS = 4 * (PICTURE_W / 8) * (PICTURE_H / 8),
    PICTURE_MANY = 3
};

const uint8_t *picture_photo(void); /* what goes in */
/* The rates are given, for the plan to assume. */
refine_options picture_options(const char *pack, refine_device d, refine_precision p);
/* The same on the CPU, for it to measure. */
refine_options picture_probed_options(const char *pack, refine_precision p);
refine_job picture_job(uint8_t *rgb_out);       /* three steps, with guidance */
refine_job picture_small_job(uint8_t *rgb_out); /* 64 x 64, two steps: for the emulated card */

/* Opens, runs, reports (NULL: nobody asks) and closes. */
void picture_run(const refine_options *o, const refine_job *j, refine_report *report);
/* As planned. */
refine_memory picture_memory(const refine_options *o, const refine_job *j);

/* The image with these options is `want`; `what` says what it would depend on. */
void picture_same(const refine_options *o, const refine_job *j, const uint8_t *want,
                  const char *what);

/* The image is the same for every budget, ring, tier of the weights, band of the VAE, thread
 * count and reader; wherever the VAE's images are kept; and in any company, for each of `n` times
 * per_pass inputs going through the weights together.  Under AddressSanitizer fewer images walk
 * the same paths; of per_pass it is the last that is tried. */
void picture_invariant(const refine_options *base, const refine_job *j);
void picture_invariant_to_spill(const refine_options *base, const refine_job *j);
void picture_invariant_to_company(const refine_options *base, const refine_job *j,
                                  const int *per_pass, int n);

/* The smallest device ceiling that the plan names is kept, to the byte; less is refused, with what
 * would do; so is too little host memory. */
void picture_smallest_budgets(const refine_options *base, const refine_job *j);

#endif
