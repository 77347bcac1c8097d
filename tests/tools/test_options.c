/* tests/tools/test_options.c -- what is written is what is stored, or one line says why not. */
#define _XOPEN_SOURCE 700
#include "tools/cli/options.h"

#include "tests/support/random.h"
#include "tools/arguments/lowmem_arguments.h"
#include "tools/arguments/memprof_arguments.h"
#include "tools/arguments/packer_arguments.h"
#include "tools/cli/exit_code.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct sample_arguments {
    bool flag, verbose;
    const char *text;
    uint64_t size, part, whole;
    double rate, real, share;
    int count, wide, high;
    float weight;
    unsigned word;
    const char *called;
} sample_arguments;

static const char *const COLOURS[] = { "red", "green", "blue", NULL };

static bool read_even(void *arguments, const char *v)
{
    ((sample_arguments *)arguments)->called = v;
    return strlen(v) % 2 == 0;
}

static int stop_with_7(void) { return 7; }

#define AT(kind, member) OPTION_##kind##_AT(sample_arguments, member), .help = "text"
#define RANGE(kind, member, from, to)                                                              \
    OPTION_##kind##_AT(sample_arguments, member, from, to), .help = "text"

static const option_row ROWS[] = {
    { .name = "flag", .letter = 'f', AT(FLAG, flag), .group = "One" },
    { .name = "verbose", .letter = 'v', AT(FLAG, verbose) },
    { .name = "text", .letter = 't', .argument = "T", AT(TEXT, text) },
    { .name = "size", .argument = "S", AT(SIZE, size) },
    { .name = "part", .argument = "S", AT(SIZE, part), .low = 1024, .high = 3 << 20 },
    { .name = "rate", .argument = "S", AT(RATE, rate) },
    { .name = "count", .letter = 'c', .argument = "N", RANGE(INT, count, 1, 9) },
    { .name = "whole", .argument = "N", RANGE(WHOLE, whole, 0, UINT64_MAX) },
    { .name = "real", .argument = "F", RANGE(REAL, real, -INFINITY, INFINITY) },
    { .name = "share", .argument = "F", RANGE(REAL, share, 0, 1) },
    { .name = "weight", .argument = "F", AT(FLOAT, weight) },
    { .name = "colour", OPTION_WORD_AT(sample_arguments, word, COLOURS), .help = "text" },
    { .name = "area",
      .argument = "WxH",
      OPTION_PAIR_AT(sample_arguments, wide, high, 'x', 1, 99),
      .takes = "two sides",
      .help = "text" },
    { .name = "even",
      .argument = "E",
      OPTION_CALLS(read_even),
      .takes = "an even word",
      .help = "text" },
    { .name = "stop", .kind = OPTION_STOP, .stop = stop_with_7, .help = "text" },
    OPTIONS_HELP,
};

static const options_program SAMPLE = { .name = "sample",
                                        .head = "usage: sample\n",
                                        .tail = "end\n",
                                        .rows = ROWS,
                                        .n_rows = sizeof ROWS / sizeof ROWS[0] };

enum { WORDS_MAX = 32, SAID = 8192 };

/* What became of a command line. */
typedef struct parse_outcome {
    int code;
    options_parsed parsed;
    char out[SAID], err[SAID];
    char *argv[WORDS_MAX];
    int argc;
} parse_outcome;

static void read_said(FILE *f, char text[SAID])
{
    rewind(f);
    text[fread(text, 1, SAID - 1, f)] = '\0';
    (void)fclose(f);
}

/* Argument words follow the program's name; NULL ends them. */
static void parse_words(parse_outcome *o, const options_program *p, void *arguments,
                        const char *const words[])
{
    FILE *out = tmpfile(), *err = tmpfile();
    o->argc = 0;
    o->argv[o->argc++] = (char *)(uintptr_t)p->name;
    for (int i = 0; words[i]; i++) {
        cr_assert_lt(o->argc, WORDS_MAX - 1);
        o->argv[o->argc++] = (char *)(uintptr_t)words[i];
    }
    o->argv[o->argc] = NULL;
    o->code = options_parse(&o->parsed, p, arguments, o->argc, o->argv, out, err);
    read_said(out, o->out);
    read_said(err, o->err);
}

