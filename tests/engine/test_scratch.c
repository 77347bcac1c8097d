/* tests/engine/test_scratch.c -- blocks never overlap, and the replay finds the run's addresses. */
#include "engine/model/scratch.h"

#include "engine/base/guard.h"

#include <criterion/criterion.h>
#include <string.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

/* Bytes from one block to another. */
static size_t block_distance(const void *from, const void *to)
{
    return (size_t)((const char *)to - (const char *)from);
}

static void open_planning(scratch *s)
{
    scratch_open(s, NULL, SCRATCH_TOKEN, SIZE_MAX, GUARD_ZONE);
}

Test(engine_scratch, reuses_the_lowest_gap_that_fits)
{
    scratch s;
    open_planning(&s);
    char *a = scratch_bytes(&s, 1000), *b = scratch_bytes(&s, 300), *c = scratch_bytes(&s, 5000);
    cr_assert_eq(block_distance(a, b), scratch_span(&s, 1000));
    cr_assert_eq(block_distance(b, c), scratch_span(&s, 300));
    scratch_free_bytes(&s, a);
    cr_assert_eq(scratch_bytes(&s, 1025), (void *)(c + scratch_span(&s, 5000)),
                 "1025 bytes do not fit in 1024");
    cr_assert_eq(scratch_bytes(&s, 1024), (void *)a);
    cr_assert_eq(s.peak, scratch_span(&s, 1000) + scratch_span(&s, 300) + scratch_span(&s, 5000) +
                             scratch_span(&s, 1025));
}

Test(engine_scratch, says_what_would_fit_below_an_end)
{
    scratch s;
    open_planning(&s);
    char *a = scratch_bytes(&s, 1000), *b = scratch_bytes(&s, 300);
    const size_t two = scratch_span(&s, 1000) + scratch_span(&s, 300);
    cr_expect(scratch_fits(&s, 5000, two + scratch_span(&s, 5000)));
    cr_expect(!scratch_fits(&s, 5000, two + scratch_span(&s, 5000) - 1));
    scratch_free_bytes(&s, a);
    cr_expect(scratch_fits(&s, 1024, scratch_span(&s, 1024)), "the gap is taken");
    cr_expect(!scratch_fits(&s, 1025, two), "1025 bytes do not fit in 1024");
    cr_expect(!scratch_fits(&s, SIZE_MAX / 2, 1 << 20));
    scratch_free_bytes(&s, b);
    cr_expect(scratch_fits(&s, 1, scratch_span(&s, 1)) && !scratch_fits(&s, 1, 0));
    cr_expect_eq(s.peak, two, "nothing was taken");
}

Test(engine_scratch, trim_frees_the_tail)
{
    scratch s;
    open_planning(&s);
    char *a = scratch_bytes(&s, 4096), *b = scratch_bytes(&s, 256);
    scratch_trim(&s, a, 1000);
    cr_assert_eq(scratch_bytes(&s, 3072 - 2 * GUARD_ZONE), (void *)(a + scratch_span(&s, 1000)));
    cr_assert_eq(block_distance(a, b), scratch_span(&s, 4096));
}

Test(engine_scratch, leaves_room_below_a_floor)
{
    scratch s;
    open_planning(&s);
    char *high = scratch_bytes_above(&s, 5000, 1000);
    char *low = scratch_bytes(&s, 5120);
    cr_assert_eq(block_distance(low, high), scratch_span(&s, 5120));
    cr_assert_eq(block_distance(low, scratch_bytes_above(&s, 5000, 1)),
                 scratch_span(&s, 5120) + scratch_span(&s, 1000));
    cr_assert_eq(s.peak, scratch_span(&s, 5120) + scratch_span(&s, 1000) + scratch_span(&s, 1));
}

Test(engine_scratch, a_block_takes_its_bytes_aligned_and_no_more_in_a_release)
{
    scratch s = { 0 };
    open_planning(&s);
    cr_assert_eq(scratch_span(&s, 0), SCRATCH_ALIGN + 2 * GUARD_ZONE);
    cr_assert_eq(scratch_span(&s, 1000), 1024 + 2 * GUARD_ZONE);
    cr_assert(GUARDED || GUARD_ZONE == 0);
    scratch_open(&s, NULL, SCRATCH_TOKEN, SIZE_MAX, GUARD_MAX);
    cr_assert_eq(scratch_span(&s, 1), SCRATCH_ALIGN + 2 * GUARD_MAX, "asked for");
}

