/* tests/engine/test_tokenizer.c -- the rules on a tiny vocabulary; the real one on 248 prompts.
 *
 * Ids of byte symbols: 'a' is 97 - 33 = 64, and 64 + 256 where it ends a word.
 */
#include "engine/base/mem.h"
#include "engine/text/tokenizer.h"
#include "tests/support/vectors.h"
#include "tools/files/merges.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { LAST = 256, HE = 512, LL, HELL, HELLO, AA, AAAA };

static const char TINY[] = "#version: 0.2\nh e\nl l\nhe ll\nhell o</w>\na a\naa aa\n";

static tokenizer *open_tiny(void)
{
    tokenizer *t;
    refine_error err;
    cr_assert_eq(tokenizer_open(&t, TINY, strlen(TINY), &err), REFINE_OK, "%s", err.text);
    return t;
}

static int ascii_symbol_id(char c) { return (unsigned char)c - 33; }

/* The prompt's ids are start, want[0..n), end and padding. */
static void expect_token_ids(tokenizer *t, tokenizer_flavour flavour, const char *prompt,
                             size_t len, const int *want, int n)
{
    int ids[TOKENIZER_CONTEXT], count = -1;
    refine_error err = { 0 };
    cr_assert_eq(tokenizer_encode(t, prompt, len, flavour, TOKENIZER_PAD, ids, &count, &err),
                 REFINE_OK, "%s", err.text);
    cr_assert_eq(count, n + 2, "\"%s\": %d tokens, expected %d", prompt, count, n + 2);
    cr_assert_eq(ids[0], TOKENIZER_START);
    const int kept = n < TOKENIZER_CONTEXT - 2 ? n : TOKENIZER_CONTEXT - 2;
    for (int i = 0; i < kept; i++)
        cr_assert_eq(ids[1 + i], want[i], "\"%s\": id %d is %d, expected %d", prompt, i, ids[1 + i],
                     want[i]);
    cr_assert_eq(ids[1 + kept], TOKENIZER_END, "\"%s\"", prompt);
    for (int i = kept + 2; i < TOKENIZER_CONTEXT; i++)
        cr_assert_eq(ids[i], TOKENIZER_PAD);
}

#define ENCODES(t, flavour, prompt, ...)                                                           \
    do {                                                                                           \
        const int want_[] = { __VA_ARGS__ };                                                       \
        expect_token_ids(t, flavour, prompt, strlen(prompt), want_,                                \
                         (int)(sizeof want_ / sizeof *want_));                                     \
    } while (0)

Test(engine_tokenizer, merges_lowest_rank_first_and_leftmost_first)
{
    tokenizer *t = open_tiny();
    expect_token_ids(t, TOKENIZER_PLAIN, "", 0, NULL, 0);
    ENCODES(t, TOKENIZER_PLAIN, "hello", HELLO);
    ENCODES(t, TOKENIZER_PLAIN, "hell", HE, ascii_symbol_id('l'), ascii_symbol_id('l') + LAST);
    ENCODES(t, TOKENIZER_PLAIN, "aaaab", AAAA, ascii_symbol_id('b') + LAST);
    ENCODES(t, TOKENIZER_PLAIN, "aaab", AA, ascii_symbol_id('a'), ascii_symbol_id('b') + LAST);
    ENCODES(t, TOKENIZER_PLAIN, "aaaaaaa", AAAA, AA, ascii_symbol_id('a') + LAST);
    tokenizer_close(t);
}

/* Merges of a and b in an order that makes neighbours compete. */
static const char *const DENSE[][2] = { { "b", "a" },       { "a", "a" },    { "ba", "ba" },
                                        { "aa", "b" },      { "b", "b" },    { "a", "b</w>" },
                                        { "ba", "aa" },     { "aab", "bb" }, { "baba", "ba" },
                                        { "aa", "ba" },     { "bb", "aab" }, { "baaa", "b" },
                                        { "aa", "ab</w>" }, { "a", "b" },    { "a", "ba" } };
