/* tools/files/input_file.h -- a path to an input that can be opened as often as wanted.
 *
 *     input_file f;
 *     TRY(input_file_open(&f, "-", err));
 *     st = ... f.path is sniffed, then read ...
 *     if (st != REFINE_OK)
 *         input_file_name_error(&f, err);
 *     input_file_close(&f);
 *
 * A pipe gives its bytes once, and who opens it a second time may wait for ever.  So standard input
 * and what is no regular file are copied into a file in memory, which has a path in /proc.
 */
#ifndef REFINE_INPUT_FILE_H
#define REFINE_INPUT_FILE_H

#include <refine/status.h>

#include <stdbool.h>
#include <stdint.h>

typedef struct input_file {
    int fd;           /* of the file in memory, owned; -1: there is none */
    uint64_t bytes;   /* in memory */
    const char *path; /* as given, or copy_path */
    const char *name; /* what the user calls it */
    char copy_path[32];
} input_file;

/* "-" is standard input; `most` bytes may go to memory.  `path` is kept, and f must stay where it
 * is.  REFINE_EIO: a pipe cannot be opened or read.  REFINE_EBUDGET: it gives more than `most`.  On
 * failure nothing needs closing. */
refine_status input_file_open(input_file *f, const char *path, uint64_t most, refine_error *err);
void input_file_close(input_file *f);

/* Whether opening it waits for somebody to write. */
bool input_file_is_pipe(const char *path);

/* Lets an error that begins with f.path begin with f.name. */
void input_file_name_error(const input_file *f, refine_error *err);

#endif
