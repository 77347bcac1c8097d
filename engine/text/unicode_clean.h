/* engine/text/unicode_clean.h -- prompt bytes to normalised, lower-case UTF-8. */
#ifndef REFINE_UNICODE_CLEAN_H
#define REFINE_UNICODE_CLEAN_H

#include "engine/text/tokenizer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CLEAN_POINTS = 2 * (TOKENIZER_MAX_BYTES + 1) };

/* Cleans utf8[0..len) as the flavour has it, into text[0..*text_len).  `point` is room to work in;
 * nothing is allocated.  False: longer than TOKENIZER_MAX_BYTES, in the end or on the way. */
bool clean_prompt(char text[TOKENIZER_MAX_BYTES], size_t *text_len, int32_t point[CLEAN_POINTS],
                  const char *utf8, size_t len, tokenizer_flavour flavour);

#endif
