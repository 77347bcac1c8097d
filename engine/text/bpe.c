/* engine/text/bpe.c -- the merge table is read and checked once, then words are merged by it.
 *
 *     bytes -> byte symbols, the last one marked as ending the word         id[]
 *           -> merges, lowest rank first, leftmost first                    heap[]
 *
 * Invariants.
 *  1. A merge's two parts are symbols or earlier merges (checked when the list is read), so a
 *     merge never creates a pair of lower rank than its own, and taking (rank, position) off a
 *     heap is the same as merging all occurrences of the best pair in turn.
 *  2. A word of n bytes puts at most 2n entries on the heap: n - 1 at first, and each
 *     merge takes one off and puts at most two on.
 */
#include "engine/text/bpe.h"

#include "engine/base/mem.h"
#include "engine/base/try.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>
#include <utf8proc.h>

enum {
    STRING_SLOTS = 131072, /* while reading only */
    POINT_MAX = 0x100 + 68 /* byte symbols are written as code points below this */
};

/* ---- the pair table ---- */

static size_t pair_slot(const bpe_table *t, uint32_t pair)
{
    size_t s = (pair * 2654435769u) >> 16;
    while (t->rank[s] != BPE_NONE && t->pair[s] != pair)
        s = (s + 1) % BPE_SLOTS;
    return s;
}

static uint16_t pair_rank(const bpe_table *t, unsigned left, unsigned right)
{
    return t->rank[pair_slot(t, left << 16 | right)];
}

/* ---- reading the merge list ---- */

/* A token's spelling is in two pieces, as its line in the merge list has it. */
typedef struct spelling {
    const char *left, *right;
    size_t left_len, right_len;
} spelling;

typedef struct loader {
    bpe_table *t;
    spelling *merge;                  /* [TOKENIZER_MERGES] */
    uint16_t *slot;                   /* [STRING_SLOTS], index into merge[]; BPE_NONE: free */
    uint16_t point_symbol[POINT_MAX]; /* id of the symbol written as this code point */
} loader;

static uint32_t hash_more(uint32_t h, const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)s[i]) * 16777619u;
    return h;
}

static char spelling_at(const spelling *s, size_t i)
{
    return i < s->left_len ? s->left[i] : s->right[i - s->left_len];
}

static bool spelling_equal(const spelling *a, const spelling *b)
{
    const size_t len = a->left_len + a->right_len;
    if (len != b->left_len + b->right_len)
        return false;
    for (size_t i = 0; i < len; i++)
        if (spelling_at(a, i) != spelling_at(b, i))
            return false;
    return true;
}

static size_t string_slot(const loader *l, const spelling *s)
{
    uint32_t h = hash_more(2166136261u, s->left, s->left_len);
    h = hash_more(h, s->right, s->right_len);
    size_t at = (h ^ h >> 15) % STRING_SLOTS;
    while (l->slot[at] != BPE_NONE && !spelling_equal(&l->merge[l->slot[at]], s))
        at = (at + 1) % STRING_SLOTS;
    return at;
}

/* The vocabulary lists printable bytes first, each written as itself; the others follow,
 * written as U+0100 onwards. */
static void number_symbols(loader *l)
{
    memset(l->point_symbol, 0xFF, sizeof l->point_symbol);
    uint16_t id = 0, point = 0x100;
    for (int printable = 1; printable >= 0; printable--)
        for (unsigned b = 0; b < 256; b++) {
            const bool p = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
            if (p != printable)
                continue;
            l->point_symbol[p ? b : point++] = id;
            l->t->symbol[b] = id++;
        }
}

/* Id of a token spelt s[0..len), BPE_NONE if there is none yet. */
static unsigned token_find(const loader *l, const char *s, size_t len)
{
    utf8proc_int32_t point = -1;
    const utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)len,
                                                &point);
    if (n > 0 && point < POINT_MAX && l->point_symbol[point] != BPE_NONE) {
        const size_t rest = len - (size_t)n;
        if (rest == 0)
            return l->point_symbol[point];
        if (rest == 4 && memcmp(s + n, "</w>", 4) == 0)
            return l->point_symbol[point] + 256u;
    }
    const size_t at = string_slot(l, &(spelling){ s, s + len, len, 0 });
    return l->slot[at] == BPE_NONE ? BPE_NONE : l->slot[at] + (unsigned)TOKENIZER_SYMBOLS;
}

static refine_status add_merge(loader *l, unsigned index, const char *line, size_t len,
                               refine_error *err)
{
    const char *space = memchr(line, ' ', len);
    if (!space || space == line || space + 1 == line + len)
        return refine_fail(err, REFINE_EFORMAT,
                           "tokenizer: merge %u is not two words; is this a CLIP merge list?",
                           index + 1);
    const spelling s = { line, space + 1, (size_t)(space - line),
                         len - (size_t)(space - line) - 1 };
    const unsigned left = token_find(l, s.left, s.left_len);
    const unsigned right = token_find(l, s.right, s.right_len);
    if (left == BPE_NONE || right == BPE_NONE)
        return refine_fail(err, REFINE_EFORMAT,
                           "tokenizer: merge %u joins a token that no earlier line makes; "
                           "is this a CLIP merge list?",
                           index + 1);
    const size_t at = string_slot(l, &s);
    const size_t pair = pair_slot(l->t, left << 16 | right);
    if (l->slot[at] != BPE_NONE || l->t->rank[pair] != BPE_NONE)
        return refine_fail(err, REFINE_EFORMAT,
                           "tokenizer: merge %u repeats an earlier one; is this a CLIP merge list?",
                           index + 1);
    l->merge[index] = s;
    l->slot[at] = (uint16_t)index;
    l->t->pair[pair] = left << 16 | right;
    l->t->rank[pair] = (uint16_t)index;
    return REFINE_OK;
}

