/* engine/text/word_split.h -- a clean prompt, cut into special tokens and words. */
#ifndef REFINE_WORD_SPLIT_H
#define REFINE_WORD_SPLIT_H

#include "engine/text/tokenizer.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct word_splitter {
    const char *text; /* as clean_prompt leaves it: valid UTF-8 */
    size_t len;
    tokenizer_flavour flavour;
    size_t at; /* where the next word is looked for; 0 at first */
} word_splitter;

typedef struct split_word {
    const char *bytes; /* in the text */
    unsigned len;
    int special; /* the id, where it is a special token; else -1 */
} split_word;

/* The next special token or word; false: there are no more. */
bool find_next_word(word_splitter *s, split_word *out);

#endif
