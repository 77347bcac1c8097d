/* tests/tools/test_refine_lowmem_failures.c -- the program when it fails: its exit codes, the one
 * line that says why, nothing made. */
#define _XOPEN_SOURCE 700
#include "tests/support/lowmem_bench.h"
#include "tests/support/pack_fixture.h"
#include "tests/support/sanitized.h"
#include "tests/support/tiny_pack.h"
#include "tools/image/image_io.h"

#include <criterion/criterion.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* 260 letters: no file has such a name. */
#define TEN(x) x x x x x x x x x x
#define LONG   TEN(TEN("ab")) TEN("abcdef")

/* Whatever this build and machine lack of a GPU: a GPU of this number they do not have. */
Test(tools_refine_lowmem_failures, says_in_one_line_that_there_is_no_such_gpu)
{
    const refusal r = { 1, JOB "-o @o.png --device cuda:63", "" };
    lowmem_bench b = lowmem_bench_open();
    expect_lowmem_refusal(&b, &r);
    cr_assert_eq(lowmem_bench_close(&b), 0);
}

Test(tools_refine_lowmem_failures, refuses_wrong_usage_with_2)
{
    static const refusal REFUSALS[] = {
        { 2, "", "-m PACK" },
        { 2, "-m @ -o @o.png -p x", "a refiner needs an image or a base's latents: give -i INPUT" },
        { 2, "-m @ -i @in.png -o @o.png -p x --fit tile", "cover, contain or stretch" },
        { 2, "-m @ -o @o.png -p x --size 64x65", "multiple of 8" },
        { 2, "-m @ -i @in.png -p x", "-o OUT.png" },
        { 2, "-m @ -i @in.png -o @o.png", "-p TEXT" },
        { 2, JOB "-o @o.png stray", "'stray'" },
        { 2, JOB "-o @o.png --bogus", "--bogus" },
        { 2, JOB "-o @o.png --steps", "--steps" },
        { 2, JOB "-o @o.png --steps x", "--steps: give a number from 1 to 1000, not \"x\"" },
        { 2, JOB "-o @o.png --steps 0", "steps" },
        { 2, JOB "-o @o.png --steps 1001", "--steps" },
        { 2, JOB "-o @o.png --strength nan", "--strength" },
        { 2, JOB "-o @o.png --strength 1.5", "from 0 to 1" },
        { 2, JOB "-o @o.png --strength 0", "no step" },
        { 2, JOB "-o @o.png --denoising-start 1", "less than 1, not" },
        { 2, JOB "-o @o.png --seed -2", "not \"-2\"" },
        { 2, JOB "-o @o.png --vram 12Q", "--vram" },
        { 2, JOB "-o @o.png --threads 257", "--threads: give a number from 0 to 256" },
        { 2, JOB "-o @o.png --vram 0", "--vram" },
        { 2, JOB "-o @o.png --rng numpy", "--rng" },
        { 2, JOB "-o @o.png --scheduler ddim", "--scheduler" },
        { 2, JOB "-o @o.png --device tpu", "--device" },
        { 2, JOB "-o @o.png --device cuda:", "not \"cuda:\"" },
        { 2, JOB "-o @o.png --device cuda:-1", "--device" },
        { 2, JOB "-o @o.png --device cpu --precision fp16", "fp16 is for CUDA devices" },
        { 2, JOB "-o @o.png --precision f64", "--precision" },
        { 2, JOB "-o - --json", "stdout" },
        { 2, JOB "-o @o.png --output-latents @l.bin", ".safetensors" },
        { 2, JOB "-o @o.webp", "o.webp: images are written as PNG or JPEG" },
        { 2, JOB "-o @o.tif --plan", "end in .png or .jpg" },
        { 2, JOB "-o .", "is a directory" },
    };
    lowmem_bench b = lowmem_bench_open();
    for (size_t i = 0; i < sizeof REFUSALS / sizeof REFUSALS[0]; i++)
        expect_lowmem_refusal(&b, &REFUSALS[i]);
    cr_assert_eq(lowmem_bench_close(&b), 0);
}

