/* tests/tools/test_options_text.c -- what --help and the man pages say of every option. */
#define _XOPEN_SOURCE 700
#include "tools/cli/options_text.h"

#include "tests/support/temp_file.h"
#include "tools/arguments/lowmem_arguments.h"
#include "tools/arguments/memprof_arguments.h"
#include "tools/arguments/packer_arguments.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static const options_program *const PROGRAMS[] = { &LOWMEM_OPTIONS, &PACKER_OPTIONS,
                                                   &MEMPROF_OPTIONS };
enum { N_PROGRAMS = sizeof PROGRAMS / sizeof PROGRAMS[0], PRINTED = 1 << 16 };

/* What `print` prints, to be freed. */
static char *printed_by(void (*print)(FILE *, const options_program *), const options_program *p)
{
    FILE *f = tmpfile();
    char *text = calloc(1, PRINTED);
    print(f, p);
    rewind(f);
    cr_assert_lt(fread(text, 1, PRINTED, f), (size_t)PRINTED);
    (void)fclose(f);
    return text;
}

/* As a name of its own, not as the beginning of another. */
static bool names_option(const char *text, const char *name)
{
    const size_t len = strlen(name);
    for (const char *at = strstr(text, name); at; at = strstr(at + 1, name))
        if (!isalnum((unsigned char)at[len]) && at[len] != '-')
            return true;
    return false;
}

static const option_row SAMPLE_ROWS[] = {
    { .name = "short", .letter = 's', .argument = "X", .group = "One", .help = "does this" },
    { .name = "with-a-name-that-is-long",
      .argument = "X",
      .help = "is told on the next line, and it is wrapped where the eightieth column ends,\n"
              "or where it says so" },
    { .name = "plain",
      .kind = OPTION_FLAG,
      .group = "Two",
      .help = ".dots - and \\ are no requests",
      .man = ".B bold\nroff" },
    { .name = "dotted",
      .kind = OPTION_FLAG,
      .help = ".dots - and \\ are no requests",
      .spares_image = true },
};

static const options_program SAMPLE = {
    .name = "sample", .head = "head\n", .tail = "tail\n", .rows = SAMPLE_ROWS, .n_rows = 4
};

Test(tools_options_text, help_is_in_groups_aligned_and_wrapped)
{
    char *text = printed_by(options_print_help, &SAMPLE);
    cr_assert_str_eq(
        text, "head\n"
              "\n"
              "One:\n"
              "  -s, --short X            does this\n"
              "      --with-a-name-that-is-long X\n"
              "                           is told on the next line, and it is wrapped where the\n"
              "                           eightieth column ends,\n"
              "                           or where it says so\n"
              "\n"
              "Two:\n"
              "      --plain              .dots - and \\ are no requests\n"
              "      --dotted             .dots - and \\ are no requests\n"
              "\n"
              "tail\n");
    free(text);
}

Test(tools_options_text, roff_has_a_heading_a_tag_and_a_paragraph)
{
    char *text = printed_by(options_print_roff, &SAMPLE);
    cr_expect_not_null(strstr(text, ".SS One\n.TP\n\\fB\\-s\\fR, \\fB\\-\\-short\\fR \\fIX\\fR\n"
                                    "does this.\n.TP\n"),
                       "%s", text);
    cr_expect_not_null(strstr(text, "\\fB\\-\\-plain\\fR\n.B bold\nroff\n"), "%s", text);
    cr_expect_not_null(strstr(text, "\n\\&.dots \\- and \\e are no requests.\n"
                                    ".PP\nThe image does not depend on \\fB\\-\\-dotted\\fR.\n"),
                       "%s", text);
    free(text);
}

Test(tools_options_text, no_two_rows_have_one_name_or_one_letter)
{
    for (int i = 0; i < N_PROGRAMS; i++)
        for (int k = 0; k < PROGRAMS[i]->n_rows; k++)
            for (int m = 0; m < k; m++) {
                const option_row *a = &PROGRAMS[i]->rows[k], *b = &PROGRAMS[i]->rows[m];
                cr_expect_str_neq(a->name, b->name);
                cr_expect(!a->letter || a->letter != b->letter, "-%c", a->letter);
            }
}

Test(tools_options_text, every_row_is_in_the_help_which_fits_a_terminal)
{
    for (int i = 0; i < N_PROGRAMS; i++) {
        const options_program *p = PROGRAMS[i];
        char *text = printed_by(options_print_help, p), name[64];
        cr_expect_not_null(p->rows[0].group);
        for (int k = 0; k < p->n_rows; k++) {
            (void)snprintf(name, sizeof name, "--%s", p->rows[k].name);
            cr_expect(names_option(strstr(text, "\n\n"), name), "%s: %s", p->name, name);
            cr_expect(p->rows[k].help && p->rows[k].help[0], "%s: %s", p->name, name);
        }
        for (const char *line = text; *line; line += strcspn(line, "\n") + 1) {
            const int n = (int)strcspn(line, "\n");
            cr_expect_leq(n, HELP_COLUMNS, "%s: %.*s", p->name, n, line);
            cr_expect(n == 0 || line[n - 1] != ' ', "%s: %.*s", p->name, n, line);
        }
        free(text);
    }
}

/* The page that is installed: build/.../installed beside the programs. */
Test(tools_options_text, every_row_is_in_the_man_page)
{
    const char *bin = getenv("REFINE_BIN");
    for (int i = 0; i < N_PROGRAMS; i++) {
        const options_program *p = PROGRAMS[i];
        char path[512], tag[128];
        size_t len;
        (void)snprintf(path, sizeof path, "%s/../installed/%s.1", bin ? bin : "build/release/bin",
                       p->name);
        unsigned char *bytes = temp_read(path, &len);
        char *page = calloc(len + 1, 1), *roff = printed_by(options_print_roff, p);
        memcpy(page, bytes, len);
        cr_expect_not_null(strstr(page, roff), "%s is of another program", path);
        cr_expect_null(strchr(page, '@'), "%s: something was not replaced", path);
        for (int k = 0; k < p->n_rows; k++) {
            char *t = tag + snprintf(tag, sizeof tag, "\\fB\\-\\-");
            for (const char *c = p->rows[k].name; *c; c++)
                t += snprintf(t, 4, *c == '-' ? "\\-" : "%c", *c);
            (void)snprintf(t, 8, "\\fR");
            cr_expect_not_null(strstr(page, tag), "%s: %s", path, tag);
        }
        free(bytes);
        free(page);
        free(roff);
    }
}