#define PARSE(o, a, ...) parse_words((o), &SAMPLE, (a), (const char *const[]){ __VA_ARGS__, NULL })

Test(tools_options, stores_every_kind_where_its_row_says)
{
    sample_arguments a = { 0 };
    parse_outcome o;
    PARSE(&o, &a, "--flag", "-t", "x", "--size", "1.5K", "--part=2M", "--rate", "3", "-c9",
          "--whole", "18446744073709551615", "--real", "-1e300", "--share", "0.25", "--weight=-2.5",
          "--colour");
    cr_assert_eq(o.code, EXIT_USAGE, "the last has no value");
    PARSE(&o, &a, "--colour", "blue", "--even", "ab", "--area", "3x99");
    cr_assert_eq(o.code, -1, "%s", o.err);
    cr_expect(a.flag && !a.verbose && a.size == 1536 && a.part == 2 << 20 && a.rate == 3);
    cr_expect_str_eq(a.text, "x");
    cr_expect(a.count == 9 && a.whole == UINT64_MAX && a.real == -1e300 && a.share == 0.25);
    cr_expect(a.weight == -2.5f && a.word == 2 && a.wide == 3 && a.high == 99);
    cr_expect_str_eq(a.called, "ab");
}

Test(tools_options, are_written_as_getopt_long_has_them)
{
    sample_arguments a = { 0 };
    parse_outcome o;
    PARSE(&o, &a, "one", "-fvtx", "--cou", "3", "--count=4", "two", "--", "--flag");
    cr_assert_eq(o.code, -1, "%s", o.err);
    cr_expect(a.flag && a.verbose && a.count == 4);
    cr_expect_str_eq(a.text, "x");
    cr_assert_eq(o.argc - o.parsed.rest, 3);
    cr_expect_str_eq(o.argv[o.parsed.rest], "one");
    cr_expect_str_eq(o.argv[o.parsed.rest + 2], "--flag");
    cr_expect(options_has(&o.parsed, "flag") && options_has(&o.parsed, "count"));
    cr_expect_not(options_has(&o.parsed, "size"));
}

Test(tools_options, end_at_the_first_other_word_where_the_program_wants_that)
{
    options_program p = SAMPLE;
    sample_arguments a = { 0 };
    parse_outcome o;
    p.in_order = true;
    parse_words(&o, &p, &a, (const char *const[]){ "-f", "job", "-v", NULL });
    cr_expect(o.code == -1 && a.flag && !a.verbose);
    cr_expect_str_eq(o.argv[o.parsed.rest], "job");
}

Test(tools_options, act_at_once_and_in_their_order)
{
    sample_arguments a = { 0 };
    parse_outcome o;
    PARSE(&o, &a, "--stop", "--bogus");
    cr_expect_eq(o.code, 7);
    PARSE(&o, &a, "-f", "--help", "--stop");
    cr_expect(o.code == EXIT_DONE && strstr(o.out, "usage: sample\n") && o.err[0] == '\0');
    PARSE(&o, &a, "--version");
    cr_expect_eq(strncmp(o.out, "sample 0.", 9), 0, "%s", o.out);
    PARSE(&o, &a, "--bogus", "--help");
    cr_expect(o.code == EXIT_USAGE && o.out[0] == '\0');
    PARSE(&o, &a, "--man-options");
    cr_expect(o.code == EXIT_DONE && strstr(o.out, ".TP\n"));
    PARSE(&o, &a, "--man-options", "-f");
    cr_expect_eq(o.code, EXIT_USAGE, "it stands alone");
}

