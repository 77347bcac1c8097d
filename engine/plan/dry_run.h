/* engine/plan/dry_run.h -- what phases need, by replaying them on the plan device.
 *
 * The VAE and the UNet are replayed by themselves, since they share nothing but the arena: what a
 * job needs is what its phases need, joined.  Sizes are exact: scratch addresses are replayed, not
 * estimated (engine/model/scratch.h).
 *
 * Norms that convolutions would take while they read are written out where they find room: below
 * the peak that a phase has without them, and in the UNet, where that is asked for, anywhere.
 */
#ifndef REFINE_DRY_RUN_H
#define REFINE_DRY_RUN_H

#include "engine/model/phases.h"

/* Ways to run the phases, none of which changes the image. */
typedef struct vae_way {
    int band_rows;
    size_t spill_from; /* feature maps of so many bytes leave the device; SIZE_MAX: none */
} vae_way;

typedef struct unet_way {
    int per_pass;        /* inputs that go through the weights together */
    bool norms_anywhere; /* are they written out although the peak rises? */
} unet_way;

typedef struct phase_sizes {
    size_t encode, text, unet, decode; /* activations at their peak; 0: of a phase not replayed */
    size_t prompt;                     /* of unet: what the prompts leave behind */
    size_t spill;                      /* feature maps off the device, at their peak */
    size_t workspace;                  /* of the operators */
    size_t inside;                     /* weights held at once, as spans of the ring */
} phase_sizes;

/* What is replayed, where it is going to run, and the zones behind its blocks. */
typedef struct dry_run_job {
    const phases *p; /* but for per_pass */
    dev *target;
    size_t zone;
} dry_run_job;

/* Encoding and decoding, as far as the job has them; text, once and a pass.  `work`, per chunk of
 * the pack, takes what is computed with each chunk that is touched; NULL: nobody asks. */
refine_status dry_run_vae(phase_sizes *out, const dry_run_job *j, vae_way way, dev_work *work,
                          refine_error *err);
refine_status dry_run_unet(phase_sizes *out, const dry_run_job *j, unet_way way, dev_work *work,
                           refine_error *err);

/* Of phases that share one arena, one after the other. */
phase_sizes phase_sizes_join(const phase_sizes *a, const phase_sizes *b);

#endif
