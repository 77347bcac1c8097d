/* tests/tools/test_memprof_cards.c -- cards are found, set the rates, and are told apart. */
#include "tests/support/temp_file.h"
#include "tests/support/tiny_pack.h"
#include "tools/memprof/memprof_cards.h"

#include <criterion/criterion.h>
#include <unistd.h>

Test(tools_memprof_cards, are_found_by_id_and_by_name)
{
    cr_assert_eq(card_find("4050"), card_find("rtx 4050 m"));
    cr_assert_not_null(card_find("1650TI"));
    cr_assert_null(card_find("4090"));
    cr_assert_null(card_find(""));
}

Test(tools_memprof_cards, set_the_rates_and_give_way_to_what_is_known)
{
    refine_options o = REFINE_OPTIONS_INIT;
    card_apply(&o, card_find("2060"), &(card_override){ 0 });
    cr_assert_float_eq(o.rates.linear, 12.8e12, 1);
    cr_assert_float_eq(o.rates.attention, 10.3e12, 1);
    cr_assert_float_eq(o.rates.copy, 6.4e9, 1);
    cr_assert_float_eq(o.rates.disk, 3.5e9, 1);
    cr_assert_eq(o.precision, REFINE_BF16);
    cr_assert_eq(o.vram_bytes / 1048576, 5734u);
    o.precision = REFINE_F32;
    card_apply(&o, card_find("2060"), &(card_override){ .link = 12, .disk = 7, .tflops = 10 });
    cr_assert_float_eq(o.rates.linear, 10e12, 1);
    cr_assert_float_eq(o.rates.copy, 12e9, 1);
    cr_assert_float_eq(o.rates.disk, 7e9, 1);
    cr_assert_eq(o.precision, REFINE_F32);
}

Test(tools_memprof_cards, predict_every_size)
{
    char pack[TEMP_NAME];
    uint8_t pixel;
    card_row row;
    refine_error err = { 0 };
    refine_options o = REFINE_OPTIONS_INIT;
    refine_job j = REFINE_JOB_INIT;
    tiny_pack(pack, sizeof pack, "");
    o.pack_path = pack;
    j.rgb_in = j.rgb_out = &pixel;
    cr_assert_eq(card_predict(&row, card_find("5050"), &(card_override){ 0 }, &o, &j, &err),
                 REFINE_OK, "%s", err.text);
    for (int i = 0; i < CARD_SIZES; i++) {
        cr_assert(row.cell[i].fits);
        cr_assert_gt(row.cell[i].step, 0.0);
        cr_assert(i == 0 || row.cell[i].step > row.cell[i - 1].step);
        cr_assert(i == 0 || row.cell[i].smallest > row.cell[i - 1].smallest);
    }
    (void)unlink(pack);
}

Test(tools_memprof_cards, hand_on_what_is_wrong_with_the_pack)
{
    card_row row;
    uint8_t pixel;
    refine_error err = { 0 };
    refine_options o = REFINE_OPTIONS_INIT;
    refine_job j = REFINE_JOB_INIT;
    o.pack_path = "/nowhere/at/all.pack";
    j.rgb_in = j.rgb_out = &pixel;
    cr_assert_eq(card_predict(&row, cards, &(card_override){ 0 }, &o, &j, &err), REFINE_EIO);
    cr_assert_neq(err.text[0], '\0');
}
