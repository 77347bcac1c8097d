/* tests/tools/test_refine_memprof.c -- the program as a script sees it: its three ways of use,
 * exit codes, files made and not made. */
#define _XOPEN_SOURCE 700
#include "tests/support/temp_file.h"
#include "tests/support/tiny_pack.h"
#include "tests/support/trace_fixture.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LINE = 2048 };

typedef struct memprof_bench {
    char pack[TEMP_NAME], trace[TEMP_NAME], html[TEMP_NAME], out[TEMP_NAME], err[TEMP_NAME];
} memprof_bench;

static void memprof_bench_open(memprof_bench *b)
{
    tiny_pack(b->pack, sizeof b->pack, "");
    temp_file(b->trace, ".json");
    temp_file(b->html, ".html");
    temp_file(b->out, ".out");
    temp_file(b->err, ".err");
    (void)unlink(b->html);
}

static void memprof_bench_close(memprof_bench *b)
{
    const char *const names[] = { b->pack, b->trace, b->html, b->out, b->err };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        (void)unlink(names[i]);
}

/* Runs the program with these words; its exit code. */
static int run_refine_memprof(const memprof_bench *b, const char *words)
{
    char command[LINE];
    const char *bin = getenv("REFINE_BIN");
    (void)snprintf(command, sizeof command, "%s/refine-memprof %s >%s 2>%s",
                   bin ? bin : "build/release/bin", words, b->out, b->err);
    const int status = system(command);
    cr_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static char *text_of(const char *name)
{
    size_t len;
    char *text = (char *)temp_read(name, &len);
    text = realloc(text, len + 1);
    text[len] = '\0';
    return text;
}

/* One line, with the program's name. */
static void expect_error(const memprof_bench *b, const char *part)
{
    char *text = text_of(b->err);
    cr_assert_eq(strncmp(text, "refine-memprof: ", 16), 0, "%s", text);
    cr_assert_eq(strchr(text, '\n'), text + strlen(text) - 1, "%s", text);
    cr_assert_not_null(strstr(text, part), "no '%s' in %s", part, text);
    free(text);
}

static void expect_out(const memprof_bench *b, const char *part)
{
    char *text = text_of(b->out);
    cr_assert_not_null(strstr(text, part), "no '%s' in %s", part, text);
    free(text);
}

Test(tools_refine_memprof, explains_itself)
{
    memprof_bench b;
    memprof_bench_open(&b);
    cr_assert_eq(run_refine_memprof(&b, "--help"), 0);
    expect_out(&b, "Examples:");
    cr_assert_eq(run_refine_memprof(&b, "--version"), 0);
    expect_out(&b, "refine-memprof ");
    memprof_bench_close(&b);
}

Test(tools_refine_memprof, refuses_what_makes_no_sense)
{
    static const struct {
        const char *words, *why;
    } CASES[] = {
        { "", "give one of" },
        { "--from a --plan b", "give one of" },
        { "--from a -- refine-lowmem", "give one of" },
        { "--from a --trace b", "--trace records a job" },
        { "--from a --size 64x64", "--size is for --plan" },
        { "--plan a --size 64", "--size: give a size such as" },
        { "--plan a --size 0x64", "--size: give " },
        { "--plan a --vram much", "--vram: give " },
        { "--plan a --card 4090", "--card: give " },
        { "--plan a --link 0", "--link: give " },
        { "--plan a --disk nan", "--disk: give " },
        { "--plan a --tflops 1e30", "--tflops: give " },
        { "--plan a --steps 0", "--steps: give " },
        { "-- refine-lowmem --json", "stdout" },
        { "-- refine-lowmem -o -", "stdout" },
        { "--trace a -- refine-lowmem --trace b", "given twice" },
        { "-- no-such-program-anywhere", "no-such-program-anywhere" },
        { "--html /nowhere/a.html --from x", "/nowhere/a.html" },
    };
    memprof_bench b;
    memprof_bench_open(&b);
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        const int code = run_refine_memprof(&b, CASES[i].words);
        cr_assert_eq(code, strstr(CASES[i].words, "/nowhere/") ? 1 : 2, "%s: %d", CASES[i].words,
                     code);
        expect_error(&b, CASES[i].why);
    }
    memprof_bench_close(&b);
}

