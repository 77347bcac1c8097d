/* tools/source/recognise.h -- what a .safetensors file is, when it is not the refiner. */
#ifndef REFINE_RECOGNISE_H
#define REFINE_RECOGNISE_H

#include "tools/files/safetensors.h"

/* REFINE_OK: has the names of a complete refiner in the single-file layout.
 * REFINE_EFORMAT: the text says what it is and what to give instead. */
refine_status recognise_refiner(const safetensors *f, refine_error *err);

#endif