enum { N_DENSE = sizeof DENSE / sizeof DENSE[0], WORD = 40 };

/* BPE as its authors put it: merge all of the best pair from left to right, again. */
static int merge_naively(char parts[WORD][WORD + 5], int n)
{
    for (int rank = 0; rank < N_DENSE;) {
        int merged = 0, kept = 0;
        for (int i = 0; i < n; i++, kept++) {
            if (kept != i)
                memcpy(parts[kept], parts[i], sizeof parts[i]);
            if (i + 1 < n && strcmp(parts[kept], DENSE[rank][0]) == 0 &&
                strcmp(parts[i + 1], DENSE[rank][1]) == 0) {
                memcpy(parts[kept] + strlen(parts[kept]), parts[i + 1], strlen(parts[i + 1]) + 1);
                merged = 1;
                i++;
            }
        }
        n = kept;
        rank = merged ? 0 : rank + 1;
    }
    return n;
}

static int dense_id(const char *part)
{
    char made[WORD];
    for (int i = 0; i < N_DENSE; i++) {
        (void)snprintf(made, sizeof made, "%s%s", DENSE[i][0], DENSE[i][1]);
        if (strcmp(made, part) == 0)
            return 512 + i;
    }
    return ascii_symbol_id(part[0]) + (part[1] != '\0' ? LAST : 0);
}

Test(engine_tokenizer, merges_as_the_naive_algorithm_does)
{
    char list[512] = "", word[WORD + 1], parts[WORD][WORD + 5];
    for (size_t i = 0, at = 0; i < N_DENSE; i++)
        at += (size_t)snprintf(list + at, sizeof list - at, "%s %s\n", DENSE[i][0], DENSE[i][1]);
    tokenizer *t;
    refine_error err = { 0 };
    cr_assert_eq(tokenizer_open(&t, list, strlen(list), &err), REFINE_OK, "%s", err.text);

    uint32_t state = 1;
    for (int round = 0; round < 3000; round++) {
        const int len = 1 + round % WORD;
        int want[WORD];
        for (int i = 0; i < len; i++) {
            state = state * 1664525u + 1013904223u;
            word[i] = state >> 31 ? 'a' : 'b';
            (void)snprintf(parts[i], sizeof parts[i], "%c%s", word[i], i + 1 == len ? "</w>" : "");
        }
        word[len] = '\0';
        const int n = merge_naively(parts, len);
        for (int i = 0; i < n; i++)
            want[i] = dense_id(parts[i]);
        expect_token_ids(t, TOKENIZER_PLAIN, word, (size_t)len, want, n);
    }
    tokenizer_close(t);
}

Test(engine_tokenizer, splits_by_character_class)
{
    tokenizer *t = open_tiny();
    ENCODES(t, TOKENIZER_PLAIN, " x\t\ny ", ascii_symbol_id('x') + LAST,
            ascii_symbol_id('y') + LAST);
    ENCODES(t, TOKENIZER_PLAIN, "x12?-y", ascii_symbol_id('x') + LAST, ascii_symbol_id('1') + LAST,
            ascii_symbol_id('2') + LAST, ascii_symbol_id('?'), ascii_symbol_id('-') + LAST,
            ascii_symbol_id('y') + LAST);
    ENCODES(t, TOKENIZER_PLAIN, "x's", ascii_symbol_id('x') + LAST, ascii_symbol_id('\''),
            ascii_symbol_id('s') + LAST);
    ENCODES(t, TOKENIZER_PLAIN, "x''s", ascii_symbol_id('x') + LAST, ascii_symbol_id('\''),
            ascii_symbol_id('\'') + LAST, ascii_symbol_id('s') + LAST);
    ENCODES(t, TOKENIZER_PLAIN, "X'LLY", ascii_symbol_id('x') + LAST, ascii_symbol_id('\''),
            ascii_symbol_id('l'), ascii_symbol_id('l') + LAST, ascii_symbol_id('y') + LAST);
    ENCODES(t, TOKENIZER_PLAIN, "x\xc2\x85y\xe3\x80\x80z", ascii_symbol_id('x') + LAST,
            ascii_symbol_id('y') + LAST, ascii_symbol_id('z') + LAST);
    tokenizer_close(t);
}

