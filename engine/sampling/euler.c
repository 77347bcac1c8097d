/* engine/sampling/euler.c -- Euler's method on the noise schedule.
 *
 *     beta[k]  = (linear from sqrt(beta_start) to sqrt(beta_end))^2       k < train_steps
 *     abar[k]  = product of (1 - beta[j]), j <= k
 *     sigma(t) = sqrt((1 - abar[t]) / abar[t])
 *     t[i]     = (steps - 1 - i) * (train_steps / steps) + steps_offset   "leading" spacing
 *     x[i+1]   = x[i] + eps * (sigma[i+1] - sigma[i])
 *
 * Reference: diffusers EulerDiscreteScheduler, and get_timesteps of the SDXL img2img
 * pipeline.  What is float32 there is float32 here, in the same order, and so is what is
 * double.  (torch's linspace is off by an ulp here and there, as its vector width has it.)
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

refine_status euler_open(euler *s, const schedule_config *c, int steps)
{
    if (steps < 1 || steps > EULER_STEPS_MAX || steps > c->train_steps)
        return REFINE_EINVAL;
    const float from = (float)sqrt(as_written(c->beta_start));
    const float to = (float)sqrt(as_written(c->beta_end));
    const int spacing = c->train_steps / steps, last = c->train_steps - 1;

    *s = (euler){ .steps = steps, .train_steps = c->train_steps };
    for (int i = 0; i < steps; i++)
        s->timestep[i] = (float)((steps - 1 - i) * spacing + c->steps_offset);

    double abar = 1.0;
    for (int k = 0, i = steps - 1; k <= last; k++) {
        const float root = linspace_element(from, to, c->train_steps, k);
        abar *= (double)(1.0f - root * root);
        /* The offset may carry the noisiest timesteps past the end of the table: they
         * then have the noise of its last entry. */
        for (; i >= 0 && ((int)s->timestep[i] <= k || k == last); i--)
            s->sigma[i] = sigma_of(abar);
    }
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

/* The detour over the predicted x0 is the reference's, and so are its roundings. */
void euler_step(const euler *s, int i, float *x, const float *eps, size_t n)
{
    const float sigma = s->sigma[i], dt = s->sigma[i + 1] - sigma;
    assert(i >= 0 && i < s->steps);
    for (size_t k = 0; k < n; k++) {
        const float noise = sigma * eps[k];
        const float x0 = x[k] - noise;
        const float slope = (x[k] - x0) / sigma, move = slope * dt;
        x[k] += move;
    }
}
