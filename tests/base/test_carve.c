/* tests/base/test_carve.c -- one walk sizes and cuts, and what writes beside a block is found. */
#include "engine/base/carve.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <string.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

enum { THREADS = 3, BLOCKS = 4 }; /* the first, and one of each thread */

typedef struct carved_room {
    size_t bytes, each;
    char *first;
    carve_parts threads;
} carved_room;

static void carve_test_thread(carver *c, void *context)
{
    char **own = context;
    *own = carve_block(c, 24);
}

static void carve_test_room(carver *c, void *context)
{
    carved_room *r = context;
    char *own;
    r->first = carve_block(c, r->bytes);
    r->threads = carve_each(c, THREADS, carve_test_thread, &own);
}

static char *carved_thread_room(const carved_room *r, int i)
{
    carver c = carve_part(r->threads, i);
    char *own;
    carve_test_thread(&c, &own);
    return own;
}

static _Alignas(CARVE_ALIGN) char region[4096];

Test(base_carve, counting_says_what_cutting_takes_and_hands_out_nothing)
{
    carved_room r = { .bytes = 100 };
    const size_t bytes = carve_bytes(carve_test_room, &r);
    cr_assert(bytes <= sizeof region);
    cr_expect(!r.first && !r.threads.first);
    cr_expect_eq(bytes, 128 + THREADS * 64 + (BLOCKS + 1) * GUARD_ZONE);
    carve_cut(carve_test_room, &r, region);
    cr_expect_eq(carve_check(carve_test_room, &r, region).block, -1);
    cr_expect_eq(carved_thread_room(&r, THREADS - 1) + 64 + GUARD_ZONE, region + bytes);
}

Test(base_carve, blocks_are_aligned_apart_and_writable_to_the_last_byte)
{
    carved_room r = { .bytes = 100 };
    carve_cut(carve_test_room, &r, region);
    memset(r.first, 1, 100);
    for (int i = 0; i < THREADS; i++)
        memset(carved_thread_room(&r, i), 2 + i, 24);
    for (int i = 0; i < THREADS; i++) {
        const char *own = carved_thread_room(&r, i);
        cr_expect_eq((uintptr_t)own % CARVE_ALIGN, 0);
        cr_expect(own >= r.first + 100 && own[0] == 2 + i && own[23] == 2 + i);
    }
    cr_expect_eq(carve_check(carve_test_room, &r, region).block, -1);
}

#ifdef REFINE_GUARDS

/* As code does that no sanitizer sees. */
__attribute__((no_sanitize("address"))) static void spoil_carved_byte(volatile char *p) { *p = 0; }

static carve_fault after_spoiling(carved_room *r, int block, ptrdiff_t at)
{
    carve_cut(carve_test_room, r, region);
    spoil_carved_byte((block == 0 ? r->first : carved_thread_room(r, block - 1)) + at);
    return carve_check(carve_test_room, r, region);
}

Test(base_carve, a_byte_behind_any_block_is_found)
{
    for (size_t bytes = 96; bytes < 130; bytes++)
        for (int block = 0; block < BLOCKS; block++) {
            carved_room r = { .bytes = bytes };
            const size_t own = block == 0 ? bytes : 24;
            const carve_fault f = after_spoiling(&r, block, (ptrdiff_t)own);
            cr_expect(f.block == block && f.bytes == own && f.at == (ptrdiff_t)own,
                      "%zu bytes, block %d: block %d, byte %td", bytes, block, f.block, f.at);
        }
}

Test(base_carve, a_byte_before_the_first_block_is_found)
{
    carved_room r = { .bytes = 100 };
    carve_fault f = after_spoiling(&r, 0, -1);
    cr_expect(f.block == 0 && f.at == -1);
    f = after_spoiling(&r, 0, -GUARD_ZONE);
    cr_expect(f.block == 0 && f.at == -GUARD_ZONE);
}

Test(base_carve, a_byte_before_another_block_is_behind_the_one_before_it)
{
    carved_room r = { .bytes = 100 };
    const carve_fault f = after_spoiling(&r, 1, -1);
    cr_expect(f.block == 0 && f.bytes == 100 && f.at == 128 + GUARD_ZONE - 1);
}

Test(base_carve, of_several_the_first_is_named)
{
    carved_room r = { .bytes = 100 };
    carve_cut(carve_test_room, &r, region);
    spoil_carved_byte(carved_thread_room(&r, 1) + 30);
    spoil_carved_byte(carved_thread_room(&r, 0) + 40);
    const carve_fault f = carve_check(carve_test_room, &r, region);
    cr_expect(f.block == 1 && f.at == 40);
}

/* Another operator cuts the region its own way. */
Test(base_carve, what_was_checked_is_open_to_everybody)
{
    carved_room r = { .bytes = 100 };
    carve_cut(carve_test_room, &r, region);
    (void)carve_check(carve_test_room, &r, region);
    memset(region, 0, sizeof region);
}

#ifdef __SANITIZE_ADDRESS__
Test(base_carve, the_sanitizer_stops_whoever_touches_what_is_beside_a_block)
{
    carved_room r = { .bytes = 99 };
    carve_cut(carve_test_room, &r, region);
    cr_expect(__asan_region_is_poisoned(r.first, 99) == NULL);
    cr_expect(__asan_address_is_poisoned(r.first - 1));
    for (char *p = r.first + 99; p < carved_thread_room(&r, 0); p++)
        cr_expect(__asan_address_is_poisoned(p));
    (void)carve_check(carve_test_room, &r, region);
    cr_expect(__asan_region_is_poisoned(region, sizeof region) == NULL);
}
#endif

#endif
