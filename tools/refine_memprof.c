/* tools/refine_memprof.c -- where every byte and millisecond of a run goes, and what another
 * budget or another card would make of it.
 *
 * Runs a job, reads the trace of one, or plans one; then reports.  Exit: what the job exits with;
 * else 0 done, 1 failed, 2 usage, 3 the budget cannot be met, 4 bad input file.
 */
#define _XOPEN_SOURCE 700
#include "offload/scratch_file.h"
#include "tools/arguments/memprof_arguments.h"
#include "tools/cli/exit_code.h"
#include "tools/cli/interrupt.h"
#include "tools/cli/places.h"
#include "tools/cli/program.h"
#include "tools/files/new_file.h"
#include "tools/memprof/memprof_child.h"
#include "tools/memprof/memprof_html.h"
#include "tools/memprof/memprof_json.h"
#include "tools/memprof/memprof_text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int memprof_print_error(const refine_error *err, int code)
{
    (void)fprintf(stderr, "refine-memprof: %s\n", err->text);
    return code;
}

/* ---- reporting ---- */

static int report_memprof(const memprof_arguments *a, const memprof *m)
{
    refine_error err = { 0 };
    refine_status st = a->json ? memprof_print_json(stdout, m, &err)
                               : memprof_print(stdout, m, &err);
    if (st == REFINE_OK && a->html)
        st = memprof_save_html(a->html, m, &err);
    return st == REFINE_OK ? EXIT_DONE : memprof_print_error(&err, exit_code(st, false));
}

static int report_trace(const memprof_arguments *a, const char *path)
{
    recording t;
    memprof m;
    refine_error err = { 0 };
    refine_status st = trace_read(&t, path, &err);
    if (st != REFINE_OK)
        return memprof_print_error(&err, exit_code(st, true));
    st = memprof_of_run(&m, &t, &a->wish, &err);
    const int code = st == REFINE_OK ? report_memprof(a, &m)
                                     : memprof_print_error(&err, exit_code(st, false));
    memprof_free(&m);
    trace_free(&t);
    return code;
}

/* What the user says about rates also holds for the plan itself. */
static void apply_rates(memprof_arguments *a)
{
    const card_override *w = &a->wish.with;
    const uint64_t given = a->o.vram_bytes;
    if (a->wish.card)
        card_apply(&a->o, a->wish.card, w);
    if (given)
        a->o.vram_bytes = given;
    if (w->disk > 0)
        a->o.rates.disk = w->disk * 1e9;
    if (w->link > 0)
        a->o.rates.copy = w->link * 1e9;
    if (w->tflops > 0)
        a->o.rates.linear = a->o.rates.conv = a->o.rates.attention = w->tflops * 1e12;
}

static int report_plan(memprof_arguments *a)
{
    memprof m;
    refine_error err = { 0 };
    apply_rates(a);
    const refine_status st = memprof_of_plan(&m, &a->o, &a->j, &a->wish, &err);
    const int code = st == REFINE_OK ? report_memprof(a, &m)
                                     : memprof_print_error(&err, exit_code(st, true));
    memprof_free(&m);
    return code;
}

/* ---- a job ---- */

/* A file without a name, open in the job too, so that nothing is left of it whatever becomes of
 * either. */
static refine_status open_unnamed_trace(int *fd, refine_error *err)
{
    const char *given = getenv("TMPDIR"), *dir = given && *given ? given : SCRATCH_FILE_DIR;
    *fd = scratch_file_open(dir);
    if (*fd < 0 || fcntl(*fd, F_SETFD, 0) != 0)
        return refine_fail(err, REFINE_EIO, "%s: no file can be made there: %s; set TMPDIR", dir,
                           strerror(errno));
    return REFINE_OK;
}

/* A recording appears under its name when it is complete, as a new file; one without a name is
 * empty before. */
static bool is_recorded(const struct stat *before, const struct stat *after)
{
    const bool same = before->st_dev == after->st_dev && before->st_ino == after->st_ino;
    return !same || (before->st_size == 0 && after->st_size > 0);
}

static int run_and_report(const memprof_arguments *a, const char *path)
{
    int code;
    refine_error err = { 0 };
    struct stat before = { 0 }, after = { 0 };
    (void)stat(path, &before);
    const refine_status st = child_run(&code, a->child, path, &err);
    if (st != REFINE_OK)
        return memprof_print_error(&err, exit_code(st, true));
    if (code != EXIT_DONE)
        return code;
    if (stat(path, &after) != 0 || !is_recorded(&before, &after)) {
        (void)refine_fail(&err, REFINE_EINVAL,
                          "the job recorded nothing; for a plan there is refine-memprof --plan");
        return memprof_print_error(&err, EXIT_USAGE);
    }
    return report_trace(a, path);
}

static int profile_job(const memprof_arguments *a)
{
    char path[32];
    int fd;
    refine_error err = { 0 };
    const char *named = a->trace ? a->trace : child_trace(a->child);
    interrupt_hold();
    if (named)
        return run_and_report(a, named);
    if (open_unnamed_trace(&fd, &err) != REFINE_OK)
        return memprof_print_error(&err, EXIT_FAILED);
    (void)snprintf(path, sizeof path, "/dev/fd/%d", fd);
    const int code = run_and_report(a, path);
    (void)close(fd);
    return code;
}

/* Any word of the job's may name a file of its: "-i FILE", "-iFILE", "--input=FILE". */
static void add_job(places *p, char *const argv[])
{
    static const char ROLE[] = "the job's file";
    for (int i = 1; argv[i]; i++) {
        const char *equals = strchr(argv[i], '=');
        places_add(p, PLACE_READ, ROLE, argv[i]);
        if (argv[i][0] == '-' && argv[i][1])
            places_add(p, PLACE_READ, ROLE, equals ? equals + 1 : argv[i] + 2);
    }
}

/* The report and the recording replace nothing that this program or the job reads or makes. */
static refine_status memprof_check_places(const memprof_arguments *a, refine_error *err)
{
    places p = { 0 };
    places_add(&p, PLACE_READ, "the recording (--from)", a->from);
    places_add(&p, PLACE_READ, "the model (--plan)", a->o.pack_path);
    if (a->child)
        add_job(&p, a->child);
    places_add(&p, PLACE_WRITTEN, "the report (--html)", a->html);
    places_add(&p, PLACE_WRITTEN, "the recording (--trace)", a->trace);
    places_add_open(&p, PLACE_WRITTEN, "standard output", STDOUT_FILENO);
    const refine_status st = places_check(&p, err);
    places_free(&p);
    return st;
}

/* A run may take an hour: that its report cannot be written must be known before. */
static int try_output(const memprof_arguments *a)
{
    refine_error err = { 0 };
    refine_status st = memprof_check_places(a, &err);
    if (st == REFINE_OK && a->html)
        st = new_file_try(a->html, NEW_FILE_STREAM, &err);
    return st == REFINE_OK ? EXIT_DONE : memprof_print_error(&err, exit_code(st, false));
}

static int run_memprof(int argc, char **argv)
{
    memprof_arguments a = { .o = REFINE_OPTIONS_INIT, .j = REFINE_JOB_INIT };
    int code = memprof_arguments_read(&a, argc, argv);
    if (code >= 0)
        return code;
    code = try_output(&a);
    if (code != EXIT_DONE)
        return code;
    if (a.child)
        return profile_job(&a);
    return a.from ? report_trace(&a, a.from) : report_plan(&a);
}

int main(int argc, char **argv)
{
    if (!program_begin("refine-memprof"))
        return EXIT_FAILED;
    return program_end("refine-memprof", run_memprof(argc, argv));
}
