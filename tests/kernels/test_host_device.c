/* tests/kernels/test_host_device.c -- what a backend without memory of its own gets for nothing. */
#include "kernels/host_device.h"

#include "engine/base/mem.h"

#include <criterion/criterion.h>
#include <string.h>

/* A backend without operators. */
static const struct dev_ops OPS = { .name = "host", HOST_DEVICE_OPS, .close = host_device_close };

static dev *open_bare_device(refine_error *err)
{
    host_dev *h = mem_calloc(1, sizeof *h);
    if (!h)
        return NULL;
    if (host_device_open(h, &OPS, err))
        return &h->base;
    host_device_close(&h->base);
    return NULL;
}

Test(kernels_host_device, memory_of_either_kind_is_the_processs_own)
{
    refine_error err = { 0 };
    dev *d = open_bare_device(&err);
    cr_assert_not_null(d, "%s", err.text);
    cr_expect_not(dev_is_discrete(d));
    cr_expect_not(dev_is_async(d));
    for (int kind = DEV_VRAM; kind <= DEV_PINNED; kind++) {
        const uint64_t before = mem_used().now;
        char *p = dev_alloc(d, 5000, (dev_mem)kind);
        cr_assert_not_null(p);
        cr_expect_eq((uintptr_t)p % 4096, 0u);
        cr_expect_eq(mem_used().now, before + 5000, "it is counted");
        memset(p, 7, 5000);
        dev_free(d, p, 5000, (dev_mem)kind);
        cr_expect_eq(mem_used().now, before);
    }
    dev_close(d);
    cr_expect_eq(mem_used().now, 0u);
}

Test(kernels_host_device, puts_and_gets_are_done_when_they_return_and_copies_when_their_event_is)
{
    static const char TEXT[] = "some weights";
    char at[2][sizeof TEXT] = { "", "" }, back[sizeof TEXT] = "";
    refine_error err = { 0 };
    dev *d = open_bare_device(&err);
    cr_assert_not_null(d, "%s", err.text);
    dev_event *e = dev_event_open(d);
    dev_put(d, at[0], TEXT, sizeof TEXT);
    dev_get(d, back, at[0], sizeof TEXT);
    cr_expect_str_eq(back, TEXT);
    dev_copy_in(d, at[1], TEXT, sizeof TEXT);
    dev_record(d, e, DEV_COPY);
    dev_wait(d, DEV_COMPUTE, e);
    cr_expect_str_eq(at[1], TEXT);
    dev_sync(d, e);
    dev_event_close(d, e);
    dev_close(d);
    cr_expect_eq(mem_used().now, 0u);
}

Test(kernels_host_device, each_failing_allocation_leaves_nothing_behind)
{
    dev *d = NULL;
    for (long k = 0; !d; k++) {
        refine_error err = { 0 };
        mem_fail_after(k, MEM_FAIL_ONCE);
        d = open_bare_device(&err);
        cr_expect(d || k == 0 || err.text[0]);
        cr_expect(d ? mem_fail_after(-1, MEM_FAIL_ONCE) : mem_used().now == 0);
    }
    dev_close(d);
    cr_expect_eq(mem_used().now, 0u);
}
