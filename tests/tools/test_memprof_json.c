/* tests/tools/test_memprof_json.c -- the report for scripts is JSON and holds every layer. */
#define _POSIX_C_SOURCE 200809L /* open_memstream */
#include "tests/support/trace_fixture.h"
#include "tools/memprof/memprof_json.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

Test(tools_memprof_json, holds_the_result_the_layers_and_the_rates)
{
    char *text = NULL;
    size_t len;
    memprof m;
    recording t = trace_fixture();
    FILE *f = open_memstream(&text, &len);
    cr_assert_eq(memprof_of_run(&m, &t, &(memprof_wish){ 0 }, NULL), REFINE_OK);
    cr_assert_eq(memprof_print_json(f, &m, NULL), REFINE_OK);
    (void)fclose(f);
    json_t *o = json_loads(text, 0, NULL);
    cr_assert_not_null(o, "%s", text);
    const json_t *list = json_object_get(o, "layers");
    cr_assert_eq(json_array_size(list), 3u);
    const json_t *second = json_array_get(list, 1);
    cr_assert_str_eq(json_string_value(json_object_get(second, "phase")), "denoising");
    cr_assert_eq(json_integer_value(json_object_get(second, "device")), 2097152);
    cr_assert_float_eq(json_real_value(json_object_get(second, "stalled")), 0.5, 1e-9);
    const json_t *rates = json_object_get(o, "denoising");
    cr_assert_str_eq(json_string_value(json_object_get(rates, "bound")), "compute");
    cr_assert_eq(json_integer_value(json_object_get(json_object_get(o, "result"), "width")), 64);
    cr_assert_eq(json_integer_value(json_object_get(o, "lost")), 3);
    json_decref(o);
    free(text);
    memprof_free(&m);
    trace_free(&t);
}
