/* tests/engine/test_unicode_clean.c -- the clean text itself, byte for byte. */
#include "engine/text/unicode_clean.h"

#include <criterion/criterion.h>
#include <string.h>

static char clean_bytes[TOKENIZER_MAX_BYTES];
static int32_t clean_points[CLEAN_POINTS];

static void expect_clean_prompt(tokenizer_flavour flavour, const char *prompt, const char *want)
{
    size_t len = 0;
    cr_assert(clean_prompt(clean_bytes, &len, clean_points, prompt, strlen(prompt), flavour));
    cr_expect(len == strlen(want) && memcmp(clean_bytes, want, len) == 0, "\"%s\": \"%.*s\"",
              prompt, (int)len, clean_bytes);
}

Test(engine_unicode_clean, composes_but_not_for_openclip)
{
    expect_clean_prompt(TOKENIZER_PLAIN, "cafe\xcc\x81", "caf\xc3\xa9");
    expect_clean_prompt(TOKENIZER_DIFFUSERS, "cafe\xcc\x81", "caf\xc3\xa9");
    expect_clean_prompt(TOKENIZER_OPENCLIP, "cafe\xcc\x81", "cafe\xcc\x81");
    expect_clean_prompt(TOKENIZER_PLAIN, "x\xcc\x81\xcc\xa3", "x\xcc\xa3\xcc\x81");
}

Test(engine_unicode_clean, lowers_sigma_by_its_place_and_keeps_white_space)
{
    expect_clean_prompt(TOKENIZER_PLAIN, " A\t\xce\x91\xce\xa3\n", " a\t\xce\xb1\xcf\x82\n");
    expect_clean_prompt(TOKENIZER_PLAIN, "\xce\xa3\xce\x91", "\xcf\x83\xce\xb1");
    expect_clean_prompt(TOKENIZER_PLAIN, "\xce\x91\xce\xa3.A", "\xce\xb1\xcf\x83.a");
    expect_clean_prompt(TOKENIZER_PLAIN, "\xc4\xb0", "i\xcc\x87");
}

Test(engine_unicode_clean, resolves_references_for_openclip_alone)
{
    expect_clean_prompt(TOKENIZER_OPENCLIP, "&amp;lt; &#x41;&gt &apos &#", "< a> &apos &#");
    expect_clean_prompt(TOKENIZER_PLAIN, "&lt;", "&lt;");
}

Test(engine_unicode_clean, replaces_what_is_not_utf8)
{
    expect_clean_prompt(TOKENIZER_PLAIN, "x\xff\xc3", "x\xef\xbf\xbd\xef\xbf\xbd");
}

/* Two bytes of Latin may become three: U+023A, of which the lower case is U+2C65. */
Test(engine_unicode_clean, holds_what_fits_and_no_byte_more)
{
    static char prompt[TOKENIZER_MAX_BYTES + 1];
    size_t len;
    memset(prompt, 'x', sizeof prompt);
    cr_expect(clean_prompt(clean_bytes, &len, clean_points, prompt, TOKENIZER_MAX_BYTES, 0));
    cr_expect_eq(len, (size_t)TOKENIZER_MAX_BYTES);
    cr_expect_not(clean_prompt(clean_bytes, &len, clean_points, prompt, sizeof prompt, 0));
    memcpy(prompt, "\xc8\xba", 2);
    cr_expect(clean_prompt(clean_bytes, &len, clean_points, prompt, TOKENIZER_MAX_BYTES - 1, 0));
    cr_expect_not(clean_prompt(clean_bytes, &len, clean_points, prompt, TOKENIZER_MAX_BYTES, 0));
}
