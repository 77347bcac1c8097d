/* tests/tools/test_memprof_curve.c -- the curve spans what can be had, and more memory pays. */
#include "tests/support/temp_file.h"
#include "tests/support/tiny_pack.h"
#include "tools/memprof/memprof_curve.h"

#include <criterion/criterion.h>
#include <unistd.h>

Test(tools_memprof_curve, goes_from_the_smallest_ceiling_to_all_weights_resident)
{
    char pack[TEMP_NAME];
    uint8_t pixel;
    curve c;
    refine_error err = { 0 };
    refine_options o = REFINE_OPTIONS_INIT;
    refine_job j = REFINE_JOB_INIT;
    tiny_pack(pack, sizeof pack, "");
    o.pack_path = pack;
    o.rates = (refine_rates){ 1e9, 1e9, 1e9, 1e12, 1e12, 1e12, 1e11 };
    j.width = j.height = 64;
    j.rgb_in = j.rgb_out = &pixel;
    cr_assert_eq(curve_of(&c, &o, &j, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(c.n, CURVE_POINTS);
    cr_assert_eq(c.v[0].vram, c.all.memory.smallest_device);
    cr_assert_eq(c.v[c.n - 1].vram, c.all.memory.device_planned);
    cr_assert_eq(c.v[c.n - 1].resident, c.all.memory.resident);
    for (int i = 0; i < c.n; i++) {
        cr_assert_gt(c.v[i].step, 0.0);
        cr_assert(i == 0 || c.v[i].vram >= c.v[i - 1].vram);
    }
    cr_assert_gt(c.v[0].step, c.v[c.n - 1].step);
    (void)unlink(pack);
}

Test(tools_memprof_curve, is_none_without_a_pack)
{
    curve c;
    uint8_t pixel;
    refine_options o = REFINE_OPTIONS_INIT;
    refine_job j = REFINE_JOB_INIT;
    o.pack_path = "/nowhere/at/all.pack";
    j.rgb_in = j.rgb_out = &pixel;
    cr_assert_eq(curve_of(&c, &o, &j, NULL), REFINE_EIO);
    cr_assert_eq(c.n, 0);
}
