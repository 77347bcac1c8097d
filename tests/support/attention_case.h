/* tests/support/attention_case.h -- attentions of the refiner's kinds and of awkward shapes,
 * and how to run one on a device.
 */
#ifndef TEST_ATTENTION_CASE_H
#define TEST_ATTENTION_CASE_H

#include "tests/support/field.h"

typedef struct attention_case {
    int n, h, w, tk, heads, hd;
    bool causal;
    dtype type;
    int exp2;
    float amplitude; /* of q: how far apart the scores are */
} attention_case;

/* Every kind of layer, and hard ones. */
extern const attention_case ATTENTION_CASES[];
extern const int N_ATTENTION_CASES;

enum { ATTENTION_Y, ATTENTION_Q, ATTENTION_K, ATTENTION_V, ATTENTION_FIELDS };

void attention_fields(field f[ATTENTION_FIELDS], const attention_case *c);
void attention_free_fields(field f[ATTENTION_FIELDS]);

/* Into f[ATTENTION_Y]: all at once; each image by itself. */
void attention_run(dev *d, field f[ATTENTION_FIELDS], const attention_case *c);
void attention_run_images(dev *d, field f[ATTENTION_FIELDS], const attention_case *c);

/* How far d is from the referee. */
double attention_distance(dev *d, const attention_case *c);

#endif
