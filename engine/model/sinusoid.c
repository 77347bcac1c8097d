/* engine/model/sinusoid.c -- the sinusoidal embedding.
 *
 *     f[i] = 10000 ^ (-i / half)       half = dim / 2, i < half
 *     out  = [ cos(v f) | sin(v f) ]
 *
 * Reference: diffusers embeddings.py get_timestep_embedding with flip_sin_to_cos true and
 * downscale_freq_shift 0; float32 at each of its steps, since v f reaches 1000 radians
 * and a rounding there is visible.
 */
#include "engine/model/sinusoid.h"

#include <assert.h>
#include <math.h>

void embed_sinusoid(float *out, float v, int dim)
{
    static const float MINUS_LN_10000 = -9.210340371976184f;
    const int half = dim / 2;

    assert(dim > 0 && dim % 2 == 0);
    for (int i = 0; i < half; i++) {
        const float angle = v * expf(MINUS_LN_10000 * (float)i / (float)half);
        out[i] = cosf(angle);
        out[half + i] = sinf(angle);
    }
}
