/* engine/plan/cost_jobs.h -- what each phase computes, for the probe of engine/plan/cost.h.
 *
 * Each phase has types and shapes of its own, and so rates: text and the VAE's one attention are
 * F32, the VAE's feature maps F32 or F16, the UNet what the device was opened for.
 */
#ifndef REFINE_COST_JOBS_H
#define REFINE_COST_JOBS_H

#include "engine/model/phases.h"
#include "engine/plan/cost.h"

/* stored: of the pack's matrices. */
cost_job cost_job_unet(const phases *p, int per_pass, dtype stored);
cost_job cost_job_text(const phases *p, dtype stored);
cost_job cost_job_vae(const phases *p, dtype maps, dtype stored);
cost_job cost_job_vae_attention(const phases *p, dtype stored);

#endif