static bool is_header(const char *line, size_t len)
{
    static const char plain[] = "#version", quoted[] = "\"bpe_simple_vocab";
    return (len >= sizeof plain - 1 && memcmp(line, plain, sizeof plain - 1) == 0) ||
           (len >= sizeof quoted - 1 && memcmp(line, quoted, sizeof quoted - 1) == 0);
}

static refine_status add_merges(loader *l, const char *text, size_t len, refine_error *err)
{
    unsigned index = 0;
    for (size_t at = 0; at < len && index < TOKENIZER_MERGES;) {
        const char *line = text + at;
        const char *stop = memchr(line, '\n', len - at);
        size_t line_len = stop ? (size_t)(stop - line) : len - at;
        at += line_len + (stop != NULL);
        if (line_len > 0 && line[line_len - 1] == '\r')
            line_len--;
        if (line_len == 0 || (line == text && is_header(line, line_len)))
            continue;
        TRY(add_merge(l, index++, line, line_len, err));
    }
    if (index == 0)
        return refine_fail(err, REFINE_EFORMAT, "tokenizer: the merge list is empty");
    return REFINE_OK;
}

refine_status bpe_read_merges(bpe_table *t, const char *text, size_t len, refine_error *err)
{
    loader l = { .t = t,
                 .merge = mem_calloc(TOKENIZER_MERGES, sizeof *l.merge),
                 .slot = mem_calloc(STRING_SLOTS, sizeof *l.slot) };
    refine_status st;
    if (!l.merge || !l.slot) {
        st = refine_fail(err, REFINE_ENOMEM, "tokenizer: out of memory");
        goto done;
    }
    memset(t->rank, 0xFF, sizeof t->rank);
    memset(l.slot, 0xFF, STRING_SLOTS * sizeof *l.slot);
    number_symbols(&l);
    st = add_merges(&l, text, len, err);
done:
    mem_free(l.slot);
    mem_free(l.merge);
    return st;
}

/* ---- merging one word ---- */

static void heap_push(bpe_word *w, uint32_t v)
{
    size_t i = w->heap_len++;
    assert(i < 2 * BPE_NODES);
    while (i > 0 && w->heap[(i - 1) / 2] > v) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = v;
}

static uint32_t heap_pop(bpe_word *w)
{
    uint32_t *h = w->heap;
    const uint32_t top = h[0], v = h[--w->heap_len];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < w->heap_len; i = child) {
        if (child + 1 < w->heap_len && h[child + 1] < h[child])
            child++;
        if (h[child] >= v)
            break;
        h[i] = h[child];
    }
    h[i] = v;
    return top;
}

/* Rank of the pair that starts at node `at`, BPE_NONE if it does not merge. */
static unsigned rank_at(const bpe_table *t, const bpe_word *w, unsigned at)
{
    if (w->id[at] == BPE_NONE || w->next[at] == BPE_NONE)
        return BPE_NONE;
    return pair_rank(t, w->id[at], w->id[w->next[at]]);
}

static void push_pair_rank(const bpe_table *t, bpe_word *w, unsigned at)
{
    const unsigned rank = rank_at(t, w, at);
    if (rank != BPE_NONE)
        heap_push(w, rank << 16 | at);
}

void bpe_merge_word(const bpe_table *t, bpe_word *w, const char *bytes, unsigned len)
{
    assert(len > 0 && len <= TOKENIZER_MAX_BYTES);
    for (unsigned i = 0; i < len; i++) {
        w->id[i] = t->symbol[(unsigned char)bytes[i]];
        w->prev[i] = (uint16_t)(i == 0 ? BPE_NONE : i - 1);
        w->next[i] = (uint16_t)(i + 1 == len ? BPE_NONE : i + 1);
    }
    w->id[len - 1] = (uint16_t)(w->id[len - 1] + 256);

    w->heap_len = 0;
    for (unsigned i = 0; i < len; i++)
        push_pair_rank(t, w, i);
    while (w->heap_len > 0) {
        const uint32_t top = heap_pop(w);
        const unsigned at = top & 0xFFFF, rank = top >> 16;
        if (rank_at(t, w, at) != rank) /* a neighbour was merged away meanwhile */
            continue;
        const unsigned gone = w->next[at], after = w->next[gone];
        w->id[at] = (uint16_t)(TOKENIZER_SYMBOLS + rank);
        w->id[gone] = BPE_NONE;
        w->next[at] = (uint16_t)after;
        if (after != BPE_NONE)
            w->prev[after] = (uint16_t)at;
        push_pair_rank(t, w, at);
        if (w->prev[at] != BPE_NONE)
            push_pair_rank(t, w, w->prev[at]);
    }
}
