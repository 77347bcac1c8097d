/* tools/packer/weights_policy.h -- what each weight is stored as: the one table, in the .c. */
#ifndef REFINE_WEIGHTS_POLICY_H
#define REFINE_WEIGHTS_POLICY_H

#include "engine/model/weight_list.h"
#include "kernels/tensor.h"

#include <stdbool.h>

typedef enum weights_kind { WEIGHTS_FP16, WEIGHTS_INT8, N_WEIGHTS_KINDS } weights_kind;

/* As --weights says it. */
const char *weights_name(weights_kind kind);
bool weights_find(const char *name, weights_kind *out); /* false: no such kind */

dtype weights_type(weights_kind kind, const weight_entry *e);

#endif
