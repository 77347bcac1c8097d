/* tests/tools/test_json_file.c -- an object, or a reason. */
#define _XOPEN_SOURCE 700
#include "tools/files/json_file.h"

#include "engine/base/mem.h"
#include "tests/support/temp_file.h"

#include <criterion/criterion.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static refine_status load_json_text(const char *text, refine_error *err)
{
    char path[TEMP_NAME];
    json_t *v;
    temp_file(path, ".json");
    temp_write(path, text, strlen(text));
    const refine_status st = json_file_load(&v, path, err);
    if (st == REFINE_OK)
        cr_assert_eq(json_integer_value(json_object_get(v, "a")), 7);
    else
        cr_assert_null(v);
    json_decref(v);
    (void)unlink(path);
    cr_assert_eq(mem_used().now, 0u);
    return st;
}

Test(tools_json_file, loads_objects_and_nothing_else)
{
    refine_error err = { 0 };
    cr_assert_eq(load_json_text("{\"a\": 7}", &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(load_json_text("", &err), REFINE_EFORMAT);
    cr_assert_eq(load_json_text("[7]", &err), REFINE_EFORMAT);
    cr_assert_eq(load_json_text("{\"a\": 7", &err), REFINE_EFORMAT);
    cr_assert_eq(load_json_text("{\"a\": 7} x", &err), REFINE_EFORMAT);
    cr_assert_eq(load_json_text("{\n\n\"a\": }", &err), REFINE_EFORMAT);
    cr_assert_not_null(strstr(err.text, "line 3"), "%s", err.text);
}

Test(tools_json_file, does_not_read_what_is_no_small_file)
{
    char path[TEMP_NAME];
    json_t *v;
    refine_error err = { 0 };
    temp_file(path, ".json");
    cr_assert_eq(truncate(path, JSON_FILE_MAX + 1), 0);
    cr_assert_eq(json_file_load(&v, path, &err), REFINE_EFORMAT);
    (void)unlink(path);
    cr_assert_eq(json_file_load(&v, path, &err), REFINE_EIO);
    cr_assert_eq(mkfifo(path, 0600), 0);
    cr_assert_eq(json_file_load(&v, path, &err), REFINE_EFORMAT);
    (void)unlink(path);
}

Test(tools_json_file, survives_the_failure_of_its_allocation)
{
    refine_error err = { 0 };
    mem_fail_after(0, MEM_FAIL_ONCE);
    cr_assert_eq(load_json_text("{\"a\": 7}", &err), REFINE_ENOMEM);
    mem_fail_after(-1, MEM_FAIL_ONCE);
}
