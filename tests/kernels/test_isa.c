/* tests/kernels/test_isa.c -- REFINE_ISA takes away what a lesser processor would not have. */
#define _POSIX_C_SOURCE 200809L /* setenv */
#include "kernels/cpu/isa.h"

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/int8.h"
#include "kernels/cpu/vec.h"
#include "kernels/device.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static unsigned available_when_capped(const char *name)
{
    cr_assert(setenv("REFINE_ISA", name, 1) == 0);
    return isa_available();
}

Test(kernels_isa, is_capped_by_the_environment)
{
    cr_assert(unsetenv("REFINE_ISA") == 0);
    const unsigned all = isa_available();
    cr_expect(available_when_capped("base") == 0);
    cr_expect(available_when_capped("avx2") == (all & ISA_AVX2));
    cr_expect((available_when_capped("avxvnni") & (ISA_AVX512 | ISA_AVX512VNNI | ISA_AVX512BF16)) ==
              0);
    cr_expect((available_when_capped("avx512") & (ISA_AVXVNNI | ISA_AVX512VNNI | ISA_AVX512BF16)) ==
              0);
    cr_expect((available_when_capped("avx512vnni") & ISA_AVX512BF16) == 0);
    cr_expect(available_when_capped("avx512bf16") == (all & ~(unsigned)ISA_AVXVNNI));
    cr_expect(available_when_capped("no such thing") == all);
}

Test(kernels_isa, a_cap_that_is_no_name_is_refused_by_the_device)
{
    const dev_options o = { .compute = DT_F32, .threads = 1 };
    refine_error err = { 0 };
    (void)available_when_capped("AVX2");
    cr_expect_str_eq(isa_unknown(), "AVX2");
    cr_expect_null(dev_open_cpu(&o, &err));
    cr_expect_eq(err.status, REFINE_EINVAL);
    cr_expect_not_null(strstr(err.text, "REFINE_ISA is AVX2"));
    (void)available_when_capped("");
    cr_expect_null(isa_unknown());
    (void)available_when_capped("avx2");
    dev *d = dev_open_cpu(&o, &err);
    cr_expect_not_null(d);
    dev_close(d);
}

/* Of which a batch that goes on elsewhere must know. */
Test(kernels_isa, without_fma_a_device_says_that_it_rounds_otherwise)
{
    static const struct {
        const char *name, *rounding;
    } CASES[] = { { "base", "without FMA" }, { "avx2", "" }, { "avx512", "" }, { "", "" } };
    const dev_options o = { .compute = DT_F32, .threads = 1 };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        if (!(available_when_capped("") & ISA_AVX2) && !CASES[i].rounding[0])
            continue;
        (void)available_when_capped(CASES[i].name);
        dev *d = dev_open_cpu(&o, NULL);
        cr_assert_not_null(d);
        cr_expect_str_eq(dev_rounding(d), CASES[i].rounding, "%s", CASES[i].name);
        dev_close(d);
    }
}

Test(kernels_isa, is_what_the_kernels_are_picked_by)
{
    (void)available_when_capped("base");
    cr_expect(strcmp(gemm_pick(DT_F32)->name, "plain") == 0);
    cr_expect(strcmp(gemm_pick(DT_BF16)->name, "plain") == 0);
    cr_expect(strcmp(int8_pick()->name, "plain") == 0);
    cr_expect(vec_pick() == &VEC_BASE);
}
