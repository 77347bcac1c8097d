/* tools/cli/program.h -- what surrounds every program.
 *
 *     int main(int argc, char **argv)
 *     {
 *         if (!program_begin("refine-pack"))
 *             return EXIT_FAILED;
 *         return program_end("refine-pack", ...the exit code...);
 *     }
 */
#ifndef REFINE_PROGRAM_H
#define REFINE_PROGRAM_H

#include <stdbool.h>

/* A file that grows beyond the limit on sizes is an error of write, not the end of the process.
 * No file that is opened later takes the number of a standard stream that was closed, and with it
 * what is printed.  False, with a line on stderr: the limit on stacks (ulimit -s) is so small that
 * it would end in a crash. */
bool program_begin(const char *program);

/* The exit code: EXIT_FAILED, with a line on stderr, where all went well but standard output could
 * not be written.  Where a signal was held (tools/cli/interrupt.h) it ends the process here, so
 * that a shell's loop sees it. */
int program_end(const char *program, int code);

#endif
