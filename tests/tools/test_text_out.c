/* tests/tools/test_text_out.c -- text of any length arrives whole, and escaped. */
#include "engine/base/mem.h"
#include "tests/support/temp_file.h"
#include "tools/files/text_out.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *read_back_text(void (*put)(text_out *, const char *), const char *s)
{
    char name[TEMP_NAME];
    size_t len;
    text_out o;
    temp_file(name, ".txt");
    cr_assert_eq(text_out_open(&o, name, NULL), REFINE_OK);
    put(&o, s);
    cr_assert_eq(text_out_commit(&o), REFINE_OK);
    char *got = (char *)temp_read(name, &len);
    got = realloc(got, len + 1);
    got[len] = '\0';
    (void)unlink(name);
    return got;
}

Test(tools_text_out, escapes_for_json_and_for_html)
{
    static const char HOSTILE[] = "<b a='\"'>&\n\\ caf\xc3\xa9 \xff\xc3(\xed\xa0\x80";
    char *json = read_back_text(text_out_json, HOSTILE),
         *html = read_back_text(text_out_html, HOSTILE);
    cr_assert_str_eq(json, "\"<b a='\\u0022'>&\\u000a\\u005c caf\xc3\xa9 \xef\xbf\xbd\xef\xbf\xbd("
                           "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
    cr_assert_str_eq(html, "&lt;b a=&#39;&quot;&#39;&gt;&amp;\n\\ caf\xc3\xa9 \xef\xbf\xbd"
                           "\xef\xbf\xbd(\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    free(json);
    free(html);
}

static void put_numbers(text_out *o, const char *s)
{
    for (int i = 0; i < 20000; i++)
        text_out_put(o, "%s%d", s, i);
}

Test(tools_text_out, goes_on_beyond_its_buffer)
{
    char *got = read_back_text(put_numbers, " "), *p = got;
    for (int i = 0; i < 20000; i++)
        cr_assert_eq(strtol(p, &p, 10), i);
    cr_assert_eq(*p, '\0');
    free(got);
}

Test(tools_text_out, leaves_nothing_behind_when_abandoned)
{
    char name[TEMP_NAME];
    text_out o;
    temp_file(name, ".txt");
    (void)unlink(name);
    cr_assert_eq(text_out_open(&o, name, NULL), REFINE_OK);
    text_out_put(&o, "half");
    text_out_abandon(&o);
    cr_assert_neq(access(name, F_OK), 0);
    cr_assert_eq(mem_used().now, 0u);
}
