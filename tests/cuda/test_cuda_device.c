/* tests/cuda/test_cuda_device.c -- a card that cannot be had or is lost: one line that says what to
 * do, the right status, and `auto` goes to the CPU and says the same.
 */
#include "engine/plan/cost.h"
#include "tests/support/cuda/emulation.h"
#include "tests/support/field.h"
#include "tests/support/picture_rig.h"
#include "tests/support/tiny_pack.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MIB = 1 << 20 };

static char pack_file[256];

static void make_device_pack(void) { tiny_pack(pack_file, sizeof pack_file, ""); }

static void remove_device_pack(void)
{
    (void)unlink(pack_file);
    (void)emulation_reset();
}

TestSuite(cuda_device, .init = make_device_pack, .fini = remove_device_pack, .timeout = 600);

static void no_driver(void) { emulation_set_driver(0); }
static void old_driver(void) { emulation_set_driver(11020); }
static void no_card(void) { emulation_set_devices(0); }
static void old_card(void) { emulation_set_card(7, 0, 2); }
static void no_code(void) { emulation_fail_context(cudaErrorNoKernelImageForDevice); }
static void card_reserved(void) { emulation_fail_context(cudaErrorDevicesUnavailable); }
static void not_ready(void) { emulation_fail_context(cudaErrorSystemNotReady); }
static void driver_updated(void) { emulation_fail_context(cudaErrorSystemDriverMismatch); }
static void other_ptx(void) { emulation_fail_context(cudaErrorUnsupportedPtxVersion); }
static void no_room_to_open(void) { emulation_fail_context(cudaErrorMemoryAllocation); }
static void fail_unknown(void) { emulation_fail_context(cudaErrorUnknown); }
static void computes_wrongly(void) { emulation_flip_bit(0); }

typedef struct device_trouble {
    void (*make)(void);
    refine_status status;
    const char *says; /* part of the line */
} device_trouble;

static const device_trouble TROUBLES[] = {
    { no_driver, REFINE_EDEVICE, "no NVIDIA driver is installed" },
    { old_driver, REFINE_EDEVICE, "too old: it knows CUDA 11.2, this program needs" },
    { no_card, REFINE_EDEVICE, "no NVIDIA GPU is to be seen" },
    { old_card, REFINE_EDEVICE, "if it is older than GTX 16" },
    { no_code, REFINE_EDEVICE, "if it is newer than the program" },
    { card_reserved, REFINE_EDEVICE, "reserved by another process" },
    { not_ready, REFINE_EDEVICE, "not ready yet" },
    { driver_updated, REFINE_EDEVICE, "restart the computer" },
    { other_ptx, REFINE_EDEVICE, "update the driver" },
    { no_room_to_open, REFINE_EBUDGET, "memory is used up, perhaps by another process" },
    { fail_unknown, REFINE_EDEVICE, "Xid" },
    { computes_wrongly, REFINE_EDEVICE, "computes linear layers with fp16 weights wrongly" },
};

static refine_options cuda_device_options(refine_device d)
{
    refine_options o = picture_options(pack_file, d, REFINE_F32);
    o.threads = 1;
    return o;
}

static void expect_error_line(const refine_error *err, const char *says)
{
    cr_expect_not_null(strstr(err->text, says), "'%s' does not say '%s'", err->text, says);
    cr_expect_null(strchr(err->text, '\n'), "'%s'", err->text);
}

Test(cuda_device, says_in_one_line_why_a_card_cannot_be_had)
{
    for (size_t i = 0; i < sizeof TROUBLES / sizeof TROUBLES[0]; i++) {
        const dev_options o = { .compute = DT_F32 };
        refine_error err = { 0 };
        TROUBLES[i].make();
        cr_expect_null(dev_open_cuda(&o, 0, &err));
        cr_expect_eq(err.status, TROUBLES[i].status, "%s", err.text);
        expect_error_line(&err, TROUBLES[i].says);
        cr_expect_eq(emulation_reset(), 0);
    }
}

Test(cuda_device, says_so_of_a_number_that_no_card_has)
{
    const dev_options o = { .compute = DT_F32 };
    const int wrong[] = { -1, 1, 99 };
    for (int i = 0; i < 3; i++) {
        refine_error err = { 0 };
        cr_expect_null(dev_open_cuda(&o, wrong[i], &err));
        expect_error_line(&err, "--list-devices");
    }
}