Test(tools_refine_memprof, reports_a_recorded_run)
{
    memprof_bench b;
    char words[LINE];
    memprof_bench_open(&b);
    (void)snprintf(words, sizeof words, "--from %s --html %s", TRACE_FIXTURE, b.html);
    cr_assert_eq(run_refine_memprof(&b, words), 0);
    expect_out(&b, "roofline while denoising, 5.00 s; bound by compute");
    cr_assert_eq(access(b.html, R_OK), 0);
    (void)snprintf(words, sizeof words, "--from %s --json", TRACE_FIXTURE);
    cr_assert_eq(run_refine_memprof(&b, words), 0);
    json_t *o = json_load_file(b.out, 0, NULL);
    cr_assert_eq(json_array_size(json_object_get(o, "layers")), 3u);
    json_decref(o);
    memprof_bench_close(&b);
}

Test(tools_refine_memprof, calls_a_bad_trace_by_its_name)
{
    memprof_bench b;
    char words[LINE];
    memprof_bench_open(&b);
    cr_assert_eq(run_refine_memprof(&b, "--from /nowhere/x.json"), 4);
    expect_error(&b, "/nowhere/x.json");
    temp_write(b.trace, "[1,2", 4);
    (void)snprintf(words, sizeof words, "--from %s --html %s", b.trace, b.html);
    cr_assert_eq(run_refine_memprof(&b, words), 4);
    expect_error(&b, b.trace);
    cr_assert_neq(access(b.html, F_OK), 0);
    memprof_bench_close(&b);
}

Test(tools_refine_memprof, plans_without_running)
{
    memprof_bench b;
    char words[LINE];
    memprof_bench_open(&b);
    (void)snprintf(words, sizeof words, "--plan %s --size 64x64 --html %s", b.pack, b.html);
    cr_assert_eq(run_refine_memprof(&b, words), 0);
    expect_out(&b, "budget curve (prediction)");
    expect_out(&b, "RTX 4050 M");
    expect_out(&b, "GTX 1650 Ti");
    (void)snprintf(words, sizeof words, "--plan %s --size 64x64 --card 4050 --link 3", b.pack);
    cr_assert_eq(run_refine_memprof(&b, words), 0);
    char *text = text_of(b.out);
    cr_assert_null(strstr(text, "GTX 1650 Ti"));
    free(text);
    (void)snprintf(words, sizeof words, "--plan %s --size 64x64 --vram 64K", b.pack);
    cr_assert_eq(run_refine_memprof(&b, words), 3);
    expect_error(&b, "at least");
    cr_assert_eq(run_refine_memprof(&b, "--plan /nowhere/x.pack"), 4);
    memprof_bench_close(&b);
}

Test(tools_refine_memprof, runs_a_job_and_reports_it)
{
    memprof_bench b;
    char words[LINE], input_image[TEMP_NAME];
    memprof_bench_open(&b);
    temp_file(input_image, ".png");
    (void)unlink(b.trace);
    (void)snprintf(words, sizeof words,
                   "--html %s --trace %s --json -- refine-lowmem -m %s -i docs/sample/coffee.jpg "
                   "-o %s -p cup --strength 0.1 --steps 20 --quiet",
                   b.html, b.trace, b.pack, input_image);
    cr_assert_eq(run_refine_memprof(&b, words), 0);
    json_t *o = json_load_file(b.out, 0, NULL);
    cr_assert_not_null(o);
    cr_assert_gt(json_array_size(json_object_get(o, "curve")), 2u);
    cr_assert_gt(json_array_size(json_object_get(o, "layers")), 10u);
    cr_assert_str_eq(json_string_value(json_object_get(o, "note")), "");
    json_decref(o);
    cr_assert_eq(access(b.trace, R_OK), 0);
    cr_assert_eq(access(b.html, R_OK), 0);
    (void)unlink(input_image);
    memprof_bench_close(&b);
}

/* A job that leaves a new recording. */
#define RECORDS "tests/tools/child.sh \"cp $TRACE \\$2.x; mv \\$2.x \\$2\""

