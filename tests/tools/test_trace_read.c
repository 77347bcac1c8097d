/* tests/tools/test_trace_read.c -- what a trace says is taken over; what lies is refused. */
#include "engine/base/mem.h"
#include "tests/support/temp_file.h"
#include "tests/support/trace_fixture.h"

#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

Test(tools_trace_read, takes_over_what_the_trace_says)
{
    recording t = trace_fixture();
    cr_assert_eq(t.n_chunks, 3);
    cr_assert_str_eq(t.chunk[1].name, "unet.down_blocks.0.conv.weight");
    cr_assert_eq(t.chunk[1].tier, REFINE_TIER_DEVICE);
    cr_assert_eq(t.chunk[2].flops, 8e6);
    cr_assert_eq(t.lost, 3u);
    cr_assert_eq(t.end, 9.0);
    cr_assert_eq(t.report.memory.device_planned, 8388608u);
    cr_assert_eq(t.report.source_hash, 0xffu);
    cr_assert_eq(t.report.steps_run, 2);
    cr_assert_eq(t.report.step[1], 3.0);
    cr_assert_eq(t.report.rates.disk, 2e6);
    cr_assert_eq(t.report.measured.disk, 1e6);
    cr_assert_eq(t.device.n, 4u);
    cr_assert_eq(t.device.v[2].bytes[3], 4194304u);
    cr_assert_eq(t.host.v[0].bytes[0], 4096u);
    trace_free(&t);
    cr_assert_eq(mem_used().now, 0u);
}

Test(tools_trace_read, sorts_events_by_lane_and_time)
{
    recording t = trace_fixture();
    for (int l = 0; l < REFINE_LANES; l++)
        for (size_t i = t.lane_at[l]; i < t.lane_at[l + 1]; i++) {
            cr_assert_eq((int)t.event[i].lane, l);
            cr_assert(i == t.lane_at[l] || t.event[i - 1].begin <= t.event[i].begin);
        }
    cr_assert_eq(t.lane_at[REFINE_LANES], 16u, "%zu", t.lane_at[REFINE_LANES]);
    cr_assert_eq(t.event[t.lane_at[REFINE_LANE_DISK]].begin, 0.5);
    trace_free(&t);
}

static void expect_trace_refused(const char *from, const char *to)
{
    char name[TEMP_NAME];
    recording t;
    refine_error err = { 0 };
    trace_fixture_with(name, from, to);
    cr_assert_eq(trace_read(&t, name, &err), REFINE_EFORMAT, "%s for %s is taken", to, from);
    cr_assert_not_null(strstr(err.text, name));
    cr_assert_null(strchr(err.text, '\n'));
    cr_assert_eq(mem_used().now, 0u);
    (void)unlink(name);
}

Test(tools_trace_read, refuses_what_is_no_trace)
{
    expect_trace_refused("{", "[");
    expect_trace_refused("]}\n", "]");
    expect_trace_refused("]}\n", "]}{}");
    expect_trace_refused("\"refine\"", "\"reload\"");
    expect_trace_refused("\"result\"", "\"effect\"");
    expect_trace_refused("\"format\":1", "\"format\":2");
    expect_trace_refused("\"traceEvents\":[", "\"traceEvents\":{");
    expect_trace_refused("{\"name\":\"process_name\"", "[\"name\"");
    expect_trace_refused("{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":1}", "7");
}

Test(tools_trace_read, refuses_numbers_that_lie)
{
    expect_trace_refused("\"chunk\":2,", "\"chunk\":3,");
    expect_trace_refused("\"chunk\":2,", "\"chunk\":-1,");
    expect_trace_refused("\"chunk\":2,", "\"chunk\":1.5,");
    expect_trace_refused("\"phase\":4,", "\"phase\":6,");
    expect_trace_refused("\"ts\":4.5e6", "\"ts\":-1");
    expect_trace_refused("\"ts\":4.5e6", "\"ts\":1e300");
    expect_trace_refused("\"ts\":4.5e6", "\"ts\":\"soon\"");
    expect_trace_refused("\"resident\":0", "\"resident\":9223372036854775807");
    expect_trace_refused("\"bytes\":2097152", "\"bytes\":99999999999999");
    expect_trace_refused("\"steps\":[2,3]", "\"steps\":[2,\"x\"]");
    expect_trace_refused("\"tier\":\"device\"", "\"tier\":\"cloud\"");
    expect_trace_refused("\"memory\":{", "\"memory\":[],\"x\":{");
}

Test(tools_trace_read, says_when_there_is_no_file)
{
    recording t;
    refine_error err = { 0 };
    cr_assert_eq(trace_read(&t, "/nowhere/at/all.json", &err), REFINE_EIO);
    cr_assert_not_null(strstr(err.text, "/nowhere/at/all.json"));
}

Test(tools_trace_read, survives_every_allocation_that_fails)
{
    for (int n = 0;; n++) {
        recording t;
        mem_fail_after(n, MEM_FAIL_FOREVER);
        const refine_status st = trace_read(&t, TRACE_FIXTURE, NULL);
        mem_fail_after(-1, MEM_FAIL_FOREVER);
        if (st == REFINE_OK) {
            cr_assert_gt(n, 3);
            trace_free(&t);
            break;
        }
        cr_assert_eq(st, REFINE_ENOMEM);
        cr_assert_eq(mem_used().now, 0u);
    }
}