/* Copies from and to pinned memory return before they are done. */
Test(cuda_device, puts_and_gets_before_it_returns_whatever_the_memory)
{
    const dev_options o = { .compute = DT_F32 };
    refine_error err = { 0 };
    emulation_set_schedule(EMULATION_LAZY, 0);
    dev *d = dev_open_cuda(&o, 0, &err);
    cr_assert_not_null(d, "%s", err.text);
    char *on_card = dev_alloc(d, 4096, DEV_VRAM), *here = dev_alloc(d, 4096, DEV_PINNED);
    cr_assert(on_card && here);
    memset(here, 'a', 4096);
    dev_put(d, on_card, here, 4096);
    memset(here, 'b', 4096);
    dev_get(d, here, on_card, 4096);
    for (int i = 0; i < 4096; i++)
        cr_assert_eq(here[i], 'a', "byte %d", i);
    dev_free(d, on_card, 4096, DEV_VRAM);
    dev_free(d, here, 4096, DEV_PINNED);
    dev_close(d);
}

Test(cuda_device, multiplies_in_fp16_and_f32_alone)
{
    const dtype wrong[] = { DT_BF16, DT_I8G64 };
    for (int i = 0; i < 2; i++) {
        const dev_options o = { .compute = wrong[i] };
        refine_error err = { 0 };
        cr_expect_null(dev_open_cuda(&o, 0, &err));
        cr_expect_eq(err.status, REFINE_EINVAL);
        expect_error_line(&err, "fp16 or f32");
    }
}

/* By its model, and by how that multiplies. */
Test(cuda_device, says_what_its_rounding_depends_on)
{
    static const dtype TYPES[] = { DT_F16, DT_F32 };
    char rounding[2][128];
    for (int i = 0; i < 2; i++) {
        const dev_options o = { .compute = TYPES[i], .threads = 1 };
        dev *d = dev_open_cuda(&o, 0, NULL);
        cr_assert_not_null(d);
        (void)snprintf(rounding[i], sizeof rounding[i], "%s", dev_rounding(d));
        cr_expect_eq(strncmp(dev_rounding(d), dev_model(d), strlen(dev_model(d))), 0, "%s",
                     dev_rounding(d));
        dev_close(d);
    }
    cr_expect_str_neq(rounding[0], rounding[1]);
}

Test(cuda_device, multiplies_integers_on_tensor_cores_alone)
{
    const dev_options o = { .compute = DT_F16, .int8_math = true };
    refine_error err = { 0 };
    emulation_set_performance(1000, 1000);
    cr_assert_null(dev_open_cuda(&o, 0, &err));
    cr_expect_eq(err.status, REFINE_EINVAL);
    cr_expect(strstr(err.text, "tensor cores") && strstr(err.text, "leave --precision out"), "'%s'",
              err.text);
    cr_expect_eq(emulation_live(), 0);
}

/* As WSL2 and containers refuse it: copies then come from pages that are not pinned. */
Test(cuda_device, copies_from_memory_that_cannot_be_pinned_and_says_so)
{
    enum { BYTES = 1 << 20 };
    dev *d = field_cuda(DT_F16);
    char *to = dev_alloc(d, BYTES, DEV_VRAM), back[16];
    cr_expect_str_eq(dev_note(d), "");
    emulation_fail_next(cudaErrorMemoryAllocation, 1); /* after making the card current */
    char *from = dev_alloc(d, BYTES, DEV_PINNED);
    cr_assert(to && from);
    cr_expect(strstr(dev_note(d), "refused to pin 1 MiB of host memory"), "'%s'", dev_note(d));
    memset(from, 7, BYTES);
    dev_copy_in(d, to, from, BYTES);
    dev_event *e = dev_event_open(d);
    dev_record(d, e, DEV_COPY);
    dev_sync(d, e);
    dev_get(d, back, to + BYTES - sizeof back, sizeof back);
    cr_expect(back[0] == 7 && back[sizeof back - 1] == 7);
    dev_event_close(d, e);
    dev_free(d, from, BYTES, DEV_PINNED);
    dev_free(d, to, BYTES, DEV_VRAM);
    cr_expect_eq(dev_status(d), REFINE_OK, "%s", dev_why(d));
    dev_close(d);
    cr_expect_eq(emulation_live(), 0);
}

