/* tests/tools/test_disk_advice.c -- when zstd pays, and that it can be measured. */
#include "tools/packer/disk_advice.h"

#include "engine/base/mem.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_pack.h"

#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

Test(tools_disk_advice, gain_is_the_ratio_until_the_decoders_are_the_limit)
{
    cr_expect_float_eq(disk_advice_gain(0.5e9, 1.4e9, 1.2), 1.2, 1e-9, "a slow disk");
    cr_expect_float_eq(disk_advice_gain(2.5e9, 1.4e9, 1.2), 1.12, 1e-9, "two decoders, no more");
    cr_expect_float_eq(disk_advice_gain(5.6e9, 1.4e9, 1.2), 0.5, 1e-9, "a fast disk");
}

Test(tools_disk_advice, says_in_one_line_what_to_do)
{
    static const struct {
        disk_advice a;
        const char *says;
    } CASES[] = {
        { { 1.9e9, 1.4e9, 1.2, 1.2 }, "streams up to 1.20 times as fast as raw" },
        { { 7e9, 1.4e9, 1.2, 0.4 }, "raw streams faster here (--codec raw)" },
        { { 1e9, 9e9, 1.001, 1.001 }, "it saves nothing of these weights (--codec raw)" },
    };
    char text[DISK_ADVICE_TEXT];
    for (int i = 0; i < 3; i++) {
        disk_advice_text(text, &CASES[i].a);
        cr_expect_not_null(strstr(text, CASES[i].says), "%s", text);
        cr_expect_null(strchr(text, '\n'));
    }
    disk_advice_text(text, &CASES[0].a);
    cr_expect_not_null(strstr(text, "reads 1.90 GB/s"), "%s", text);
    cr_expect_not_null(strstr(text, "2 threads decode 1.40 GB/s each"), "%s", text);
}

Test(tools_disk_advice, measures_a_pack_and_gives_everything_back)
{
    char path[TEMP_NAME];
    disk_advice a;
    tiny_pack(path, sizeof path, "");
    cr_assert(disk_advice_measure(&a, path));
    cr_expect(a.read > 1e6 && a.decode > 1e6 && a.gain > 0);
    cr_expect(a.ratio > 1.05 && a.ratio < 1.5, "%.3f", a.ratio);
    cr_expect_leq(a.gain, a.ratio);
    cr_expect_not(disk_advice_measure(&a, "no/such/file.pack"));
    cr_expect_eq(mem_used().now, 0u);
    (void)unlink(path);
}
