/* tests/cuda/test_self_test.c -- a card that computes wrongly is refused, whichever kernel it is
 * that does, and by the name of that kernel's family.
 *
 * Every result that a family's trial compares is falsified by one bit in turn, and every launch of
 * it left out in turn; opening tries all families.
 */
#define _POSIX_C_SOURCE 200809L /* setenv */
#include "engine/base/mem.h"
#include "tests/support/cuda/emulation.h"
#include "tests/support/cuda_math.h"
#include "tests/support/cuda_opening.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROCESSORS = 1 }; /* which has much to do when the card is probed */

static void self_test_teardown(void)
{
    (void)unsetenv("REFINE_SELF_TEST");
    mem_fail_after(-1, MEM_FAIL_ONCE);
    (void)emulation_reset();
}

TestSuite(cuda_self_test, .fini = self_test_teardown, .timeout = 1200);

static dev *open_self_tested_device(cuda_math m, refine_error *err)
{
    const dev_options o = { .compute = m == CUDA_F32 ? DT_F32 : DT_F16,
                            .int8_math = m == CUDA_TENSOR_CORES };
    emulation_set_performance(m == CUDA_TENSOR_CORES ? 8000 : 1000, 1000);
    emulation_set_card(7, 5, PROCESSORS);
    return dev_open_cuda(&o, 0, err);
}

static const char *const FAMILIES[] = {
    "linear layers with fp16 weights",
    "linear layers with int8 weights",
    "linear layers of odd shapes with int8 weights",
    "1x1 convolutions",
    "3x3 convolutions of norms with fp16 weights",
    "3x3 convolutions of norms with int8 weights",
    "3x3 convolutions of odd shapes",
    "attention",
    "attention within 77 tokens",
    "attention of 512 channels",
    "group norms",
    "group norms of odd shapes",
    "layer norms",
    "norms without a convolution",
    "activations",
    "conversions",
    "linear layers in integers",
    "3x3 convolutions in integers",
};
enum { N_FAMILIES = sizeof FAMILIES / sizeof FAMILIES[0], IN_INTEGERS = 2 };

/* Only tensor cores multiply integers. */
static int families_of(cuda_math m)
{
    return m == CUDA_TENSOR_CORES ? N_FAMILIES : N_FAMILIES - IN_INTEGERS;
}

static void expect_wrong_family(const char *text, const char *family)
{
    char says[96];
    (void)snprintf(says, sizeof says, " computes %s wrongly: element ", family);
    cr_expect(strncmp(text, "cuda: emulated card 0 with ", 27) == 0, "'%s'", text);
    cr_expect(strstr(text, says), "'%s' is not about %s", text, family);
    cr_expect(strstr(text, "update the NVIDIA driver, or use --device cpu"), "'%s'", text);
    cr_expect_null(strchr(text, '\n'));
}

typedef struct work {
    int launches, copies; /* the latter of results, to the host */
} work;

static work card_work_since(work before)
{
    return (work){ emulation_launches() - before.launches, emulation_copies() - before.copies };
}

/* Makes a launch or a copy wrong, `after` so many right ones. */
typedef void spoiler(int after);

/* Tries one family alone; NULL for `spoil`: the card is right. */
static work try_family(cuda_math m, int family, spoiler *spoil, int after)
{
    refine_error err = { 0 };
    dev *d = open_self_tested_device(m, &err);
    cr_assert_not_null(d, "%s", err.text);
    cr_assert_eq(cuda_of(d)->math, m);
    const work before = card_work_since((work){ 0, 0 });
    if (spoil)
        spoil(after);
    cuda_self_test_one(cuda_of(d), family);
    const work did = card_work_since(before);
    cr_expect_eq(dev_status(d), spoil ? REFINE_EDEVICE : REFINE_OK, "math %d, %s, wrong at %d", m,
                 FAMILIES[family], after);
    if (spoil && dev_status(d) != REFINE_OK)
        expect_wrong_family(dev_why(d), FAMILIES[family]);
    dev_close(d);
    cr_expect_eq(emulation_reset(), 0);
    return did;
}

