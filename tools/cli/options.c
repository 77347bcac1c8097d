/* tools/cli/options.c -- getopt_long over a table of rows, and the line that refuses a value.
 *
 * getopt_long finds which row a word means; its own messages, which name neither what an option
 * takes nor what was given, are off.  A row's number for it is its letter, or where it has none
 * its index behind all letters.
 */
#define _GNU_SOURCE /* getopt_long */
#include "tools/cli/options.h"

#include "tools/cli/exit_code.h"
#include "tools/cli/numbers.h"
#include "tools/cli/options_text.h"
#include "tools/cli/sizes.h"

#include <assert.h>
#include <float.h>
#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

enum { BEHIND_LETTERS = UCHAR_MAX + 1 };

/* What getopt_long wants to know. */
typedef struct getopt_tables {
    struct option longs[OPTIONS_MAX + 1];
    char letters[2 * OPTIONS_MAX + 3]; /* "+:m:i:h" */
} getopt_tables;

static bool needs_value(const option_row *r)
{
    return r->kind != OPTION_FLAG && r->kind < OPTION_STOP;
}

static int row_number(const options_program *p, int i)
{
    return p->rows[i].letter ? p->rows[i].letter : BEHIND_LETTERS + i;
}

/* NULL: no row has it. */
static const option_row *row_of_number(const options_program *p, int number)
{
    for (int i = 0; i < p->n_rows; i++)
        if (row_number(p, i) == number)
            return &p->rows[i];
    return NULL;
}

/* The first letters say that only we print, and whether options end at the first other word. */
static void fill_tables(getopt_tables *t, const options_program *p)
{
    char *letter = t->letters;
    assert(p->n_rows <= OPTIONS_MAX);
    if (p->in_order)
        *letter++ = '+';
    *letter++ = ':';
    for (int i = 0; i < p->n_rows; i++) {
        const option_row *r = &p->rows[i];
        t->longs[i] = (struct option){ r->name, needs_value(r) ? required_argument : no_argument,
                                       NULL, row_number(p, i) };
        if (!r->letter)
            continue;
        *letter++ = r->letter;
        if (needs_value(r))
            *letter++ = ':';
    }
    *letter = '\0';
    t->longs[p->n_rows] = (struct option){ 0 };
}

/* ---- values ---- */

static bool set_size_value(const option_row *r, const char *value, uint64_t *out)
{
    uint64_t bytes;
    if (!sizes_parse(value, &bytes) || (r->high && (bytes < r->low || bytes > r->high)))
        return false;
    *out = bytes;
    return true;
}

static bool set_rate_value(const char *value, double *out)
{
    uint64_t bytes;
    if (!sizes_parse(value, &bytes))
        return false;
    *out = (double)bytes;
    return true;
}

static bool set_float_value(const char *value, float *out)
{
    double v;
    if (!numbers_real(value, -FLT_MAX, FLT_MAX, &v))
        return false;
    *out = (float)v;
    return true;
}

static bool set_word_value(const option_row *r, const char *value, unsigned *out)
{
    for (unsigned i = 0; r->words[i]; i++)
        if (strcmp(value, r->words[i]) == 0) {
            *out = i;
            return true;
        }
    return false;
}

/* False: the value does not suit, and nothing is stored. */
static bool set_row_value(const option_row *r, void *arguments, const char *value)
{
    void *at = (char *)arguments + r->at;
    switch (r->kind) {
    case OPTION_FLAG: return *(bool *)at = true;
    case OPTION_TEXT: *(const char **)at = value; return true;
    case OPTION_SIZE: return set_size_value(r, value, at);
    case OPTION_RATE: return set_rate_value(value, at);
    case OPTION_INT: return numbers_int(value, (int)r->low, (int)r->high, at);
    case OPTION_PAIR:
        return numbers_pair(value, r->between, (int)r->low, (int)r->high, at,
                            (int *)(void *)((char *)arguments + r->second));
    case OPTION_WHOLE: return numbers_whole(value, r->low, r->high, at);
    case OPTION_REAL:
        return numbers_real(value, fmax(r->least, -DBL_MAX), fmin(r->most, DBL_MAX), at);
    case OPTION_FLOAT: return set_float_value(value, at);
    case OPTION_WORD: return set_word_value(r, value, at);
    default: return r->read(arguments, value);
    }
}

