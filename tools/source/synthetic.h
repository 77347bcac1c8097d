/* tools/source/synthetic.h -- random weights, for tests and measurements without a checkpoint. */
#ifndef REFINE_SYNTHETIC_H
#define REFINE_SYNTHETIC_H

#include "tools/source/weight_source.h"

#include <stdbool.h>

/* Does `spec` begin with "synthetic:"? */
bool synthetic_named(const char *spec);

/* "synthetic:full[:SEED]" or "synthetic:tiny[:SEED]", of the refiner's structure,
 * "synthetic:base[:SEED]" or "synthetic:tiny-base[:SEED]", of the base's; the seed is 0 unless
 * given.  Or "synthetic:demo", "synthetic:demo-base" (tools/source/demo_model.h).
 * REFINE_EINVAL: anything else.  Free with s->close(s). */
refine_status synthetic_open(weight_source **out, const char *spec, refine_error *err);

/* The same for any model. */
refine_status synthetic_open_config(weight_source **out, const model_config *c, uint64_t seed,
                                    const char *name, refine_error *err);

#endif
