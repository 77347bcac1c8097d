/* tests/tools/test_memprof_report.c -- a report holds the run, and says what it cannot predict. */
#include "engine/base/mem.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_pack.h"
#include "tests/support/trace_fixture.h"
#include "tools/memprof/memprof_report.h"

#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

Test(tools_memprof_report, says_that_the_pack_of_a_run_is_gone)
{
    recording t = trace_fixture();
    memprof m;
    cr_assert_eq(memprof_of_run(&m, &t, &(memprof_wish){ 0 }, NULL), REFINE_OK);
    cr_assert_not_null(strstr(m.note, "/nowhere/x.pack"));
    cr_assert_eq(m.curve.n, 0);
    cr_assert_eq(m.n_rows, 0);
    cr_assert_eq(m.layer.n, 3);
    cr_assert_eq(m.block.n, 2);
    cr_assert_float_eq(m.use.wall, 5.0, 1e-9);
    memprof_free(&m);
    trace_free(&t);
    cr_assert_eq(mem_used().now, 0u);
}

/* A name in a trace may be that of a device or of a pipe, which must not be opened. */
Test(tools_memprof_report, opens_regular_files_only)
{
    recording t = trace_fixture_but("/nowhere/x.pack", "/dev/zero");
    memprof m;
    cr_assert_eq(memprof_of_run(&m, &t, &(memprof_wish){ 0 }, NULL), REFINE_OK);
    cr_assert_not_null(strstr(m.note, "/dev/zero"));
    memprof_free(&m);
    trace_free(&t);
}

Test(tools_memprof_report, tells_another_pack_from_that_of_the_run)
{
    char pack[TEMP_NAME];
    memprof m;
    tiny_pack(pack, sizeof pack, "");
    recording t = trace_fixture_but("/nowhere/x.pack", pack);
    cr_assert_eq(memprof_of_run(&m, &t, &(memprof_wish){ 0 }, NULL), REFINE_OK);
    cr_assert_not_null(strstr(m.note, "other weights"), "%s", m.note);
    cr_assert_eq(m.curve.n, 0);
    cr_assert_eq(m.n_rows, 0);
    memprof_free(&m);
    trace_free(&t);
    (void)unlink(pack);
}

Test(tools_memprof_report, predicts_every_card_or_the_one_asked_for)
{
    char pack[TEMP_NAME];
    memprof m;
    refine_error err = { 0 };
    refine_options o = REFINE_OPTIONS_INIT;
    refine_job j = REFINE_JOB_INIT;
    tiny_pack(pack, sizeof pack, "");
    o.pack_path = pack;
    j.width = j.height = 64;
    cr_assert_eq(memprof_of_plan(&m, &o, &j, &(memprof_wish){ 0 }, &err), REFINE_OK, "%s",
                 err.text);
    cr_assert_eq(m.n_rows, CARDS);
    cr_assert_gt(m.curve.n, 2);
    cr_assert_not_null(m.result);
    memprof_free(&m);
    const memprof_wish one = { .card = card_find("4050") };
    cr_assert_eq(memprof_of_plan(&m, &o, &j, &one, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(m.n_rows, 1);
    cr_assert_str_eq(m.row[0].card.id, "4050");
    memprof_free(&m);
    o.vram_bytes = 1024;
    cr_assert_eq(memprof_of_plan(&m, &o, &j, &one, &err), REFINE_EBUDGET);
    memprof_free(&m);
    (void)unlink(pack);
}
