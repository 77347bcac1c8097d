/* engine/text/tokenizer.c -- prompt text to CLIP token ids.
 *
 *     bytes -> valid UTF-8 -> [HTML references] -> [NFC] -> lower case      text[]
 *           -> words by character class; special tokens cut out
 *           -> byte symbols, the last one marked as ending the word         id[]
 *           -> merges, lowest rank first, leftmost first                    heap[]
 *
 * Reference: openai/CLIP simple_tokenizer.py; transformers tokenization_clip.py.
 *
 * Invariants.
 *  1. A merge's two parts are symbols or earlier merges (checked in open), so a merge
 *     never creates a pair of lower rank than its own, and taking (rank, position) off a
 *     heap is the same as merging all occurrences of the best pair in turn.
 *  2. A word of n bytes puts at most 2n entries on the heap: n - 1 at first, and each
 *     merge takes one off and puts at most two on.
 */
#include "engine/text/tokenizer.h"

#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <utf8proc.h>

enum {
    PAIR_SLOTS = 65536,    /* power of two, 3/4 full with the real vocabulary */
    STRING_SLOTS = 131072, /* while opening only */
    NODES = TOKENIZER_MAX_BYTES + 1,
    NONE = 0xFFFF,         /* no rank, no node, no id */
    POINT_MAX = 0x100 + 68 /* byte symbols are written as code points below this */
};

struct tokenizer {
    uint32_t pair[PAIR_SLOTS]; /* left << 16 | right */
    uint16_t rank[PAIR_SLOTS]; /* NONE: free */
    uint16_t symbol[256];      /* id of a byte inside a word */

    char text[NODES];
    uint16_t id[NODES], prev[NODES], next[NODES]; /* the word in hand, a linked list */
    union {                                       /* never in use at the same time */
        utf8proc_int32_t point[2 * NODES];        /* the second half is spare room */
        uint32_t heap[2 * NODES];                 /* rank << 16 | node */
    } u;
    size_t heap_len;
};

/* ---- the pair table ---- */

static size_t pair_slot(const tokenizer *t, uint32_t pair)
{
    size_t s = (pair * 2654435769u) >> 16;
    while (t->rank[s] != NONE && t->pair[s] != pair)
        s = (s + 1) % PAIR_SLOTS;
    return s;
}

static uint16_t pair_rank(const tokenizer *t, unsigned left, unsigned right)
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
    tokenizer *t;
    spelling *merge;                  /* [TOKENIZER_MERGES] */
    uint16_t *slot;                   /* [STRING_SLOTS], index into merge[]; NONE: free */
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
    while (l->slot[at] != NONE && !spelling_equal(&l->merge[l->slot[at]], s))
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

/* Id of a token spelt s[0..len), NONE if there is none yet. */
static unsigned token_find(const loader *l, const char *s, size_t len)
{
    utf8proc_int32_t point = -1;
    const utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)len,
                                                &point);
    if (n > 0 && point < POINT_MAX && l->point_symbol[point] != NONE) {
        const size_t rest = len - (size_t)n;
        if (rest == 0)
            return l->point_symbol[point];
        if (rest == 4 && memcmp(s + n, "</w>", 4) == 0)
            return l->point_symbol[point] + 256u;
    }
    const size_t at = string_slot(l, &(spelling){ s, s + len, len, 0 });
    return l->slot[at] == NONE ? NONE : l->slot[at] + (unsigned)TOKENIZER_SYMBOLS;
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
    if (left == NONE || right == NONE)
        return refine_fail(err, REFINE_EFORMAT,
                           "tokenizer: merge %u joins a token that no earlier line makes; "
                           "is this a CLIP merge list?",
                           index + 1);
    const size_t at = string_slot(l, &s);
    const size_t pair = pair_slot(l->t, left << 16 | right);
    if (l->slot[at] != NONE || l->t->rank[pair] != NONE)
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

