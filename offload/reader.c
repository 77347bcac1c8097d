/* offload/reader.c -- the reader that was asked for, or the better one of those this system has. */
#include "offload/reader.h"

#include <stdio.h>
#include <string.h>

static refine_status open_best_reader(reader **out, const reader_config *c, char *note,
                                      refine_error *err)
{
    refine_error why;

    if (reader_open_uring(out, c, &why) == REFINE_OK) {
        if (note && !strstr((*out)->name, "O_DIRECT"))
            (void)snprintf(note, READER_NOTE, "the file system has no O_DIRECT");
        return REFINE_OK;
    }
    const refine_status st = reader_open_pread(out, c, err);
    if (st == REFINE_OK && note)
        (void)snprintf(note, READER_NOTE, "%.200s; reading with threads instead", why.text);
    return st;
}

refine_status reader_open(reader **out, reader_kind kind, const reader_config *c, char *note,
                          refine_error *err)
{
    if (note)
        note[0] = '\0';
    switch (kind) {
    case READER_URING: return reader_open_uring(out, c, err);
    case READER_PREAD: return reader_open_pread(out, c, err);
    case READER_AUTO: break;
    }
    return open_best_reader(out, c, note, err);
}
