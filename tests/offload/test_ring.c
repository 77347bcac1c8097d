/* tests/offload/test_ring.c -- pieces never overlap, wrap or get lost. */
#include "offload/ring.h"

#include <criterion/criterion.h>

enum { LIVE_MAX = 64 };

typedef struct ring_piece {
    size_t at, bytes;
    uint64_t end;
} ring_piece;

static uint32_t draw_ring_bits(uint32_t *x) { return (*x = *x * 1664525u + 1013904223u) >> 8; }

static bool are_ring_pieces_disjoint(ring_piece a, ring_piece b)
{
    return a.at + a.bytes <= b.at || b.at + b.bytes <= a.at;
}

Test(offload_ring, pieces_that_are_taken_never_overlap_or_leave_the_ring)
{
    uint32_t x = 1;
    for (int round = 0; round < 200; round++) {
        const size_t bytes = 256 * (4 + draw_ring_bits(&x) % 60);
        ring_piece live[LIVE_MAX];
        int first = 0, n = 0;
        ring r;
        ring_open(&r, bytes + draw_ring_bits(&x) % 256);
        for (int i = 0; i < 500; i++) {
            ring_piece p = { .bytes = 1 + draw_ring_bits(&x) % (bytes / 2) };
            if (n < LIVE_MAX && draw_ring_bits(&x) % 3 && ring_alloc(&r, p.bytes, &p.at, &p.end)) {
                cr_assert_eq(p.at % DEV_ALIGN, 0);
                cr_assert_leq(p.at + p.bytes, bytes);
                for (int k = 0; k < n; k++)
                    cr_assert(are_ring_pieces_disjoint(p, live[(first + k) % LIVE_MAX]));
                live[(first + n++) % LIVE_MAX] = p;
            } else if (n > 0) {
                ring_free(&r, live[first].end);
                first = (first + 1) % LIVE_MAX;
                n--;
            }
        }
    }
}

Test(offload_ring, an_empty_ring_takes_any_piece_up_to_its_size)
{
    uint32_t x = 5;
    ring r;
    ring_open(&r, 2560);
    for (int i = 0; i < 300; i++) {
        size_t at;
        uint64_t end;
        cr_assert(ring_alloc(&r, 1 + draw_ring_bits(&x) % 2560, &at, &end));
        ring_free(&r, end);
    }
}

Test(offload_ring, a_piece_larger_than_the_ring_is_refused_and_nothing_is_taken)
{
    ring r;
    size_t at;
    uint64_t end;
    ring_open(&r, 1024);
    cr_assert_not(ring_alloc(&r, 1025, &at, &end));
    cr_assert(ring_alloc(&r, 1024, &at, &end));
    cr_assert_not(ring_alloc(&r, 1, &at, &end));
}

/* The promise stream_ring_min() passes on to the plan. */
Test(offload_ring, the_minimum_holds_its_group_wherever_the_group_begins)
{
    uint32_t x = 9;
    for (int round = 0; round < 2000; round++) {
        size_t group[8], sum = 0, biggest = 0, at;
        const int n = 1 + (int)(draw_ring_bits(&x) % 8);
        uint64_t end;
        for (int i = 0; i < n; i++) {
            group[i] = 256 * (1 + draw_ring_bits(&x) % 20);
            sum += group[i];
            biggest = group[i] > biggest ? group[i] : biggest;
        }
        ring r;
        ring_open(&r, ring_min(sum, biggest));
        for (int before = (int)(draw_ring_bits(&x) % 40); before > 0; before--) {
            cr_assert(ring_alloc(&r, 256 * (1 + draw_ring_bits(&x) % (biggest / 256)), &at, &end));
            ring_free(&r, end);
        }
        /* One more, left when the group is partly in: the worst place to begin. */
        uint64_t left;
        cr_assert(ring_alloc(&r, biggest, &at, &left));
        for (int i = 0; i < n; i++)
            if (!ring_alloc(&r, group[i], &at, &end)) {
                ring_free(&r, left);
                cr_assert(ring_alloc(&r, group[i], &at, &end), "piece %d of %d", i, n);
            }
    }
}
