/* tests/engine/test_ring_size.c -- no ring is too small to work or larger than all that travels. */
#include "engine/plan/ring_size.h"

#include "offload/stream.h"
#include "tests/support/planned_job.h"

#include <criterion/criterion.h>

Test(engine_ring_size, a_ring_is_as_wished_between_the_smallest_and_the_useful)
{
    refine_options o = REFINE_OPTIONS_INIT;
    planned_job j;
    planned_job_open(&j);
    const size_t smallest = ring_size_smallest(j.m.p, 1000);
    const size_t useful = ring_size_fit(j.p, &o, SIZE_MAX, smallest, NULL);
    cr_assert_lt(smallest, useful);
    cr_expect_eq(ring_size_fit(j.p, &o, 0, smallest, NULL), smallest);
    cr_expect_eq(ring_size_fit(j.p, &o, smallest + 256, smallest, NULL), smallest + 256);
    o.ring_bytes = smallest + 512; /* asked for: no wish counts */
    cr_expect_eq(ring_size_fit(j.p, &o, 0, smallest, NULL), smallest + 512);
    o.ring_bytes = UINT64_MAX;
    cr_expect_eq(ring_size_fit(j.p, &o, 0, smallest, NULL), useful);
    planned_job_close(&j);
}

Test(engine_ring_size, nothing_that_stays_needs_a_ring)
{
    static bool resident[4096];
    const refine_options o = REFINE_OPTIONS_INIT;
    planned_job j;
    int first, end;
    planned_job_open(&j);
    pack_segment(j.m.p, SEG_UNET, &first, &end);
    cr_assert_lt(end, 4096);
    const size_t all = ring_size_fit(j.p, &o, SIZE_MAX, 0, NULL);
    size_t saved = 0;
    for (int i = first; i < end; i++) {
        resident[i] = true;
        saved += stream_span(pack_chunk_at(j.m.p, i)->bytes);
    }
    const size_t rest = ring_size_fit(j.p, &o, SIZE_MAX, 0, resident);
    cr_expect(rest <= all - saved + SCRATCH_ALIGN && rest + SCRATCH_ALIGN > all - saved);
    j.p->encodes = false; /* then the encoder does not travel either */
    cr_expect_lt(ring_size_fit(j.p, &o, SIZE_MAX, 0, NULL), all);
    planned_job_close(&j);
}

Test(engine_ring_size, as_many_chunks_go_together_as_the_ring_takes_twice)
{
    planned_job j;
    planned_job_open(&j);
    const pack *p = j.m.p;
    for (int n = 1; n <= 8; n *= 2) {
        const size_t ring = ring_size_of_launch(p, 2 * n);
        cr_expect_eq(ring_size_together(p, ring, 0, 8), n);
        cr_expect_eq(ring_size_together(p, ring - 1, 0, 8), n > 1 ? n / 2 : 1);
    }
    cr_expect_eq(ring_size_together(p, SIZE_MAX, 3, 8), 3);
    cr_expect_eq(ring_size_together(p, SIZE_MAX, 9, 8), 8);
    planned_job_close(&j);
}