Test(engine_scratch, live_blocks_never_overlap_and_a_replay_repeats_the_addresses)
{
    enum { LIVE = 40, ROUNDS = 4000 };
    for (int pass = 0; pass < 2; pass++) {
        static char *first_run[ROUNDS];
        scratch s;
        char *p[LIVE] = { 0 };
        size_t n[LIVE] = { 0 };
        unsigned seed = 7;
        open_planning(&s);
        for (int i = 0; i < ROUNDS; i++) {
            seed = seed * 1664525u + 1013904223u;
            const int k = (int)(seed >> 8) % LIVE;
            scratch_free_bytes(&s, p[k]);
            n[k] = (seed >> 4) % 100000 + 1;
            p[k] = scratch_bytes(&s, n[k]);
            for (int j = 0; j < LIVE; j++)
                if (j != k && p[j])
                    cr_assert(p[k] + n[k] <= p[j] || p[j] + n[j] <= p[k]);
            if (pass == 0)
                first_run[i] = p[k];
            cr_assert_eq(first_run[i], p[k]);
        }
    }
}

/* Its last byte too must be in the region. */
Test(engine_scratch, a_block_that_ends_beyond_the_region_fails_the_device)
{
    enum { BLOCK = 1024, REGION_BYTES = 2 * BLOCK };
    const dev_options o = { .compute = DT_F32 };
    for (int over = 0; over < 2; over++) {
        scratch s;
        dev *d = dev_open_ref(&o, NULL);
        void *region = dev_alloc(d, REGION_BYTES, DEV_VRAM);
        scratch_open(&s, d, region, REGION_BYTES, 0);
        (void)scratch_bytes(&s, BLOCK);
        (void)scratch_bytes(&s, over ? BLOCK + 1 : BLOCK);
        cr_expect_eq(dev_status(d), over ? REFINE_EBUDGET : REFINE_OK);
        scratch_close(&s);
        dev_free(d, region, REGION_BYTES, DEV_VRAM);
        dev_close(d);
    }
}

#ifdef REFINE_GUARDS

/* A scratch over memory of the referee, with three blocks; the last is of `BYTES`. */
enum { REGION = 64 << 10, BYTES = 1001 };

typedef struct scratch_rig {
    dev *d;
    char *region, *block[3];
    scratch s;
} scratch_rig;

static void scratch_rig_open(scratch_rig *k)
{
    const dev_options o = { .compute = DT_F32 };
    memset(k, 0, sizeof *k);
    cr_assert_not_null(k->d = dev_open_ref(&o, NULL));
    cr_assert_not_null(k->region = dev_alloc(k->d, REGION, DEV_VRAM));
    scratch_open(&k->s, k->d, k->region, REGION, GUARD_ZONE);
    k->block[0] = scratch_bytes(&k->s, 512);
    k->block[1] = scratch_bytes(&k->s, 3);
    k->block[2] = scratch_bytes(&k->s, BYTES);
    for (int i = 0; i < 3; i++)
        memset(k->block[i], 0, i == 0 ? 512 : i == 1 ? 3 : BYTES);
}

static void scratch_rig_close(scratch_rig *k)
{
    scratch_close(&k->s);
    dev_free(k->d, k->region, REGION, DEV_VRAM);
    dev_close(k->d);
}

/* As code does that no sanitizer sees. */
__attribute__((no_sanitize("address"))) static void spoil_scratch_byte(volatile char *p) { *p = 0; }

static void expect_fine(const scratch_rig *k) { cr_expect_eq(dev_status(k->d), REFINE_OK); }

static void expect_scratch_fault(const scratch_rig *k, const char *why)
{
    cr_expect_eq(dev_status(k->d), REFINE_EDEVICE);
    cr_expect_str_eq(dev_why(k->d), why);
}