Test(tools_refine_lowmem_failures, refuses_bad_files_with_4_and_says_which)
{
    static const refusal REFUSALS[] = {
        { 4, "-m @none.pack -i @in.png -o @o.png -p x", "none.pack" },
        { 4, "-m @in.png -i @in.png -o @o.png -p x", "not a pack" },
        { 4, "-m @ -i @none.png -o @o.png -p x", "none.png" },
        { 4, "-m @ -i @cut.png -o @o.png -p x", "cut.png" },
        { 4, "-m @ -i @small.png -o @o.png -p x", "at least 64 x 64" },
        { 4, "-m @ -i tests/fuzz/corpora/latents/torch.pt -o @o.png -p x", "PyTorch" },
        { 4, "-m @ -i tests/fuzz/corpora/npy/nan.npy -o @o.png -p x", "not finite" },
        { 4, "-m @ -i @ -o @o.png -p x", "no image" },
        { 4, "-m @ -i - -o @o.png -p x", "standard input: is empty" },
        { 4, "-m @ -i @in.png -o @o.png -p x --tokenizer @none.txt", "none.txt" },
    };
    lowmem_bench b = lowmem_bench_open();
    uint8_t rgb[8 * 8 * 3] = { 0 };
    size_t n;
    unsigned char *whole = temp_read(b.picture, &n);
    temp_write(bench_path(&b, "cut.png"), whole, n / 2);
    free(whole);
    cr_assert_eq(image_save(bench_path(&b, "small.png"), &(image){ 8, 8, rgb }, NULL, 0, NULL),
                 REFINE_OK);
    for (size_t i = 0; i < sizeof REFUSALS / sizeof REFUSALS[0]; i++)
        expect_lowmem_refusal(&b, &REFUSALS[i]);
    cr_assert_eq(lowmem_bench_close(&b), 2);
}

Test(tools_refine_lowmem_failures, writes_no_picture_of_numbers_that_are_not_finite)
{
    static const refusal FAILURES[] = {
        { 1, JOB "-o @o.png --precision f32 --quiet", "the decoded image is not finite" },
        { 1, JOB "-o @o.png --output-latents @l.npy --quiet", "the decoded image is not finite" },
        { 1, JOB "-o - --precision bf16 --quiet", "try --precision f32" },
    };
    lowmem_bench b = lowmem_bench_open();
    pack_fixture f = { 0 };
    (void)unlink(b.pack);
    tiny_pack(b.pack, sizeof b.pack, "--codec raw");
    f.file = temp_read(b.pack, &f.bytes);
    fixture_set_weight(&f, "vae.decoder.conv_in.weight", NAN);
    temp_write(b.pack, f.file, f.bytes);
    free(f.file);
    for (size_t i = 0; i < sizeof FAILURES / sizeof FAILURES[0]; i++)
        expect_lowmem_refusal(&b, &FAILURES[i]);
    cr_assert_eq(lowmem_bench_close(&b), 0);
}

Test(tools_refine_lowmem_failures, refuses_a_budget_with_3_and_names_one_that_will_do)
{
    lowmem_bench b = lowmem_bench_open();
    char retry[256];
    const char *const kinds[] = { "--vram", "--ram" };
    for (int i = 0; i < 2; i++) {
        char words[256];
        (void)snprintf(words, sizeof words, JOB "-o @out.png %s 64K", kinds[i]);
        expect_lowmem_refusal(&b, &(refusal){ 3, words, kinds[i] });
        lowmem_outcome o = run_refine_lowmem(&b, words);
        const char *named = strstr(o.err, kinds[i]);
        char size[32];
        cr_assert_eq(sscanf(named + strlen(kinds[i]), " %31[0-9KMGi]", size), 1, "%s", o.err);
        outcome_free(&o);
        (void)snprintf(retry, sizeof retry, JOB "-o @out.png %s %s", kinds[i], size);
        expect_lowmem_success(&b, retry);
        (void)unlink(bench_path(&b, "out.png"));
    }
    cr_assert_eq(lowmem_bench_close(&b), 0);
}

Test(tools_refine_lowmem_failures, finds_out_before_the_run_that_it_cannot_write)
{
    /* A run that began would have printed its seed, which makes two lines. */
    static const refusal REFUSALS[] = {
        { 1, UNSEEDED "-o @none/o.png", "none/o.png" },
        { 1, UNSEEDED "-o @o.png --output-latents @none/l.npy", "none/l.npy" },
        { 1, UNSEEDED "-o @o.png --trace @none/t.json", "none/t.json" },
        { 1, UNSEEDED "-o @link", "link" },
        { 1, UNSEEDED "-o @" LONG ".png", "too long" },
        { 1, "-m @ --manifest @m.jsonl -p cat --steps 10 --threads 1", "none/o.png" },
        { 1, "-m @ --manifest @long.jsonl -p cat --steps 10 --threads 1", "too long" },
    };
    lowmem_bench b = lowmem_bench_open();
    static const char MANIFEST[] = "{\"input\":\"in.png\",\"output\":\"o.png\"}\n"
                                   "{\"input\":\"in.png\",\"output\":\"none/o.png\"}\n";
    static const char LONGER[] = "{\"input\":\"in.png\",\"output\":\"o.png\"}\n"
                                 "{\"input\":\"in.png\",\"output\":\"" LONG ".png\"}\n";
    temp_write(bench_path(&b, "m.jsonl"), MANIFEST, sizeof MANIFEST - 1);
    temp_write(bench_path(&b, "long.jsonl"), LONGER, sizeof LONGER - 1);
    cr_assert_eq(symlink("none/o.png", bench_path(&b, "link")), 0);
    for (size_t i = 0; i < sizeof REFUSALS / sizeof REFUSALS[0]; i++)
        expect_lowmem_refusal(&b, &REFUSALS[i]);
    cr_assert_eq(lowmem_bench_close(&b), 3);
}