/* TRACE and its other name LINK, PACK and PHOTO are in the environment of the words. */
Test(tools_refine_memprof, replaces_nothing_that_it_or_the_job_reads)
{
    static const struct {
        const char *words, *why;
    } CASES[] = {
        { "--from $TRACE --html $TRACE", " would replace the recording (--from) " },
        { "--from $TRACE --html $LINK", " would replace the recording (--from) " },
        { "--from $LINK --html $TRACE", " would replace the recording (--from) " },
        { "--plan $PACK --size 64x64 --html $PACK", " would replace the model (--plan) " },
        { "--html $PHOTO -- " RECORDS " -i $PHOTO", "the report (--html) " },
        { "--html $PHOTO -- " RECORDS " -i$PHOTO", " would replace the job's file " },
        { "--html $PHOTO -- " RECORDS " --input=$PHOTO", " would replace the job's file " },
        { "--trace $PHOTO -- " RECORDS " -i $PHOTO", "the recording (--trace) " },
        { "--html $NEW --trace $NEW -- " RECORDS "", " are one file; give each its own" },
        { "--html $NEW -- " RECORDS " --trace $NEW", " would replace the job's file " },
    };
    memprof_bench b;
    memprof_bench_open(&b);
    char photo[TEMP_NAME], new[TEMP_NAME];
    size_t len[3];
    temp_file(photo, ".png");
    temp_file(new, ".new");
    (void)unlink(new);
    unsigned char *fixture = temp_read(TRACE_FIXTURE, &len[0]);
    temp_write(b.trace, fixture, len[0]);
    temp_write(photo, "a photo", 7);
    free(fixture);
    cr_assert_eq(link(b.trace, b.html), 0);
    cr_assert(setenv("TRACE", b.trace, 1) == 0 && setenv("LINK", b.html, 1) == 0 &&
              setenv("PACK", b.pack, 1) == 0 && setenv("PHOTO", photo, 1) == 0 &&
              setenv("NEW", new, 1) == 0);
    const char *const names[] = { b.trace, b.pack, photo };
    unsigned char *was[3];
    for (int i = 0; i < 3; i++)
        was[i] = temp_read(names[i], &len[i]);
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        cr_expect_eq(run_refine_memprof(&b, CASES[i].words), 2, "%s", CASES[i].words);
        expect_error(&b, CASES[i].why);
        for (int k = 0; k < 3; k++) {
            size_t now;
            unsigned char *is = temp_read(names[k], &now);
            cr_expect(now == len[k] && memcmp(is, was[k], now) == 0, "%s: %s was replaced",
                      CASES[i].words, names[k]);
            free(is);
        }
        cr_expect_neq(access(new, F_OK), 0, "%s", CASES[i].words);
    }
    for (int i = 0; i < 3; i++)
        free(was[i]);
    (void)unlink(photo);
    memprof_bench_close(&b);
}

Test(tools_refine_memprof, hands_on_how_a_job_failed)
{
    memprof_bench b;
    char words[LINE];
    memprof_bench_open(&b);
    cr_assert_eq(run_refine_memprof(&b, "-- refine-lowmem --nonsense"), 2);
    (void)snprintf(words, sizeof words,
                   "-- refine-lowmem -m %s -i docs/sample/coffee.jpg -o /dev/null/x.png -p cup "
                   "--vram 64K",
                   b.pack);
    cr_assert_neq(run_refine_memprof(&b, words), 0);
    (void)snprintf(words, sizeof words, "-- refine-lowmem -m %s -i docs/sample/coffee.jpg --plan",
                   b.pack);
    cr_assert_eq(run_refine_memprof(&b, words), 2);
    expect_error(&b, "recorded nothing");
    memprof_bench_close(&b);
}

Test(tools_refine_memprof, says_that_standard_output_is_full)
{
    static const char *const WORDS[] = { "--help", "--from " TRACE_FIXTURE,
                                         "--json --from " TRACE_FIXTURE };
    memprof_bench b;
    memprof_bench_open(&b);
    for (size_t i = 0; i < sizeof WORDS / sizeof WORDS[0]; i++) {
        (void)unlink(b.out);
        cr_assert_eq(symlink("/dev/full", b.out), 0);
        cr_assert_eq(run_refine_memprof(&b, WORDS[i]), 1, "%s", WORDS[i]);
        expect_error(&b, "standard output: cannot be written");
    }
    memprof_bench_close(&b);
}