#define OF_THE_LAST "of the block of 1001 bytes at 1792 was written, which is beside it"

Test(engine_scratch, a_byte_written_behind_a_block_is_found_when_it_is_given)
{
    scratch_rig k;
    scratch_rig_open(&k);
    spoil_scratch_byte(k.block[2] + BYTES);
    scratch_free_bytes(&k.s, k.block[0]);
    scratch_free_bytes(&k.s, k.block[1]);
    expect_fine(&k);
    scratch_free_bytes(&k.s, k.block[2]);
    expect_scratch_fault(&k, "activations: byte 1001 " OF_THE_LAST);
    scratch_rig_close(&k);
}

Test(engine_scratch, a_byte_written_before_a_block_is_found_where_nothing_is_lent_out_there)
{
    scratch_rig k;
    scratch_rig_open(&k);
    scratch_free_bytes(&k.s, k.block[1]);
    spoil_scratch_byte(k.block[2] - 1);
    scratch_free_bytes(&k.s, k.block[2]);
    expect_scratch_fault(&k, "activations: byte -1 " OF_THE_LAST);
    scratch_rig_close(&k);
}

Test(engine_scratch, a_byte_written_before_the_first_block_is_found)
{
    scratch_rig k;
    scratch_rig_open(&k);
    spoil_scratch_byte(k.region);
    scratch_free_bytes(&k.s, k.block[0]);
    expect_scratch_fault(
        &k, "activations: byte -256 of the block of 512 bytes at 0 was written, which is "
            "beside it");
    scratch_rig_close(&k);
}

Test(engine_scratch, trimming_looks_at_the_old_end_and_guards_the_new_one)
{
    for (int late = 0; late < 2; late++) {
        scratch_rig k;
        scratch_rig_open(&k);
        if (late)
            scratch_trim(&k.s, k.block[2], 100);
        expect_fine(&k);
        spoil_scratch_byte(k.block[2] + (late ? 100 : BYTES));
        if (late)
            scratch_free_bytes(&k.s, k.block[2]);
        else
            scratch_trim(&k.s, k.block[2], 100);
        cr_expect_eq(dev_status(k.d), REFINE_EDEVICE, "%d", late);
        scratch_rig_close(&k);
    }
}

Test(engine_scratch, what_is_lent_out_to_the_end_is_looked_at_then)
{
    scratch_rig k;
    scratch_rig_open(&k);
    spoil_scratch_byte(k.block[1] + 3);
    scratch_close(&k.s);
    expect_scratch_fault(
        &k, "activations: byte 3 of the block of 3 bytes at 1024 was written, which is "
            "beside it");
    scratch_rig_close(&k);
}

Test(engine_scratch, all_bytes_of_blocks_are_free_to_be_written_and_then_the_region)
{
    scratch_rig k;
    scratch_rig_open(&k);
    scratch_trim(&k.s, k.block[2], 77);
    memset(k.block[2], 1, 77);
    for (int i = 0; i < 3; i++)
        scratch_free_bytes(&k.s, k.block[i]);
    k.block[0] = scratch_bytes(&k.s, 4000);
    memset(k.block[0], 1, 4000);
    scratch_close(&k.s);
    expect_fine(&k);
    memset(k.region, 1, REGION);
    scratch_rig_close(&k);
}

#ifdef __SANITIZE_ADDRESS__
Test(engine_scratch, the_sanitizer_stops_whoever_touches_what_is_not_lent_out)
{
    scratch_rig k;
    scratch_rig_open(&k);
    cr_expect(__asan_region_is_poisoned(k.block[2], BYTES) == NULL);
    cr_expect(__asan_address_is_poisoned(k.block[2] - 1));
    cr_expect(__asan_address_is_poisoned(k.block[2] + BYTES));
    scratch_trim(&k.s, k.block[2], 100);
    cr_expect(__asan_region_is_poisoned(k.block[2], BYTES) == k.block[2] + 100);
    scratch_free_bytes(&k.s, k.block[1]);
    cr_expect(__asan_address_is_poisoned(k.block[1]));
    cr_expect(!__asan_address_is_poisoned(k.block[2]));
    scratch_rig_close(&k);
}
#endif

#endif
