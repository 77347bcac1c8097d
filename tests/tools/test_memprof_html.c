/* tests/tools/test_memprof_html.c -- the page is one well-formed file, small, and a browser has
 * nothing to say against it. */
#define _XOPEN_SOURCE 700
#include "engine/base/mem.h"
#include "tests/support/temp_file.h"
#include "tests/support/trace_fixture.h"
#include "tools/memprof/memprof_html.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The page of a trace, to be freed; its name when `name` is given, else it is removed. */
static char *page_of(const recording *t, char *name)
{
    char here[TEMP_NAME];
    size_t len;
    memprof m;
    refine_error err = { 0 };
    char *path = name ? name : here;
    temp_file(path, ".html");
    cr_assert_eq(memprof_of_run(&m, t, &(memprof_wish){ 0 }, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(memprof_save_html(path, &m, &err), REFINE_OK, "%s", err.text);
    memprof_free(&m);
    char *page = (char *)temp_read(path, &len);
    page = realloc(page, len + 1);
    page[len] = '\0';
    if (!name)
        (void)unlink(path);
    return page;
}

static bool closes_itself(const char *tag, size_t n)
{
    static const char *const VOID[] = { "meta", "link", "br", "!DOCTYPE" };
    for (size_t i = 0; i < sizeof VOID / sizeof VOID[0]; i++)
        if (n == strlen(VOID[i]) && memcmp(tag, VOID[i], n) == 0)
            return true;
    return false;
}

/* Every element is closed, in order.  We write no optional end tag. */
static void check_nesting(const char *page)
{
    enum { DEEP = 64 };
    const char *open[DEEP];
    size_t len[DEEP];
    int n = 0;
    for (const char *p = strchr(page, '<'); p; p = strchr(p, '<')) {
        const bool closing = *++p == '/';
        const char *tag = p + closing, *end = strchr(p, '>');
        size_t k = 0;
        cr_assert_not_null(end);
        while (isalnum((unsigned char)tag[k]) || tag[k] == '!')
            k++;
        if (closing) {
            cr_assert_gt(n, 0, "%.40s", p);
            n--;
            cr_assert(len[n] == k && memcmp(open[n], tag, k) == 0, "%.40s closes %.40s", p,
                      open[n]);
        } else if (end[-1] != '/' && !closes_itself(tag, k)) {
            cr_assert_lt(n, DEEP);
            open[n] = tag;
            len[n++] = k;
        }
        p = end;
    }
    cr_assert_eq(n, 0);
}

Test(tools_memprof_html, has_every_part_and_closes_what_it_opens)
{
    static const char *const PARTS[] = {
        "<h2>Memory</h2>",   "<h2>Time</h2>",
        "<h2>Roofline</h2>", "<h2>Layers</h2>",
        "waits for copy",    "role=\"img\"",
        "<caption>",         "prefers-color-scheme:dark",
        "name=\"viewport\"", "unet.down_blocks.0.conv.weight",
        "no predictions",
    };
    recording t = trace_fixture();
    char *page = page_of(&t, NULL);
    for (size_t i = 0; i < sizeof PARTS / sizeof PARTS[0]; i++)
        cr_assert_not_null(strstr(page, PARTS[i]), "no %s", PARTS[i]);
    check_nesting(page);
    cr_assert_null(strstr(page, "http"));
    cr_assert_null(strstr(page, "<script"));
    cr_assert_null(strstr(page, "nan"));
    free(page);
    trace_free(&t);
    cr_assert_eq(mem_used().now, 0u);
}

/* tools/memprof/report.css is written for people, and made smaller when it is embedded. */
Test(tools_memprof_html, has_the_style_without_comments_and_indentation)
{
    recording t = trace_fixture();
    char *page = page_of(&t, NULL);
    cr_expect_not_null(strstr(page, "<style>\n:root{color-scheme:light dark;"));
    cr_expect_not_null(strstr(page, ".key dd{font-size:1.2rem}}\n</style>"));
    cr_expect_null(strstr(page, "/*"));
    cr_expect_null(strstr(page, "\n "));
    free(page);
    trace_free(&t);
}

Test(tools_memprof_html, lets_no_name_break_out)
{
    recording t = trace_fixture_but("unet.down_blocks.0.conv.weight",
                                    "</style><script>alert(1)</script>\\\" onload=x");
    char *page = page_of(&t, NULL);
    cr_assert_null(strstr(page, "<script"));
    cr_assert_not_null(strstr(page, "&lt;script&gt;"));
    check_nesting(page);
    free(page);
    trace_free(&t);
}

/* The page does not grow with the number of events. */
Test(tools_memprof_html, stays_small_for_a_long_run)
{
    enum { MANY = 300000 };
    recording t = trace_fixture();
    const size_t at = t.lane_at[REFINE_LANE_DISK];
    recording longer = t;
    longer.event = malloc((t.n_events + MANY) * sizeof *longer.event);
    for (size_t i = 0; i < MANY; i++)
        longer.event[at + i] = (refine_event){ .lane = REFINE_LANE_DISK,
                                               .chunk = 2,
                                               .begin = 9.0 * (double)i / MANY,
                                               .end = 9.0 * ((double)i + 0.5) / MANY };
    memcpy(longer.event + MANY, t.event, t.n_events * sizeof *t.event);
    for (int l = 0; l <= REFINE_LANES; l++)
        longer.lane_at[l] += l > REFINE_LANE_DISK ? MANY : 0;
    longer.lane_at[REFINE_LANE_DISK + 1] = at + MANY;
    longer.lane_at[REFINE_LANE_DECODE] = at + MANY;
    char *page = page_of(&longer, NULL);
    cr_assert_lt(strlen(page), 200000u);
    free(page);
    free(longer.event);
    trace_free(&t);
}

Test(tools_memprof_html, says_when_it_cannot_be_written)
{
    recording t = trace_fixture();
    memprof m;
    refine_error err = { 0 };
    cr_assert_eq(memprof_of_run(&m, &t, &(memprof_wish){ 0 }, NULL), REFINE_OK);
    cr_assert_eq(memprof_save_html("/nowhere/x.html", &m, &err), REFINE_EIO);
    cr_assert_not_null(strstr(err.text, "/nowhere/x.html"));
    memprof_free(&m);
    trace_free(&t);
}

Test(tools_memprof_html, is_drawn_by_a_browser_without_complaint)
{
    char name[TEMP_NAME], input_image[TEMP_NAME + 8], command[8 * TEMP_NAME], line[1024];
    if (system("command -v chromium >/dev/null 2>&1") != 0)
        cr_skip_test("SKIP chromium is not installed");
    recording t = trace_fixture();
    free(page_of(&t, name));
    trace_free(&t);
    (void)snprintf(input_image, sizeof input_image, "%s.png", name);
    (void)snprintf(command, sizeof command,
                   "timeout 60 chromium --headless --no-sandbox --disable-gpu "
                   "--enable-logging=stderr --user-data-dir=%s.profile --screenshot=%s "
                   "--window-size=800,600 file://%s 2>&1; rm -rf %s.profile",
                   name, input_image, name, name);
    FILE *f = popen(command, "r");
    cr_assert_not_null(f);
    while (fgets(line, sizeof line, f))
        cr_assert_null(strstr(line, "CONSOLE"), "%s", line);
    (void)pclose(f);
    cr_assert_eq(access(input_image, R_OK), 0, "no screenshot was made");
    (void)unlink(input_image);
    (void)unlink(name);
}
