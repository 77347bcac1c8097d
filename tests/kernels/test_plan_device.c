/* tests/kernels/test_plan_device.c -- the device that only counts. */
#include "kernels/ops.h"

#include "engine/base/mem.h"
#include "tests/support/linear_case.h"

#include <criterion/criterion.h>
#include <string.h>

static const dev_options F32 = { .compute = DT_F32, .threads = 2 };

static dev *open_f32_cpu(void)
{
    dev *d = dev_open_cpu(&F32, NULL);
    cr_assert(d);
    return d;
}

static dev *open_plan(const dev *target)
{
    dev *d = dev_open_plan(target, NULL);
    cr_assert(d);
    return d;
}

Test(kernels_plan_device, hands_out_different_tokens_and_takes_no_memory)
{
    dev *cpu = open_f32_cpu(), *plan = open_plan(cpu);
    const uint64_t before = mem_used().calls;
    char *a = dev_alloc(plan, (size_t)1 << 40, DEV_VRAM), *b = dev_alloc(plan, 1, DEV_PINNED);
    dev_event *e = dev_event_open(plan);
    cr_expect(a && b && e && (char *)b >= a + ((size_t)1 << 40));
    cr_expect(mem_used().calls == before);
    dev_copy_in(plan, a, b, 1);
    dev_record(plan, e, DEV_COPY);
    dev_wait(plan, DEV_COMPUTE, e);
    dev_sync(plan, e);
    dev_put(plan, a, b, 1);
    dev_get(plan, b, a, 1);
    dev_event_close(plan, e);
    dev_free(plan, a, (size_t)1 << 40, DEV_VRAM);
    dev_close(plan);
    dev_close(cpu);
}

Test(kernels_plan_device, is_called_plan_and_known_by_its_target)
{
    dev *cpu = open_f32_cpu(), *plan = open_plan(cpu);
    cr_expect(strcmp(dev_name(plan), "plan") == 0);
    cr_expect(strcmp(dev_model(plan), dev_model(cpu)) == 0);
    dev_close(plan);
    dev_close(cpu);
}

Test(kernels_plan_device, counts_multiply_adds)
{
    dev *cpu = open_f32_cpu(), *plan = open_plan(cpu);
    const epilogue none = { .act = ACT_NONE };
    const tensor x = tensor_make(NULL, DT_F32, 2, 8, 8, 32),
                 y = tensor_make(NULL, DT_F32, 2, 8, 8, 48);

    linear_once(plan, y, x, tensor_make(NULL, DT_F16, 48, 1, 1, 32), &none);
    uint64_t macs = 2 * 64 * 32 * 48;
    cr_expect(dev_work_macs(dev_plan_work(plan)) == macs);

    const matrix_input in = { .a = x, .h = 8, .w = 8 };
    const conv_geometry g = { 3, 3, 1, 1, 0, 8 };
    const prepared_input src = op_prepare(plan, NULL, &in, g);
    const matrix_rows w = one_block(tensor_make(NULL, DT_F16, 48, 3, 3, 32));
    op_conv2d(plan, y, &src, &w, g, &none);
    macs += 2 * 64 * 48 * 9 * 32;
    cr_expect(dev_work_macs(dev_plan_work(plan)) == macs);

    op_attention(plan, x, x, x, x, 2, 1, false);
    macs += 2 * 2 * 64 * 64 * 32;
    cr_expect(dev_work_macs(dev_plan_work(plan)) == macs);

    op_silu(plan, x, x);
    op_convert(plan, x, x);
    cr_expect(dev_work_macs(dev_plan_work(plan)) == macs);
    dev_close(plan);
    dev_close(cpu);
}

Test(kernels_plan_device, asks_for_the_largest_workspace_so_far)
{
    dev *cpu = open_f32_cpu(), *plan = open_plan(cpu);
    const epilogue none = { .act = ACT_NONE };
    size_t last = 0;

    cr_expect(dev_workspace_needed(plan) == 0);
    for (int rows = 64; rows <= 512; rows *= 2) {
        linear_once(plan, tensor_make(NULL, DT_F32, 1, 4, 4, rows),
                    tensor_make(NULL, DT_F32, 1, 4, 4, 64),
                    tensor_make(NULL, DT_F16, rows, 1, 1, 64), &none);
        cr_expect(dev_workspace_needed(plan) > last);
        last = dev_workspace_needed(plan);
    }
    linear_once(plan, tensor_make(NULL, DT_F32, 1, 4, 4, 64),
                tensor_make(NULL, DT_F32, 1, 4, 4, 64), tensor_make(NULL, DT_F16, 64, 1, 1, 64),
                &none);
    cr_expect(dev_workspace_needed(plan) == last);
    dev_close(plan);
    dev_close(cpu);
}

Test(kernels_plan_device, sizes_inputs_as_its_target_does)
{
    dev *cpu = open_f32_cpu(), *plan = open_plan(cpu);
    dev *ref = dev_open_ref(&F32, NULL), *ref_plan = open_plan(ref);
    const matrix_input in = { .a = tensor_make(NULL, DT_F32, 2, 40, 9, 20), .h = 40, .w = 9 };
    for (int row = 0; row < 40; row += BAND_UNIT) {
        const conv_geometry g = { 3, 3, 1, 1, row, BAND_UNIT };
        cr_expect(op_prepare_bytes(plan, &in, g) == op_prepare_bytes(cpu, &in, g));
        cr_expect(op_prepare_bytes(ref_plan, &in, g) == op_prepare_bytes(ref, &in, g));
    }
    dev_close(ref_plan);
    dev_close(ref);
    dev_close(plan);
    dev_close(cpu);
}

Test(kernels_plan_device, says_so_when_memory_is_out)
{
    dev *cpu = open_f32_cpu();
    refine_error err = { 0 };
    mem_fail_after(0, MEM_FAIL_ONCE);
    cr_expect(dev_open_plan(cpu, &err) == NULL && err.status == REFINE_ENOMEM);
    mem_fail_after(-1, MEM_FAIL_ONCE);
    dev_close(cpu);
}
