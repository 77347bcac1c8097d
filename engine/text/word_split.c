/* engine/text/word_split.c -- where a word ends, by character class.
 *
 *     special token | contraction | letters | one digit | others, but no white space
 *
 * The first that fits is taken, then the longest of its kind.
 */
#include "engine/text/word_split.h"

#include <string.h>
#include <utf8proc.h>

typedef enum { SPACE, LETTER, NUMBER, OTHER } char_class;

/* Class of the character at `at`, and its bytes in *bytes. */
static char_class classify_character(const word_splitter *s, size_t at, size_t *bytes)
{
    utf8proc_int32_t c;
    *bytes = (size_t)utf8proc_iterate((const utf8proc_uint8_t *)s->text + at,
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

static bool starts_with(const word_splitter *s, size_t at, const char *what)
{
    const size_t n = strlen(what);
    return n <= s->len - at && memcmp(s->text + at, what, n) == 0;
}

/* Bytes of the special token at `at` and its id; 0 if there is none. */
static size_t special_token_length(const word_splitter *s, size_t at, int *id)
{
    const bool openclip = s->flavour == TOKENIZER_OPENCLIP;
    const char *start = openclip ? "<start_of_text>" : "<|startoftext|>";
    const char *end = openclip ? "<end_of_text>" : "<|endoftext|>";

    if (s->flavour == TOKENIZER_DIFFUSERS && s->text[at] == '!') {
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

static size_t contraction_length(const word_splitter *s, size_t at)
{
    static const char *const known[] = { "'s", "'t", "'re", "'ve", "'m", "'ll", "'d" };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (starts_with(s, at, known[i]))
            return strlen(known[i]);
    return 0;
}

/* Bytes of the word at `at`, whose first character is `bytes` long and of class `c`. */
static size_t word_length(const word_splitter *s, size_t at, char_class c, size_t bytes)
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

bool find_next_word(word_splitter *s, split_word *out)
{
    while (s->at < s->len) {
        const size_t at = s->at;
        int special = -1;
        size_t used = special_token_length(s, at, &special);
        if (used == 0) {
            const char_class c = classify_character(s, at, &used);
            if (c == SPACE) {
                s->at += used;
                continue;
            }
            used = word_length(s, at, c, used);
        }
        s->at += used;
        *out = (split_word){ s->text + at, (unsigned)used, special };
        return true;
    }
    return false;
}
