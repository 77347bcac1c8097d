/* tests/kernels/test_cpu_device.c -- workspace of the CPU device, as operators cut it. */
#include "kernels/cpu/cpu.h"
#include "tests/support/field.h"

#include <criterion/criterion.h>
#include <string.h>

typedef struct workspace_room {
    size_t bytes;
    char *block;
} workspace_room;

static void carve_room_block(carver *c, void *context)
{
    workspace_room *r = context;
    r->block = carve_block(c, r->bytes);
}

static char region[4096 + 1];

/* A device with as much workspace as the walk needs and `more`, at an odd address. */
static cpu_dev *device_for(workspace_room *r, int more)
{
    dev *d = field_cpu(DT_F32, 1);
    dev_workspace_set(d, region + 1, cpu_workspace_bytes(carve_room_block, r) + (size_t)more);
    return cpu_of(d);
}

Test(kernels_cpu_device, cuts_workspace_that_was_counted_wherever_it_lies)
{
    workspace_room r = { .bytes = 1024 };
    cpu_dev *c = device_for(&r, 0);
    const char *end = region + 1 + c->host.base.workspace_bytes;
    cr_assert(cpu_workspace_cut(c, carve_room_block, &r));
    cr_expect(r.block > region && r.block + r.bytes <= end);
    memset(r.block, 0, r.bytes);
    cpu_workspace_check(c, "nothing", carve_room_block, &r);
    cr_expect_eq(dev_status(&c->host.base), REFINE_OK);
    dev_close(&c->host.base);
}

Test(kernels_cpu_device, does_not_cut_workspace_that_is_too_small)
{
    workspace_room r = { .bytes = 1000 };
    cpu_dev *c = device_for(&r, -1);
    cr_expect(!cpu_workspace_cut(c, carve_room_block, &r));
    cr_expect_eq(dev_status(&c->host.base), REFINE_EBUDGET);
    dev_close(&c->host.base);
}

#ifdef REFINE_GUARDS

/* As code does that no sanitizer sees. */
__attribute__((no_sanitize("address"))) static void zero_workspace_byte(volatile char *p)
{
    *p = 0;
}

Test(kernels_cpu_device, fails_when_an_operator_writes_beside_its_workspace)
{
    workspace_room r = { .bytes = 1000 };
    cpu_dev *c = device_for(&r, 0);
    cr_assert(cpu_workspace_cut(c, carve_room_block, &r));
    zero_workspace_byte(r.block + 1003);
    cpu_workspace_check(c, "gather", carve_room_block, &r);
    cr_expect_eq(dev_status(&c->host.base), REFINE_EDEVICE);
    cr_expect_str_eq(
        dev_why(&c->host.base),
        "cpu: gather wrote byte 1003 of block 0 of its workspace, which has 1000 bytes");
    dev_close(&c->host.base);
}

#endif