/* All that every family does is spoiled in turn.  What they do together. */
static work spoil_families(cuda_math m)
{
    work all = { 0, 0 };
    cr_assert_eq(setenv("REFINE_SELF_TEST", "off", 1), 0);
    for (int f = 0; f < families_of(m); f++) {
        const work w = try_family(m, f, NULL, 0);
        cr_expect(w.launches > 0 && w.copies > 0);
        for (int i = 0; i < w.launches; i++)
            (void)try_family(m, f, emulation_lose_launch, i);
        for (int i = 0; i < w.copies; i++)
            (void)try_family(m, f, emulation_flip_bit, i);
        all.launches += w.launches;
        all.copies += w.copies;
    }
    cr_assert_eq(unsetenv("REFINE_SELF_TEST"), 0);
    return all;
}

static void expect_device_refused(cuda_math m, int family, spoiler *spoil, int after)
{
    refine_error err = { 0 };
    spoil(after);
    cr_assert_null(open_self_tested_device(m, &err), "math %d, wrong at %d", m, after);
    cr_expect_eq(err.status, REFINE_EDEVICE);
    expect_wrong_family(err.text, FAMILIES[family]);
    cr_expect_eq(emulation_live(), 0);
    (void)emulation_reset();
}

/* Opening tries all families, in their order, and refuses the card for the first and the last. */
static void expect_self_test(cuda_math m)
{
    refine_error err = { 0 };
    cuda_opening_trusts(); /* probing takes longer than the trials */
    const work all = spoil_families(m);
    expect_device_refused(m, 0, emulation_flip_bit, 0);
    expect_device_refused(m, 0, emulation_lose_launch, 0);
    expect_device_refused(m, families_of(m) - 1, emulation_flip_bit, all.copies - 1);
    expect_device_refused(m, families_of(m) - 1, emulation_lose_launch, all.launches - 1);
    dev *d = open_self_tested_device(m, &err);
    cr_assert_not_null(d, "%s", err.text);
    cr_expect_eq(emulation_copies(), all.copies);
    cr_expect_eq(emulation_launches(), all.launches);
    dev_close(d);
}

Test(cuda_self_test, refuses_whatever_is_wrong_on_tensor_cores)
{
    expect_self_test(CUDA_TENSOR_CORES);
}

Test(cuda_self_test, refuses_whatever_is_wrong_in_pairs_of_halves) { expect_self_test(CUDA_HALF2); }

Test(cuda_self_test, refuses_whatever_is_wrong_in_f32) { expect_self_test(CUDA_F32); }

Test(cuda_self_test, names_its_families)
{
    for (int i = 0; i < N_FAMILIES; i++)
        cr_expect_str_eq(cuda_self_test_family(i), FAMILIES[i]);
    cr_expect_null(cuda_self_test_family(N_FAMILIES));
}

Test(cuda_self_test, leaves_nothing_behind)
{
    const size_t total = (size_t)8 << 30, context = (size_t)64 << 20;
    for (int m = CUDA_TENSOR_CORES; m <= CUDA_F32; m++) {
        refine_error err = { 0 };
        const uint64_t host = mem_used().now;
        emulation_set_memory(total, 0, context);
        dev *d = open_self_tested_device((cuda_math)m, &err);
        cr_assert_not_null(d, "%s", err.text);
        cr_expect_eq(dev_memory_free(d), total - context);
        cr_expect_eq(dev_overhead(d), context);
        cr_expect_eq(cuda_of(d)->only, CUDA_TILES);
        dev_close(d);
        cr_expect_eq(mem_used().now, host);
        cr_expect_eq(emulation_reset(), 0);
    }
}

Test(cuda_self_test, without_memory_fails_in_one_line)
{
    int failed = 0;
    for (long k = 0; k < 100; k++) {
        refine_error err = { 0 };
        const uint64_t host = mem_used().now;
        mem_fail_after(k, MEM_FAIL_ONCE);
        dev *d = open_self_tested_device(CUDA_F32, &err);
        mem_fail_after(-1, MEM_FAIL_ONCE);
        if (d) {
            dev_close(d);
            break;
        }
        cr_expect_eq(err.status, REFINE_ENOMEM, "%s", err.text);
        cr_expect(strstr(err.text, "out of memory"), "'%s'", err.text);
        cr_expect_eq(mem_used().now, host);
        cr_expect_eq(emulation_live(), 0);
        failed++;
    }
    cr_expect(failed >= 3 && failed < 100, "%d", failed);
}