/* Bytes that do not print are numbered after those that do: NUL is 188, 0x7f is 221. */
Test(engine_tokenizer, numbers_all_256_bytes)
{
    tokenizer *t = open_tiny();
    const char prompt[] = "\0\x01 \x7f \xe2\x82\xac"; /* the euro sign: e2 82 ac */
    const int want[] = { 188,
                         189 + LAST,
                         221 + LAST,
                         187 - (0xff - 0xe2),
                         188 + 33 + 1 + 2,
                         94 + (0xac - 0xa1) + LAST };
    expect_token_ids(t, TOKENIZER_PLAIN, prompt, sizeof prompt - 1, want, 6);
    tokenizer_close(t);
}

Test(engine_tokenizer, gives_the_exclamation_mark_its_flavour)
{
    tokenizer *t = open_tiny();
    ENCODES(t, TOKENIZER_DIFFUSERS, "x!?!", ascii_symbol_id('x') + LAST, 0,
            ascii_symbol_id('?') + LAST, 0);
    ENCODES(t, TOKENIZER_PLAIN, "x!?!", ascii_symbol_id('x') + LAST, 0, ascii_symbol_id('?'),
            0 + LAST);
    ENCODES(t, TOKENIZER_OPENCLIP, "x!", ascii_symbol_id('x') + LAST, 0 + LAST);
    tokenizer_close(t);
}

Test(engine_tokenizer, knows_special_tokens_by_flavour)
{
    tokenizer *t = open_tiny();
    ENCODES(t, TOKENIZER_DIFFUSERS, "x<<|EndOfText|>y", ascii_symbol_id('x') + LAST,
            ascii_symbol_id('<') + LAST, TOKENIZER_END, ascii_symbol_id('y') + LAST);
    ENCODES(t, TOKENIZER_PLAIN, "<|startoftext|>", TOKENIZER_START);
    ENCODES(t, TOKENIZER_OPENCLIP, "<end_of_text>", TOKENIZER_END);
    ENCODES(t, TOKENIZER_OPENCLIP, "?<end_of_text>", ascii_symbol_id('?'),
            ascii_symbol_id('<') + LAST, ascii_symbol_id('e'), ascii_symbol_id('n'),
            ascii_symbol_id('d') + LAST, ascii_symbol_id('_') + LAST, ascii_symbol_id('o'),
            ascii_symbol_id('f') + LAST, ascii_symbol_id('_') + LAST, ascii_symbol_id('t'),
            ascii_symbol_id('e'), ascii_symbol_id('x'), ascii_symbol_id('t') + LAST,
            ascii_symbol_id('>') + LAST);
    tokenizer_close(t);
}

static void same_ids(tokenizer *t, tokenizer_flavour flavour, const char *a, const char *b)
{
    int ids[2][TOKENIZER_CONTEXT];
    cr_assert_eq(tokenizer_encode(t, a, strlen(a), flavour, TOKENIZER_PAD, ids[0], NULL, NULL),
                 REFINE_OK);
    cr_assert_eq(tokenizer_encode(t, b, strlen(b), flavour, TOKENIZER_PAD, ids[1], NULL, NULL),
                 REFINE_OK);
    cr_assert_arr_eq(ids[0], ids[1], sizeof ids[0], "\"%s\" and \"%s\"", a, b);
}

