/* tests/kernels/test_lazy_device.c -- the adversarial device finds a missing wait, and a
 * program with all its waits comes out right on it under every schedule. */
#include "tests/support/field.h"
#include "tests/support/lazy_device.h"

#include <criterion/criterion.h>
#include <string.h>

enum { SLOTS = 2, CHUNKS = 9, N = 16 };

/* Which wait to leave out. */
typedef enum { NOTHING, STAGING_REUSE, SLOT_REUSE, ARRIVAL } omission;

/* A ring of slots: chunk by chunk through staging into a slot, and used there. */
static float stream_slot_sum(dev *d, omission without)
{
    float *staging[SLOTS], *slot[SLOTS], sum[N] = { 0 },
                                         *total = dev_alloc(d, sizeof sum, DEV_VRAM);
    dev_event *copied[SLOTS], *used[SLOTS];

    for (int i = 0; i < SLOTS; i++) {
        staging[i] = dev_alloc(d, sizeof sum, DEV_PINNED);
        slot[i] = dev_alloc(d, sizeof sum, DEV_VRAM);
        copied[i] = dev_event_open(d);
        used[i] = dev_event_open(d);
    }
    dev_put(d, total, sum, sizeof sum);
    for (int c = 0; c < CHUNKS; c++) {
        const int i = c % SLOTS;
        if (without != STAGING_REUSE)
            dev_sync(d, copied[i]);
        for (int k = 0; k < N; k++)
            staging[i][k] = (float)(c + 1);
        if (without != SLOT_REUSE)
            dev_wait(d, DEV_COPY, used[i]);
        dev_copy_in(d, slot[i], staging[i], sizeof sum);
        dev_record(d, copied[i], DEV_COPY);
        if (without != ARRIVAL)
            dev_wait(d, DEV_COMPUTE, copied[i]);

        /* total[c] = v * v + v, all three from the slot */
        op_apply_norm(d, tensor_make(total + c, DT_F32, 1, 1, 1, 1),
                      tensor_make(slot[i], DT_F32, 1, 1, 1, 1), (tensor){ 0 },
                      tensor_make(slot[i] + 1, DT_F32, 1, 1, 2, 1), ACT_NONE);
        dev_record(d, used[i], DEV_COMPUTE);
    }
    dev_get(d, sum, total, sizeof sum);
    lazy_drain(d);
    for (int i = 0; i < SLOTS; i++) {
        dev_free(d, staging[i], sizeof sum, DEV_PINNED);
        dev_free(d, slot[i], sizeof sum, DEV_VRAM);
        dev_event_close(d, copied[i]);
        dev_event_close(d, used[i]);
    }
    dev_free(d, total, sizeof sum, DEV_VRAM);
    float all = 0;
    for (int c = 0; c < CHUNKS; c++)
        all += sum[c];
    return all;
}

static float expected_slot_sum(void)
{
    float all = 0;
    for (int c = 1; c <= CHUNKS; c++)
        all += (float)(c * c + c);
    return all;
}

static float stream_on(lazy_schedule s, uint32_t seed, omission without)
{
    dev *ref = field_ref(), *d = lazy_open(ref, s, seed);
    cr_assert(d);
    const float all = stream_slot_sum(d, without);
    cr_expect(lazy_live(d) == 0);
    cr_expect(dev_status(d) == REFINE_OK);
    dev_close(d);
    dev_close(ref);
    return all;
}

Test(kernels_lazy_device, a_program_with_all_its_waits_is_right_under_every_schedule)
{
    for (int s = 0; s < LAZY_SCHEDULES; s++)
        for (uint32_t seed = 0; seed < (s == LAZY_RANDOM ? 20 : 1); seed++)
            cr_expect(stream_on((lazy_schedule)s, seed, NOTHING) == expected_slot_sum(),
                      "schedule %d", s);
}

Test(kernels_lazy_device, finds_every_missing_wait_that_an_eager_device_hides)
{
    for (int without = STAGING_REUSE; without <= ARRIVAL; without++) {
        int found = 0;
        cr_expect(stream_on(LAZY_EAGER, 0, (omission)without) == expected_slot_sum());
        for (int s = LAZY_LAZY; s < LAZY_RANDOM; s++)
            found += stream_on((lazy_schedule)s, 0, (omission)without) != expected_slot_sum();
        cr_expect(found > 0, "omission %d", without);
    }
}

/* ---- operators run late, with the arguments they were given ---- */

static void convolve_and_multiply(dev *d, const tensor *t, const void *context)
{
    (void)context;
    const epilogue none = { .act = ACT_NONE };
    const matrix_rows w3 = one_block(t[2]), w1 = one_block(t[3]);
    for (int row = 0; row < t[0].h; row += BAND_UNIT) {
        const conv_geometry g = { 3, 3, 1, 1, row, t[0].h - row < 8 ? t[0].h - row : 8 };
        const matrix_input in = {
            .a = t[1], .affine = t[4], .silu = true, .h = t[1].h, .w = t[1].w
        };
        const prepared_input src = op_prepare(d, t[5].data, &in, g);
        op_conv2d(d, t[6], &src, &w3, g, &none);
    }
    const matrix_input in = linear_input(t[6], false);
    const prepared_input src = op_prepare(d, t[5].data, &in, linear_geometry(t[6]));
    op_linear(d, t[0], &src, &w1, &none);
    op_silu(d, t[0], t[0]);
}

Test(kernels_lazy_device, computes_what_the_real_device_computes)
{
    field f[] = {
        field_random(0, DT_F32, 1, 20, 9, 12, 1), field_random(1, DT_F32, 1, 20, 9, 8, 1),
        field_random(2, DT_F16, 10, 3, 3, 8, 1),  field_random(3, DT_F16, 12, 1, 1, 10, 1),
        field_random(4, DT_F32, 1, 1, 2, 8, 1),   field_random(5, DT_F32, 1, 20, 9, 10, 1),
        field_random(6, DT_F32, 1, 20, 9, 10, 1),
    };
    enum { COUNT = sizeof f / sizeof f[0] };
    field *p[COUNT];
    for (int i = 0; i < COUNT; i++)
        p[i] = &f[i];
    dev *ref = field_ref();
    field_run(ref, p, COUNT, convolve_and_multiply, NULL);
    field want = field_copy(&f[0]);
    for (int s = 0; s < LAZY_SCHEDULES; s++) {
        dev *d = lazy_open(ref, (lazy_schedule)s, 7);
        cr_assert(d);
        memset(f[0].data, 0, f[0].bytes);
        field_run(d, p, COUNT, convolve_and_multiply, NULL);
        cr_expect(field_same_bytes(&f[0], &want), "schedule %d", s);
        dev_close(d);
    }
    for (int i = 0; i < COUNT; i++)
        field_free(&f[i]);
    field_free(&want);
    dev_close(ref);
}