Test(tools_options, say_what_they_take_and_what_was_given)
{
    static const struct {
        const char *words[3], *says;
    } CASES[] = {
        { { "-c", "10" }, "--count: give a number from 1 to 9, not \"10\"" },
        { { "--count=" }, "--count: give a number from 1 to 9, not \"\"" },
        { { "--count" }, "--count: give a number from 1 to 9; nothing follows it" },
        { { "--whole", "-1" }, "--whole: give a number from 0 to 18446744073709551615, not" },
        { { "--size", "much" }, "--size: give a size such as 512M or 1.5G, not \"much\"" },
        { { "--part", "1023" }, "--part: give a size from 1K to 3M, not \"1023\"" },
        { { "--part", "4M" }, "--part: give a size from 1K to 3M, not \"4M\"" },
        { { "--rate", "0" }, "--rate: give a size such as 512M or 1.5G, not \"0\"" },
        { { "--share", "1.5" }, "--share: give a number from 0 to 1, not \"1.5\"" },
        { { "--real", "nan" }, "--real: give a finite number, not \"nan\"" },
        { { "--real", "inf" }, "--real: give a finite number, not \"inf\"" },
        { { "--weight", "1e39" }, "--weight: give a finite number, not \"1e39\"" },
        { { "--colour", "gree" }, "--colour: give red, green or blue, not \"gree\"" },
        { { "--area", "0x3" }, "--area: give two sides, not \"0x3\"" },
        { { "--area", "3x100" }, "--area: give two sides, not" },
        { { "--area", "3,4" }, "--area: give two sides, not" },
        { { "--even", "odd" }, "--even: give an even word, not \"odd\"" },
        { { "--text" }, "--text: give T; nothing follows it" },
        { { "--text", NULL }, "--text: give T; nothing follows it" },
        { { "--flag=yes" }, "--flag: takes no value, and was given \"yes\"" },
        { { "--bogus=3" }, "--bogus: there is no such option; see sample --help" },
        { { "--ver" }, "--ver: give more of its name: --verbose or --version" },
        { { "--s=1" }, "--s: give more of its name: --size, --share or --stop" },
        { { "-fz" }, "there is no option \"z\"; see sample --help" },
        { { "--colour", "a\nb\x7f" }, "not \"a?b?\"" },
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        sample_arguments a = { 0 };
        const sample_arguments untouched = { 0 };
        parse_outcome o;
        parse_words(&o, &SAMPLE, &a, CASES[i].words);
        cr_expect_eq(o.code, EXIT_USAGE, "%s", CASES[i].says);
        cr_expect_eq(strncmp(o.err, "sample: ", 8), 0, "%s", o.err);
        cr_expect_not_null(strstr(o.err, CASES[i].says), "no '%s' in %s", CASES[i].says, o.err);
        cr_expect_eq(strchr(o.err, '\n'), o.err + strlen(o.err) - 1, "not one line: %s", o.err);
        cr_expect_str_eq(o.out, "");
        a.flag = false; /* -fz */
        a.called = NULL;
        cr_expect_eq(memcmp(&a, &untouched, sizeof a), 0, "%s: something was stored",
                     CASES[i].says);
    }
}

