/* tests/tools/test_durations.c -- spans of time in the unit that suits them. */
#include "tools/files/durations.h"

#include <criterion/criterion.h>

Test(tools_durations, are_said_in_the_unit_that_suits_them)
{
    static const struct {
        double seconds;
        const char *text;
    } CASES[] = { { 0.0123, "0.0123 seconds" }, { 9.876, "9.88 seconds" }, { 119, "119 seconds" },
                  { 120, "2 minutes" },         { 3599, "60 minutes" },    { 3600, "1.0 hours" },
                  { 359640, "99.9 hours" } };
    char text[DURATION_TEXT];
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++)
        cr_expect_str_eq(duration_text(text, CASES[i].seconds), CASES[i].text, "%s", text);
}