refine_status tokenizer_open(tokenizer **out, const char *merges, size_t len, refine_error *err)
{
    *out = NULL;
    loader l = { .t = mem_calloc(1, sizeof *l.t),
                 .merge = mem_calloc(TOKENIZER_MERGES, sizeof *l.merge),
                 .slot = mem_calloc(STRING_SLOTS, sizeof *l.slot) };
    refine_status st;
    if (!l.t || !l.merge || !l.slot) {
        st = refine_fail(err, REFINE_ENOMEM, "tokenizer: out of memory");
        goto done;
    }
    memset(l.t->rank, 0xFF, sizeof l.t->rank);
    memset(l.slot, 0xFF, STRING_SLOTS * sizeof *l.slot);
    number_symbols(&l);
    TRY_OR(done, add_merges(&l, merges, len, err));
    *out = l.t;
    l.t = NULL;
done:
    mem_free(l.slot);
    mem_free(l.merge);
    tokenizer_close(l.t);
    return st;
}

void tokenizer_close(tokenizer *t) { mem_free(t); }

/* ---- cleaning: prompt bytes to normalised, lower-case UTF-8 in t->text ---- */

static refine_status too_long(refine_error *err)
{
    return refine_fail(err, REFINE_EINVAL,
                       "prompt: longer than %d bytes; only the first %d tokens count, shorten it",
                       TOKENIZER_MAX_BYTES, TOKENIZER_CONTEXT - 2);
}

/* Appends one code point to t->text[0..*len); false when full. */
static bool append_point(tokenizer *t, size_t *len, utf8proc_int32_t point)
{
    utf8proc_uint8_t code[4];
    const size_t n = (size_t)utf8proc_encode_char(point, code);
    if (n > TOKENIZER_MAX_BYTES - *len)
        return false;
    memcpy(t->text + *len, code, n);
    *len += n;
    return true;
}

static refine_status sanitise_utf8(tokenizer *t, const char *utf8, size_t len, size_t *out_len,
                                   refine_error *err)
{
    *out_len = 0;
    for (size_t at = 0; at < len;) {
        utf8proc_int32_t point;
        utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)utf8 + at,
                                              (utf8proc_ssize_t)(len - at), &point);
        if (n <= 0) {
            point = 0xFFFD;
            n = 1;
        }
        if (!append_point(t, out_len, point))
            return too_long(err);
        at += (size_t)n;
    }
    return REFINE_OK;
}

/* Value of the digits of "&#...": at[0..len) after the '#'; *used is 0 if there are none. */
static utf8proc_int32_t numeric_reference(const char *at, size_t len, size_t *used)
{
    const bool hex = len > 0 && (at[0] | 32) == 'x';
    const int base = hex ? 16 : 10;
    size_t i = hex;
    int32_t value = 0;
    for (; i < len; i++) {
        const char c = (char)(at[i] | 32);
        int digit = at[i] >= '0' && at[i] <= '9' ? at[i] - '0' : base;
        if (c >= 'a' && c <= 'f')
            digit = c - 'a' + 10;
        if (digit >= base)
            break;
        if (value <= 0x10FFFF)
            value = value * base + digit;
    }
    *used = i > (size_t)hex ? i : 0;
    return value > 0 && utf8proc_codepoint_valid(value) ? value : 0xFFFD;
}

/* One HTML reference at s[0..len), s[0] == '&': its code point and length, or 0. */
static size_t html_reference(const char *s, size_t len, utf8proc_int32_t *point)
{
    static const struct {
        char name[6];
        unsigned char len, bare, point; /* bare: HTML knows it without the semicolon too */
    } known[] = { { "amp", 3, 1, '&' },  { "lt", 2, 1, '<' },    { "gt", 2, 1, '>' },
                  { "quot", 4, 1, '"' }, { "apos", 4, 0, '\'' }, { "nbsp", 4, 1, 0xA0 } };

    size_t used = 0;
    if (len > 1 && s[1] == '#') {
        *point = numeric_reference(s + 2, len - 2, &used);
        if (used == 0)
            return 0;
        used += 2;
        return used + (used < len && s[used] == ';');
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        used = 1u + known[i].len;
        if (len < used || memcmp(s + 1, known[i].name, known[i].len) != 0)
            continue;
        const bool closed = used < len && s[used] == ';';
        if (!closed && !known[i].bare)
            continue;
        *point = known[i].point;
        return used + closed;
    }
    return 0;
}