Test(tools_options, cut_long_values_short)
{
    sample_arguments a = { 0 };
    parse_outcome o;
    char value[1000];
    memset(value, 'x', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    PARSE(&o, &a, "--count", value);
    cr_expect(strlen(o.err) < 160 && strstr(o.err, "xxx...\""), "%s", o.err);
}

/* ---- any row of any program ---- */

typedef union any_arguments {
    lowmem_arguments lowmem;
    packer_arguments packer;
    memprof_arguments memprof;
} any_arguments;

/* A value of the row's kind: as text, and as it lies in memory. */
typedef struct written_value {
    char text[64];
    union {
        bool flag;
        const char *text;
        uint64_t whole;
        double real;
        float single;
        int integer;
        unsigned word;
    } is;
    size_t bytes;
} written_value;

static uint64_t draw_between(uint64_t *seed, uint64_t low, uint64_t high)
{
    const uint64_t n = high - low + 1; /* 0: all there are */
    const int edge = random_below(seed, 4);
    if (edge < 2)
        return edge ? high : low;
    return n ? low + random_bits(seed) % n : random_bits(seed);
}

static void draw_real(written_value *v, const option_row *r, uint64_t *seed)
{
    const double u = (double)(random_bits(seed) >> 11) * 0x1p-53;
    if (r->kind == OPTION_FLOAT)
        v->is.single = (float)ldexp(u - 0.5, random_below(seed, 200) - 100);
    else
        v->is.real = isfinite(r->least) ? r->least + u * (r->most - r->least)
                                        : ldexp(u - 0.5, random_below(seed, 2000) - 1000);
    v->bytes = r->kind == OPTION_FLOAT ? sizeof v->is.single : sizeof v->is.real;
    (void)snprintf(v->text, sizeof v->text, "%.17g",
                   r->kind == OPTION_FLOAT ? (double)v->is.single : v->is.real);
}

static void draw_bytes(written_value *v, const option_row *r, uint64_t *seed)
{
    const uint64_t low = r->high ? r->low : 1, high = r->high ? r->high : (uint64_t)1 << 40;
    uint64_t n = draw_between(seed, low, high);
    if (random_below(seed, 2) && n >= 2048) {
        n -= n % 1024;
        (void)snprintf(v->text, sizeof v->text, "%" PRIu64 "K", n / 1024);
    } else {
        (void)snprintf(v->text, sizeof v->text, "%" PRIu64, n);
    }
    if (r->kind == OPTION_RATE)
        v->is.real = (double)n;
    else
        v->is.whole = n;
    v->bytes = sizeof(uint64_t);
}

static void draw_written(written_value *v, const option_row *r, uint64_t *seed)
{
    int n = 0;
    switch (r->kind) {
    case OPTION_FLAG:
        v->is.flag = true;
        v->bytes = sizeof v->is.flag;
        break;
    case OPTION_TEXT:
        for (; n < random_below(seed, 20); n++)
            v->text[n] = (char)(' ' + random_below(seed, 95));
        v->text[n] = '\0';
        break;
    case OPTION_SIZE:
    case OPTION_RATE: draw_bytes(v, r, seed); break;
    case OPTION_INT:
        v->is.integer = (int)draw_between(seed, r->low, r->high);
        v->bytes = sizeof v->is.integer;
        (void)snprintf(v->text, sizeof v->text, "%d", v->is.integer);
        break;
    case OPTION_WHOLE:
        v->is.whole = draw_between(seed, r->low, r->high);
        v->bytes = sizeof v->is.whole;
        (void)snprintf(v->text, sizeof v->text, "%" PRIu64, v->is.whole);
        break;
    case OPTION_REAL:
    case OPTION_FLOAT: draw_real(v, r, seed); break;
    default:
        while (r->words[n])
            n++;
        v->is.word = (unsigned)random_below(seed, n);
        v->bytes = sizeof v->is.word;
        (void)snprintf(v->text, sizeof v->text, "%s", r->words[v->is.word]);
    }
}

/* One option as one or two words, in one of the ways there are.  False: as one. */
static bool write_option(char word[128], const option_row *r, const char *text, uint64_t *seed)
{
    if (r->kind == OPTION_FLAG) {
        (void)snprintf(word, 128, r->letter && random_below(seed, 2) ? "-%.0s%c" : "--%s", r->name,
                       r->letter);
        return false;
    }
    switch (random_below(seed, r->letter ? 4 : 2)) {
    case 0: (void)snprintf(word, 128, "--%s", r->name); return true;
    case 1: (void)snprintf(word, 128, "--%s=%s", r->name, text); return false;
    case 2: (void)snprintf(word, 128, "-%c", r->letter); return true;
    default:
        (void)snprintf(word, 128, "-%c%s", r->letter, text);
        return text[0] == '\0'; /* -o alone takes the next */
    }
}

static const options_program *const PROGRAMS[] = { &LOWMEM_OPTIONS, &PACKER_OPTIONS,
                                                   &MEMPROF_OPTIONS };

static bool has_value(const option_row *r) { return r->kind < OPTION_CALL; }

Test(tools_options, any_value_of_any_row_is_read_as_it_was_written)
{
    uint64_t seed = 1;
    for (int i = 0; i < 6000; i++) {
        const options_program *p = PROGRAMS[i % 3];
        const option_row *r = &p->rows[random_below(&seed, p->n_rows)];
        if (!has_value(r))
            continue;
        any_arguments a = { 0 };
        written_value v = { 0 };
        parse_outcome o;
        char word[128];
        draw_written(&v, r, &seed);
        const bool apart = write_option(word, r, v.text, &seed);
        parse_words(&o, p, &a, (const char *const[]){ word, apart ? v.text : NULL, NULL });
        cr_assert_eq(o.code, -1, "%s %s: %s", word, apart ? v.text : "", o.err);
        cr_assert(options_has(&o.parsed, r->name), "%s", word);
        const char *at = (const char *)&a + r->at;
        if (r->kind == OPTION_TEXT)
            cr_assert_str_eq(*(const char *const *)(const void *)at, v.text, "%s", word);
        else
            cr_assert_eq(memcmp(at, &v.is, v.bytes), 0, "%s %s", word, apart ? v.text : "");
    }
}

/* Just outside of what a row takes, and what its refusal must name.  False: nothing is. */
static bool draw_outside(char text[64], char named[64], const option_row *r, bool above)
{
    switch (r->kind) {
    case OPTION_INT:
        (void)snprintf(text, 64, "%lld", above ? (long long)r->high + 1 : (long long)r->low - 1);
        break;
    case OPTION_WHOLE: (void)snprintf(text, 64, "%s", above ? "18446744073709551616" : "-1"); break;
    case OPTION_SIZE:
        if (!r->high)
            return false;
        (void)snprintf(text, 64, "%" PRIu64, above ? r->high + 1 : r->low - 1);
        (void)snprintf(named, 64, "a size from %" PRIu64 "K to %" PRIu64 "M", r->low >> 10,
                       r->high >> 20);
        return true;
    case OPTION_REAL:
        (void)snprintf(text, 64, "%.17g",
                       above ? nextafter(r->most, 1e300) : nextafter(r->least, -1e300));
        if (r->takes)
            (void)snprintf(named, 64, "%s", r->takes);
        else
            (void)snprintf(named, 64, "a number from %g to %g", r->least, r->most);
        return true;
    default: return false;
    }
    (void)snprintf(named, 64, "a number from %" PRIu64 " to %" PRIu64, r->low, r->high);
    return true;
}

Test(tools_options, what_is_just_out_of_range_is_refused_with_the_range)
{
    int tried = 0;
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 2 * PROGRAMS[i]->n_rows; k++) {
            const option_row *r = &PROGRAMS[i]->rows[k / 2];
            char text[64], named[64], word[64];
            any_arguments a = { 0 };
            parse_outcome o;
            if (!has_value(r) || !draw_outside(text, named, r, k % 2))
                continue;
            (void)snprintf(word, sizeof word, "--%s", r->name);
            parse_words(&o, PROGRAMS[i], &a, (const char *const[]){ word, text, NULL });
            cr_expect_eq(o.code, EXIT_USAGE, "%s %s", word, text);
            cr_expect(strstr(o.err, named) && strstr(o.err, text) && strstr(o.err, word),
                      "%s %s: no '%s' in %s", word, text, named, o.err);
            tried++;
        }
    cr_assert_geq(tried, 24);
}
