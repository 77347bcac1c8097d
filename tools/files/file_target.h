/* tools/files/file_target.h -- what a name stands for that is to be written.
 *
 *     a file, or nothing yet       it is replaced by a new one, or made
 *     a link to either             the same for what it leads to; the link stays
 *     a pipe, a terminal, a device, and what is open already (/dev/stdout, /dev/fd/3)
 *                                  it is written as it is
 *     a directory, and what may not be written
 *                                  errno says why not
 */
#ifndef REFINE_FILE_TARGET_H
#define REFINE_FILE_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

typedef struct file_target {
    char *path; /* owned; without a link in its last component, unless it is written as it is */
    bool exists, as_it_is;
    struct stat st; /* if it exists */
} file_target;

/* False: errno says why it cannot be written.  Then nothing needs freeing. */
bool file_target_find(file_target *t, const char *name);
void file_target_free(file_target *t); /* a zeroed one is fine */

/* The directory of a path, "." if it names none; false: it is too long.  The path's last
 * component. */
bool file_directory(char *out, size_t size, const char *path);
const char *file_base(const char *path);

#endif