Test(engine_tokenizer, normalises_and_lowers)
{
    tokenizer *t = open_tiny();
    same_ids(t, TOKENIZER_PLAIN, "cafe\xcc\x81", "caf\xc3\xa9");            /* e and acute */
    same_ids(t, TOKENIZER_PLAIN, "x\xcc\xa3\xcc\x81", "x\xcc\x81\xcc\xa3"); /* order of marks */
    same_ids(t, TOKENIZER_PLAIN, "\xc3\x89\xd0\x96", "\xc3\xa9\xd0\xb6");   /* E acute, Zhe */
    same_ids(t, TOKENIZER_PLAIN, "\xc4\xb0", "i\xcc\x87");                  /* dotted capital I */
    /* A capital sigma at the end of a word, at the start, inside, alone. */
    same_ids(t, TOKENIZER_PLAIN, "\xce\x91\xce\xa3 \xce\xa3\xce\x91 \xce\xa3",
             "\xce\xb1\xcf\x82 \xcf\x83\xce\xb1 \xcf\x83");
    same_ids(t, TOKENIZER_PLAIN, "\xce\x91\xce\xa3\xcc\x81\xce\x91",
             "\xce\xb1\xcf\x83\xcc\x81\xce\xb1");
    same_ids(t, TOKENIZER_PLAIN, "\xce\x91\xce\xa3.\xcc\x81?", "\xce\xb1\xcf\x82.\xcc\x81?");
    tokenizer_close(t);
}

Test(engine_tokenizer, resolves_html_references_twice_for_openclip)
{
    tokenizer *t = open_tiny();
    same_ids(t, TOKENIZER_OPENCLIP, "&amp;lt; &quot;x&#39;&#x79;&gt", "< \"x'y>");
    same_ids(t, TOKENIZER_OPENCLIP, "x&nbsp;y&apos;", "x y'");
    same_ids(t, TOKENIZER_OPENCLIP, "&#0;&#xD800;&#99999999999;",
             "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    ENCODES(t, TOKENIZER_OPENCLIP, "&apos", ascii_symbol_id('&') + LAST, ascii_symbol_id('a'),
            ascii_symbol_id('p'), ascii_symbol_id('o'), ascii_symbol_id('s') + LAST);
    ENCODES(t, TOKENIZER_OPENCLIP, "&#", ascii_symbol_id('&'), ascii_symbol_id('#') + LAST);
    ENCODES(t, TOKENIZER_PLAIN, "&lt", ascii_symbol_id('&') + LAST, ascii_symbol_id('l'),
            ascii_symbol_id('t') + LAST);
    tokenizer_close(t);
}

Test(engine_tokenizer, takes_what_is_not_utf8_for_replacement_characters)
{
    tokenizer *t = open_tiny();
    same_ids(t, TOKENIZER_DIFFUSERS, "x\xff\xc3", "x\xef\xbf\xbd\xef\xbf\xbd");
    same_ids(t, TOKENIZER_DIFFUSERS, "\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    same_ids(t, TOKENIZER_OPENCLIP, "\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd");
    tokenizer_close(t);
}

Test(engine_tokenizer, cuts_at_75_and_says_how_many_there_were)
{
    tokenizer *t = open_tiny();
    char prompt[200];
    int want[100];
    for (int n = 74; n <= 77; n++) {
        for (int i = 0; i < n; i++) {
            memcpy(prompt + 2 * i, "x ", 2);
            want[i] = ascii_symbol_id('x') + LAST;
        }
        prompt[2 * n] = '\0';
        expect_token_ids(t, TOKENIZER_DIFFUSERS, prompt, (size_t)(2 * n), want, n);
    }
    tokenizer_close(t);
}

static double seconds_for(tokenizer *t, const char *pattern, size_t len)
{
    char *prompt = mem_alloc(len);
    int ids[TOKENIZER_CONTEXT];
    for (size_t i = 0; i < len; i++)
        prompt[i] = pattern[i % strlen(pattern)];
    const clock_t start = clock();
    cr_assert_eq(
        tokenizer_encode(t, prompt, len, TOKENIZER_DIFFUSERS, TOKENIZER_PAD, ids, NULL, NULL),
        REFINE_OK, "\"%s\"", pattern);
    mem_free(prompt);
    return (double)(clock() - start) / CLOCKS_PER_SEC;
}

Test(engine_tokenizer, takes_no_quadratic_time)
{
    static const char *const patterns[] = {
        "a", "aab", "hell", "<|", "!", " x", "\xcc\x95\xcc\x96"
    }; /* unordered marks */
    tokenizer *t = open_tiny();
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++)
        cr_expect_lt(seconds_for(t, patterns[i], TOKENIZER_MAX_BYTES / 12 * 12), 1.0, "\"%s\"",
                     patterns[i]);
    tokenizer_close(t);
}

