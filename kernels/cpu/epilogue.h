/* kernels/cpu/epilogue.h -- from a row of products to a row of y, while it is in the cache. */
#ifndef REFINE_EPILOGUE_H
#define REFINE_EPILOGUE_H

#include "kernels/backend.h"
#include "kernels/cpu/vec.h"

enum { EPILOGUE_ROWS = TILE_ROWS_LINEAR }; /* the widest tile there is */

/* Products of rows [row0, row0 + rows) of w for one pixel of y, in image n; `v` is used up. */
void epilogue_store(const vec *k, const epilogue *e, tensor y, size_t pixel, size_t n, int row0,
                    int rows, float *v);

#endif
