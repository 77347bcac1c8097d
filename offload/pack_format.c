/* offload/pack_format.c -- how many bytes the rows of a tensor take.
 *
 * The numbers may be those of a hostile file: each product is checked.
 */
#include "offload/pack_format.h"

#include "engine/base/num.h"
#include "kernels/tensor.h"
#include "quant/int8.h"

static bool dense_bytes(const pack_tensor *t, uint64_t rows, uint64_t *out)
{
    uint64_t n;
    return num_mul((uint64_t)t->kh * t->kw, t->c_in, &n) &&
           num_mul(n, dtype_bytes((dtype)t->dtype), &n) && num_mul(n, rows, out);
}

/* As i8_bytes (quant/int8.h), which trusts its numbers. */
static bool int8_bytes(const pack_tensor *t, uint64_t rows, uint64_t *out)
{
    const uint64_t slabs_of_a_tap = ((uint64_t)t->c_in + I8_GROUP - 1) / I8_GROUP;
    const uint64_t eights = rows / I8_ROW_ALIGN + (rows % I8_ROW_ALIGN != 0);
    uint64_t slabs, slab;
    return num_mul((uint64_t)t->kh * t->kw, slabs_of_a_tap, &slabs) &&
           num_mul(eights, i8_slab_bytes(I8_ROW_ALIGN), &slab) && num_mul(slabs, slab, out);
}

bool pack_rows_bytes(const pack_tensor *t, uint64_t rows, uint64_t *out)
{
    switch (t->dtype) {
    case DT_F32:
    case DT_F16:
    case DT_BF16: return dense_bytes(t, rows, out);
    case DT_I8G64: return int8_bytes(t, rows, out);
    default: return false;
    }
}
