/* tests/support/norm_case.h -- inputs of norms and elementwise operators, of the refiner's
 * kinds and awkward ones, and how to run them on a device.
 */
#ifndef TEST_NORM_CASE_H
#define TEST_NORM_CASE_H

#include "tests/support/field.h"

typedef struct norm_case {
    int n, h, w, a, b, groups;
    dtype type;
    int exp2;
    float offset; /* added to the input: a mean far from zero */
    act act;
} norm_case;

extern const norm_case NORM_CASES[];
extern const int N_NORM_CASES;

enum { NORM_Y, NORM_A, NORM_B, NORM_GAIN, NORM_BIAS, NORM_AFFINE, NORM_SUMS, NORM_FIELDS };

/* What is done with the fields; the context is the case.  GroupNorm gives its affine, at once,
 * image by image, or from bands of two units of which the last comes first. */
field_body norm_group, norm_group_images, norm_group_bands, norm_apply, norm_layer, norm_silu,
    norm_convert;

void norm_fields(field f[NORM_FIELDS], const norm_case *c, field_body *body);
void norm_free_fields(field f[NORM_FIELDS]);
void norm_run(dev *d, field f[NORM_FIELDS], field_body *body, const norm_case *c);

/* How far d is from the referee; *peak: the largest value. */
double norm_distance(dev *d, field_body *body, const norm_case *c, double *peak);

/* Half a step of what the result is stored in. */
double norm_rounding(field_body *body, const norm_case *c, double peak);

#endif
