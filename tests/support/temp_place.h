/* tests/support/temp_place.h -- a directory of a test's own, and the file it is to make there. */
#ifndef TEMP_PLACE_H
#define TEMP_PLACE_H

#include "tests/support/temp_file.h"

typedef struct temp_place {
    char dir[TEMP_NAME], path[TEMP_NAME + 16];
} temp_place;

temp_place temp_place_make(const char *file);
int temp_files_in(const char *dir); /* hidden ones apart */

#endif
