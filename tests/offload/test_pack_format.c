/* tests/offload/test_pack_format.c -- the bytes of rows, counted as the format has them. */
#include "offload/pack_format.h"

#include "kernels/tensor.h"
#include "quant/int8.h"

#include <criterion/criterion.h>

Test(offload_pack_format, bytes_of_rows_are_those_of_the_format_or_too_many)
{
    pack_tensor t = { .dtype = DT_I8G64, .kh = 3, .kw = 3, .c_in = 200 };
    uint64_t n = 0;
    cr_expect(pack_rows_bytes(&t, 133, &n) && n == i8_bytes(133, 9, 200));
    t.dtype = DT_F16;
    cr_expect(pack_rows_bytes(&t, 133, &n) && n == 133 * 9 * 200 * 2);
    t.dtype = 4;
    cr_expect_not(pack_rows_bytes(&t, 1, &n));
    for (t.dtype = DT_F32; t.dtype <= DT_I8G64; t.dtype++) {
        t.kh = t.kw = t.c_in = UINT32_MAX;
        cr_expect_not(pack_rows_bytes(&t, 1, &n));
        t.kh = t.kw = t.c_in = 1;
        cr_expect_not(pack_rows_bytes(&t, UINT64_MAX, &n));
    }
    t = (pack_tensor){ .dtype = DT_I8G64, .kh = 1 << 10, .kw = 1 << 10, .c_in = 1 << 28 };
    cr_expect_not(pack_rows_bytes(&t, 1 << 28, &n));
}
