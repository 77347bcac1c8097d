/* engine/text/tokenizer.c -- prompt text to CLIP token ids.
 *
 *     bytes -> clean text: normalised, lower-case UTF-8       unicode_clean.c
 *           -> words by character class; special tokens       word_split.c
 *           -> byte symbols -> merges                         bpe.c
 *           -> start, 75 ids at most, end, padding            here
 *
 * Reference: openai/CLIP simple_tokenizer.py; transformers tokenization_clip.py.
 */
#include "engine/text/tokenizer.h"

#include "engine/base/mem.h"
#include "engine/base/try.h"
#include "engine/text/bpe.h"
#include "engine/text/unicode_clean.h"
#include "engine/text/word_split.h"

#include <stdint.h>

struct tokenizer {
    bpe_table table;
    char text[TOKENIZER_MAX_BYTES + 1];
    union { /* never in use at the same time */
        int32_t point[CLEAN_POINTS];
        bpe_word word;
    } u;
};

refine_status tokenizer_open(tokenizer **out, const char *merges, size_t len, refine_error *err)
{
    refine_status st;

    *out = NULL;
    tokenizer *t = mem_calloc(1, sizeof *t);
    if (!t)
        return refine_fail(err, REFINE_ENOMEM, "tokenizer: out of memory");
    TRY_OR(fail, bpe_read_merges(&t->table, merges, len, err));
    *out = t;
    return REFINE_OK;

fail:
    tokenizer_close(t);
    return st;
}

void tokenizer_close(tokenizer *t) { mem_free(t); }

static refine_status too_long(refine_error *err)
{
    return refine_fail(err, REFINE_EINVAL,
                       "prompt: longer than %d bytes; only the first %d tokens count, shorten it",
                       TOKENIZER_MAX_BYTES, TOKENIZER_CONTEXT - 2);
}

/* What the prompt makes so far; ids[] holds the first TOKENIZER_CONTEXT - 1. */
typedef struct token_list {
    int *ids;
    int n;
} token_list;

static void append_token(token_list *l, int id)
{
    if (l->n < TOKENIZER_CONTEXT - 1)
        l->ids[l->n] = id;
    l->n++;
}

static void append_word(token_list *l, tokenizer *t, const split_word *w)
{
    bpe_merge_word(&t->table, &t->u.word, w->bytes, w->len);
    for (unsigned i = 0; i != BPE_NONE; i = t->u.word.next[i])
        append_token(l, t->u.word.id[i]);
}

refine_status tokenizer_encode(tokenizer *t, const char *utf8, size_t len,
                               tokenizer_flavour flavour, int pad, int ids[TOKENIZER_CONTEXT],
                               int *n_tokens, refine_error *err)
{
    word_splitter s = { .text = t->text, .flavour = flavour };
    token_list l = { .ids = ids };
    split_word w;

    if (len > TOKENIZER_MAX_BYTES || !clean_prompt(t->text, &s.len, t->u.point, utf8, len, flavour))
        return too_long(err);

    append_token(&l, TOKENIZER_START);
    while (find_next_word(&s, &w))
        if (w.special >= 0)
            append_token(&l, w.special);
        else
            append_word(&l, t, &w);
    int used = l.n < TOKENIZER_CONTEXT - 1 ? l.n : TOKENIZER_CONTEXT - 1;
    ids[used++] = TOKENIZER_END;
    while (used < TOKENIZER_CONTEXT)
        ids[used++] = pad;
    if (n_tokens)
        *n_tokens = l.n + 1;
    return REFINE_OK;
}
