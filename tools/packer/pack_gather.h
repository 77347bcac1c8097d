/* tools/packer/pack_gather.h -- rows of a pack's tensor, put together from the source's tensors. */
#ifndef REFINE_PACK_GATHER_H
#define REFINE_PACK_GATHER_H

#include "tools/source/weight_source.h"

/* Rows [row0, row0 + rows) of entry `entry` as the pack stores them: DT_F16 for a matrix.
 * A vector, DT_F32, is given whole: rows are its elements.  `dst` and `scratch` hold as many
 * elements as asked for; the contents of scratch are undefined on return. */
refine_status pack_gather(const weight_source *s, int entry, int row0, int rows, dtype to,
                          void *dst, void *scratch, refine_error *err);

/* Tells the source that pack_gather will be called with these. */
void pack_gather_expect(const weight_source *s, int entry, int row0, int rows);

#endif
