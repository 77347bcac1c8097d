/* engine/text/unicode_clean.c -- what is done to a prompt before it is split into words.
 *
 *     bytes -> valid UTF-8 -> [HTML references]                             text[]
 *           -> code points [NFC]                                            point[]
 *           -> lower case                                                   text[]
 *
 * Each byte that is not UTF-8 counts as U+FFFD.  TOKENIZER_OPENCLIP resolves HTML references,
 * twice, as its cleaning does; the other flavours compose (NFC).  White space is left to the
 * splitting of words.
 */
#include "engine/text/unicode_clean.h"

#include <string.h>
#include <utf8proc.h>

enum { POINTS = CLEAN_POINTS / 2 }; /* the second half is spare room */

/* Appends one code point to text[0..*len); false when full. */
static bool append_point(char *text, size_t *len, utf8proc_int32_t point)
{
    utf8proc_uint8_t code[4];
    const size_t n = (size_t)utf8proc_encode_char(point, code);
    if (n > TOKENIZER_MAX_BYTES - *len)
        return false;
    memcpy(text + *len, code, n);
    *len += n;
    return true;
}

static bool sanitise_utf8(char *text, size_t *text_len, const char *utf8, size_t len)
{
    *text_len = 0;
    for (size_t at = 0; at < len;) {
        utf8proc_int32_t point;
        utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)utf8 + at,
                                              (utf8proc_ssize_t)(len - at), &point);
        if (n <= 0) {
            point = 0xFFFD;
            n = 1;
        }
        if (!append_point(text, text_len, point))
            return false;
        at += (size_t)n;
    }
    return true;
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
static size_t html_unescape(char *text, size_t len)
{
    size_t out = 0;
    for (size_t at = 0; at < len;) {
        utf8proc_int32_t point = 0;
        const size_t n = text[at] == '&' ? html_reference(text + at, len - at, &point) : 0;
        if (n > 0)
            (void)append_point(text, &out, point);
        else
            text[out++] = text[at];
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

/* text[0..len) to point[]; the count, or < 0 when there is no room. */
static utf8proc_ssize_t to_points(utf8proc_int32_t *point, const char *text, size_t len, bool nfc)
{
    const utf8proc_option_t form = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    utf8proc_ssize_t n = 0;

    for (size_t at = 0; at < len;) {
        utf8proc_int32_t c;
        int boundary = 0;
        at += (size_t)utf8proc_iterate((const utf8proc_uint8_t *)text + at,
                                       (utf8proc_ssize_t)(len - at), &c);
        const utf8proc_ssize_t room = POINTS - n;
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
    order_all_marks(point, (size_t)n, point + POINTS);
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

/* point[0..n) to text. */
static bool convert_to_lowercase(char *text, size_t *len, const utf8proc_int32_t *point, size_t n)
{
    enum { DOTTED_I = 0x130, DOT_ABOVE = 0x307, SIGMA = 0x3A3, FINAL_SIGMA = 0x3C2 };
    bool before_cased = false, fits = true;

    *len = 0;
    for (size_t i = 0; i < n && fits; i++) {
        if (point[i] == DOTTED_I)
            fits = append_point(text, len, 'i') && append_point(text, len, DOT_ABOVE);
        else if (point[i] == SIGMA && is_final_sigma(point, n, i, before_cased))
            fits = append_point(text, len, FINAL_SIGMA);
        else
            fits = append_point(text, len, utf8proc_tolower(point[i]));
        if (!is_case_ignorable(point[i]))
            before_cased = is_cased(point[i]);
    }
    return fits;
}

bool clean_prompt(char text[TOKENIZER_MAX_BYTES], size_t *text_len, int32_t point[CLEAN_POINTS],
                  const char *utf8, size_t len, tokenizer_flavour flavour)
{
    size_t n;
    if (!sanitise_utf8(text, &n, utf8, len))
        return false;
    if (flavour == TOKENIZER_OPENCLIP)
        n = html_unescape(text, html_unescape(text, n));
    const utf8proc_ssize_t points = to_points(point, text, n, flavour != TOKENIZER_OPENCLIP);
    return points >= 0 && convert_to_lowercase(text, text_len, point, (size_t)points);
}
