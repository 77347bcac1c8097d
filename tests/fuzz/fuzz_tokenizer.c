/* tests/fuzz/fuzz_tokenizer.c -- hostile merge lists, hostile prompts.
 *
 * Input: flavour byte, merge list, NUL, prompt.  Without a NUL all of it is the prompt,
 * for a small list of our own.
 */
#include "engine/text/tokenizer.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char OWN[] = "i n\nt h\na n\nr e\nin g</w>\nth e</w>\n! !\n\xc3\xb0 \xc5\x81\n";

static void check_prompt_ids(tokenizer *t, const char *prompt, size_t len,
                             tokenizer_flavour flavour)
{
    int ids[TOKENIZER_CONTEXT], n = 0, ends = 0;
    refine_error err;
    const refine_status st = tokenizer_encode(t, prompt, len, flavour, TOKENIZER_PAD, ids, &n,
                                              &err);
    if (st != REFINE_OK) {
        assert(st == REFINE_EINVAL && err.status == st && err.text[0] != '\0');
        return;
    }
    assert(ids[0] == TOKENIZER_START && n >= 2);
    for (int i = 0; i < TOKENIZER_CONTEXT; i++) {
        assert(ids[i] >= 0 && ids[i] <= TOKENIZER_END);
        ends += ids[i] == TOKENIZER_END;
    }
    assert(ends >= 1);
    assert(n < TOKENIZER_CONTEXT || ids[TOKENIZER_CONTEXT - 1] == TOKENIZER_END);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const tokenizer_flavour flavour = (tokenizer_flavour)(data[0] % 3);
    const char *text = (const char *)data + 1, *merges = OWN;
    size_t len = size - 1, merges_len = sizeof OWN - 1;
    const char *stop = memchr(text, '\0', len);
    if (stop) {
        merges = text;
        merges_len = (size_t)(stop - text);
        len -= merges_len + 1;
        text = stop + 1;
    }

    tokenizer *t;
    refine_error err;
    const refine_status st = tokenizer_open(&t, merges, merges_len, &err);
    if (st != REFINE_OK) {
        assert(st == REFINE_EFORMAT && !t && err.text[0] != '\0');
        return 0;
    }
    check_prompt_ids(t, text, len, flavour);
    tokenizer_close(t);
    return 0;
}