/* In place: a reference is never shorter than what it stands for. */
static size_t html_unescape(tokenizer *t, size_t len)
{
    size_t out = 0;
    for (size_t at = 0; at < len;) {
        utf8proc_int32_t point = 0;
        const size_t n = t->text[at] == '&' ? html_reference(t->text + at, len - at, &point) : 0;
        if (n > 0)
            (void)append_point(t, &out, point);
        else
            t->text[out++] = t->text[at];
        at += n > 0 ? n : 1;
    }
    return out;
}

/* Canonical ordering of a run of combining marks: a stable counting sort by class, where
 * utf8proc's own exchange sort would take seconds over a prompt made of marks.
 * `spare` has room for the run. */
static void order_marks(utf8proc_int32_t *run, size_t n, utf8proc_int32_t *spare)
{
    uint32_t start[257] = { 0 };
    for (size_t i = 0; i < n; i++)
        start[utf8proc_get_property(run[i])->combining_class + 1]++;
    for (size_t c = 0; c < 256; c++)
        start[c + 1] += start[c];
    for (size_t i = 0; i < n; i++)
        spare[start[utf8proc_get_property(run[i])->combining_class]++] = run[i];
    memcpy(run, spare, n * sizeof *run);
}

static void order_all_marks(utf8proc_int32_t *point, size_t n, utf8proc_int32_t *spare)
{
    for (size_t at = 0, run; at < n; at += run + 1) {
        run = 0;
        while (at + run < n && utf8proc_get_property(point[at + run])->combining_class != 0)
            run++;
        if (run > 1)
            order_marks(point + at, run, spare);
    }
}

/* t->text[0..len) to t->u.point[]; the count, or < 0 when there is no room. */
static utf8proc_ssize_t to_points(tokenizer *t, size_t len, bool nfc)
{
    const utf8proc_option_t form = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    utf8proc_int32_t *const point = t->u.point;
    utf8proc_ssize_t n = 0;

    for (size_t at = 0; at < len;) {
        utf8proc_int32_t c;
        int boundary = 0;
        at += (size_t)utf8proc_iterate((const utf8proc_uint8_t *)t->text + at,
                                       (utf8proc_ssize_t)(len - at), &c);
        const utf8proc_ssize_t room = NODES - n;
        point[n] = c;
        const utf8proc_ssize_t made = nfc ? utf8proc_decompose_char(c, point + n, room, form,
                                                                    &boundary)
                                          : 1;
        if (made < 0 || made >= room)
            return -1;
        n += made;
    }
    if (!nfc)
        return n;
    order_all_marks(point, (size_t)n, point + NODES);
    return utf8proc_normalize_utf32(point, n, form);
}

static bool is_cased(utf8proc_int32_t point)
{
    const utf8proc_category_t c = utf8proc_category(point);
    return c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LL || c == UTF8PROC_CATEGORY_LT ||
           utf8proc_tolower(point) != point || utf8proc_toupper(point) != point;
}

static bool is_case_ignorable(utf8proc_int32_t point)
{
    /* What may stand inside a word: apostrophes, full stops, colons, middle dots. */
    static const utf8proc_int32_t inside[] = { 0x27,   0x2E,   0x3A,   0xB7,   0x387,  0x55F,
                                               0x5F4,  0x2018, 0x2019, 0x2024, 0x2027, 0xFE13,
                                               0xFE52, 0xFE55, 0xFF07, 0xFF0E, 0xFF1A };
    switch (utf8proc_category(point)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK: return true;
    default: break;
    }
    for (size_t i = 0; i < sizeof inside / sizeof inside[0]; i++)
        if (point == inside[i])
            return true;
    return false;
}

/* Unicode's Final_Sigma condition.  `before_cased` summarises what precedes point[i]. */
static bool is_final_sigma(const utf8proc_int32_t *point, size_t n, size_t i, bool before_cased)
{
    if (!before_cased)
        return false;
    size_t k = i + 1;
    while (k < n && is_case_ignorable(point[k]))
        k++;
    return k == n || !is_cased(point[k]);
}