Test(engine_tokenizer, refuses_too_long_a_prompt)
{
    tokenizer *t = open_tiny();
    int ids[TOKENIZER_CONTEXT];
    refine_error err = { 0 };
    char *prompt = mem_alloc(TOKENIZER_MAX_BYTES + 1);
    memset(prompt, 'x', TOKENIZER_MAX_BYTES + 1);
    cr_assert_eq(
        tokenizer_encode(t, prompt, TOKENIZER_MAX_BYTES, 0, TOKENIZER_PAD, ids, NULL, &err),
        REFINE_OK);
    cr_assert_eq(
        tokenizer_encode(t, prompt, TOKENIZER_MAX_BYTES + 1, 0, TOKENIZER_PAD, ids, NULL, &err),
        REFINE_EINVAL);
    cr_assert_not_null(strstr(err.text, "65535"));
    memset(prompt, 0xff, TOKENIZER_MAX_BYTES); /* three times as long as U+FFFD */
    cr_assert_eq(
        tokenizer_encode(t, prompt, TOKENIZER_MAX_BYTES, 0, TOKENIZER_PAD, ids, NULL, &err),
        REFINE_EINVAL);
    memset(prompt, 'x', TOKENIZER_MAX_BYTES);
    prompt[0] = '\xff';
    cr_assert_eq(
        tokenizer_encode(t, prompt, TOKENIZER_MAX_BYTES - 2, 0, TOKENIZER_PAD, ids, NULL, &err),
        REFINE_OK);
    cr_assert_eq(
        tokenizer_encode(t, prompt, TOKENIZER_MAX_BYTES - 1, 0, TOKENIZER_PAD, ids, NULL, &err),
        REFINE_EINVAL);
    mem_free(prompt);
    tokenizer_close(t);
}

Test(engine_tokenizer, refuses_broken_merge_lists)
{
    static const char *const broken[] = {
        "",
        "#version: 0.2\n",
        "ab\n",
        " b\n",
        "a \n",
        "a b\na b\n",             /* repeated */
        "a bc\n",                 /* bc is not made yet */
        "a b\nab c\nb c\na bc\n", /* abc twice */
        "\xff\xfe a\n",
        "a b c\n",
    };
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        refine_error err = { 0 };
        tokenizer *t;
        cr_expect_eq(tokenizer_open(&t, broken[i], strlen(broken[i]), &err), REFINE_EFORMAT,
                     "\"%s\"", broken[i]);
        cr_expect_null(t);
        cr_expect_neq(err.text[0], '\0');
    }
}

Test(engine_tokenizer, reads_the_list_with_any_line_ends)
{
    static const char text[] = "\"bpe_simple_vocab_16e6.txt#version: 0.2\r\nh e\r\n\r\nl l";
    tokenizer *t;
    cr_assert_eq(tokenizer_open(&t, text, strlen(text), NULL), REFINE_OK);
    ENCODES(t, TOKENIZER_PLAIN, "hellx", HE, LL, ascii_symbol_id('x') + LAST);
    tokenizer_close(t);
}

Test(engine_tokenizer, survives_every_failed_allocation)
{
    for (long k = 0; k < 3; k++) {
        const uint64_t before = mem_used().now;
        refine_error err = { 0 };
        tokenizer *t;
        mem_fail_after(k, MEM_FAIL_ONCE);
        cr_expect_eq(tokenizer_open(&t, TINY, strlen(TINY), &err), REFINE_ENOMEM, "%ld", k);
        mem_fail_after(-1, MEM_FAIL_ONCE);
        cr_expect_null(t);
        cr_expect_eq(mem_used().now, before);
    }
}

