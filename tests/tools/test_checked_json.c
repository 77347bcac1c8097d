/* tests/tools/test_checked_json.c -- what is missing is nothing, what lies is refused once. */
#include "tools/files/checked_json.h"

#include "engine/base/mem.h"

#include <criterion/criterion.h>
#include <string.h>

static const char *const WORDS[] = { "disk", "host" };

Test(tools_checked_json, takes_what_is_missing_for_nothing)
{
    json_checker c = { .path = "x", .kind = "trace" };
    size_t n = 7;
    cr_expect_eq(checked_real(&c, NULL, "a", 1), 0.0);
    cr_expect_eq(checked_count(&c, NULL, "a", 1), 0u);
    cr_expect_str_eq(checked_text(&c, NULL, "a"), "");
    cr_expect_null(checked_object(&c, NULL, "a"));
    cr_expect_null(checked_reals(&c, NULL, "a", 1, &n));
    cr_expect_eq(n, 0u);
    cr_expect_eq(c.st, REFINE_OK);
}

Test(tools_checked_json, takes_what_is_in_range)
{
    json_checker c = { .path = "x", .kind = "trace" };
    json_t *o = json_loads("{\"r\":1.5,\"n\":9,\"t\":\"host\",\"o\":{\"r\":1},\"l\":[0,2.5]}", 0,
                           NULL);
    size_t n;
    double *list = checked_reals(&c, o, "l", 2.5, &n);
    cr_expect_eq(checked_real(&c, o, "r", 1.5), 1.5);
    cr_expect_eq(checked_count(&c, o, "n", 9), 9u);
    cr_expect_eq(checked_int(&c, o, "n"), 9);
    cr_expect_eq(checked_bytes(&c, o, "n"), 9u);
    cr_expect_eq(checked_word(&c, o, "t", WORDS, 2), 1);
    cr_expect_eq(checked_real(&c, checked_object(&c, o, "o"), "r", 1), 1.0);
    cr_assert_eq(n, 2u);
    cr_expect_eq(list[1], 2.5);
    cr_expect_eq(c.st, REFINE_OK);
    mem_free(list);
    json_decref(o);
}

/* Reads every kind from member "m"; how many of them refuse it. */
static int count_refusals(const char *text)
{
    int refused = 0;
    json_t *o = json_loads(text, 0, NULL);
    for (int kind = 0; kind < 6; kind++) {
        json_checker c = { .path = "x", .kind = "trace" };
        size_t n;
        double *list = NULL;
        switch (kind) {
        case 0: (void)checked_real(&c, o, "m", 10); break;
        case 1: (void)checked_count(&c, o, "m", 10); break;
        case 2: (void)checked_text(&c, o, "m"); break;
        case 3: (void)checked_object(&c, o, "m"); break;
        case 4: (void)checked_word(&c, o, "m", WORDS, 2); break;
        default: list = checked_reals(&c, o, "m", 10, &n); break;
        }
        refused += c.st == REFINE_EFORMAT;
        mem_free(list);
    }
    json_decref(o);
    return refused;
}

Test(tools_checked_json, refuses_what_is_of_another_kind_or_out_of_range)
{
    cr_expect_eq(count_refusals("{\"m\":3}"), 3);  /* text, object, word */
    cr_expect_eq(count_refusals("{\"m\":11}"), 5); /* and both numbers */
    cr_expect_eq(count_refusals("{\"m\":-1}"), 5);
    cr_expect_eq(count_refusals("{\"m\":2.5}"), 4);      /* no count */
    cr_expect_eq(count_refusals("{\"m\":\"tape\"}"), 4); /* a text, but no word */
    cr_expect_eq(count_refusals("{\"m\":[1,\"x\"]}"), 6);
    cr_expect_eq(count_refusals("{\"m\":[1,11]}"), 6);
}

Test(tools_checked_json, tells_of_the_first_failure_alone)
{
    refine_error err = { 0 };
    json_checker c = { .path = "a.json", .kind = "trace", .err = &err };
    refuse_json(&c, "'w' is no count in range");
    checker_out_of_memory(&c);
    cr_expect_eq(c.st, REFINE_EFORMAT);
    cr_expect_str_eq(err.text, "a.json: 'w' is no count in range; is this a trace?");
}
