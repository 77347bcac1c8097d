/* tests/tools/test_decimals.c -- what is written is read back as it was, and is short where it may
 * be. */
#include "tools/files/decimals.h"

#include "tests/support/random.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

Test(tools_decimals, are_as_they_were_written)
{
    static const char *const WRITTEN[] = { "0",    "-0", "0.3",   "5",        "7.5",
                                           "0.34", "-1", "1e+30", "0.123457", "1e-07" };
    char text[DECIMALS_MAX];
    for (size_t i = 0; i < sizeof WRITTEN / sizeof WRITTEN[0]; i++) {
        cr_expect_str_eq(format_exact_double(text, strtod(WRITTEN[i], NULL)), WRITTEN[i]);
        cr_expect_str_eq(format_exact_float(text, strtof(WRITTEN[i], NULL)), WRITTEN[i]);
    }
    cr_expect_str_eq(format_exact_double(text, 1.0 / 3), "0.3333333333333333");
    cr_expect_str_eq(format_exact_double(text, 0.1 + 0.2), "0.30000000000000004");
    cr_expect_str_eq(format_exact_float(text, 5.0000005f), "5.0000005");
}

/* Of any magnitude. */
Test(tools_decimals, say_which_number_it_is)
{
    uint64_t seed = 7;
    char text[DECIMALS_MAX];
    for (int i = 0; i < 100000; i++) {
        const double d = ldexp(random_float(&seed) + random_float(&seed) * 0x1p-25,
                               random_below(&seed, 2000) - 1000);
        const float f = ldexpf(random_float(&seed), random_below(&seed, 250) - 125);
        const double d_read = strtod(format_exact_double(text, d), NULL);
        cr_assert_eq(memcmp(&d_read, &d, sizeof d), 0, "%s is not %a", text, d);
        const float f_read = strtof(format_exact_float(text, f), NULL);
        cr_assert_eq(memcmp(&f_read, &f, sizeof f), 0, "%s is not %a", text, (double)f);
    }
}
