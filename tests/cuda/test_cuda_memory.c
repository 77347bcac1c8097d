/* tests/cuda/test_cuda_memory.c -- what a card's context takes, by whatever the driver tells. */
#include "kernels/cuda/cuda_memory.h"

#include "kernels/device.h"
#include "tests/support/cuda/emulation.h"
#include "tests/support/fake_nvml.h"

#include <criterion/criterion.h>
#include <unistd.h>

static const size_t MIB = (size_t)1 << 20;
static const unsigned long long UNKNOWN = ~0ull;

static void cuda_memory_teardown(void) { (void)emulation_reset(); }

TestSuite(cuda_memory, .fini = cuda_memory_teardown, .timeout = 300);

/* Another process, and when the card has been opened this one with so many bytes. */
static fake_nvml driver_with(unsigned long long own)
{
    return (fake_nvml){ .is_there = true,
                        .lists = true,
                        .used = { 900 * MIB, 1100 * MIB },
                        .n = { 1, 2 },
                        .pid = { (unsigned)getpid() + 1, (unsigned)getpid() },
                        .own = { { 900 * MIB }, { 900 * MIB, own } } };
}

/* What a device counts for itself. */
static size_t overhead_with(fake_nvml driver)
{
    const dev_options o = { .compute = DT_F32 };
    refine_error err = { 0 };
    fake_nvml_now = driver;
    dev *d = dev_open_cuda(&o, 0, &err);
    cr_assert_not_null(d, "%s", err.text);
    const size_t bytes = dev_overhead(d);
    dev_close(d);
    cr_expect_eq(emulation_reset(), 0);
    cr_expect_eq(fake_nvml_now.open, 0, "the library was left open");
    return bytes;
}

Test(cuda_memory, the_drivers_list_of_processes_says_what_this_one_has)
{
    size_t own = 0;
    fake_nvml_now = driver_with(300 * MIB);
    cr_expect_not(cuda_memory_own(&own, 0, 1, 0), "it is not on the card yet");
    cr_expect(cuda_memory_own(&own, 0, 1, 0) && own == 300 * MIB, "%zu", own);
    cr_expect_eq(overhead_with(driver_with(300 * MIB)), 300 * MIB);
}

Test(cuda_memory, where_the_list_does_not_say_the_difference_does)
{
    fake_nvml old = driver_with(300 * MIB), container = driver_with(300 * MIB);
    old.lists = false;
    container.pid[1] = 1;
    cr_expect_eq(overhead_with(driver_with(UNKNOWN)), 200 * MIB, "WDDM does not say");
    cr_expect_eq(overhead_with(container), 200 * MIB, "the process has another number outside");
    cr_expect_eq(overhead_with(old), 200 * MIB, "a driver without the list");
}

/* A library of others has 4 GiB there already. */
Test(cuda_memory, what_the_process_had_before_is_not_counted)
{
    fake_nvml d = driver_with(4396 * MIB);
    d.n[0] = 2;
    d.own[0][1] = 4096 * MIB;
    cr_expect_eq(overhead_with(d), 300 * MIB);
}

/* A browser gives back 300 MiB while we open the card. */
Test(cuda_memory, what_others_give_back_does_not_make_it_nothing)
{
    fake_nvml d = driver_with(UNKNOWN);
    d.used[1] = 700 * MIB;
    cr_expect_eq(overhead_with(d), 64 * MIB);
    cr_expect_eq(overhead_with(driver_with(1 * MIB)), 64 * MIB);
}

Test(cuda_memory, without_the_library_all_that_is_in_use_counts)
{
    fake_nvml none = driver_with(300 * MIB);
    size_t bytes = 0;
    none.is_there = false;
    emulation_set_memory(8192 * MIB, 150 * MIB, 70 * MIB);
    cr_expect_eq(overhead_with(none), 220 * MIB);
    cr_expect_not(cuda_memory_own(&bytes, 0, 1, 0));
    cr_expect_not(cuda_memory_used(&bytes, 0, 1, 0));
}
