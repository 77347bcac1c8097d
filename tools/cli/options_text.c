/* tools/cli/options_text.c -- rows of options as --help, as roff, and as the end of "give ...". */
#include "tools/cli/options_text.h"

#include "refine_version.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { TEXT_COLUMN = 27, QUOTED_MAX = 80 };

/* ---- what a row takes ---- */

/* "64K": what sizes_parse reads as `bytes`. */
static void print_size(FILE *out, uint64_t bytes)
{
    static const char *const UNITS[] = { "", "K", "M", "G", "T" };
    int u = 0;
    for (; u < 4 && bytes > 0 && bytes % 1024 == 0; u++)
        bytes /= 1024;
    fprintf(out, "%" PRIu64 "%s", bytes, UNITS[u]);
}

static void print_choices(FILE *out, const char *const *words)
{
    for (int i = 0; words[i]; i++)
        fprintf(out, "%s%s", i == 0 ? "" : words[i + 1] ? ", " : " or ", words[i]);
}

static void print_size_range(FILE *out, const option_row *r)
{
    if (!r->high) {
        fputs("a size such as 512M or 1.5G", out);
        return;
    }
    fputs("a size from ", out);
    print_size(out, r->low);
    fputs(" to ", out);
    print_size(out, r->high);
}

void options_print_takes(FILE *out, const option_row *r)
{
    if (r->takes)
        fputs(r->takes, out);
    else if (r->words)
        print_choices(out, r->words);
    else if (r->kind == OPTION_SIZE || r->kind == OPTION_RATE)
        print_size_range(out, r);
    else if (r->kind == OPTION_INT || r->kind == OPTION_WHOLE)
        fprintf(out, "a number from %" PRIu64 " to %" PRIu64, r->low, r->high);
    else if (r->kind == OPTION_REAL && isfinite(r->least))
        fprintf(out, "a number from %g to %g", r->least, r->most);
    else if (r->kind == OPTION_REAL || r->kind == OPTION_FLOAT)
        fputs("a finite number", out);
    else
        fputs(r->argument, out);
}

void options_print_quoted(FILE *out, const char *value)
{
    const size_t len = strlen(value);
    fputc('"', out);
    for (size_t i = 0; i < len && i < QUOTED_MAX; i++) {
        const unsigned char c = (unsigned char)value[i];
        fputc(c < ' ' || c == 0x7f ? '?' : c, out);
    }
    fputs(len > QUOTED_MAX ? "...\"" : "\"", out);
}

/* ---- help ---- */

/* "PACK", "fp16|int8", or nothing. */
static void print_argument(FILE *out, const option_row *r)
{
    if (r->argument)
        fputs(r->argument, out);
    for (int i = 0; !r->argument && r->words && r->words[i]; i++)
        fprintf(out, "%s%s", i == 0 ? "" : "|", r->words[i]);
}

static int argument_width(const option_row *r)
{
    int n = r->argument ? (int)strlen(r->argument) : 0;
    for (int i = 0; !r->argument && r->words && r->words[i]; i++)
        n += (int)strlen(r->words[i]) + (i > 0);
    return n;
}

/* "  -m, --model PACK", up to where the text begins, there or on the next line. */
static void print_label(FILE *out, const option_row *r)
{
    const int argument = argument_width(r);
    const int width = 8 + (int)strlen(r->name) + (argument > 0) + argument;
    if (r->letter)
        fprintf(out, "  -%c, --%s%s", r->letter, r->name, argument ? " " : "");
    else
        fprintf(out, "      --%s%s", r->name, argument ? " " : "");
    print_argument(out, r);
    if (width + 2 > TEXT_COLUMN)
        fprintf(out, "\n%*s", TEXT_COLUMN, "");
    else
        fprintf(out, "%*s", TEXT_COLUMN - width, "");
}

/* From TEXT_COLUMN, where the cursor is, to the last column; then a new line. */
static void print_wrapped(FILE *out, const char *text)
{
    int column = TEXT_COLUMN;
    for (const char *word = text; *word;) {
        const int n = (int)strcspn(word, " \n");
        const bool first = column == TEXT_COLUMN;
        if (!first && column + 1 + n > HELP_COLUMNS) {
            fprintf(out, "\n%*s", TEXT_COLUMN, "");
            column = TEXT_COLUMN;
        } else if (!first) {
            fputc(' ', out);
            column++;
        }
        fwrite(word, 1, (size_t)n, out);
        column += n;
        word += n;
        if (*word == '\n') {
            fprintf(out, "\n%*s", TEXT_COLUMN, "");
            column = TEXT_COLUMN;
        }
        word += *word != '\0';
    }
    fputc('\n', out);
}

void options_print_help(FILE *out, const options_program *p)
{
    fputs(p->head, out);
    for (int i = 0; i < p->n_rows; i++) {
        if (p->rows[i].group)
            fprintf(out, "\n%s:\n", p->rows[i].group);
        print_label(out, &p->rows[i]);
        print_wrapped(out, p->rows[i].help);
    }
    fprintf(out, "\n%s", p->tail);
}

void options_print_version(FILE *out, const options_program *p)
{
    fprintf(out, "%s %s\n", p->name, REFINE_VERSION);
}

/* ---- roff ---- */

/* Plain text, in which nothing is a request. */
static void print_escaped(FILE *out, const char *text)
{
    bool line_begins = true;
    for (; *text; text++) {
        if (line_begins && (*text == '.' || *text == '\''))
            fputs("\\&", out);
        line_begins = *text == '\n';
        if (*text == '-')
            fputs("\\-", out);
        else if (*text == '\\')
            fputs("\\e", out);
        else
            fputc(*text, out);
    }
}

/* The names are bold; what is written in its place is italic, what is written as it is not. */
static void print_tag(FILE *out, const option_row *r)
{
    const bool literal = !r->argument || (r->argument[0] >= 'a' && r->argument[0] <= 'z');
    if (r->letter)
        fprintf(out, "\\fB\\-%c\\fR, ", r->letter);
    fputs("\\fB\\-\\-", out);
    print_escaped(out, r->name);
    fputs("\\fR", out);
    if (argument_width(r) > 0) {
        fputs(literal ? " " : " \\fI", out);
        print_argument(out, r);
        fputs(literal ? "" : "\\fR", out);
    }
    fputc('\n', out);
}

/* A page has whole sentences. */
static void print_help_as_roff(FILE *out, const char *help)
{
    print_escaped(out, help);
    fputs(help[strlen(help) - 1] == '.' ? "\n" : ".\n", out);
}

/* The options that may be others when a command is repeated. */
static void print_spared(FILE *out, const options_program *p)
{
    int left = 0;
    for (int i = 0; i < p->n_rows; i++)
        left += p->rows[i].spares_image;
    if (left == 0)
        return;
    fputs(".PP\nThe image does not depend on ", out);
    for (int i = 0; i < p->n_rows; i++)
        if (p->rows[i].spares_image) {
            left--;
            fputs("\\fB\\-\\-", out);
            print_escaped(out, p->rows[i].name);
            fprintf(out, "\\fR%s", left > 1 ? ", " : left == 1 ? " or " : ".\n");
        }
}

void options_print_roff(FILE *out, const options_program *p)
{
    for (int i = 0; i < p->n_rows; i++) {
        const option_row *r = &p->rows[i];
        if (r->group)
            fprintf(out, ".SS %s\n", r->group);
        fputs(".TP\n", out);
        print_tag(out, r);
        if (r->man)
            fprintf(out, "%s\n", r->man);
        else
            print_help_as_roff(out, r->help);
    }
    print_spared(out, p);
}
