/* tools/source/demo_model.h -- the demo's models: small, set by hand, and worth looking at. */
#ifndef REFINE_DEMO_MODEL_H
#define REFINE_DEMO_MODEL_H

#include "tools/source/weight_source.h"

/* A refiner, or a base.  Free with s->close(s). */
refine_status demo_model_open(weight_source **out, bool base, refine_error *err);

#endif