/* Runs it with so much address space. */
static lowmem_outcome run_in_space(const lowmem_bench *b, const char *words, rlim_t space)
{
    struct rlimit was;
    cr_assert_eq(getrlimit(RLIMIT_AS, &was), 0);
    const struct rlimit tight = { space, was.rlim_max };
    cr_assert_eq(setrlimit(RLIMIT_AS, &tight), 0);
    const pid_t pid = start_refine_lowmem(b, words, NULL);
    cr_assert_eq(setrlimit(RLIMIT_AS, &was), 0);
    return wait_refine_lowmem(b, pid);
}

enum { MIB = 1 << 20 };

static rlim_t space_to_start(const lowmem_bench *b)
{
    rlim_t space = 0;
    for (int code = -1; code != 0;) {
        space += 8 * MIB;
        lowmem_outcome o = run_in_space(b, "--version", space);
        code = o.code;
        outcome_free(&o);
    }
    return space;
}

/* Zeros behind an image are part of its file. */
ReleaseTest(tools_refine_lowmem_failures, reads_no_image_that_takes_more_than_may_be_had)
{
    lowmem_bench b = lowmem_bench_open();
    cr_assert_eq(truncate(bench_path(&b, "in.png"), 200 * MIB), 0);
    lowmem_outcome o = run_in_space(&b, JOB "-o @o.png --device cpu",
                                    space_to_start(&b) + 120 * MIB);
    cr_expect_eq(o.code, 3, "%s", o.err);
    cr_expect_not_null(strstr(o.err, "in.png: reading it alone takes"), "%s", o.err);
    outcome_free(&o);
    (void)lowmem_bench_close(&b);
}

/* Where all address space is taken but for a little, nobody's limit on processes is to blame. */
ReleaseTest(tools_refine_lowmem_failures, names_the_limit_on_address_space)
{
    static const char *const WORDS[] = { JOB "-o @o.png --device cpu",
                                         JOB "-o @o.png --device cpu --plan",
                                         JOB "-o @o.png --device cpu --vram 2G --ram 2G",
                                         JOB "-o @o.png --device cpu --threads 64" };
    lowmem_bench b = lowmem_bench_open();
    const rlim_t starts = space_to_start(&b);
    for (rlim_t more = 8 * MIB; more <= 24 * MIB; more += 8 * MIB)
        for (size_t i = 0; i < sizeof WORDS / sizeof WORDS[0]; i++) {
            lowmem_outcome o = run_in_space(&b, WORDS[i], starts + more);
            cr_expect_eq(o.code, 3, "%s: %d", WORDS[i], o.code);
            cr_expect_not_null(strstr(o.err, "address space (ulimit -v)"), "%s: %s", WORDS[i],
                               o.err);
            outcome_free(&o);
        }
    cr_assert_eq(lowmem_bench_close(&b), 0);
}

/* The one line of a run that failed names the file that holds its image: that becomes `name`. */
static void take_saved_elsewhere(const lowmem_bench *b, pid_t pid, const char *says,
                                 const char *name)
{
    int status;
    size_t n;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    char *err = read_terminated_text(bench_path(b, "stderr"), &n);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1, "%d: %s", status, err);
    char *kept = strstr(err, says), *end;
    kept = kept ? strstr(kept, "kept as ") : NULL;
    cr_assert_not_null(kept, "%s", err);
    kept += strlen("kept as ");
    end = strchr(kept, '\n');
    cr_assert_not_null(end, "%s", err);
    *end = '\0';
    cr_assert_eq(rename(kept, bench_path(b, name)), 0, "%s", kept);
    free(err);
}

