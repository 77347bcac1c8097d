/* tests/tools/test_numbers.c -- one number of a range, or a refusal. */
#include "tools/cli/numbers.h"

#include <criterion/criterion.h>

Test(tools_numbers, reads_real_numbers_of_a_range)
{
    double v = 7;
    cr_assert(numbers_real("0.3", 0, 1, &v) && v == 0.3);
    cr_assert(numbers_real("1e-3", 0, 1, &v) && v == 1e-3);
    cr_assert(numbers_real("-2", -2, 2, &v) && v == -2);
    static const char *const BAD[] = { "", "x", "1x", "1 ", "nan", "inf", "1e999", "3", "-3" };
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++)
        cr_assert(!numbers_real(BAD[i], -2, 2, &v) && v == -2, "'%s'", BAD[i]);
}

Test(tools_numbers, reads_whole_numbers_of_a_range)
{
    uint64_t v = 7;
    cr_assert(numbers_whole("18446744073709551615", 0, UINT64_MAX, &v) && v == UINT64_MAX);
    cr_assert(numbers_whole("0", 0, 5, &v) && v == 0);
    static const char *const BAD[] = { "",   "x", "1x",  "1 ", " 1",  "+1",
                                       "-1", "6", "1.0", "0",  "0x1", "18446744073709551616" };
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++)
        cr_assert(!numbers_whole(BAD[i], 1, 5, &v) && v == 0, "'%s'", BAD[i]);
    int n = 7;
    cr_assert(numbers_int("256", 1, 256, &n) && n == 256);
    cr_assert(!numbers_int("257", 1, 256, &n) && n == 256);
}

Test(tools_numbers, reads_pairs)
{
    int a = 7, b = 8;
    cr_assert(numbers_pair("640x480", 'x', 1, 1000, &a, &b) && a == 640 && b == 480);
    static const char *const BAD[] = { "",    "640",   "640x", "x480",     "0x480",   "640x0",
                                       "6X4", "6x4x2", "-6x4", "1001x480", "640x1001" };
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++)
        cr_assert_not(numbers_pair(BAD[i], 'x', 1, 1000, &a, &b), "'%s'", BAD[i]);
    cr_assert(a == 640 && b == 480);
    cr_assert_not(numbers_pair("1x1", ',', 0, 1000, &a, &b));
    cr_assert(numbers_pair("0,16", ',', 0, 1000, &a, &b) && a == 0 && b == 16);
}
