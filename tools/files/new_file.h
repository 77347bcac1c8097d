/* tools/files/new_file.h -- a file that appears under its name only when it is complete.
 *
 * It is written beside its final place as a file without a name, or, where the file system has
 * no such thing, under a temporary name ("OUT.<pid>-<n>.part") that is locked as long as its
 * writer lives.
 *
 *     open --write--> commit: durable, then under its name at once
 *          \                 \--it cannot be: kept as "OUT.<pid>-<n>.whole", and the error says so
 *           \-------> abandon: never was
 *
 * What it replaces gives it its owner and permissions.  A symbolic link stays, and what it leads
 * to is replaced; other names of a replaced file (hard links) keep what was there.  What is no
 * regular file is written as it is (tools/files/file_target.h).
 *
 * A program that is interrupted must reach commit or abandon (see tools/cli/interrupt.h).  What
 * those that were killed left under temporary names new_file_try removes: their locks are gone.
 */
#ifndef REFINE_NEW_FILE_H
#define REFINE_NEW_FILE_H

#include "tools/files/file_target.h"
#include <refine/status.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum new_file_mode {
    NEW_FILE_ONLY,    /* nothing is replaced */
    NEW_FILE_REPLACE, /* a regular file is */
    NEW_FILE_STREAM   /* the same, written from front to end, so that it may be a pipe */
} new_file_mode;

typedef struct new_file {
    int fd;     /* read and write, or write only as it is; -1: not open */
    int direct; /* the same, past the page cache; -1: there is no such thing */
    new_file_mode mode;
    uint64_t streamed; /* bytes of what is written as it is */
    bool reader_left;  /* the pipe that it is has no reader any more */
    char *path;        /* as it was given */
    file_target target;
    char *temporary; /* "": without a name */
} new_file;

/* REFINE_EINVAL: it exists and must not be replaced, or it is a directory, or a pipe and not to be
 * streamed to.  On failure nothing needs closing. */
refine_status new_file_open(new_file *f, const char *path, new_file_mode mode, refine_error *err);

/* The same where there are no files without a name. */
refine_status new_file_open_named(new_file *f, const char *path, new_file_mode mode,
                                  refine_error *err);

/* Could it be opened now, and a file be made there?  Nothing changes but that temporary files of
 * writers that were killed are removed from the directory. */
refine_status new_file_try(const char *path, new_file_mode mode, refine_error *err);

/* The part of this that costs little: the directory is not written to. */
refine_status new_file_check(const char *path, new_file_mode mode, refine_error *err);

/* Writes all of it at an offset.  Thread-safe, unless the mode is NEW_FILE_STREAM: then each write
 * begins where the last ended.  Where address, size and offset are multiples of
 * NEW_FILE_ALIGN the page cache is passed by: gigabytes that are not read again soon would
 * push out what is.  Do not write such a block and bytes next to it in one page. */
enum { NEW_FILE_ALIGN = 4096 };
refine_status new_file_write(new_file *f, const void *data, size_t bytes, uint64_t at,
                             refine_error *err);

/* Waits until what was written is on the medium. */
refine_status new_file_sync(const new_file *f, refine_error *err);

/* Sync, then the name.  Whatever happens, `f` is closed; what could not have its name is kept under
 * the one that the error tells. */
refine_status new_file_commit(new_file *f, refine_error *err);
void new_file_abandon(new_file *f); /* after either, or a failed open: does nothing */

/* Bytes that could still be written to the file system; UINT64_MAX when it will not say. */
uint64_t new_file_room(const new_file *f);

/* Opens, fills, commits; "-" is standard output.  What cannot be written there is written to TMPDIR
 * or /var/tmp instead, and the error says where: it may have taken an hour to make.  A reader that
 * has gone wants it no more, and nothing is. */
typedef refine_status new_file_filler(new_file *f, const void *context, refine_error *err);
refine_status new_file_save(const char *path, new_file_filler *fill, const void *context,
                            refine_error *err);

#endif