/* A job of an hour is not lost with the place that it was to go to. */
Test(tools_refine_lowmem_failures, saves_elsewhere_what_cannot_be_written)
{
    lowmem_bench b = lowmem_bench_open();
    cr_assert_eq(mkdir(bench_path(&b, "tmp"), 0700), 0);
    cr_assert_eq(setenv("TMPDIR", bench_path(&b, "tmp"), 1), 0);
    take_saved_elsewhere(&b, start_refine_lowmem(&b, JOB "-o /dev/full", NULL),
                         "/dev/full: the disk is full", "kept.png");
    (void)unlink(bench_path(&b, "stdout"));
    cr_assert_eq(symlink("/dev/full", bench_path(&b, "stdout")), 0);
    take_saved_elsewhere(&b, start_refine_lowmem(&b, JOB "-o -", NULL),
                         "standard output: the disk is full", "piped.png");
    (void)unlink(bench_path(&b, "stdout"));
    cr_assert_eq(unsetenv("TMPDIR"), 0);
    cr_assert_eq(rmdir(bench_path(&b, "tmp")), 0);
    expect_lowmem_success(&b, JOB "-o @o.png");
    cr_assert(is_bench_file_equal(&b, "kept.png", "o.png"));
    cr_assert(is_bench_file_equal(&b, "piped.png", "o.png"));
    cr_assert_eq(lowmem_bench_close(&b), 3);
}

#define LISTED "-m @ -p cat --steps 5 --strength 0.2 --manifest @list --threads 1 --json "

/* The first is kept elsewhere; the second goes to another file system. */
Test(tools_refine_lowmem_failures, makes_what_can_be_written_beside_a_full_place)
{
    static const char LIST[] = "{\"input\": \"in.png\", \"output\": \"/dev/full\"}\n"
                               "{\"input\": \"in.png\", \"output\": \"b.png\"}\n";
    lowmem_bench b = lowmem_bench_open();
    cr_assert_eq(mkdir(bench_path(&b, "tmp"), 0700), 0);
    cr_assert_eq(setenv("TMPDIR", bench_path(&b, "tmp"), 1), 0);
    temp_write(bench_path(&b, "list"), LIST, strlen(LIST));
    lowmem_outcome o = run_refine_lowmem(&b, LISTED "--batch 1");
    cr_expect_eq(o.code, 1, "%d: %s", o.code, o.err);
    cr_expect(strstr(o.err, "/dev/full: the disk is full") && strstr(o.err, "kept as ") &&
                  strstr(o.err, "1 made, 0 there already, 1 failed, of 2"),
              "%s", o.err);
    cr_expect_not_null(strstr(o.out, "/dev/full\",\n \"error\""), "%s", o.out);
    cr_expect_eq(access(bench_path(&b, "b.png"), F_OK), 0);
    outcome_free(&o);
    (void)lowmem_bench_close(&b);
}

/* None can be written that is larger. */
static lowmem_outcome run_with_small_files(const lowmem_bench *b, const char *words)
{
    struct rlimit was;
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &was), 0);
    const struct rlimit tight = { 4096, was.rlim_max };
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &tight), 0);
    const pid_t pid = start_refine_lowmem(b, words, NULL);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &was), 0);
    return wait_refine_lowmem(b, pid);
}

/* Each of them may be an hour's work.  With two together the second, of another shape, is read
 * before the first is written. */
Test(tools_refine_lowmem_failures, makes_no_more_images_for_a_place_that_is_full)
{
    static const char LIST[] = "{\"input\": \"in.png\", \"output\": \"a.png\"}\n"
                               "{\"input\": \"in.png\", \"output\": \"b.png\", \"steps\": 6}\n";
    static const char *const WORDS[] = { LISTED "--batch 1", LISTED "--batch 2" };
    lowmem_bench b = lowmem_bench_open();
    temp_write(bench_path(&b, "list"), LIST, strlen(LIST));
    for (size_t i = 0; i < 2; i++) {
        lowmem_outcome o = run_with_small_files(&b, WORDS[i]);
        cr_expect_eq(o.code, 1, "%d: %s", o.code, o.err);
        cr_expect(
            strstr(o.err, "b.png: is not made, as another image could not be written there") &&
                strstr(o.err, "0 made, 0 there already, 2 failed, of 2"),
            "%s", o.err);
        cr_expect_not_null(strstr(o.out, "b.png\",\n \"error\""), "%s", o.out);
        outcome_free(&o);
    }
    (void)lowmem_bench_close(&b);
}

