/* tests/base/test_num.c -- digits without an exponent. */
#include "engine/base/num.h"

#include <criterion/criterion.h>
#include <stdio.h>

Test(base_num, digits_are_three_or_all_before_the_point)
{
    static const struct {
        double v;
        const char *text;
    } CASES[] = { { 0.01234, "0.0123" }, { 12.345, "12.3" }, { 999.4, "999" },
                  { 999.6, "999.6" },    { 9999.4, "9999" }, { 17691.2, "17691" } };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        char text[32];
        (void)snprintf(text, sizeof text, "%.*g", num_digits(CASES[i].v), CASES[i].v);
        cr_expect_str_eq(text, CASES[i].text, "%s", text);
    }
}
