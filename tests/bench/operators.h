/* tests/bench/operators.h -- listens to the operators of the CUDA device that the engine opens.
 *
 * The linker's --wrap=dev_open_cuda gives us the device; its operators are called between ours.
 */
#ifndef BENCH_OPERATORS_H
#define BENCH_OPERATORS_H

#include "kernels/backend.h"

/* One operator, enqueued as one launch or several. */
typedef struct operator_call {
    char name[64]; /* kind, weights and size of its image */
    double macs;   /* multiply-adds of products */
    double bytes;  /* of activations that are read and written, where there are no products */
    int k;         /* of products: in elements of each tap; of attention: keys */
    int taps;      /* of a convolution, or 1 */
} operator_call;

/* The bench's.  `d` is what the engine uses. */
void operator_begins(dev *d, const operator_call *c);
void operator_ended(dev *d);
/* Once it is open. */
void operators_of(dev *d);

#endif
