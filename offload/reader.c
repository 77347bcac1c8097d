/* offload/reader.c -- the better reader of those this system has. */
#include "offload/reader.h"

#include <stdio.h>
#include <string.h>

refine_status reader_open_auto(reader **out, const reader_config *c, char *note, size_t note_len,
                               refine_error *err)
{
    refine_error why;

    note[0] = '\0';
    if (reader_open_uring(out, c, &why) == REFINE_OK) {
        if (!strstr((*out)->name, "O_DIRECT"))
            (void)snprintf(note, note_len, "the file system has no O_DIRECT");
        return REFINE_OK;
    }
    const refine_status st = reader_open_pread(out, c, err);
    if (st == REFINE_OK)
        (void)snprintf(note, note_len, "%s; reading with threads instead", why.text);
    return st;
}