/* A seed that was not given is printed when everything is open and the run begins. */
static lowmem_outcome interrupt_once_begun(const lowmem_bench *b, pid_t pid)
{
    const struct timespec nap = { 0, 20000000 };
    bool begun = false;
    for (int i = 0; i < 3000 && !begun; i++) {
        size_t n;
        char *err = read_terminated_text(bench_path(b, "stderr"), &n);
        begun = strstr(err, "seed ");
        free(err);
        (void)nanosleep(&nap, NULL);
    }
    cr_assert(begun);
    cr_assert_eq(kill(pid, SIGINT), 0);
    return wait_refine_lowmem(b, pid);
}

Test(tools_refine_lowmem_failures, says_first_that_a_run_will_take_hours_and_how_to_shorten_it)
{
    lowmem_bench b = lowmem_bench_open();
    lowmem_outcome o = interrupt_once_begun(
        &b, start_refine_lowmem(&b, "-m @ -i @in.png -o @out.png -p cat --limit-copy 4K", NULL));
    cr_expect(strncmp(o.err, "about ", 6) == 0, "%s", o.err);
    cr_expect(strstr(o.err, " hours predicted; a smaller --size"), "%s", o.err);
    outcome_free(&o);
    cr_assert_eq(lowmem_bench_close(&b), 0);
}

/* The copying of the weights alone takes somewhat less than two minutes.  A device that was not
 * asked for is one to know of before that. */
Test(tools_refine_lowmem_failures, says_before_a_long_run_in_plain_digits_what_it_will_be)
{
    lowmem_bench b = lowmem_bench_open();
    lowmem_outcome o = interrupt_once_begun(
        &b, start_refine_lowmem(&b, UNSEEDED "-o @out.png --limit-copy 180K", NULL));
    cr_expect(strncmp(o.err, "about ", 6) == 0, "%s", o.err);
    cr_expect_eq(strspn(o.err + 6, "0123456789."), strcspn(o.err + 6, " "), "%s", o.err);
    lowmem_outcome whole = run_refine_lowmem(&b, JOB "-o @out.png");
    cr_assert_eq(whole.code, 0, "%s", whole.err);
    cr_expect_eq(!strstr(o.err, "refine-lowmem: on the CPU: "),
                 !strstr(whole.err, "refine-lowmem: on the CPU: "), "%s", o.err);
    outcome_free(&o);
    outcome_free(&whole);
    (void)lowmem_bench_close(&b);
}

Test(tools_refine_lowmem_failures, stops_cleanly_when_interrupted)
{
    lowmem_bench b = lowmem_bench_open();
    temp_write(bench_path(&b, "out.png"), "old", 3);
    const pid_t pid = start_refine_lowmem(
        &b,
        "-m @ -i @in.png -o @out.png -p cat --steps 1000 --strength 1 "
        "--threads 1",
        NULL);
    lowmem_outcome o = interrupt_once_begun(&b, pid);
    cr_assert_eq(o.code, 128 + SIGINT, "%d: %s", o.code, o.err);
    cr_assert_not_null(strstr(o.err, "interrupted"), "%s", o.err);
    cr_assert_str_eq(o.out, "");
    outcome_free(&o);
    size_t n;
    char *kept = read_terminated_text(bench_path(&b, "out.png"), &n);
    cr_assert_str_eq(kept, "old");
    free(kept);
    cr_assert_eq(lowmem_bench_close(&b), 1);
}

Test(tools_refine_lowmem_failures, says_that_standard_output_is_full)
{
    static const char *const WORDS[] = { "--help",
                                         "--version",
                                         JOB "-o @o.png --plan",
                                         JOB "-o @o.png --plan --json",
                                         JOB "-o @o.png --json",
                                         JOB "-o @o.png --compare @" };
    lowmem_bench b = lowmem_bench_open();
    for (size_t i = 0; i < sizeof WORDS / sizeof WORDS[0]; i++) {
        (void)unlink(bench_path(&b, "stdout"));
        cr_assert_eq(symlink("/dev/full", bench_path(&b, "stdout")), 0);
        const pid_t pid = start_refine_lowmem(&b, WORDS[i], NULL);
        int status;
        size_t n;
        cr_assert_eq(waitpid(pid, &status, 0), pid);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1, "%s: %d", WORDS[i], status);
        char *err = read_terminated_text(bench_path(&b, "stderr"), &n);
        cr_assert_not_null(strstr(err, "refine-lowmem: standard output: cannot be written"),
                           "%s: %s", WORDS[i], err);
        free(err);
    }
    (void)unlink(bench_path(&b, "stdout"));
    temp_write(bench_path(&b, "stdout"), "", 0);
    (void)unlink(bench_path(&b, "o.png"));
    cr_assert_eq(lowmem_bench_close(&b), 0);
}
