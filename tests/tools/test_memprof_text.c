/* tests/tools/test_memprof_text.c -- the report on a terminal: what it says, and how wide it is. */
#define _POSIX_C_SOURCE 200809L /* open_memstream */
#include "tests/support/trace_fixture.h"
#include "tools/memprof/memprof_text.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static char *print_memprof_text(const recording *t)
{
    char *text = NULL;
    size_t len;
    memprof m;
    refine_error err = { 0 };
    FILE *f = open_memstream(&text, &len);
    cr_assert_eq(memprof_of_run(&m, t, &(memprof_wish){ 0 }, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(memprof_print(f, &m, &err), REFINE_OK, "%s", err.text);
    (void)fclose(f);
    memprof_free(&m);
    return text;
}

static void expect_text_part(const char *text, const char *part)
{
    cr_assert_not_null(strstr(text, part), "no '%s' in:\n%s", part, text);
}

Test(tools_memprof_text, shows_each_part_of_a_run)
{
    recording t = trace_fixture();
    char *text = print_memprof_text(&t);
    expect_text_part(text, "resident weights                2.0");
    expect_text_part(text, "phase   |ooooooo");
    expect_text_part(text, "ccc");
    expect_text_part(text, "ddd");
    expect_text_part(text, "bound by compute");
    expect_text_part(text, "disk 10.0 %, decode 0.0 %, copy 20.0 %");
    expect_text_part(text, "unet.down_blocks.0");
    expect_text_part(text, "3 events found no room");
    expect_text_part(text, "no predictions: the pack '/nowhere/x.pack'");
    free(text);
    trace_free(&t);
}

Test(tools_memprof_text, fits_a_terminal_and_cannot_command_it)
{
    recording t = trace_fixture_but("\"device\":\"cpu\"", "\"device\":\"\\u001b[2J\\r\\n\"");
    char *text = print_memprof_text(&t);
    cr_assert_null(strchr(text, 0x1b));
    cr_assert_null(strchr(text, '\r'));
    for (const char *p = text; *p; p += strcspn(p, "\n") + 1)
        cr_assert_leq(strcspn(p, "\n"), 100u, "%s", p);
    free(text);
    trace_free(&t);
}
