/* tests/engine/test_scratch.c -- blocks never overlap, and the replay finds the run's addresses. */
#include "engine/scratch.h"

#include <criterion/criterion.h>

enum { TOKEN = SCRATCH_ALIGN };

static void open_planning(scratch *s) { scratch_open(s, NULL, (void *)(uintptr_t)TOKEN, SIZE_MAX); }

Test(engine_scratch, reuses_the_lowest_gap_that_fits)
{
    scratch s;
    open_planning(&s);
    char *a = scratch_bytes(&s, 1000), *b = scratch_bytes(&s, 300), *c = scratch_bytes(&s, 5000);
    cr_assert_eq(b - a, 1024);
    cr_assert_eq(c - b, 512);
    scratch_give_bytes(&s, a);
    cr_assert_eq(scratch_bytes(&s, 1025), (void *)(c + 5120), "1025 bytes do not fit in 1024");
    cr_assert_eq(scratch_bytes(&s, 1024), (void *)a);
    cr_assert_eq(s.peak, 1024 + 512 + 5120 + 1280);
}

Test(engine_scratch, trim_frees_the_tail)
{
    scratch s;
    open_planning(&s);
    char *a = scratch_bytes(&s, 4096), *b = scratch_bytes(&s, 256);
    scratch_trim(&s, a, 1000);
    cr_assert_eq(scratch_bytes(&s, 3072), (void *)(a + 1024));
    cr_assert_eq(b - a, 4096);
}

Test(engine_scratch, leaves_room_below_a_floor)
{
    scratch s;
    open_planning(&s);
    char *base = (char *)(uintptr_t)TOKEN;
    char *high = scratch_bytes_above(&s, 5000, 1000);
    cr_assert_eq(high - base, 5120);
    cr_assert_eq((char *)scratch_bytes(&s, 5120) - base, 0);
    cr_assert_eq((char *)scratch_bytes_above(&s, 5000, 1) - base, 6144);
    cr_assert_eq(s.peak, 6400);
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
            scratch_give_bytes(&s, p[k]);
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
