/* tools/source/demo_model.h -- the demo's model: small, set by hand, and worth looking at. */
#ifndef REFINE_DEMO_MODEL_H
#define REFINE_DEMO_MODEL_H

#include "tools/source/weight_source.h"

/* Free with s->close(s). */
refine_status demo_model_open(weight_source **out, refine_error *err);

#endif
