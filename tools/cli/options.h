/* tools/cli/options.h -- one row describes an option: how it is written, what it takes, where that
 * goes, and what --help and the man page say of it.
 *
 *     static const option_row ROWS[] = {
 *         { .name = "steps", .argument = "N", OPTION_INT_AT(arguments, j.steps, 1, 1000),
 *           .group = "The image", .help = "steps of the whole schedule (50)" },
 *         OPTIONS_HELP,
 *     };
 *     const options_program PROGRAM = { .name = "refine-x", .rows = ROWS, ... };
 *     int code = options_parse(&parsed, &PROGRAM, &a, argc, argv, stdout, stderr);
 *
 * Options are read in order, as getopt_long does: abbreviations, --name=value, -nVALUE, clusters of
 * letters, "--".  The last of two wins.  A refusal is one line, such as
 *
 *     refine-x: --steps: give a number from 1 to 1000, not "0"
 */
#ifndef REFINE_OPTIONS_H
#define REFINE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef enum option_kind {
    OPTION_FLAG,    /* bool: becomes true */
    OPTION_TEXT,    /* const char *: the word of argv itself */
    OPTION_SIZE,    /* uint64_t: an amount of bytes (tools/cli/sizes.h) */
    OPTION_RATE,    /* double: an amount of bytes a second */
    OPTION_INT,     /* int */
    OPTION_WHOLE,   /* uint64_t */
    OPTION_REAL,    /* double */
    OPTION_FLOAT,   /* float */
    OPTION_WORD,    /* unsigned or an enum: the index of the word */
    OPTION_CALL,    /* whatever `read` makes of it */
    OPTION_PAIR,    /* two ints with a character between */
    OPTION_STOP,    /* `stop` does all there is to do and returns the exit code */
    OPTION_HELP,    /* likewise, here */
    OPTION_VERSION
} option_kind;

typedef struct option_row {
    const char *name;     /* without its dashes; no two rows have the same */
    char letter;          /* 0: none */
    const char *argument; /* as --help names it; NULL: the words, or there is none */
    option_kind kind;
    size_t at;            /* offset of where it is stored in the program's arguments */
    size_t second;        /* likewise, of a pair's second number */
    char between;         /* the numbers of a pair */
    uint64_t low, high;   /* sizes and whole numbers; both 0: any size */
    double least, most;   /* real numbers; infinite: any finite one */
    const char *const *words;                           /* NULL-ended */
    bool (*read)(void *arguments, const char *value);   /* false: it does not suit */
    int (*stop)(void);
    const char *takes; /* what a refusal says to give; NULL: follows from the kind */
    const char *group; /* of the first row of a group: its heading */
    const char *help;  /* is wrapped; '\n' begins a line */
    const char *man;   /* roff; NULL: the help text */
    bool spares_image; /* what is made does not depend on it; the man page says so */
} option_row;

/* Kind and place of a row in one: a member of another type does not compile. */
#define OPTION_PLACE(type, member, as)                                                             \
    .at = _Generic(((type *)0)->member, as: offsetof(type, member))
#define OPTION_FLAG_AT(type, member)   .kind = OPTION_FLAG, OPTION_PLACE(type, member, bool)
#define OPTION_TEXT_AT(type, member)   .kind = OPTION_TEXT, OPTION_PLACE(type, member, const char *)
#define OPTION_SIZE_AT(type, member)   .kind = OPTION_SIZE, OPTION_PLACE(type, member, uint64_t)
#define OPTION_RATE_AT(type, member)   .kind = OPTION_RATE, OPTION_PLACE(type, member, double)
#define OPTION_FLOAT_AT(type, member)  .kind = OPTION_FLOAT, OPTION_PLACE(type, member, float)
#define OPTION_SIZE_FROM(type, member, from, to)                                                   \
    OPTION_SIZE_AT(type, member), .low = (from), .high = (to)
#define OPTION_INT_AT(type, member, from, to)                                                      \
    .kind = OPTION_INT, OPTION_PLACE(type, member, int), .low = (from), .high = (to)
#define OPTION_PAIR_AT(type, first, other, mark, from, to)                                         \
    .kind = OPTION_PAIR, OPTION_PLACE(type, first, int), .low = (from), .high = (to),              \
    .second = _Generic(((type *)0)->other, int: offsetof(type, other)), .between = (mark)
#define OPTION_WHOLE_AT(type, member, from, to)                                                    \
    .kind = OPTION_WHOLE, OPTION_PLACE(type, member, uint64_t), .low = (from), .high = (to)
#define OPTION_REAL_AT(type, member, from, to)                                                     \
    .kind = OPTION_REAL, OPTION_PLACE(type, member, double), .least = (from), .most = (to)
#define OPTION_WORD_AT(type, member, list)                                                         \
    .kind = OPTION_WORD, OPTION_PLACE(type, member, unsigned), .words = (list)
#define OPTION_CALLS(function)         .kind = OPTION_CALL, .read = (function)

/* The last rows of every program. */
#define OPTIONS_HELP                                                                               \
    {                                                                                              \
        .name = "help", .letter = 'h', .kind = OPTION_HELP, .group = "Help",                       \
        .help = "all options, and stop",                                                           \
    },                                                                                             \
    {                                                                                              \
        .name = "version", .kind = OPTION_VERSION, .help = "name and version, and stop",           \
    }

typedef struct options_program {
    const char *name;
    const char *head; /* of --help, before the options: how it is called, and what it does */
    const char *tail; /* after them: notes and examples */
    const option_row *rows;
    int n_rows;
    bool in_order; /* options end at the first word that is none */
} options_program;

enum { OPTIONS_MAX = 64 }; /* rows of a program */

typedef struct options_parsed {
    const options_program *program;
    uint64_t given; /* bit i: row i was */
    int rest;       /* argv[rest] and what follows are no options */
} options_parsed;

/* Reads argv, reordering it, into `arguments`.  Returns -1 to go on, else the exit code: what was
 * asked for was printed to `out`, or one line to `err`.  Uses getopt's state, of which a process
 * has one. */
int options_parse(options_parsed *parsed, const options_program *p, void *arguments, int argc,
                  char **argv, FILE *out, FILE *err);

/* By the long name, which must be a row's. */
bool options_has(const options_parsed *parsed, const char *name);

/* What is wrong between options, as one line to stderr.  Returns the exit code. */
int options_report(const options_program *p, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
