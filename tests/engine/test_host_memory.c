/* tests/engine/test_host_memory.c -- the host's ceiling is kept, and named rightly where it cannot
 * be. */
#include "engine/plan/host_memory.h"

#include "engine/model/weight_list.h"
#include "kernels/tensor.h"
#include "tests/support/pack_fixture.h"

#include <criterion/criterion.h>

enum { TAKEN = 12345, ALIGN = 256 };

static pack_fixture fixture;
static pack *host_pack;
static chunk_list host_chunks;

static void open_host_pack(void)
{
    const fixture_tensor t = { "w", SEG_UNET, DT_F16, 512, 1, 1, 1024, 0 };
    refine_error err;
    pack_fixture_make(&fixture, &t, 1, FIXTURE_RAW, NULL);
    pack_fixture_write(&fixture);
    cr_assert_eq(pack_open(&host_pack, fixture.path, &err), REFINE_OK, "%s", err.text);
    host_chunks = chunk_list_make((const pack *const[]){ host_pack }, 1);
}

static void close_host_pack(void)
{
    pack_close(host_pack);
    pack_fixture_free(&fixture);
}

TestSuite(engine_host_memory, .init = open_host_pack, .fini = close_host_pack);

static host_memory fit_host(const refine_options *o, uint64_t limit)
{
    return host_memory_fit(&host_chunks, o, TAKEN, limit, false);
}

Test(engine_host_memory, the_smallest_ceiling_does_and_a_byte_less_does_not)
{
    refine_options o = REFINE_OPTIONS_INIT;
    for (o.decode_threads = 0; o.decode_threads < 4; o.decode_threads++) {
        const size_t smallest = fit_host(&o, UINT64_MAX).smallest;
        cr_expect_leq(fit_host(&o, smallest).bytes, smallest);
        cr_expect_gt(fit_host(&o, smallest - 1).bytes, smallest - 1);
        cr_expect_eq(fit_host(&o, 0).smallest, smallest);
    }
}

Test(engine_host_memory, more_memory_is_used_for_more_slots)
{
    const refine_options o = REFINE_OPTIONS_INIT;
    const host_memory most = fit_host(&o, UINT64_MAX);
    host_memory last = fit_host(&o, most.smallest);
    cr_expect_lt(last.slots, most.slots);
    for (uint64_t limit = most.smallest; limit <= most.bytes; limit += 1 << 14) {
        const host_memory h = fit_host(&o, limit);
        cr_expect(h.bytes <= limit && h.slots >= last.slots && h.staging < h.bytes);
        last = h;
    }
    cr_expect_eq(fit_host(&o, most.bytes).slots, most.slots);
}

Test(engine_host_memory, workers_that_are_asked_for_are_kept)
{
    refine_options o = REFINE_OPTIONS_INIT;
    cr_expect_eq(fit_host(&o, UINT64_MAX).workers, host_memory_workers(&o));
    cr_expect_eq(fit_host(&o, 0).workers, 1);
    o.decode_threads = 3;
    cr_expect_eq(fit_host(&o, 0).workers, 3);
}

Test(engine_host_memory, the_callers_memory_and_what_is_taken_count)
{
    refine_options o = REFINE_OPTIONS_INIT;
    const host_memory without = fit_host(&o, UINT64_MAX);
    o.caller_bytes = 1000;
    const host_memory with = fit_host(&o, UINT64_MAX);
    cr_expect(with.caller == 1000 && with.bytes == without.bytes + 1000);
    cr_expect_eq(with.smallest, without.smallest + 1000);
    cr_expect_eq(host_memory_fit(&host_chunks, &o, TAKEN + 7, UINT64_MAX, false).bytes,
                 with.bytes + 7);
}

Test(engine_host_memory, what_does_not_fit_is_spilled_to_a_file)
{
    enum { SPILL = 64 * ALIGN };
    const refine_options o = REFINE_OPTIONS_INIT;
    const host_memory h = fit_host(&o, UINT64_MAX);
    const size_t left[] = { 0, ALIGN - 1, ALIGN, 10 * ALIGN + 1, SPILL, 2 * SPILL };
    for (size_t i = 0; i < sizeof left / sizeof left[0]; i++) {
        const host_memory s = host_memory_with_spill(h, SPILL, h.bytes + left[i]);
        const size_t on_host = left[i] > SPILL ? SPILL : left[i] / ALIGN * ALIGN;
        cr_expect_eq(s.spill_host, on_host);
        cr_expect_eq(s.spill_file, SPILL - on_host);
        cr_expect_eq(s.bytes, h.bytes + on_host);
    }
    cr_expect_eq(host_memory_with_spill(h, SPILL, 0).spill_file, SPILL);
}

Test(engine_host_memory, the_cache_takes_what_is_left_or_less_if_less_is_asked)
{
    const refine_options o = REFINE_OPTIONS_INIT;
    const host_memory h = fit_host(&o, UINT64_MAX);
    cr_expect_eq(host_memory_cache_room(&h, 0, h.bytes + 1000), 1000);
    cr_expect_eq(host_memory_cache_room(&h, 10, h.bytes + 1000), 10);
    cr_expect_eq(host_memory_cache_room(&h, 5000, h.bytes + 1000), 1000);
    cr_expect_eq(host_memory_cache_room(&h, UINT64_MAX, h.bytes + 1000), 0);
    cr_expect_eq(host_memory_cache_room(&h, 0, h.bytes - 1), 0);
    cr_expect_eq(host_memory_with_cache(h, 77).bytes, h.bytes + 77);
}
