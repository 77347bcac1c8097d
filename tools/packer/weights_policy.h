/* tools/packer/weights_policy.h -- what each weight is stored as: the one table, in the .c. */
#ifndef REFINE_WEIGHTS_POLICY_H
#define REFINE_WEIGHTS_POLICY_H

#include "engine/model/weight_list.h"
#include "kernels/tensor.h"

typedef enum weights_kind { WEIGHTS_FP16, WEIGHTS_INT8, N_WEIGHTS_KINDS } weights_kind;

/* As --weights says them, in their order, NULL-ended. */
extern const char *const weights_names[N_WEIGHTS_KINDS + 1];
const char *weights_name(weights_kind kind);

dtype weights_type(weights_kind kind, const weight_entry *e);

#endif
