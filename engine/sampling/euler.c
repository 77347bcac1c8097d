/* engine/sampling/euler.c -- Euler's method on the noise schedule, plain and ancestral.
 *
 *     beta[k]  = (linear from sqrt(beta_start) to sqrt(beta_end))^2       k < train_steps
 *     abar[k]  = product of (1 - beta[j]), j <= k
 *     sigma(t) = sqrt((1 - abar[t]) / abar[t]), linear between whole t
 *     t[i]     = leading   (steps - 1 - i) * (train_steps / steps) + steps_offset
 *                trailing  round(train_steps - i * train_steps / steps) - 1
 *                linspace  (train_steps - 1) * (steps - 1 - i) / (steps - 1)
 *     x0       = x - sigma * eps,  or  x / (sigma^2 + 1) - v * sigma / sqrt(sigma^2 + 1)
 *     x[i+1]   = x[i] + (x[i] - x0) / sigma[i] * (down - sigma[i]) + up * noise
 *     up       = ancestral: sqrt(s'^2 (s^2 - s'^2) / s^2), s = sigma[i], s' = sigma[i+1];  else 0
 *     down     = sqrt(s'^2 - up^2)
 *
 * Reference: diffusers EulerDiscreteScheduler and EulerAncestralDiscreteScheduler, and
 * get_timesteps of the SDXL img2img pipeline.  What is float32 there is float32 here, in the same
 * order, and so is what is double.  (torch's linspace is off by an ulp here and there, as its
 * vector width and its version have it.)
 */
#include "engine/sampling/euler.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* The decimal number that was written for `v`.  The reference takes its square root in
 * double; from the nearest float of 0.012 half of the sigmas come out an ulp off. */
static double as_written(float v)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%.7g", (double)v);
    return strtod(text, NULL);
}

/* Element k of torch.linspace(from, to, n): counted from the nearer end. */
static float linspace_element(float from, float to, int n, int k)
{
    const float step = n > 1 ? (to - from) / (float)(n - 1) : 0.0f;
    if (k < n / 2) {
        const float way = step * (float)k;
        return from + way;
    }
    const float way = step * (float)(n - 1 - k);
    return to - way;
}

static float sigma_of(double abar)
{
    const float a = (float)abar;
    return sqrtf((1.0f - a) / a);
}

static float timestep_at(const schedule_config *c, int steps, int i)
{
    const double all = c->train_steps;
    const int back = steps - 1 - i;
    switch (c->spacing) {
    case SPACING_TRAILING: {
        /* As numpy's arange steps: by the difference of its first two elements. */
        const double by = (all - all / steps) - all;
        return (float)nearbyint(all + i * by) - 1.0f;
    }
    case SPACING_LINSPACE:
        if (i == 0 && steps > 1)
            return (float)(c->train_steps - 1);
        return steps > 1 ? (float)(back * ((all - 1) / (steps - 1))) : 0.0f;
    case SPACING_LEADING: break;
    }
    return (float)(back * (c->train_steps / steps) + c->steps_offset);
}

/* The sigma of each timestep, in one walk over the training steps.  The offset may carry the
 * noisiest timesteps past the end of the table: they then have the noise of its last entry. */
static void fill_sigmas(euler *s, const schedule_config *c)
{
    const float from = (float)sqrt(as_written(c->beta_start));
    const float to = (float)sqrt(as_written(c->beta_end));
    const int last = c->train_steps - 1;
    double abar = 1.0, below = 0.0;

    for (int k = 0, i = s->steps - 1; k <= last; k++) {
        const float root = linspace_element(from, to, c->train_steps, k);
        abar *= (double)(1.0f - root * root);
        const double here = (double)sigma_of(abar);
        for (; i >= 0 && ((double)s->timestep[i] <= k || k == last); i--) {
            const double t = (double)s->timestep[i];
            s->sigma[i] = (float)(t >= k ? here : (here - below) * (t - (k - 1)) + below);
        }
        below = here;
    }
}

refine_status euler_open(euler *s, const schedule_config *c, int steps)
{
    if (steps < 1 || steps > EULER_STEPS_MAX || steps > c->train_steps)
        return REFINE_EINVAL;
    *s = (euler){ .steps = steps,
                  .train_steps = c->train_steps,
                  .prediction = c->prediction,
                  .ancestral = c->sampler == SAMPLER_EULER_ANCESTRAL };
    for (int i = 0; i < steps; i++)
        s->timestep[i] = timestep_at(c, steps, i);
    fill_sigmas(s, c);
    s->init_noise = c->spacing == SPACING_LEADING ? euler_input_scale(s, 0) : s->sigma[0];
    return REFINE_OK;
}

static int count_from(const euler *s, double share)
{
    const double cutoff = nearbyint(s->train_steps - share * s->train_steps);
    int n = 0;
    while (n < s->steps && s->timestep[n] >= cutoff)
        n++;
    return n;
}

int euler_first(const euler *s, double strength, double denoising_start)
{
    if (denoising_start > 0 && denoising_start < 1)
        return count_from(s, denoising_start);
    if (!(strength > 0))
        return s->steps;
    return strength >= 1 ? 0 : s->steps - (int)(s->steps * strength);
}

int euler_end(const euler *s, double denoising_end)
{
    return denoising_end > 0 && denoising_end < 1 ? count_from(s, denoising_end) : s->steps;
}

float euler_input_scale(const euler *s, int i)
{
    const float square = s->sigma[i] * s->sigma[i];
    return sqrtf(square + 1.0f);
}

void euler_add_noise(const euler *s, int i, float *x, const float *noise, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        const float scaled = noise[k] * s->sigma[i];
        x[k] += scaled;
    }
}

/* Where a step goes and how much noise it adds.  Without the latter it goes to the next sigma. */
typedef struct euler_target {
    float down, up;
} euler_target;

static euler_target step_target(const euler *s, int i)
{
    const float from = s->sigma[i], to = s->sigma[i + 1];
    if (!s->ancestral)
        return (euler_target){ .down = to };
    const float from2 = from * from, to2 = to * to;
    const float up = sqrtf(to2 * (from2 - to2) / from2), up2 = up * up;
    return (euler_target){ .down = sqrtf(to2 - up2), .up = up };
}

/* The detour over the predicted x0 is the reference's, and so are its roundings. */
void euler_step(const euler *s, int i, float *x, const float *predicted, const float *noise,
                size_t n)
{
    assert(i >= 0 && i < s->steps && (noise || !s->ancestral));
    const euler_target target = step_target(s, i);
    const float sigma = s->sigma[i], dt = target.down - sigma;
    const float square = sigma * sigma + 1.0f, v_scale = -sigma / sqrtf(square);

    for (size_t k = 0; k < n; k++) {
        const float scaled = predicted[k] * (s->prediction == PREDICTS_V ? v_scale : sigma);
        const float x0 = s->prediction == PREDICTS_V ? scaled + x[k] / square : x[k] - scaled;
        const float slope = (x[k] - x0) / sigma, move = slope * dt;
        x[k] += move;
        if (s->ancestral)
            x[k] += noise[k] * target.up;
    }
}
