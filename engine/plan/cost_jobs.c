/* engine/plan/cost_jobs.c -- the levels of UNet, text encoder and VAE. */
#include "engine/plan/cost_jobs.h"

static int half_rounded_up(int v) { return (v + 1) / 2; }

cost_job cost_job_unet(const phases *p, int per_pass, dtype stored)
{
    const unet_config *c = &p->m->l.config.unet;
    cost_job j = { .act = p->act, .weights = stored, .levels = c->levels };
    int h = p->h, w = p->w;
    for (int i = 0; i < c->levels; i++, h = half_rounded_up(h), w = half_rounded_up(w)) {
        const int heads = i == c->levels - 1 ? c->mid_heads : c->heads[i];
        j.level[i] = (cost_level){ .n = per_pass,
                                   .h = h,
                                   .w = w,
                                   .channels = c->channels[i],
                                   .heads = c->attention[i] || i == c->levels - 1 ? heads : 0,
                                   .keys = TEXT_TOKENS,
                                   .convolves = true };
    }
    return j;
}

cost_job cost_job_text(const phases *p, dtype stored)
{
    const text_config *c = &p->m->l.config.text;
    return (cost_job){ .act = DT_F32,
                       .weights = stored,
                       .levels = 1,
                       .level = { { .n = p->batch,
                                    .h = 1,
                                    .w = TEXT_TOKENS,
                                    .channels = c->width,
                                    .heads = c->heads,
                                    .causal = true } } };
}

/* Its levels go from the image's size down to the latents'. */
cost_job cost_job_vae(const phases *p, dtype maps, dtype stored)
{
    const vae_config *c = &p->m->l.config.vae;
    cost_job j = { .act = maps, .weights = stored, .levels = c->levels };
    int h = p->height, w = p->width;
    for (int i = 0; i < c->levels; i++, h = half_rounded_up(h), w = half_rounded_up(w))
        j.level[i] = (cost_level){
            .n = 1, .h = h, .w = w, .channels = c->channels[i], .convolves = true
        };
    return j;
}

cost_job cost_job_vae_attention(const phases *p, dtype stored)
{
    const vae_config *c = &p->m->l.config.vae;
    return (cost_job){ .act = DT_F32,
                       .weights = stored,
                       .levels = 1,
                       .level = { { .n = 1,
                                    .h = p->h,
                                    .w = p->w,
                                    .channels = c->channels[c->levels - 1],
                                    .heads = 1 } } };
}
