/* tools/cli/options_text.h -- what a table of options says: to a terminal, to man, to who gave a
 * wrong value. */
#ifndef REFINE_OPTIONS_TEXT_H
#define REFINE_OPTIONS_TEXT_H

#include "tools/cli/options.h"

enum { HELP_COLUMNS = 80 }; /* no line of --help is longer */

/* As the only word: prints what stands for @OPTIONS@ in a man page.  It is no row, so that it
 * makes no abbreviation ambiguous. */
#define OPTIONS_ROFF "--man-options"

void options_print_help(FILE *out, const options_program *p);
void options_print_version(FILE *out, const options_program *p);
void options_print_roff(FILE *out, const options_program *p);

/* "a number from 1 to 256", "auto, io_uring or pread". */
void options_print_takes(FILE *out, const option_row *r);

/* In quotes, on one line, its beginning if it is long. */
void options_print_quoted(FILE *out, const char *value);

#endif
