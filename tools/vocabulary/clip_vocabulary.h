/* tools/vocabulary/clip_vocabulary.h -- the vocabulary of CLIP, as it was published. */
#ifndef REFINE_CLIP_VOCABULARY_H
#define REFINE_CLIP_VOCABULARY_H

#include <stddef.h>

/* tools/vocabulary/bpe_simple_vocab_16e6.txt.gz (cmake/Embed.cmake) */
extern const unsigned char clip_vocabulary[];
extern const size_t clip_vocabulary_bytes;

#endif
