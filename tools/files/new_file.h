/* tools/files/new_file.h -- a file that appears under its name only when it is complete.
 *
 * It is written beside its final place under a temporary name ("OUT.<pid>.part"); commit
 * makes it durable and gives it its name, abandon removes it.  A program that is
 * interrupted must reach one of the two (see tools/cli/interrupt.h).
 */
#ifndef REFINE_NEW_FILE_H
#define REFINE_NEW_FILE_H

#include <refine/status.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct new_file {
    int fd;     /* read and write; -1: not open */
    int direct; /* the same, past the page cache; -1: the file system has no such thing */
    bool replace;
    char *path, *temporary;
} new_file;

/* REFINE_EINVAL: `path` exists and replace is false, or it is no regular file.
 * On failure nothing needs closing. */
refine_status new_file_open(new_file *f, const char *path, bool replace, refine_error *err);

/* Writes all of it at an offset.  Thread-safe.  Where address, size and offset are multiples of
 * NEW_FILE_ALIGN the page cache is passed by: gigabytes that are not read again soon would
 * push out what is.  Do not write such a block and bytes next to it in one page. */
enum { NEW_FILE_ALIGN = 4096 };
refine_status new_file_write(const new_file *f, const void *data, size_t bytes, uint64_t at,
                             refine_error *err);

/* Waits until what was written is on the medium. */
refine_status new_file_sync(const new_file *f, refine_error *err);

/* Sync and rename.  Whatever happens, `f` is closed and no temporary file is left. */
refine_status new_file_commit(new_file *f, refine_error *err);
void new_file_abandon(new_file *f); /* after either, or a failed open: does nothing */

/* Bytes that could still be written to the file system; UINT64_MAX when it will not say. */
uint64_t new_file_room(const new_file *f);

#endif
