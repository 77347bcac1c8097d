/* tests/engine/test_model_config.c -- JSON there and back; every number is bounded. */
#include "engine/base/mem.h"
#include "engine/model/model_config.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static void survives_json(const model_config *c)
{
    char *text = model_config_dump(c);
    model_config back;
    refine_error err = { 0 };
    cr_assert_not_null(text);
    cr_assert_eq(model_config_parse(&back, text, strlen(text), &err), REFINE_OK, "%s", err.text);
    char *again = model_config_dump(&back);
    cr_assert_str_eq(text, again);
    cr_assert_eq(back.unet.channels[3], c->unet.channels[3]);
    cr_assert_eq(back.vae.scaling_factor, c->vae.scaling_factor);
    cr_assert_eq(back.schedule.beta_end, c->schedule.beta_end);
    mem_free(text);
    mem_free(again);
}

Test(engine_model_config, survives_json)
{
    survives_json(&MODEL_REFINER);
    survives_json(&MODEL_TINY);
}

/* Replaces each number of the JSON in turn with `with` and parses. */
static int count_config_refusals(const model_config *c, const char *with)
{
    char *text = model_config_dump(c);
    int refused = 0;
    for (char *p = text; *p; p++) {
        if (*p < '0' || *p > '9' || (p > text && p[-1] >= '0' && p[-1] <= '9'))
            continue;
        const size_t digits = strspn(p, "0123456789.e-+");
        const size_t room = strlen(text) + strlen(with) + 1;
        char *broken = mem_alloc(room);
        model_config out;
        refine_error err = { 0 };
        snprintf(broken, room, "%.*s%s%s", (int)(p - text), text, with, p + digits);
        if (model_config_parse(&out, broken, strlen(broken), &err) != REFINE_OK) {
            cr_assert_gt(strlen(err.text), 0u);
            refused++;
        }
        mem_free(broken);
        p += digits - 1;
    }
    mem_free(text);
    return refused;
}

Test(engine_model_config, refuses_numbers_out_of_bounds)
{
    cr_assert_geq(count_config_refusals(&MODEL_TINY, "2000000000"), 40);
    cr_assert_geq(count_config_refusals(&MODEL_TINY, "-1"), 40);
    cr_assert_geq(count_config_refusals(&MODEL_TINY, "\"x\""), 40);
    cr_assert_geq(count_config_refusals(&MODEL_TINY, "null"), 40);
}

Test(engine_model_config, refuses_truncated_text)
{
    char *text = model_config_dump(&MODEL_TINY);
    for (size_t n = 0; n + 1 < strlen(text); n++) {
        model_config out;
        cr_assert_neq(model_config_parse(&out, text, n, NULL), REFINE_OK);
    }
    mem_free(text);
}
