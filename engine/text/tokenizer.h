/* engine/text/tokenizer.h -- prompt text to the 77 token ids that CLIP text encoders read.
 *
 * Byte-level BPE over the CLIP vocabulary.  The vocabulary is the merge list alone:
 *
 *     id 0..255      the byte symbols, in the vocabulary's own order
 *     id 256..511    the same symbols ending a word
 *     id 512 + i     merge i
 *     49406, 49407   start and end of text
 *
 * docs/numerics.md says which library each rule was checked against.
 */
#ifndef REFINE_TOKENIZER_H
#define REFINE_TOKENIZER_H

#include <refine/status.h>

#include <stddef.h>

enum {
    TOKENIZER_CONTEXT = 77,
    TOKENIZER_MERGES = 48894, /* of the published vocabulary */
    TOKENIZER_SYMBOLS = 512,
    TOKENIZER_START = 49406,
    TOKENIZER_END = 49407,
    TOKENIZER_PAD = 0,
    TOKENIZER_MAX_BYTES = 65535 /* of a prompt, as given and again when normalised */
};

typedef enum tokenizer_flavour {
    TOKENIZER_DIFFUSERS, /* tokenizer_2 of SDXL: "!" is the padding token and splits the text */
    TOKENIZER_OPENCLIP,  /* as trained: no NFC, HTML references resolved, "!" is ordinary */
    TOKENIZER_PLAIN      /* as diffusers, but "!" is ordinary */
} tokenizer_flavour;

typedef struct tokenizer tokenizer;

/* `merges` is text, one "left right" a line, best first; a header line as in merges.txt
 * or bpe_simple_vocab_16e6.txt is skipped, and so is all that follows the 48894th merge.
 * A shorter list is a smaller vocabulary with the same start and end ids (tests use one).
 * The text is not kept.  About 1.4 MB, all of it taken here: encoding allocates nothing. */
refine_status tokenizer_open(tokenizer **out, const char *merges, size_t len, refine_error *err);
void tokenizer_close(tokenizer *t); /* NULL is fine */

/* Start, up to 75 ids, end, and `pad` up to 77.  *n_tokens (NULL is fine) is what the whole prompt
 * makes, start and end included: more than TOKENIZER_CONTEXT means that it was cut.
 * Each byte that is not UTF-8 counts as U+FFFD.  REFINE_EINVAL: the prompt is too long. */
refine_status tokenizer_encode(tokenizer *t, const char *utf8, size_t len,
                               tokenizer_flavour flavour, int pad, int ids[TOKENIZER_CONTEXT],
                               int *n_tokens, refine_error *err);

#endif
