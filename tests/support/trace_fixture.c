/* tests/support/trace_fixture.c -- a trace written by hand, and what it is with a word changed. */
#include "tests/support/trace_fixture.h"

#include "tests/support/temp_file.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void trace_fixture_with(char *name, const char *from, const char *to)
{
    size_t len;
    char *text = (char *)temp_read(TRACE_FIXTURE, &len);
    text = realloc(text, len + 1);
    text[len] = '\0';
    const char *at = strstr(text, from);
    cr_assert_not_null(at, "the fixture has no %s", from);
    const size_t before = (size_t)(at - text), after = before + strlen(from);
    char *changed = calloc(len + strlen(to) + 1, 1);
    memcpy(changed, text, before);
    memcpy(changed + before, to, strlen(to));
    memcpy(changed + before + strlen(to), text + after, len - after);
    temp_file(name, ".json");
    temp_write(name, changed, strlen(changed));
    free(changed);
    free(text);
}

static recording read_back(const char *name)
{
    recording t;
    refine_error err = { 0 };
    cr_assert_eq(trace_read(&t, name, &err), REFINE_OK, "%s", err.text);
    return t;
}

recording trace_fixture(void) { return read_back(TRACE_FIXTURE); }

recording trace_fixture_but(const char *from, const char *to)
{
    char name[TEMP_NAME];
    trace_fixture_with(name, from, to);
    const recording t = read_back(name);
    (void)unlink(name);
    return t;
}
