/* tests/property/any_command.h -- command lines of refine-lowmem for one image or two of its own
 * kind, drawn from the program's table of options.
 *
 * An option that is new in the table is drawn with values of its kind.  Of a text, an amount, or
 * what only a function of its own can read, any_command.c must say what is to be tried: until then
 * no case is.
 *
 *     place/in0/p.png, in1/p.png, ...   inputs
 *     out/p.png                         what is made, or p.jpg; p-1.png and p-2.png of two
 */
#ifndef TEST_ANY_COMMAND_H
#define TEST_ANY_COMMAND_H

#include "tests/property/property.h"
#include "tools/cli/options.h"

enum { COMMAND_VALUE = 64, COMMAND_PATH = 512, COMMAND_NAMES = 3 };

typedef struct any_command {
    int model, base, input; /* which of those there are; -1: none */
    bool by_list;           /* a manifest says what it can say, and names the output */
    bool misled;            /* the command line says otherwise, for other images of the list */
    bool jpeg;
    int isa; /* which processor it takes this one for; 0: itself */
    bool given[OPTIONS_MAX]; /* by the rows of LOWMEM_OPTIONS */
    char value[OPTIONS_MAX][COMMAND_VALUE];
} any_command;

/* Finds the packs, which are made when they are not there; before the first case. */
void any_command_prepare(void);
void any_command_inputs(const char *place);

/* One that makes an image, as a rule: it may ask for what the model or the input has not. */
void draw_command(draws *d, any_command *c);
/* Changes one thing, and appends what to `said`. */
void draw_command_change(draws *d, any_command *c, char *said, size_t size);

/* Whether the second is to find what the first made: they differ at most in what no image depends
 * on, in how they are spelt, and in that the second may take any seed. */
bool command_is_repeated(const any_command *first, const any_command *second);
/* Word for word. */
bool command_is_same(const any_command *first, const any_command *second);
bool command_has_seed(const any_command *c);
void command_take_seed(any_command *c, const any_command *from);

void command_format(char *out, size_t size, const any_command *c);
/* The name of a file that the command may leave: of COMMAND_NAMES. */
void command_output(char path[COMMAND_PATH], const char *out, const any_command *c, int which);

/* Runs it, into the directory `out`; its exit status, -1 where a signal ended it.  What it said is
 * in place/said.  `asks`: with a ceiling that no image can be made with, so that it ends well if
 * and only if all is there already. */
int command_run(const any_command *c, const char *place, const char *out, bool asks);

#endif
