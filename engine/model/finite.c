/* engine/model/finite.c -- an exponent of ones is NaN or infinity. */
#include "engine/model/finite.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

size_t finite_bad(const float *v, size_t n)
{
    const uint32_t ones = 0x7f800000u;
    size_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &v[i], sizeof bits);
        bad += (bits & ones) == ones;
    }
    return bad;
}

float finite_largest(const float *v, size_t n)
{
    float most = 0;
    for (size_t i = 0; i < n; i++)
        if (fabsf(v[i]) > most && isfinite(v[i]))
            most = fabsf(v[i]);
    return most;
}

void finite_judge(dev *d, const finite_place *at, size_t bad, size_t n)
{
    char step[40] = "", image[24] = "", why[256];
    if (bad == 0)
        return;
    if (at->steps > 0)
        (void)snprintf(step, sizeof step, "step %d of %d: ", at->step + 1, at->steps);
    if (at->images > 1)
        (void)snprintf(image, sizeof image, ", image %d", at->image + 1);
    (void)snprintf(why, sizeof why,
                   "%s%s is not finite (NaN or infinity in %zu of %zu values%s); %s", step,
                   at->what, bad, n, image, at->advice);
    dev_fail(d, REFINE_EDEVICE, why);
}