/* ---- refusals ---- */

static int report_value(const options_program *p, const option_row *r, const char *value, FILE *err)
{
    fprintf(err, "%s: --%s: give ", p->name, r->name);
    options_print_takes(err, r);
    if (value) {
        fputs(", not ", err);
        options_print_quoted(err, value);
    } else {
        fputs("; nothing follows it", err);
    }
    fputs("\n", err);
    return EXIT_USAGE;
}

static bool is_name_begun(const option_row *r, const char *written, size_t len)
{
    return strncmp(r->name, written, len) == 0;
}

/* A long option, `written` without its dashes, that is no row's name and the start of none's or of
 * several rows' names. */
static void report_long_name(const options_program *p, const char *written, FILE *err)
{
    const size_t len = strcspn(written, "=");
    int left = 0;
    for (int i = 0; i < p->n_rows; i++)
        left += is_name_begun(&p->rows[i], written, len);
    fprintf(err, "%s: --%.*s: ", p->name, (int)(len < 80 ? len : 80), written);
    if (left == 0) {
        fprintf(err, "there is no such option; see %s --help\n", p->name);
        return;
    }
    fputs("give more of its name: ", err);
    for (int i = 0; i < p->n_rows; i++)
        if (is_name_begun(&p->rows[i], written, len)) {
            left--;
            fprintf(err, "--%s%s", p->rows[i].name, left > 1 ? ", " : left == 1 ? " or " : "\n");
        }
}

/* `word`: what getopt_long stopped at, `number`: what it took that for; 0: for no option. */
static int report_option(const options_program *p, const char *word, int number, FILE *err)
{
    const option_row *r = row_of_number(p, number);
    const char *equals = strchr(word, '=');
    if (r && equals) {
        fprintf(err, "%s: --%s: takes no value, and was given ", p->name, r->name);
        options_print_quoted(err, equals + 1);
        fputs("\n", err);
    } else if (number == 0) {
        report_long_name(p, word + 2, err);
    } else {
        const char letter[2] = { (char)number, '\0' };
        fprintf(err, "%s: there is no option ", p->name);
        options_print_quoted(err, letter);
        fprintf(err, "; see %s --help\n", p->name);
    }
    return EXIT_USAGE;
}

int options_report(const options_program *p, const char *fmt, ...)
{
    va_list ap;
    fprintf(stderr, "%s: ", p->name);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "; see %s --help\n", p->name);
    return EXIT_USAGE;
}

/* ---- the words in their order ---- */

/* -1: go on. */
static int run_option(const options_program *p, const option_row *r, void *arguments,
                      const char *value, FILE *out, FILE *err)
{
    switch (r->kind) {
    case OPTION_HELP: options_print_help(out, p); return EXIT_DONE;
    case OPTION_VERSION: options_print_version(out, p); return EXIT_DONE;
    case OPTION_STOP: return r->stop();
    default: return set_row_value(r, arguments, value) ? -1 : report_value(p, r, value, err);
    }
}

int options_parse(options_parsed *parsed, const options_program *p, void *arguments, int argc,
                  char **argv, FILE *out, FILE *err)
{
    getopt_tables t;
    int number, code = -1;

    *parsed = (options_parsed){ .program = p };
    if (argc == 2 && strcmp(argv[1], OPTIONS_ROFF) == 0) {
        options_print_roff(out, p);
        return EXIT_DONE;
    }
    fill_tables(&t, p);
    opterr = 0;
    optind = 0; /* getopt begins anew */
    while (code < 0 && (number = getopt_long(argc, argv, t.letters, t.longs, NULL)) != -1) {
        if (number == '?')
            return report_option(p, argv[optind - 1], optopt, err);
        const option_row *r = row_of_number(p, number == ':' ? optopt : number);
        if (number == ':')
            return report_value(p, r, NULL, err);
        parsed->given |= (uint64_t)1 << (r - p->rows);
        code = run_option(p, r, arguments, optarg, out, err);
    }
    parsed->rest = optind;
    return code;
}

bool options_has(const options_parsed *parsed, const char *name)
{
    const options_program *p = parsed->program;
    int i = 0;
    while (strcmp(p->rows[i].name, name) != 0) {
        i++;
        assert(i < p->n_rows);
    }
    return parsed->given >> i & 1;
}