/* t->u.point[0..n) to t->text. */
static bool convert_to_lowercase(tokenizer *t, size_t n, size_t *len)
{
    enum { DOTTED_I = 0x130, DOT_ABOVE = 0x307, SIGMA = 0x3A3, FINAL_SIGMA = 0x3C2 };
    const utf8proc_int32_t *point = t->u.point;
    bool before_cased = false, fits = true;

    *len = 0;
    for (size_t i = 0; i < n && fits; i++) {
        if (point[i] == DOTTED_I)
            fits = append_point(t, len, 'i') && append_point(t, len, DOT_ABOVE);
        else if (point[i] == SIGMA && is_final_sigma(point, n, i, before_cased))
            fits = append_point(t, len, FINAL_SIGMA);
        else
            fits = append_point(t, len, utf8proc_tolower(point[i]));
        if (!is_case_ignorable(point[i]))
            before_cased = is_cased(point[i]);
    }
    return fits;
}

static refine_status clean_prompt(tokenizer *t, const char *utf8, size_t len,
                                  tokenizer_flavour flavour, size_t *out_len, refine_error *err)
{
    size_t n;
    TRY(sanitise_utf8(t, utf8, len, &n, err));
    if (flavour == TOKENIZER_OPENCLIP)
        n = html_unescape(t, html_unescape(t, n));
    const utf8proc_ssize_t points = to_points(t, n, flavour != TOKENIZER_OPENCLIP);
    if (points < 0 || !convert_to_lowercase(t, (size_t)points, out_len))
        return too_long(err);
    return REFINE_OK;
}

/* ---- merging one word ---- */

static void heap_push(tokenizer *t, uint32_t v)
{
    size_t i = t->heap_len++;
    assert(i < 2 * NODES);
    while (i > 0 && t->u.heap[(i - 1) / 2] > v) {
        t->u.heap[i] = t->u.heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    t->u.heap[i] = v;
}

static uint32_t heap_pop(tokenizer *t)
{
    uint32_t *h = t->u.heap;
    const uint32_t top = h[0], v = h[--t->heap_len];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < t->heap_len; i = child) {
        if (child + 1 < t->heap_len && h[child + 1] < h[child])
            child++;
        if (h[child] >= v)
            break;
        h[i] = h[child];
    }
    h[i] = v;
    return top;
}

/* Rank of the pair that starts at node `at`, NONE if it does not merge. */
static unsigned rank_at(const tokenizer *t, unsigned at)
{
    if (t->id[at] == NONE || t->next[at] == NONE)
        return NONE;
    return pair_rank(t, t->id[at], t->id[t->next[at]]);
}

static void push_pair_rank(tokenizer *t, unsigned at)
{
    const unsigned rank = rank_at(t, at);
    if (rank != NONE)
        heap_push(t, rank << 16 | at);
}

/* Leaves the word's tokens in id[], linked from node 0. */
static void merge_word(tokenizer *t, const char *word, unsigned len)
{
    assert(len > 0 && len <= TOKENIZER_MAX_BYTES);
    for (unsigned i = 0; i < len; i++) {
        t->id[i] = t->symbol[(unsigned char)word[i]];
        t->prev[i] = (uint16_t)(i == 0 ? NONE : i - 1);
        t->next[i] = (uint16_t)(i + 1 == len ? NONE : i + 1);
    }
    t->id[len - 1] = (uint16_t)(t->id[len - 1] + 256);

    t->heap_len = 0;
    for (unsigned i = 0; i < len; i++)
        push_pair_rank(t, i);
    while (t->heap_len > 0) {
        const uint32_t top = heap_pop(t);
        const unsigned at = top & 0xFFFF, rank = top >> 16;
        if (rank_at(t, at) != rank) /* a neighbour was merged away meanwhile */
            continue;
        const unsigned gone = t->next[at], after = t->next[gone];
        t->id[at] = (uint16_t)(TOKENIZER_SYMBOLS + rank);
        t->id[gone] = NONE;
        t->next[at] = (uint16_t)after;
        if (after != NONE)
            t->prev[after] = (uint16_t)at;
        push_pair_rank(t, at);
        if (t->prev[at] != NONE)
            push_pair_rank(t, t->prev[at]);
    }
}

/* ---- splitting into words ---- */

typedef enum { SPACE, LETTER, NUMBER, OTHER } char_class;

typedef struct splitter {
    tokenizer *t;
    tokenizer_flavour flavour;
    size_t len; /* of t->text */
    int *ids;
    int n; /* tokens so far; ids[] holds the first TOKENIZER_CONTEXT - 1 */
} splitter;

