/* tests/tools/test_json_values.c -- whatever it is given, JSON can hold it. */
#include "tools/files/json_values.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

Test(tools_json_values, ends_integers_where_json_does)
{
    cr_expect_eq(saturate_json_integer(0), 0);
    cr_expect_eq(saturate_json_integer(INT64_MAX - 1), INT64_MAX - 1);
    cr_expect_eq(saturate_json_integer((uint64_t)INT64_MAX + 1), INT64_MAX);
    cr_expect_eq(saturate_json_integer(UINT64_MAX), INT64_MAX);
}

Test(tools_json_values, makes_zero_of_what_is_not_finite)
{
    cr_expect_eq(finite_or_zero(1.5), 1.5);
    cr_expect_eq(finite_or_zero((double)INFINITY), 0.0);
    cr_expect_eq(finite_or_zero(-(double)INFINITY), 0.0);
    cr_expect_eq(finite_or_zero((double)NAN), 0.0);
}

static void expect_clean_text(const char *given, const char *want)
{
    json_t *v = clean_json_text(given);
    cr_expect_str_eq(json_string_value(v), want);
    json_decref(v);
}

Test(tools_json_values, replaces_what_is_no_text)
{
    expect_clean_text(NULL, "");
    expect_clean_text("caf\xc3\xa9", "caf\xc3\xa9");
    expect_clean_text("caf\xe9\n", "caf\xef\xbf\xbd\n");
}

static void expect_printed_object(int digits, const char *want)
{
    char text[64] = "";
    FILE *f = tmpfile();
    cr_assert_eq(print_json_object(f, json_pack("{s:f}", "x", 1.0 / 3), digits, NULL), REFINE_OK);
    rewind(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    cr_expect_str_eq(text, want, "%s", text);
    (void)fclose(f);
}

Test(tools_json_values, prints_so_many_digits_or_all)
{
    expect_printed_object(9, "{\n \"x\": 0.333333333\n}\n");
    expect_printed_object(0, "{\n \"x\": 0.33333333333333331\n}\n");
}

Test(tools_json_values, leaves_what_could_not_be_printed_to_the_stream)
{
    refine_error err = { 0 };
    cr_expect_eq(print_json_object(stdout, NULL, 0, &err), REFINE_ENOMEM);
    FILE *full = fopen("/dev/full", "w");
    if (!full)
        cr_skip_test("SKIP there is no /dev/full");
    cr_expect_eq(print_json_object(full, json_object(), 0, &err), REFINE_OK);
    cr_expect(ferror(full));
    (void)fclose(full);
}

Test(tools_json_values, a_note_is_text_and_taken_down_once)
{
    json_t *list = json_array();
    append_json_note(list, "%s has %d", "a", 1);
    append_json_note(list, "caf\xe9");
    append_json_note(list, "a has 1");
    cr_assert_eq(json_array_size(list), 2u);
    cr_expect_str_eq(json_string_value(json_array_get(list, 0)), "a has 1");
    cr_expect_str_eq(json_string_value(json_array_get(list, 1)), "caf\xef\xbf\xbd");
    json_decref(list);
}

Test(tools_json_values, tells_utf8_from_other_bytes)
{
    cr_expect(is_utf8_text("") && is_utf8_text("caf\xc3\xa9"));
    cr_expect_not(is_utf8_text("caf\xe9"));
    cr_expect_not(is_utf8_text("\xed\xa0\x80"), "half a surrogate pair");
}