Test(cuda_device, is_listed_by_name_size_and_capability)
{
    dev_gpu g[4];
    refine_error err = { 0 };
    emulation_set_devices(2);
    emulation_set_card(8, 6, 2);
    emulation_set_memory(6ull << 30, 0, 0);
    cr_assert_eq(dev_list_gpus(g, 4, &err), 2);
    for (int i = 0; i < 2; i++)
        cr_expect(g[i].name[0] && g[i].major == 8 && g[i].minor == 6 && g[i].total == 6ull << 30);
    cr_expect_eq(dev_list_gpus(g, 1, &err), 2, "there are more than fit");
    emulation_set_driver(0);
    cr_expect_eq(dev_list_gpus(g, 4, &err), 0);
    expect_error_line(&err, "driver");
}

Test(cuda_device, is_measured_within_any_room_and_gives_it_back)
{
    const dev_options o = { .compute = DT_F16 };
    const cost_job job = { .act = DT_F16,
                           .weights = DT_F16,
                           .levels = 1,
                           .level = { { .n = 2,
                                        .h = 16,
                                        .w = 12,
                                        .channels = 128,
                                        .heads = 2,
                                        .keys = 77,
                                        .convolves = true } } };
    const uint64_t rooms[] = { 1 * MIB, 4 * MIB, 256 * MIB };
    dev *d = dev_open_cuda(&o, 0, NULL);
    cr_assert_not_null(d);
    for (int i = 0; i < 3; i++) {
        refine_rates r = { 0 };
        const size_t before = dev_memory_free(d);
        cost_probe(&r, d, &job, rooms[i]);
        cr_expect_leq(cost_probe_memory(d, &job, rooms[i]), rooms[i]);
        cr_expect(r.linear > 1e9 && r.conv > 1e9 && r.attention > 1e6 && r.memory > 1e6,
                  "%g %g %g %g", r.linear, r.conv, r.attention, r.memory);
        cr_expect_eq(dev_memory_free(d), before);
    }
    dev_close(d);
}

Test(cuda_device, memory_is_given_back_when_what_is_queued_has_run)
{
    enum { BYTES = 4096 };
    const dev_options o = { .compute = DT_F16 };
    unsigned char got[BYTES], right[BYTES];
    dev *d = dev_open_cuda(&o, 0, NULL);
    cr_assert_not_null(d);
    void *host = dev_alloc(d, BYTES, DEV_PINNED), *card = dev_alloc(d, BYTES, DEV_VRAM);
    cr_assert(host && card);
    memset(right, 7, BYTES);
    memcpy(host, right, BYTES);
    emulation_set_schedule(EMULATION_LAZY, 1);
    dev_copy_in(d, card, host, BYTES);
    dev_free(d, host, BYTES, DEV_PINNED);
    dev_get(d, got, card, BYTES);
    cr_expect_eq(dev_status(d), REFINE_OK, "%s", dev_why(d));
    cr_expect_arr_eq(got, right, BYTES);
    dev_free(d, card, BYTES, DEV_VRAM);
    dev_close(d);
}

/* ---- the engine: which device, and at what price ---- */

static refine_report plan_cuda_image(const refine_options *o)
{
    static uint8_t out[PICTURE_BYTES];
    const refine_job j = picture_job(out);
    refine_report r = REFINE_REPORT_INIT;
    refine_error err = { 0 };
    cr_assert_eq(refine_plan(&r, o, &j, &err), REFINE_OK, "%s", err.text);
    return r;
}

Test(cuda_device, is_what_auto_takes)
{
    const refine_options o = cuda_device_options(REFINE_DEVICE_AUTO);
    const refine_report r = plan_cuda_image(&o);
    cr_expect_str_eq(r.device, "cuda");
    cr_expect_str_eq(r.note, "");
}

Test(cuda_device, leaves_auto_to_the_cpu_in_one_line_that_says_why)
{
    const refine_options o = cuda_device_options(REFINE_DEVICE_AUTO);
    for (size_t i = 0; i < sizeof TROUBLES / sizeof TROUBLES[0]; i++) {
        TROUBLES[i].make();
        const refine_report r = plan_cuda_image(&o);
        cr_expect_str_eq(r.device, "cpu");
        cr_expect_not_null(strstr(r.note, "on the CPU: "), "'%s'", r.note);
        cr_expect_not_null(strstr(r.note, TROUBLES[i].says), "'%s'", r.note);
        cr_expect_null(strchr(r.note, '\n'), "'%s'", r.note);
        cr_expect_eq(emulation_reset(), 0);
    }
}