static void append_token(splitter *s, int id)
{
    if (s->n < TOKENIZER_CONTEXT - 1)
        s->ids[s->n] = id;
    s->n++;
}

/* Class of the character at `at`, and its bytes in *bytes. */
static char_class classify_character(const splitter *s, size_t at, size_t *bytes)
{
    utf8proc_int32_t c;
    *bytes = (size_t)utf8proc_iterate((const utf8proc_uint8_t *)s->t->text + at,
                                      (utf8proc_ssize_t)(s->len - at), &c);
    if ((c >= 9 && c <= 13) || c == 0x85)
        return SPACE;
    if (c >= 0x1C && c <= 0x1F && s->flavour == TOKENIZER_OPENCLIP)
        return SPACE; /* to Python these separate, to \s elsewhere they do not */
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return SPACE;
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: return LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: return NUMBER;
    default: return OTHER;
    }
}

static bool starts_with(const splitter *s, size_t at, const char *what)
{
    const size_t n = strlen(what);
    return n <= s->len - at && memcmp(s->t->text + at, what, n) == 0;
}

/* Bytes of the special token at `at` and its id; 0 if there is none. */
static size_t special_token_length(const splitter *s, size_t at, int *id)
{
    const bool openclip = s->flavour == TOKENIZER_OPENCLIP;
    const char *start = openclip ? "<start_of_text>" : "<|startoftext|>";
    const char *end = openclip ? "<end_of_text>" : "<|endoftext|>";

    if (s->flavour == TOKENIZER_DIFFUSERS && s->t->text[at] == '!') {
        *id = TOKENIZER_PAD;
        return 1;
    }
    if (starts_with(s, at, start)) {
        *id = TOKENIZER_START;
        return strlen(start);
    }
    if (starts_with(s, at, end)) {
        *id = TOKENIZER_END;
        return strlen(end);
    }
    return 0;
}

static size_t contraction_length(const splitter *s, size_t at)
{
    static const char *const known[] = { "'s", "'t", "'re", "'ve", "'m", "'ll", "'d" };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (starts_with(s, at, known[i]))
            return strlen(known[i]);
    return 0;
}

/* Bytes of the word at `at`, whose first character is `bytes` long and of class `c`. */
static size_t word_length(const splitter *s, size_t at, char_class c, size_t bytes)
{
    size_t len = contraction_length(s, at);
    if (len > 0)
        return len;
    if (c == NUMBER)
        return bytes;
    for (len = bytes; at + len < s->len; len += bytes) {
        int id;
        if (classify_character(s, at + len, &bytes) != c)
            break;
        /* In open_clip the special tokens are only one more kind of word; in the other
         * flavours they are cut out before the text is split. */
        if (s->flavour != TOKENIZER_OPENCLIP && special_token_length(s, at + len, &id) > 0)
            break;
    }
    return len;
}

static void split_prompt(splitter *s)
{
    for (size_t at = 0, used; at < s->len; at += used) {
        int id = 0;
        if ((used = special_token_length(s, at, &id)) > 0) {
            append_token(s, id);
            continue;
        }
        const char_class c = classify_character(s, at, &used);
        if (c == SPACE)
            continue;
        used = word_length(s, at, c, used);
        merge_word(s->t, s->t->text + at, (unsigned)used);
        for (unsigned i = 0; i != NONE; i = s->t->next[i])
            append_token(s, s->t->id[i]);
    }
}

refine_status tokenizer_encode(tokenizer *t, const char *utf8, size_t len,
                               tokenizer_flavour flavour, int pad, int ids[TOKENIZER_CONTEXT],
                               int *n_tokens, refine_error *err)
{
    splitter s = { .t = t, .flavour = flavour, .ids = ids };
    if (len > TOKENIZER_MAX_BYTES)
        return too_long(err);
    TRY(clean_prompt(t, utf8, len, flavour, &s.len, err));

    append_token(&s, TOKENIZER_START);
    split_prompt(&s);
    int used = s.n < TOKENIZER_CONTEXT - 1 ? s.n : TOKENIZER_CONTEXT - 1;
    ids[used++] = TOKENIZER_END;
    while (used < TOKENIZER_CONTEXT)
        ids[used++] = pad;
    if (n_tokens)
        *n_tokens = s.n + 1;
    return REFINE_OK;
}
