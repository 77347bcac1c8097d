/* tests/cuda/test_self_test.c -- a card that computes wrongly is refused, whichever kernel it is
 * that does, and by the name of that kernel's family.
 *
 * Every result that opening a device compares is falsified by one bit in turn, and every launch of
 * it left out in turn.
 */
#include "engine/base/mem.h"
#include "tests/support/cuda/emulation.h"
#include "tests/support/cuda_math.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

enum {
    PROBING = 6,   /* launches, for fp16, */
    PROCESSORS = 1 /* each of which has much to do in them */
};

static void put_back(void)
{
    mem_fail_after(-1, MEM_FAIL_ONCE);
    (void)emulation_reset();
}

TestSuite(cuda_self_test, .fini = put_back, .timeout = 1200);

static dev *open_device(cuda_math m, refine_error *err)
{
    const dev_options o = { .compute = m == CUDA_F32 ? DT_F32 : DT_F16 };
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
};
enum { N_FAMILIES = sizeof FAMILIES / sizeof FAMILIES[0] };

/* Is this the line about that family? */
static bool is_about(const refine_error *err, const char *family)
{
    char says[96];
    (void)snprintf(says, sizeof says, " computes %s wrongly: element ", family);
    return strstr(err->text, says) != NULL;
}

static int family_of(const refine_error *err)
{
    int found = -1;
    for (int i = 0; i < N_FAMILIES; i++)
        if (is_about(err, FAMILIES[i]))
            found = i;
    cr_assert_geq(found, 0, "'%s'", err->text);
    return found;
}

static void expect_refused(const refine_error *err)
{
    cr_expect_eq(err->status, REFINE_EDEVICE);
    cr_expect(strncmp(err->text, "cuda: emulated card 0 with ", 27) == 0, "'%s'", err->text);
    cr_expect(strstr(err->text, "update the NVIDIA driver, or use --device cpu"), "'%s'",
              err->text);
    cr_expect_null(strchr(err->text, '\n'));
    cr_expect_eq(emulation_live(), 0);
}

/* Opens devices that are wrong at 0, 1, ... `n` - 1, and counts the families that are named. */
static void expect_all_refused(cuda_math m, void (*make_wrong)(int after), int first, int n)
{
    int named[N_FAMILIES] = { 0 };
    for (int i = 0; i < n; i++) {
        refine_error err = { 0 };
        make_wrong(first + i);
        cr_assert_null(open_device(m, &err), "math %d, wrong at %d", m, first + i);
        expect_refused(&err);
        named[family_of(&err)]++;
        (void)emulation_reset();
    }
    for (int i = 0; i < N_FAMILIES; i++)
        cr_expect_gt(named[i], 0, "math %d: '%s' was never refused", m, FAMILIES[i]);
}

static void expect_self_test(cuda_math m)
{
    refine_error err = { 0 };
    dev *d = open_device(m, &err);
    cr_assert_not_null(d, "%s", err.text);
    cr_assert_eq(cuda_of(d)->math, m);
    const int copies = emulation_copies(), launches = emulation_launches();
    dev_close(d);
    cr_assert_eq(emulation_reset(), 0);
    const int first = m == CUDA_F32 ? 0 : PROBING;
    expect_all_refused(m, emulation_flip_bit, 0, copies);
    expect_all_refused(m, emulation_lose_launch, first, launches - first);
}

Test(cuda_self_test, refuses_whatever_is_wrong_on_tensor_cores)
{
    expect_self_test(CUDA_TENSOR_CORES);
}

Test(cuda_self_test, refuses_whatever_is_wrong_in_pairs_of_halves) { expect_self_test(CUDA_HALF2); }

Test(cuda_self_test, refuses_whatever_is_wrong_in_f32) { expect_self_test(CUDA_F32); }

Test(cuda_self_test, tries_one_family_alone)
{
    for (int i = 0; i < N_FAMILIES; i++) {
        refine_error err = { 0 };
        dev *d = open_device(CUDA_TENSOR_CORES, &err);
        cr_assert_not_null(d, "%s", err.text);
        cr_expect_str_eq(cuda_self_test_family(i), FAMILIES[i]);
        cuda_self_test_one(cuda_of(d), i);
        cr_expect_eq(dev_status(d), REFINE_OK);
        emulation_flip_bit(0);
        cuda_self_test_one(cuda_of(d), i);
        cr_expect_eq(dev_status(d), REFINE_EDEVICE);
        cr_expect(strstr(dev_why(d), FAMILIES[i]), "'%s'", dev_why(d));
        dev_close(d);
        cr_expect_eq(emulation_reset(), 0);
    }
    cr_expect_null(cuda_self_test_family(N_FAMILIES));
}

Test(cuda_self_test, leaves_nothing_behind)
{
    const size_t total = (size_t)8 << 30, context = (size_t)64 << 20;
    for (int m = CUDA_TENSOR_CORES; m <= CUDA_F32; m++) {
        refine_error err = { 0 };
        const uint64_t host = mem_used().now;
        emulation_set_memory(total, 0, context);
        dev *d = open_device((cuda_math)m, &err);
        cr_assert_not_null(d, "%s", err.text);
        cr_expect_eq(dev_memory_free(d), total - context);
        cr_expect_eq(dev_overhead(d), context);
        cr_expect_eq(cuda_of(d)->processors, PROCESSORS);
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
        dev *d = open_device(CUDA_F32, &err);
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