Test(cuda_device, is_not_exchanged_for_the_cpu_when_it_was_asked_for)
{
    const refine_options o = cuda_device_options(REFINE_DEVICE_CUDA);
    static uint8_t out[PICTURE_BYTES];
    const refine_job j = picture_job(out);
    refine_engine *e = NULL;
    refine_error err = { 0 };
    emulation_set_devices(0);
    cr_expect_eq(refine_open(&e, &o, &j, &err), REFINE_EDEVICE);
    cr_expect_null(e);
    expect_error_line(&err, "no NVIDIA GPU");
}

Test(cuda_device, counts_its_context_against_the_ceiling)
{
    refine_options o = cuda_device_options(REFINE_DEVICE_CUDA);
    emulation_set_memory(8ull << 30, 0, 64 * (size_t)MIB);
    const refine_memory small = plan_cuda_image(&o).memory;
    cr_assert_eq(emulation_reset(), 0);
    emulation_set_memory(8ull << 30, 0, 100 * (size_t)MIB);
    const refine_memory large = plan_cuda_image(&o).memory;
    cr_expect_eq(small.device_overhead, 64 * (uint64_t)MIB);
    cr_expect_eq(large.device_overhead, 100 * (uint64_t)MIB);
    cr_expect_eq(large.smallest_device - small.smallest_device, 36 * (uint64_t)MIB);
    cr_expect_leq(large.device_planned, o.vram_bytes);

    static uint8_t out[PICTURE_BYTES];
    const refine_job j = picture_job(out);
    refine_report r = REFINE_REPORT_INIT;
    o.vram_bytes = large.smallest_device;
    picture_run(&o, &j, &r);
    cr_expect_eq(r.memory.device_peak, r.memory.device_planned);
}

Test(cuda_device, counts_its_context_once_and_not_what_others_take_later)
{
    const dev_options o = { .compute = DT_F32 };
    refine_error err = { 0 };
    emulation_set_memory(8ull << 30, 0, 64 * (size_t)MIB);
    dev *first = dev_open_cuda(&o, 0, &err);
    cr_assert_not_null(first, "%s", err.text);
    emulation_set_memory(8ull << 30, 500 * (size_t)MIB, 64 * (size_t)MIB);
    dev *beside = dev_open_cuda(&o, 0, &err);
    cr_assert_not_null(beside, "%s", err.text);
    dev_close(first);
    dev_close(beside);
    dev *later = dev_open_cuda(&o, 0, &err);
    cr_assert_not_null(later, "%s", err.text);
    cr_expect_eq(dev_overhead(later), 64 * (size_t)MIB);
    dev_close(later);
}

Test(cuda_device, whose_memory_others_have_taken_is_refused_with_what_would_help)
{
    refine_options o = cuda_device_options(REFINE_DEVICE_CUDA);
    static uint8_t out[PICTURE_BYTES];
    const refine_job j = picture_job(out);
    refine_engine *e = NULL;
    refine_error err = { 0 };
    o.vram_bytes = 0; /* what is free */
    emulation_set_memory(8ull << 30, (8ull << 30) - 66 * (size_t)MIB, 64 * (size_t)MIB);
    cr_expect_eq(refine_open(&e, &o, &j, &err), REFINE_EBUDGET, "%s", err.text);
    cr_expect(err.text[0] && !strchr(err.text, '\n'), "'%s'", err.text);
    cr_expect_eq(emulation_live(), 0);
}

static int lose_it(void *context, const refine_progress *p)
{
    (void)context;
    if (p->phase == REFINE_DENOISING && p->step == 1)
        emulation_lose(cudaErrorIllegalAddress);
    return 0;
}

Test(cuda_device, when_lost_ends_the_run_in_one_line)
{
    const refine_options o = cuda_device_options(REFINE_DEVICE_CUDA);
    static uint8_t out[PICTURE_BYTES];
    refine_job j = picture_job(out);
    refine_engine *e = NULL;
    refine_error err = { 0 };
    j.progress = lose_it;
    cr_assert_eq(refine_open(&e, &o, &j, &err), REFINE_OK, "%s", err.text);
    cr_expect_eq(refine_run(e, &j, &err), REFINE_EDEVICE);
    expect_error_line(&err, "the GPU failed while");
    refine_close(e);
    cr_expect_eq(emulation_live(), 0);
}
