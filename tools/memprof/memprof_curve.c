/* tools/memprof/memprof_curve.c -- refine_plan, a dozen times. */
#include "tools/memprof/memprof_curve.h"

#include "engine/base/try.h"

#include <math.h>

/* More than any model takes. */
static const uint64_t UNLIMITED = 1ull << 44;

static uint64_t ceiling_at(uint64_t least, uint64_t most, int i)
{
    if (i == 0)
        return least;
    if (i == CURVE_POINTS - 1)
        return most;
    const double ratio = (double)most / (double)least;
    return (uint64_t)((double)least * pow(ratio, (double)i / (CURVE_POINTS - 1)));
}

refine_status curve_of(curve *out, const refine_options *o, const refine_job *j, refine_error *err)
{
    refine_options at = *o;
    *out = (curve){ .all = REFINE_REPORT_INIT };
    at.vram_bytes = UNLIMITED;
    TRY(refine_plan(&out->all, &at, j, err));
    /* The same rates everywhere: probing again would make the curve a noisy one. */
    at.rates = out->all.rates;
    const uint64_t least = out->all.memory.smallest_device, most = out->all.memory.device_planned;
    for (int i = 0; i < CURVE_POINTS && least > 0; i++) {
        refine_report r = REFINE_REPORT_INIT;
        at.vram_bytes = ceiling_at(least, most > least ? most : least, i);
        const refine_status st = refine_plan(&r, &at, j, err);
        if (st == REFINE_EBUDGET)
            continue;
        TRY(st);
        out->v[out->n++] = (curve_point){ .vram = at.vram_bytes,
                                          .resident = r.memory.resident,
                                          .step = r.predicted_step,
                                          .stall = fmax(r.predicted_stall, 0) };
    }
    return REFINE_OK;
}
