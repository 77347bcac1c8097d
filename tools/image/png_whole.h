/* tools/image/png_whole.h -- whether a PNG is all there. */
#ifndef REFINE_PNG_WHOLE_H
#define REFINE_PNG_WHOLE_H

#include <stdbool.h>
#include <stdio.h>

/* From where `f` stands: every chunk up to IEND is there and has its CRC.  It takes the time of
 * reading the file. */
bool png_is_whole(FILE *f);

#endif
