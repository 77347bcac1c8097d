/* tests/tools/test_sizes.c -- sizes as people write and read them. */
#include "tools/cli/sizes.h"

#include <criterion/criterion.h>

Test(tools_sizes, reads_what_people_write)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } GOOD[] = {
        { "4096", 4096 },       { "64K", 65536 },      { "512M", 512u << 20 }, { "1.5G", 3u << 29 },
        { "2GiB", 2ull << 30 }, { "2GB", 2ull << 30 }, { "0.5k", 512 },        { "3m", 3u << 20 },
        { "1T", 1ull << 40 },   { "7B", 7 },
    };
    for (size_t i = 0; i < sizeof GOOD / sizeof GOOD[0]; i++) {
        uint64_t v = 0;
        cr_assert(sizes_parse(GOOD[i].text, &v), "%s", GOOD[i].text);
        cr_assert_eq(v, GOOD[i].bytes, "%s", GOOD[i].text);
    }
}

Test(tools_sizes, refuses_everything_else_and_leaves_the_result_alone)
{
    static const char *const BAD[] = { "",    "M",     "-1M",      "+1M",    " 1M", "1M ",
                                       "1X",  "0",     "0.0G",     "nan",    "inf", "0x10",
                                       "1MM", "1e999", "9999999T", "1.5.2M", "0.1" };
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        uint64_t v = 77;
        cr_assert_not(sizes_parse(BAD[i], &v), "'%s' gave %llu", BAD[i], (unsigned long long)v);
        cr_assert_eq(v, 77u);
    }
}

Test(tools_sizes, prints_three_digits)
{
    static const struct {
        double bytes;
        const char *text;
    } WANT[] = {
        { 0, "0 B" },        { 999, "999 B" },        { 999.6, "1.00 kB" },
        { 4096, "4.10 kB" }, { 12345, "12.3 kB" },    { 99960, "100 kB" },
        { 812e6, "812 MB" }, { 6.0757e9, "6.08 GB" }, { 1.2e13, "12.0 TB" },
    };
    char text[SIZES_TEXT];
    for (size_t i = 0; i < sizeof WANT / sizeof WANT[0]; i++)
        cr_assert_str_eq(sizes_text(text, WANT[i].bytes), WANT[i].text);
}
