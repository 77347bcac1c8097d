/* tools/cli/program.h -- what surrounds every program.
 *
 *     int main(int argc, char **argv)
 *     {
 *         program_begin();
 *         return program_end("refine-pack", ...the exit code...);
 *     }
 */
#ifndef REFINE_PROGRAM_H
#define REFINE_PROGRAM_H

/* A file that grows beyond the limit on sizes is an error of write, not the end of the process.
 * No file that is opened later takes the number of a standard stream that was closed, and with it
 * what is printed. */
void program_begin(void);

/* The exit code: EXIT_FAILED, with a line on stderr, where all went well but standard output could
 * not be written.  Where a signal was held (tools/cli/interrupt.h) it ends the process here, so
 * that a shell's loop sees it. */
int program_end(const char *program, int code);

#endif