Test(engine_tokenizer, allocates_nothing_while_encoding)
{
    tokenizer *t = open_tiny();
    const uint64_t calls = mem_used().calls;
    same_ids(t, TOKENIZER_DIFFUSERS, "hello, world!", "HELLO, world!");
    cr_assert_eq(mem_used().calls, calls);
    tokenizer_close(t);
    tokenizer_close(NULL);
}

/* ---- the published vocabulary ---- */

static tokenizer *open_real(void)
{
    char path[VECTORS_PATH], *text;
    size_t len;
    tokenizer *t;
    refine_error err;
    if (!vectors_path("clip/bpe_simple_vocab_16e6.txt.gz", path))
        return NULL;
    cr_assert_eq(merges_load(path, &text, &len, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(tokenizer_open(&t, text, len, &err), REFINE_OK, "%s", err.text);
    mem_free(text);
    return t;
}

/* The vectors hold at most 77 ids; tokens beyond those are counted by nobody. */
static int count_id_mismatches(tokenizer *t, const json_t *vector, const char *key,
                               tokenizer_flavour flavour)
{
    const json_t *prompt = json_object_get(vector, "prompt"), *want = json_object_get(vector, key);
    const size_t n = json_array_size(want);
    int ids[TOKENIZER_CONTEXT], bad = 0, count;

    cr_assert_eq(tokenizer_encode(t, json_string_value(prompt), json_string_length(prompt), flavour,
                                  TOKENIZER_PAD, ids, &count, NULL),
                 REFINE_OK);
    bad += n < TOKENIZER_CONTEXT ? count != (int)n : count < (int)n;
    for (size_t i = 0; i < TOKENIZER_CONTEXT; i++)
        bad += ids[i] != (i < n ? (int)json_integer_value(json_array_get(want, i)) : TOKENIZER_PAD);
    cr_expect_eq(bad, 0, "%s: \"%s\"", key, json_string_value(prompt));
    return bad;
}

Test(engine_tokenizer, matches_the_reference_on_every_vector_in_every_flavour)
{
    tokenizer *t = open_real();
    json_t *root = vectors_load("spec/tokenizer_vectors.json");
    if (!t || !root)
        cr_skip_test("no shared vectors");
    const json_t *vectors = json_object_get(root, "vectors");
    cr_assert_eq(json_array_size(vectors), 248);
    for (size_t i = 0; i < json_array_size(vectors); i++) {
        const json_t *v = json_array_get(vectors, i);
        count_id_mismatches(t, v, "ids_hf_tokenizer_2", TOKENIZER_DIFFUSERS);
        count_id_mismatches(t, v, "ids_openclip", TOKENIZER_OPENCLIP);
        count_id_mismatches(t, v, "ids_plain_hf", TOKENIZER_PLAIN);
    }
    json_decref(root);
    tokenizer_close(t);
}

/* What transformers 5.23 gave (docs/numerics.md) where the vectors have no such case. */
Test(engine_tokenizer, matches_transformers_on_the_odd_cases)
{
    tokenizer *t = open_real();
    if (!t)
        cr_skip_test("no shared vocabulary");
    ENCODES(t, TOKENIZER_DIFFUSERS, "<|ENDOFTEXT|>", 49407);
    ENCODES(t, TOKENIZER_DIFFUSERS, "x<<|endoftext|>y", 343, 283, 49407, 344);
    ENCODES(t, TOKENIZER_DIFFUSERS, "<|Start!oftext|>", 27, 347, 1572, 0, 684, 4160, 91, 285);
    ENCODES(t, TOKENIZER_DIFFUSERS, "<|endoftext|>!", 49407, 0);
    ENCODES(t, TOKENIZER_DIFFUSERS, "\xc4\xb0", 328, 16384);
    ENCODES(t, TOKENIZER_DIFFUSERS,
            "a\x1c"
            "b",
            320, 472, 321);
    ENCODES(t, TOKENIZER_DIFFUSERS, "\xe2\x85\xa7", 158, 227, 371);
    ENCODES(t, TOKENIZER_DIFFUSERS, "\xef\xbf\xbd", 39802);
    tokenizer_close(t);
}
