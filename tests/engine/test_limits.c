/* tests/engine/test_limits.c -- ceilings as asked for, and what is said when they are too low. */
#include "engine/plan/limits.h"

#include "kernels/backend.h"
#include "tests/support/field.h"

#include <criterion/criterion.h>

#define MIB ((uint64_t)1 << 20)

Test(engine_limits, a_ceiling_holds_what_the_device_took_too)
{
    dev *d = field_ref();
    refine_options o = REFINE_OPTIONS_INIT;
    o.vram_bytes = 100 * MIB;
    o.ram_bytes = 7 * MIB;
    d->overhead = 30 * MIB;
    const memory_limits l = limits_find(d, &o);
    cr_expect(l.device == 70 * MIB && l.host == 7 * MIB && l.overhead == 30 * MIB);
    d->overhead = 100 * MIB;
    cr_expect_eq(limits_find(d, &o).device, 0);
    d->overhead = 101 * MIB;
    cr_expect_eq(limits_find(d, &o).device, 0);
    dev_close(d);
}

Test(engine_limits, what_is_not_asked_for_is_found)
{
    dev *d = field_ref();
    const refine_options o = REFINE_OPTIONS_INIT;
    const memory_limits l = limits_find(d, &o);
    cr_expect_eq(l.host, 512 * MIB);
    cr_expect_gt(l.device, 0);
    dev_close(d);
}

/* As much as usual where there is plenty, and a share of what there is where there is not. */
Test(engine_limits, default_is_within_what_may_be_had)
{
    dev *d = field_ref();
    refine_options o = REFINE_OPTIONS_INIT;
    memory_limits l = limits_within(d, &o, (memory_room){ 8192 * MIB, "free memory" });
    cr_expect(l.host == 512 * MIB && l.device == (8192 - 256 - 512) * MIB);
    cr_expect_str_eq(l.host_by, "512 MiB by default");
    cr_expect_str_eq(l.device_by, "free memory");
    for (uint64_t mib = 0; mib < 3000; mib += 37) {
        l = limits_within(d, &o, (memory_room){ mib * MIB, "control group" });
        const uint64_t both = l.host + l.device, margin = mib * MIB - both;
        cr_expect(both <= mib * MIB && (margin >= mib * MIB / 8 || margin == 256 * MIB), "%d MiB",
                  (int)mib);
        cr_expect(l.host == 512 * MIB || (l.host <= l.device && l.host + 1 >= l.device), "%d MiB",
                  (int)mib);
        cr_expect_str_eq(l.device_by, "control group");
        cr_expect_str_eq(l.host_by, l.host < 512 * MIB ? "control group" : "512 MiB by default");
    }
    o.ram_bytes = 700 * MIB;
    l = limits_within(d, &o, (memory_room){ 800 * MIB, "control group" });
    cr_expect(l.host == 700 * MIB && !l.host_by && l.device == 350 * MIB, "no more than asked");
    o.vram_bytes = 9000 * MIB;
    l = limits_within(d, &o, (memory_room){ 800 * MIB, "control group" });
    cr_expect(l.device == 9000 * MIB && !l.device_by);
    dev_close(d);
}

static size_t card_free(dev *d)
{
    (void)d;
    return 1000 * MIB;
}

Test(engine_limits, a_card_keeps_a_margin_for_the_desktop)
{
    dev *d = field_ref();
    const struct dev_ops *real = d->ops;
    struct dev_ops ops = *real;
    const refine_options o = REFINE_OPTIONS_INIT;
    ops.memory_free = card_free;
    d->ops = &ops;
    cr_expect_eq(limits_find(d, &o).device, 744 * MIB);
    const memory_limits l = limits_within(d, &o, (memory_room){ 80 * MIB, "control group" });
    cr_expect(l.host == 70 * MIB && l.device == 744 * MIB);
    cr_expect_str_eq(l.device_by, "free device memory");
    cr_expect_str_eq(l.host_by, "control group");
    d->ops = real;
    dev_close(d);
}

Test(engine_limits, a_refusal_names_the_ceiling_that_would_do)
{
    memory_limits l = { .device = 70 * MIB, .host = 9 * MIB, .overhead = 30 * MIB };
    refine_error err = { 0 };
    cr_expect_eq(limits_fail_device(&l, 80 * MIB + 1, 0.1234, &err), REFINE_EBUDGET);
    cr_expect_str_eq(err.text,
                     "device memory: this image needs at least 111M, the ceiling is 100M; "
                     "use --vram 111M (then about 0.123 s a step) or a smaller image");
    cr_expect_eq(limits_fail_host(&l, 10 * MIB, 0, &err), REFINE_EBUDGET);
    cr_expect_str_eq(err.text, "host memory: this image needs at least 10M, the ceiling is 9M; "
                               "use --ram 10M or a smaller image");
    l.host_by = "control group";
    cr_expect_eq(limits_fail_host(&l, 10 * MIB, 0, &err), REFINE_EBUDGET);
    cr_expect_str_eq(err.text,
                     "host memory: this image needs at least 10M, the ceiling is 9M (control "
                     "group); use --ram 10M or a smaller image");
}
