/* engine/plan/ring_size.h -- how large the ring is, and how many chunks are multiplied together.
 *
 * A ring is never smaller than what is held at once, and never larger than everything that ever
 * travels.
 */
#ifndef REFINE_RING_SIZE_H
#define REFINE_RING_SIZE_H

#include "engine/model/phases.h"

/* The smallest that holds such spans of chunks at once. */
size_t ring_size_smallest(const pack *p, size_t inside);

/* The ring that is asked for (refine_options.ring_bytes), else `wish`, as far as it is of use.
 * resident: per chunk, those that do not travel; NULL: none. */
size_t ring_size_fit(const phases *p, const refine_options *o, size_t wish, size_t smallest,
                     const bool *resident);

/* Chunks of a matrix that are multiplied together: as many as the device takes (`most`), and the
 * ring while as many more travel.  asked: refine_options.together. */
int ring_size_together(const pack *p, size_t ring, int asked, int most);

/* What the ring must have for one such launch. */
size_t ring_size_of_launch(const pack *p, int together);

#endif
