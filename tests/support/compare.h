/* tests/support/compare.h -- how far computed values are from the golden ones.
 *
 *     relative error = max |computed - golden| / max |golden|
 *
 * over the elements the gold file holds.  INFINITY: no such entry, another shape, or a
 * computed value that is no number.
 */
#ifndef REFINE_TESTS_COMPARE_H
#define REFINE_TESTS_COMPARE_H

#include "tests/support/gold.h"

/* nhwc: n * h * w * c floats.  One line on stderr says why the answer is INFINITY. */
double gold_compare(const gold *g, const char *name, const float *nhwc, int n, int h, int w,
                    int c);

/* The same for values that lie as the gold file has them, (n, c, h, w). */
double gold_compare_planes(const gold *g, const char *name, const float *nchw, int n, int c, int h,
                           int w);

#endif
