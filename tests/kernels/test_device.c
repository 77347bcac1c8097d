/* tests/kernels/test_device.c -- the sticky front door to memory and order. */
#include "kernels/backend.h"

#include "engine/base/mem.h"
#include "engine/base/thread.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

typedef dev *opener(const dev_options *o, refine_error *err);

static opener *const OPENERS[] = { dev_open_ref, dev_open_cpu };
enum { N_OPENERS = sizeof OPENERS / sizeof OPENERS[0] };

static const dev_options F32 = { .compute = DT_F32, .threads = 2 };

Test(kernels_device, has_a_name_and_a_model)
{
    for (int i = 0; i < N_OPENERS; i++) {
        dev *d = OPENERS[i](&F32, NULL);
        cr_assert(d);
        cr_expect(strcmp(dev_name(d), i ? "cpu" : "ref") == 0);
        cr_expect(strlen(dev_model(d)) > 0 && dev_model(d)[0] != ' ');
        cr_expect(dev_status(d) == REFINE_OK && strcmp(dev_why(d), "") == 0);
        dev_close(d);
    }
    dev_close(NULL);
}

Test(kernels_device, keeps_the_first_cause)
{
    dev *d = dev_open_ref(&F32, NULL);
    cr_assert(d);
    dev_fail(d, REFINE_EIO, "first");
    dev_fail(d, REFINE_EDEVICE, "second");
    cr_expect(dev_status(d) == REFINE_EIO && strcmp(dev_why(d), "first") == 0);
    dev_close(d);
}

Test(kernels_device, cuts_a_text_that_is_too_long)
{
    char text[1000];
    dev *d = dev_open_ref(&F32, NULL);
    cr_assert(d);
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    dev_fail(d, REFINE_EIO, text);
    cr_expect(strlen(dev_why(d)) > 100 && strlen(dev_why(d)) < sizeof d->why);
    dev_close(d);
}

typedef struct failer {
    dev *d;
    int number;
    thread t;
} failer;

static void fail_once(void *context)
{
    failer *f = context;
    char why[40];
    (void)snprintf(why, sizeof why, "cause %d", f->number);
    dev_fail(f->d, REFINE_EIO + f->number % 2, why);
    cr_assert(dev_status(f->d) != REFINE_OK);
    cr_assert(strncmp(dev_why(f->d), "cause ", 6) == 0);
}

Test(kernels_device, may_fail_in_many_threads_at_once)
{
    enum { N = 8 };
    for (int round = 0; round < 50; round++) {
        failer f[N];
        dev *d = dev_open_ref(&F32, NULL);
        cr_assert(d);
        for (int i = 0; i < N; i++) {
            f[i] = (failer){ .d = d, .number = i };
            cr_assert(thread_start(&f[i].t, "failer", fail_once, &f[i]));
        }
        for (int i = 0; i < N; i++)
            thread_join(&f[i].t);
        dev_close(d);
    }
}

Test(kernels_device, does_nothing_more_once_it_has_failed)
{
    for (int i = 0; i < N_OPENERS; i++) {
        float x[4] = { 1, 2, 3, 4 }, y[4] = { 0 };
        const tensor tx = tensor_make(x, DT_F32, 1, 1, 1, 4),
                     ty = tensor_make(y, DT_F32, 1, 1, 1, 4);
        dev *d = OPENERS[i](&F32, NULL);
        cr_assert(d);
        dev_event *e = dev_event_open(d);
        dev_fail(d, REFINE_EIO, "gone");
        op_silu(d, ty, tx);
        dev_put(d, y, x, sizeof x);
        dev_copy_in(d, y, x, sizeof x);
        dev_record(d, e, DEV_COPY);
        dev_wait(d, DEV_COMPUTE, e);
        dev_sync(d, e);
        cr_expect(y[0] == 0 && y[3] == 0);
        dev_event_close(d, e);
        dev_close(d);
    }
}

/* What was under way when the device failed still happens, and can be waited for. */
Test(kernels_device, can_be_drained_after_a_failure)
{
    for (int i = 0; i < N_OPENERS; i++) {
        enum { BYTES = 8 << 20 };
        dev *d = OPENERS[i](&F32, NULL);
        cr_assert(d);
        char *from = dev_alloc(d, BYTES, DEV_PINNED), *to = dev_alloc(d, BYTES, DEV_VRAM);
        dev_event *e = dev_event_open(d);
        cr_assert(from && to && e);
        memset(from, 1, BYTES);
        dev_copy_in(d, to, from, BYTES);
        dev_record(d, e, DEV_COPY);
        dev_fail(d, REFINE_EIO, "gone");
        dev_sync(d, e);
        cr_expect(to[BYTES - 1] == 1);
        dev_event_close(d, e);
        dev_free(d, from, BYTES, DEV_PINNED);
        dev_free(d, to, BYTES, DEV_VRAM);
        dev_close(d);
    }
}

Test(kernels_device, puts_and_gets)
{
    for (int i = 0; i < N_OPENERS; i++) {
        int from = 42, to = 0;
        dev *d = OPENERS[i](&F32, NULL);
        cr_assert(d);
        int *there = dev_alloc(d, sizeof from, DEV_VRAM);
        cr_assert(there);
        dev_put(d, there, &from, sizeof from);
        from = 0;
        dev_get(d, &to, there, sizeof to);
        cr_expect(to == 42);
        dev_free(d, there, sizeof from, DEV_VRAM);
        dev_free(d, NULL, 1, DEV_VRAM);
        dev_close(d);
    }
}

Test(kernels_device, refuses_what_it_cannot_compute_in)
{
    const dev_options f16 = { .compute = DT_F16, .threads = 1 },
                      bf16 = { .compute = DT_BF16, .threads = 1 };
    refine_error err = { 0 };
    cr_expect(dev_open_ref(&bf16, &err) == NULL && err.status == REFINE_EINVAL && err.text[0]);
    err = (refine_error){ 0 };
    cr_expect(dev_open_cpu(&f16, &err) == NULL && err.status == REFINE_EINVAL && err.text[0]);
    cr_expect(dev_open_cpu(&f16, NULL) == NULL);
}

Test(kernels_device, survives_every_failed_allocation_while_opening)
{
    for (int i = 0; i < N_OPENERS; i++) {
        for (int k = 0;; k++) {
            refine_error err = { 0 };
            const uint64_t before = mem_used().now;
            mem_fail_after(k, MEM_FAIL_ONCE);
            dev *d = OPENERS[i](&F32, &err);
            mem_fail_after(-1, MEM_FAIL_ONCE);
            dev_close(d);
            cr_expect(mem_used().now == before, "opener %d, allocation %d", i, k);
            if (d)
                break;
            cr_expect(err.status == REFINE_ENOMEM && err.text[0]);
            cr_assert(k < 100);
        }
    }
}

Test(kernels_device, alloc_answers_null_when_memory_is_out)
{
    dev *d = dev_open_ref(&F32, NULL);
    cr_assert(d);
    mem_fail_after(0, MEM_FAIL_ONCE);
    cr_expect(dev_alloc(d, 4096, DEV_VRAM) == NULL);
    mem_fail_after(0, MEM_FAIL_ONCE);
    cr_expect(dev_event_open(d) == NULL);
    cr_expect(dev_status(d) == REFINE_OK);
    dev_close(d);
}
