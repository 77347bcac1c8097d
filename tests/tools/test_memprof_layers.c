/* tests/tools/test_memprof_layers.c -- chunks become layers, layers blocks, and nothing is lost. */
#include "engine/base/mem.h"
#include "tests/support/trace_fixture.h"
#include "tools/memprof/memprof_layers.h"

#include <criterion/criterion.h>
#include <string.h>

Test(tools_memprof_layers, adds_up_what_events_say)
{
    recording t = trace_fixture();
    layers l;
    cr_assert_eq(layers_of(&l, &t, NULL), REFINE_OK);
    cr_assert_eq(l.n, 3);
    cr_assert_eq(l.v[1].uses, 2);
    cr_assert_float_eq(l.v[1].seconds, 1.5, 1e-9);
    cr_assert_float_eq(l.v[1].stall[0], 0.5, 1e-9);
    cr_assert_float_eq(l.v[2].stall[2], 1.0, 1e-9);
    cr_assert_eq(l.v[1].tier[REFINE_TIER_DEVICE], 2097152u);
    cr_assert_float_eq(layer_intensity(&l.v[2]), 8e6 / 1048576.0, 1e-9);
    layers_free(&l);
    trace_free(&t);
}

Test(tools_memprof_layers, gathers_blocks_by_the_first_number)
{
    static const struct {
        const char *layer, *block;
    } CASES[] = {
        { "unet.down_blocks.2.resnets.0.conv1.weight", "unet.down_blocks.2" },
        { "text.text_model.encoder.layers.31.mlp.fc1.weight", "text.text_model.encoder.layers" },
        { "unet.conv_in.weight", "unet.conv_in" },
        { "plain", "plain" },
        { "", "" },
        { "..", "" },
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        layer one = { .name = CASES[i].layer, .name_len = (int)strlen(CASES[i].layer) };
        layers b;
        cr_assert_eq(layers_blocks(&b, &(layers){ &one, 1 }, NULL), REFINE_OK);
        cr_assert_eq(b.v[0].name_len, (int)strlen(CASES[i].block), "%s", CASES[i].layer);
        layers_free(&b);
    }
}

Test(tools_memprof_layers, sorts_by_time)
{
    recording t = trace_fixture();
    layers l;
    int order[3];
    cr_assert_eq(layers_of(&l, &t, NULL), REFINE_OK);
    layers_by_time(&l, order);
    cr_assert_eq(order[0], 2);
    cr_assert_eq(order[1], 1);
    cr_assert_eq(order[2], 0);
    layers_free(&l);
    trace_free(&t);
    cr_assert_eq(mem_used().now, 0u);
}
