/* tests/tools/test_memprof_timeline.c -- time is neither lost nor counted twice. */
#include "engine/base/mem.h"
#include "tests/support/trace_fixture.h"
#include "tools/memprof/memprof_timeline.h"

#include <criterion/criterion.h>
#include <math.h>

Test(tools_memprof_timeline, counts_overlapping_spans_once)
{
    recording t = trace_fixture();
    cr_assert_float_eq(timeline_busy(&t, REFINE_LANE_DISK, 0, 9), 2.0, 1e-9);
    cr_assert_float_eq(timeline_busy(&t, REFINE_LANE_DISK, 4.25, 4.75), 0.5, 1e-9);
    cr_assert_float_eq(timeline_busy(&t, REFINE_LANE_COPY, 0, 9), 0.0, 1e-9);
    cr_assert_eq(timeline_bytes(&t, REFINE_LANE_DISK, 4, 9), 2097152u);
    trace_free(&t);
}

Test(tools_memprof_timeline, finds_phases_and_steps)
{
    recording t = trace_fixture();
    double from, to;
    cr_assert(timeline_find(&t, REFINE_LANE_STEP, 1, &from, &to));
    cr_assert(from == 4.0 && to == 7.0);
    cr_assert_not(timeline_find(&t, REFINE_LANE_PHASE, REFINE_ENCODING, &from, &to));
    trace_free(&t);
}

Test(tools_memprof_timeline, spreads_all_time_over_any_number_of_columns)
{
    recording t = trace_fixture();
    const int columns[] = { 1, 7, 9, 480, TIMELINE_COLUMNS_MAX };
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
        timeline *l = timeline_of(&t, 0, t.end, columns[i]);
        cr_assert_not_null(l);
        for (int lane = 0; lane < TIMELINE_LANES; lane++) {
            double sum = 0;
            for (int c = 0; c < l->columns; c++) {
                cr_assert(l->share[lane][c] >= 0 && l->share[lane][c] <= 1 + 1e-9);
                sum += l->share[lane][c] * t.end / l->columns;
            }
            cr_assert_float_eq(sum, timeline_busy(&t, (refine_lane)lane, 0, t.end), 1e-6);
        }
        mem_free(l);
    }
    trace_free(&t);
}

Test(tools_memprof_timeline, keeps_the_peak_of_memory_in_every_column)
{
    recording t = trace_fixture();
    timeline *l = timeline_of(&t, 0, 9, 9);
    cr_assert_eq(timeline_peak(&t.device), 7340032u);
    cr_assert_eq(l->device[0][1], 1048576u);
    cr_assert_eq(l->device[3][0], 2097152u);
    cr_assert_eq(l->device[6][3], 4194304u);
    cr_assert_eq(l->device[8][3], 2097152u);
    mem_free(l);
    l = timeline_of(&t, 0, 9, 1);
    cr_assert_eq(l->device[0][3], 4194304u);
    mem_free(l);
    trace_free(&t);
}
