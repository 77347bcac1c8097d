/* engine/text/bpe.h -- byte-pair encoding: the merge table, and the merging of one word.
 *
 * The ids are those of engine/text/tokenizer.h: byte symbols, the same ending a word, merges.
 */
#ifndef REFINE_BPE_H
#define REFINE_BPE_H

#include "engine/text/tokenizer.h"

#include <refine/status.h>

#include <stddef.h>
#include <stdint.h>

enum {
    BPE_SLOTS = 65536, /* power of two, 3/4 full with the real vocabulary */
    BPE_NODES = TOKENIZER_MAX_BYTES + 1,
    BPE_NONE = 0xFFFF /* no rank, no node, no id */
};

/* Which pairs merge, and when: a hash table with linear probing. */
typedef struct bpe_table {
    uint32_t pair[BPE_SLOTS]; /* left << 16 | right */
    uint16_t rank[BPE_SLOTS]; /* BPE_NONE: free */
    uint16_t symbol[256];     /* id of a byte inside a word */
} bpe_table;

/* The word in hand: a linked list of ids, and the pairs that may merge. */
typedef struct bpe_word {
    uint16_t id[BPE_NODES], prev[BPE_NODES], next[BPE_NODES];
    uint32_t heap[2 * BPE_NODES]; /* rank << 16 | node */
    size_t heap_len;
} bpe_word;

/* Fills *t from the text of a merge list, which tokenizer_open describes and which is not kept.
 * REFINE_EFORMAT: it is no CLIP merge list.  Takes 1.8 MB until it returns. */
refine_status bpe_read_merges(bpe_table *t, const char *text, size_t len, refine_error *err);

/* Leaves the tokens of bytes[0..len), 0 < len <= TOKENIZER_MAX_BYTES, in w->id[], linked by
 * w->next[] from node 0 to BPE_NONE. */
void bpe_merge_word(const bpe_table *t, bpe_word *w, const char *bytes, unsigned len);

#endif
