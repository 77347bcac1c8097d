/* tests/engine/test_word_split.c -- which words a clean text is cut into. */
#include "engine/text/word_split.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

/* `want`: the words, each in brackets; of a special token its id. */
static void expect_words(tokenizer_flavour flavour, const char *text, const char *want)
{
    word_splitter s = { .text = text, .len = strlen(text), .flavour = flavour };
    char got[256] = "";
    split_word w;
    for (size_t at = 0; find_next_word(&s, &w); at = strlen(got)) {
        cr_assert(w.len > 0 && w.bytes + w.len == text + s.at);
        if (w.special >= 0)
            (void)snprintf(got + at, sizeof got - at, "(%d)", w.special);
        else
            (void)snprintf(got + at, sizeof got - at, "[%.*s]", (int)w.len, w.bytes);
    }
    cr_expect_str_eq(got, want, "\"%s\": %s", text, got);
    cr_expect_eq(s.at, s.len);
}

Test(engine_word_split, cuts_where_the_class_of_characters_changes)
{
    expect_words(TOKENIZER_PLAIN, "", "");
    expect_words(TOKENIZER_PLAIN, " \t\xe3\x80\x80", "");
    expect_words(TOKENIZER_PLAIN, " a cat, 42?! ", "[a][cat][,][4][2][?!]");
    expect_words(TOKENIZER_PLAIN, "caf\xc3\xa9\xc2\xbdx", "[caf\xc3\xa9][\xc2\xbd][x]");
}

Test(engine_word_split, takes_a_contraction_before_anything_else)
{
    expect_words(TOKENIZER_PLAIN, "it's we'll", "[it]['s][we]['ll]");
    expect_words(TOKENIZER_PLAIN, "don't", "[don]['t]");
    expect_words(TOKENIZER_PLAIN, "'tis", "['t][is]");
    expect_words(TOKENIZER_PLAIN, "x''s", "[x][''][s]");
}

Test(engine_word_split, knows_special_tokens_by_flavour)
{
    expect_words(TOKENIZER_PLAIN, "?<|endoftext|>x", "[?](49407)[x]");
    expect_words(TOKENIZER_OPENCLIP, "<start_of_text>x", "(49406)[x]");
    expect_words(TOKENIZER_OPENCLIP, "?<end_of_text>", "[?<][end][_][of][_][text][>]");
    expect_words(TOKENIZER_DIFFUSERS, "a!?!", "[a](0)[?](0)");
    expect_words(TOKENIZER_PLAIN, "a!?!", "[a][!?!]");
}

/* To Python U+001C to U+001F are white space. */
Test(engine_word_split, separates_at_control_characters_for_openclip)
{
    expect_words(TOKENIZER_OPENCLIP,
                 "a\x1c\x1f"
                 "b",
                 "[a][b]");
    expect_words(TOKENIZER_PLAIN,
                 "a\x1c"
                 "b",
                 "[a][\x1c][b]");
}
