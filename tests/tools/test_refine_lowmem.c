/* tests/tools/test_refine_lowmem.c -- the program as a script sees it: exit codes, what goes to
 * stdout and what to stderr, files made and not made. */
#define _XOPEN_SOURCE 700
#include "tests/support/pack_fixture.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_pack.h"
#include "tools/files/latents_io.h"
#include "tools/image/image_io.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <png.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PATH = 512, ARGS_MAX = 48, W = 101, H = 67, FIT_W = 96, FIT_H = 64 };
static const float FACTOR = 0.13025f;

/* A directory of our own with a pack and an image in it; everything is made there. */
typedef struct lowmem_bench {
    char dir[TEMP_NAME], pack[TEMP_NAME], picture[PATH];
} lowmem_bench;

/* What a finished program left behind. */
typedef struct lowmem_outcome {
    int code;        /* 128 + signal when one ended it */
    char *out, *err; /* zero-terminated; owned */
    size_t out_len;
} lowmem_outcome;

/* dir/name, in one of a few buffers that are used in turn. */
static const char *bench_path(const lowmem_bench *b, const char *name)
{
    static char buffers[8][PATH];
    static int turn;
    char *p = buffers[turn++ % 8];
    (void)snprintf(p, PATH, "%s/%s", b->dir, name);
    return p;
}

static lowmem_bench lowmem_bench_open(void)
{
    static uint8_t rgb[W * H * 3];
    const char *tmp = getenv("TMPDIR");
    lowmem_bench b;
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++)
            for (int c = 0; c < 3; c++)
                rgb[(y * W + x) * 3 + c] = (uint8_t)(x * 2 + y * (c + 1));
    (void)snprintf(b.dir, sizeof b.dir, "%s/refine-lowmem-XXXXXX", tmp ? tmp : "/tmp");
    cr_assert_not_null(mkdtemp(b.dir));
    tiny_pack(b.pack, sizeof b.pack, "");
    (void)snprintf(b.picture, sizeof b.picture, "%s/in.png", b.dir);
    cr_assert_eq(image_save_png(b.picture, &(image){ W, H, rgb }, NULL, 0, NULL), REFINE_OK);
    return b;
}

/* Removes what is left; how many files there were beside the image. */
static int lowmem_bench_close(lowmem_bench *b)
{
    DIR *d = opendir(b->dir);
    int n = 0;
    for (struct dirent *e = readdir(d); e; e = readdir(d))
        if (e->d_name[0] != '.') {
            n += strcmp(e->d_name, "in.png") != 0 && strcmp(e->d_name, "stdout") != 0 &&
                 strcmp(e->d_name, "stderr") != 0;
            (void)unlink(bench_path(b, e->d_name));
        }
    (void)closedir(d);
    (void)rmdir(b->dir);
    (void)unlink(b->pack);
    return n;
}

/* Starts the program on `words`, split at single spaces; "@x" is the bench's x, "@" its pack. */
static pid_t start_refine_lowmem(const lowmem_bench *b, const char *words, const char *input)
{
    char text[1024], program[PATH], paths[ARGS_MAX][PATH], *argv[ARGS_MAX];
    const char *bin = getenv("REFINE_BIN");
    int n = 0;

    (void)snprintf(program, sizeof program, "%s/refine-lowmem", bin ? bin : "build/release/bin");
    (void)snprintf(text, sizeof text, "%s", words);
    argv[n++] = program;
    for (char *p = text, *space; *p; p = space ? space + 1 : p + strlen(p)) {
        space = strchr(p, ' ');
        if (space)
            *space = 0;
        cr_assert_lt(n, ARGS_MAX - 1);
        argv[n] = p;
        if (p[0] == '@') {
            (void)snprintf(paths[n], PATH, "%s", p[1] ? bench_path(b, p + 1) : b->pack);
            argv[n] = paths[n];
        }
        n++;
    }
    argv[n] = NULL;
    const int fds[3] = { open(input ? input : "/dev/null", O_RDONLY),
                         open(bench_path(b, "stdout"), O_WRONLY | O_CREAT | O_TRUNC, 0600),
                         open(bench_path(b, "stderr"), O_WRONLY | O_CREAT | O_TRUNC, 0600) };
    const pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < 3; i++)
            (void)dup2(fds[i], i);
        (void)execv(program, argv);
        _exit(127);
    }
    for (int i = 0; i < 3; i++)
        (void)close(fds[i]);
    cr_assert_gt(pid, 0);
    return pid;
}

static char *read_terminated_text(const char *name, size_t *len)
{
    unsigned char *p = temp_read(name, len);
    char *text = calloc(*len + 1, 1);
    memcpy(text, p, *len);
    free(p);
    return text;
}

static lowmem_outcome wait_refine_lowmem(const lowmem_bench *b, pid_t pid)
{
    lowmem_outcome o;
    int status;
    size_t n;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    o.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    o.out = read_terminated_text(bench_path(b, "stdout"), &o.out_len);
    o.err = read_terminated_text(bench_path(b, "stderr"), &n);
    return o;
}

static lowmem_outcome run_refine_lowmem(const lowmem_bench *b, const char *words)
{
    return wait_refine_lowmem(b, start_refine_lowmem(b, words, NULL));
}

static void outcome_free(lowmem_outcome *o)
{
    free(o->out);
    free(o->err);
}

static void expect_lowmem_success(const lowmem_bench *b, const char *words)
{
    lowmem_outcome o = run_refine_lowmem(b, words);
    cr_assert_eq(o.code, 0, "%s: %d: %s", words, o.code, o.err);
    outcome_free(&o);
}

static bool is_bench_file_equal(const lowmem_bench *b, const char *one, const char *other)
{
    size_t n, m;
    unsigned char *p = temp_read(bench_path(b, one), &n), *q = temp_read(bench_path(b, other), &m);
    const bool same = n == m && memcmp(p, q, n) == 0;
    free(p);
    free(q);
    return same;
}

/* The image's bytes; the text chunks differ where options do. */
static bool same_picture(const lowmem_bench *b, const char *one, const char *other)
{
    image p, q;
    cr_assert_eq(image_load(&p, bench_path(b, one), NULL), REFINE_OK);
    cr_assert_eq(image_load(&q, bench_path(b, other), NULL), REFINE_OK);
    const bool same = p.width == q.width && p.height == q.height &&
                      memcmp(p.rgb, q.rgb, (size_t)(p.width * p.height * 3)) == 0;
    image_free(&p);
    image_free(&q);
    return same;
}

#define UNSEEDED "-m @ -i @in.png -p cat --steps 10 --threads 1 "
#define JOB      UNSEEDED "--seed 7 "

/* ---- a run ---- */

/* The value of a text chunk, to be freed; NULL: there is none. */
static char *png_text_of(const char *name, const char *key)
{
    FILE *f = fopen(name, "rb");
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_textp text;
    char *value = NULL;
    int n;
    png_init_io(png, f);
    png_read_info(png, info);
    png_get_text(png, info, &text, &n);
    for (int i = 0; i < n; i++)
        if (strcmp(text[i].key, key) == 0)
            value = strdup(text[i].text);
    png_destroy_read_struct(&png, &info, NULL);
    (void)fclose(f);
    return value;
}

Test(tools_refine_lowmem, refines_a_picture_and_writes_in_it_how)
{
    static const char *const TEXTS[][2] = {
        { "prompt", "caf\xc3\xa9" },
        { "negative_prompt", "blurry" },
        { "seed", "7" },
        { "steps", "10" },
        { "strength", "0.4" },
        { "guidance", "3.5" },
        { "rng", "philox" },
        { "scheduler", "euler" },
        { "aesthetic_scores", "7, 1" },
    };
    lowmem_bench b = lowmem_bench_open();
    image im;
    lowmem_outcome o = run_refine_lowmem(
        &b, "-m @ -i @in.png -o @out.png -p caf\xc3\xa9 -n blurry --steps 10 --seed 7 "
            "--strength 0.4 --guidance 3.5 --rng philox --aesthetic-score 7 "
            "--negative-aesthetic-score 1 --threads 1");
    cr_assert_eq(o.code, 0, "%s", o.err);
    cr_assert_str_eq(o.out, "");
    cr_assert_not_null(strstr(o.err, "4 steps in"), "%s", o.err);
    outcome_free(&o);
    cr_assert_eq(image_load(&im, bench_path(&b, "out.png"), NULL), REFINE_OK);
    cr_assert(im.width == FIT_W && im.height == FIT_H, "%d x %d", im.width, im.height);
    image_free(&im);
    for (size_t i = 0; i < sizeof TEXTS / sizeof TEXTS[0]; i++) {
        char *value = png_text_of(bench_path(&b, "out.png"), TEXTS[i][0]);
        cr_assert_not_null(value, "%s is missing", TEXTS[i][0]);
        cr_assert_str_eq(value, TEXTS[i][1], "%s: %s", TEXTS[i][0], value);
        free(value);
    }
    cr_assert_eq(lowmem_bench_close(&b), 1);
}

static void has_numbers(const json_t *o, const char *object, const char *keys)
{
    const json_t *inner = json_object_get(o, object);
    char text[256];
    cr_assert(json_is_object(inner), "%s", object);
    (void)snprintf(text, sizeof text, "%s", keys);
    for (char *p = text, *space; *p; p = space ? space + 1 : p + strlen(p)) {
        space = strchr(p, ' ');
        if (space)
            *space = 0;
        cr_assert(json_is_number(json_object_get(inner, p)), "%s.%s", object, p);
    }
}

static json_t *json_of(const lowmem_outcome *o)
{
    json_error_t e;
    json_t *j = json_loads(o->out, 0, &e);
    cr_assert_not_null(j, "%s: %s", e.text, o->out);
    return j;
}

static json_int_t int_of(const json_t *o, const char *object, const char *key)
{
    return json_integer_value(json_object_get(json_object_get(o, object), key));
}

static const char *string_of(const json_t *o, const char *object, const char *key)
{
    const char *s = json_string_value(json_object_get(json_object_get(o, object), key));
    return s ? s : "(none)";
}

Test(tools_refine_lowmem, prints_the_result_that_scripts_rely_on)
{
    lowmem_bench b = lowmem_bench_open();
    lowmem_outcome o = run_refine_lowmem(&b, JOB
                                         "-o @out.png --strength 0.4 --vram 48M --json --quiet");
    cr_assert_eq(o.code, 0, "%s", o.err);
    cr_assert_str_eq(o.err, "");
    json_t *j = json_of(&o);
    cr_assert_str_eq(json_string_value(json_object_get(j, "output")), bench_path(&b, "out.png"));
    cr_assert(json_is_string(json_object_get(j, "version")));
    cr_assert(json_is_string(json_object_get(j, "device")));
    cr_assert(json_is_string(json_object_get(j, "precision")));
    cr_assert_eq(json_integer_value(json_object_get(j, "width")), FIT_W);
    cr_assert_eq(json_integer_value(json_object_get(j, "height")), FIT_H);
    cr_assert_eq(json_integer_value(json_object_get(j, "images")), 1);
    cr_assert_eq(json_integer_value(json_object_get(j, "steps_run")), 4);
    has_numbers(j, "seconds", "total open text vae_encode unet vae_decode first_step step_median");
    has_numbers(j, "memory",
                "device_planned device_peak device_limit host_planned host_peak "
                "host_limit ring resident activations");
    has_numbers(j, "io", "disk_bytes disk_bytes_per_step copy_bytes_per_step disk_rate copy_rate");
    has_numbers(j, "stall", "share disk decode copy");
    cr_assert(json_is_object(json_object_get(j, "predicted")));
    cr_assert_eq(json_array_size(json_object_get(json_object_get(j, "seconds"), "steps")), 4u);
    cr_assert_str_neq(string_of(j, "io", "reader"), "");
    cr_assert_str_eq(string_of(j, "run", "prompt"), "cat");
    cr_assert_eq(int_of(j, "run", "seed"), 7);
    cr_assert_eq(strlen(string_of(j, "run", "source_hash")), 16u);
    cr_assert_eq(int_of(j, "memory", "device_limit"), 48 << 20);
    cr_assert_leq(int_of(j, "memory", "device_peak"), int_of(j, "memory", "device_planned"));
    cr_assert_leq(int_of(j, "memory", "device_planned"), 48 << 20);
    json_decref(j);
    outcome_free(&o);
    (void)lowmem_bench_close(&b);
}

Test(tools_refine_lowmem, plans_without_making_anything)
{
    lowmem_bench b = lowmem_bench_open();
    lowmem_outcome o = run_refine_lowmem(&b, "-m @ -i @in.png --plan --vram 48M");
    cr_assert_eq(o.code, 0, "%s", o.err);
    cr_assert_not_null(strstr(o.out, "MiB of 48.0"), "%s", o.out);
    cr_assert_str_eq(o.err, "");
    outcome_free(&o);

    o = run_refine_lowmem(&b, JOB "-o @out.png --plan --json");
    cr_assert_eq(o.code, 0, "%s", o.err);
    json_t *j = json_of(&o);
    has_numbers(j, "memory", "device_planned device_limit host_planned host_limit ring resident");
    cr_assert(json_is_object(json_object_get(j, "predicted")));
    cr_assert_null(json_object_get(j, "seconds"));
    cr_assert_null(json_object_get(j, "stall"));
    cr_assert_null(json_object_get(json_object_get(j, "memory"), "device_peak"));
    json_decref(j);
    outcome_free(&o);
    cr_assert_eq(lowmem_bench_close(&b), 0);
}

/* ---- failing ---- */

typedef struct refusal {
    int code;
    const char *words, *says;
} refusal;

static void expect_lowmem_refusal(const lowmem_bench *b, const refusal *r)
{
    lowmem_outcome o = run_refine_lowmem(b, r->words);
    cr_assert_eq(o.code, r->code, "%s: %d: %s", r->words, o.code, o.err);
    cr_assert_str_eq(o.out, "", "%s: %s", r->words, o.out);
    const char *line = strchr(o.err, '\n');
    cr_assert(line && line[1] == 0, "%s: not one line: %s", r->words, o.err);
    cr_assert_not_null(strstr(o.err, "refine-lowmem: "), "%s: %s", r->words, o.err);
    cr_assert_not_null(strstr(o.err, r->says), "%s: %s", r->words, o.err);
    outcome_free(&o);
}

/* Whatever this build and machine lack of a GPU: a GPU of this number they do not have. */
Test(tools_refine_lowmem, says_in_one_line_that_there_is_no_such_gpu)
{
    const refusal r = { 1, JOB "-o @o.png --device cuda:63", "" };
    lowmem_bench b = lowmem_bench_open();
    expect_lowmem_refusal(&b, &r);
    cr_assert_eq(lowmem_bench_close(&b), 0);
}

Test(tools_refine_lowmem, lists_the_devices_there_are)
{
    lowmem_bench b = lowmem_bench_open();
    lowmem_outcome o = run_refine_lowmem(&b, "--list-devices");
    cr_assert_eq(o.code, 0);
    cr_assert_not_null(strstr(o.out, "cpu      "), "%s", o.out);
    cr_assert(strstr(o.out, "cuda:0") || strstr(o.err, "no GPU: "), "%s%s", o.out, o.err);
    outcome_free(&o);
    cr_assert_eq(lowmem_bench_close(&b), 0);
}

Test(tools_refine_lowmem, refuses_wrong_usage_with_2)
{
    static const refusal REFUSALS[] = {
        { 2, "", "-m PACK" },
        { 2, "-m @ -o @o.png -p x", "a refiner needs an image or a base's latents: give -i INPUT" },
        { 2, "-m @ -i @in.png -o @o.png -p x --size 64x64", "leave out -i INPUT" },
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
        { 2, JOB "-o @o.png --seed -1", "not \"-1\"" },
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
        { 2, JOB "-o /dev/null", "no regular file" },
    };
    lowmem_bench b = lowmem_bench_open();
    for (size_t i = 0; i < sizeof REFUSALS / sizeof REFUSALS[0]; i++)
        expect_lowmem_refusal(&b, &REFUSALS[i]);
    cr_assert_eq(lowmem_bench_close(&b), 0);
}

Test(tools_refine_lowmem, refuses_bad_files_with_4_and_says_which)
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
    cr_assert_eq(image_save_png(bench_path(&b, "small.png"), &(image){ 8, 8, rgb }, NULL, 0, NULL),
                 REFINE_OK);
    for (size_t i = 0; i < sizeof REFUSALS / sizeof REFUSALS[0]; i++)
        expect_lowmem_refusal(&b, &REFUSALS[i]);
    cr_assert_eq(lowmem_bench_close(&b), 2);
}

Test(tools_refine_lowmem, writes_no_picture_of_numbers_that_are_not_finite)
{
    static const refusal FAILURES[] = {
        { 1, JOB "-o @o.png --precision f32", "the decoded image is not finite" },
        { 1, JOB "-o @o.png --output-latents @l.npy", "the decoded image is not finite" },
        { 1, JOB "-o - --precision bf16", "try --precision f32" },
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

Test(tools_refine_lowmem, refuses_a_budget_with_3_and_names_one_that_will_do)
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

Test(tools_refine_lowmem, finds_out_before_the_run_that_it_cannot_write)
{
    /* A run that began would have printed its seed, which makes two lines. */
    static const refusal REFUSALS[] = {
        { 1, UNSEEDED "-o @none/o.png", "none/o.png" },
        { 1, UNSEEDED "-o @o.png --output-latents @none/l.npy", "none/l.npy" },
        { 1, UNSEEDED "-o @o.png --trace @none/t.json", "none/t.json" },
    };
    lowmem_bench b = lowmem_bench_open();
    for (size_t i = 0; i < sizeof REFUSALS / sizeof REFUSALS[0]; i++)
        expect_lowmem_refusal(&b, &REFUSALS[i]);
    cr_assert_eq(lowmem_bench_close(&b), 0);
}

Test(tools_refine_lowmem, stops_cleanly_when_interrupted)
{
    lowmem_bench b = lowmem_bench_open();
    const struct timespec nap = { 0, 20000000 };
    temp_write(bench_path(&b, "out.png"), "old", 3);
    const pid_t pid = start_refine_lowmem(
        &b,
        "-m @ -i @in.png -o @out.png -p cat --steps 1000 --strength 1 "
        "--threads 1",
        NULL);
    /* The seed is printed when everything is open and the run begins. */
    for (int i = 0; i < 3000; i++) {
        size_t n;
        char *err = read_terminated_text(bench_path(&b, "stderr"), &n);
        const bool begun = strstr(err, "seed ");
        free(err);
        if (begun)
            break;
        (void)nanosleep(&nap, NULL);
    }
    cr_assert_eq(kill(pid, SIGINT), 0);
    lowmem_outcome o = wait_refine_lowmem(&b, pid);
    cr_assert_eq(o.code, 1, "%d: %s", o.code, o.err);
    cr_assert_not_null(strstr(o.err, "interrupted"), "%s", o.err);
    cr_assert_str_eq(o.out, "");
    outcome_free(&o);
    size_t n;
    char *kept = read_terminated_text(bench_path(&b, "out.png"), &n);
    cr_assert_str_eq(kept, "old");
    free(kept);
    cr_assert_eq(lowmem_bench_close(&b), 1);
}

/* ---- the same image ---- */

Test(tools_refine_lowmem, makes_the_same_picture_in_every_budget)
{
    lowmem_bench b = lowmem_bench_open();
    expect_lowmem_success(&b, JOB "-o @large.png");
    expect_lowmem_success(&b, JOB "-o @small.png --vram 8M --reader pread");
    cr_assert(is_bench_file_equal(&b, "large.png", "small.png"));
    expect_lowmem_success(&b, JOB "-o @other.png --seed 8");
    cr_assert(!same_picture(&b, "large.png", "other.png"));
    (void)lowmem_bench_close(&b);
}

Test(tools_refine_lowmem, draws_a_seed_and_says_which)
{
    lowmem_bench b = lowmem_bench_open();
    char words[256];
    unsigned long long seed;
    lowmem_outcome o = run_refine_lowmem(&b, UNSEEDED "-o @a.png");
    cr_assert_eq(o.code, 0, "%s", o.err);
    const char *said = strstr(o.err, "seed ");
    cr_assert(said && sscanf(said, "seed %llu", &seed) == 1, "%s", o.err);
    outcome_free(&o);
    (void)snprintf(words, sizeof words, UNSEEDED "-o @b.png --seed %llu", seed);
    expect_lowmem_success(&b, words);
    cr_assert(is_bench_file_equal(&b, "a.png", "b.png"));
    (void)lowmem_bench_close(&b);
}

Test(tools_refine_lowmem, works_in_a_pipe)
{
    lowmem_bench b = lowmem_bench_open();
    expect_lowmem_success(&b, JOB "-o @file.png");
    lowmem_outcome o = wait_refine_lowmem(
        &b, start_refine_lowmem(&b, "-m @ -i - -o - -p cat --steps 10 --threads 1 --seed 7",
                                b.picture));
    cr_assert_eq(o.code, 0, "%s", o.err);
    temp_write(bench_path(&b, "piped.png"), o.out, o.out_len);
    outcome_free(&o);
    cr_assert(is_bench_file_equal(&b, "file.png", "piped.png"));
    (void)lowmem_bench_close(&b);
}

/* ---- latents ---- */

Test(tools_refine_lowmem, takes_and_gives_latents_in_every_format)
{
    static const char *const NAMES[] = { "l.safetensors", "l.npy", "l.latent" };
    lowmem_bench b = lowmem_bench_open();
    latents first = { 0 };
    char words[256];
    for (int i = 0; i < 3; i++) {
        latents l;
        (void)snprintf(words, sizeof words, JOB "--output-latents @%s", NAMES[i]);
        expect_lowmem_success(&b, words);
        cr_assert_eq(latents_load(&l, bench_path(&b, NAMES[i]), FACTOR, NULL), REFINE_OK);
        cr_assert(l.w == FIT_W / 8 && l.h == FIT_H / 8);
        for (int k = 0; i > 0 && k < LATENT_CHANNELS * l.h * l.w; k++)
            cr_assert_leq(fabsf(l.v[k] - first.v[k]), 0x1p-22f * fabsf(first.v[k]));
        if (i == 0)
            first = l;
        else
            latents_free(&l);
    }
    latents_free(&first);
    expect_lowmem_success(
        &b, "-m @ -i @l.npy -o @a.png -p cat --steps 10 --threads 1 --denoising-start 0.8");
    expect_lowmem_success(&b, "-m @ -i @l.safetensors -o @b.png -p cat --steps 10 --threads 1 "
                              "--denoising-start 0.8 --seed 99");
    cr_assert(same_picture(&b, "a.png", "b.png"), "noise was added");
    char *start_at = png_text_of(bench_path(&b, "a.png"), "denoising_start");
    cr_assert_str_eq(start_at, "0.8");
    free(start_at);
    (void)lowmem_bench_close(&b);
}

/* ---- the rest ---- */

/* ---- several images ---- */

#define MANY "-m @ -p cat --steps 10 --threads 1 --seed 7 "

static void add_picture(const lowmem_bench *b, const char *name, int w, int h)
{
    static uint8_t rgb[W * H * 3];
    for (int i = 0; i < w * h * 3; i++)
        rgb[i] = (uint8_t)(i * (name[0] - '0' + 3));
    cr_assert_eq(image_save_png(bench_path(b, name), &(image){ w, h, rgb }, NULL, 0, NULL),
                 REFINE_OK);
}

static void write_bench_text(const lowmem_bench *b, const char *name, const char *text)
{
    temp_write(bench_path(b, name), text, strlen(text));
}

Test(tools_refine_lowmem, refines_many_as_it_would_each)
{
    lowmem_bench b = lowmem_bench_open();
    add_picture(&b, "1.png", 96, 64);
    add_picture(&b, "2.png", 96, 64);
    add_picture(&b, "3.png", 64, 64);
    lowmem_outcome o = run_refine_lowmem(&b,
                                         MANY "-i @1.png -i @2.png -i @3.png -o @out --batch 2");
    cr_assert_eq(o.code, 0, "%s", o.err);
    cr_expect(strstr(o.err, "3 made, 0 there already, 0 failed"), "%s", o.err);
    outcome_free(&o);
    expect_lowmem_success(&b, MANY "-i @1.png -o @a.png");
    expect_lowmem_success(&b, MANY "-i @2.png -o @b.png");
    expect_lowmem_success(&b, MANY "-i @3.png -o @c.png");
    cr_expect(same_picture(&b, "out/1.png", "a.png"));
    cr_expect(same_picture(&b, "out/2.png", "b.png"));
    cr_expect(same_picture(&b, "out/3.png", "c.png"));

    /* Repeated, it makes only what is missing or was made otherwise. */
    cr_assert_eq(unlink(bench_path(&b, "out/2.png")), 0);
    o = run_refine_lowmem(&b, MANY "-i @1.png -i @2.png -i @3.png -o @out");
    cr_expect(o.code == 0 && strstr(o.err, "1 made, 2 there already, 0 failed"), "%s", o.err);
    outcome_free(&o);
    cr_expect(same_picture(&b, "out/2.png", "b.png"));
    o = run_refine_lowmem(&b, MANY "-i @1.png -i @2.png -o @out --strength 0.5");
    cr_expect(o.code == 0 && strstr(o.err, "2 made, 0 there already"), "%s", o.err);
    outcome_free(&o);
    for (int i = 1; i <= 3; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "out/%d.png", i);
        cr_assert_eq(unlink(bench_path(&b, name)), 0);
    }
    cr_assert_eq(rmdir(bench_path(&b, "out")), 0);
    lowmem_bench_close(&b);
}

Test(tools_refine_lowmem, one_bad_picture_does_not_lose_the_others)
{
    lowmem_bench b = lowmem_bench_open();
    add_picture(&b, "1.png", 64, 64);
    add_picture(&b, "3.png", 64, 64);
    write_bench_text(&b, "2.png", "no image");
    write_bench_text(&b, "list",
                     "{\"input\": \"1.png\", \"output\": \"a.png\", \"prompt\": \"a dog\"}\n"
                     "\n"
                     "{\"input\": \"2.png\", \"output\": \"b.png\"}\n"
                     "{\"input\": \"3.png\", \"output\": \"c.png\", \"seed\": 12}\n");
    lowmem_outcome o = run_refine_lowmem(&b, MANY "--manifest @list --json");
    cr_expect_eq(o.code, 4, "%s", o.err);
    cr_expect(strstr(o.err, "2.png: is no image") && strstr(o.err, "2 made"), "%s", o.err);
    cr_expect(strstr(o.out, "a.png") && strstr(o.out, "c.png") && strstr(o.out, "\"seed\": 12"));
    outcome_free(&o);
    char *prompt = png_text_of(bench_path(&b, "a.png"), "prompt");
    char *seed = png_text_of(bench_path(&b, "c.png"), "seed");
    cr_expect_str_eq(prompt, "a dog");
    cr_expect_str_eq(seed, "12");
    free(prompt);
    free(seed);
    cr_expect_eq(access(bench_path(&b, "b.png"), F_OK), -1);
    lowmem_bench_close(&b);
}

Test(tools_refine_lowmem, refuses_lists_that_make_no_sense)
{
    static const struct {
        const char *words, *list;
        int code;
    } CASES[] = {
        { MANY "--manifest @list -o @", "[1]\n", 4 },
        { MANY "--manifest @list -o @", "{\"prompt\": \"x\"}\n", 4 },
        { MANY "--manifest @list -o @", "{\"input\": 3}\n", 4 },
        { MANY "--manifest @list -o @", "{\"input\": \"in.png\", \"seed\": -1}\n", 4 },
        { MANY "--manifest @list -o @", "\n", 4 },
        { MANY "--manifest @none -o @", "", 4 },
        { MANY "--manifest @list", "{\"input\": \"in.png\"}\n", 2 },
        { MANY "-i @in.png -i @in.png -o @out", "", 2 },
        { MANY "-i @in.png -i @list -o @in.png", "", 2 },
        { MANY "-i @in.png -i @list -o @out --trace @t", "", 2 },
        { MANY "-i @in.png --batch 0 -o @out.png", "", 2 },
    };
    lowmem_bench b = lowmem_bench_open();
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        write_bench_text(&b, "list", CASES[i].list);
        lowmem_outcome o = run_refine_lowmem(&b, CASES[i].words);
        cr_expect_eq(o.code, CASES[i].code, "%zu: %d: %s", i, o.code, o.err);
        cr_expect(o.err[0] && !strchr(o.err, '\n')[1], "%zu: one line: %s", i, o.err);
        outcome_free(&o);
        (void)rmdir(bench_path(&b, "out"));
    }
    lowmem_bench_close(&b);
}

/* ---- originals ---- */

enum { ORIGINALS_MAX = 8 };

/* Files of a bench, as they were. */
typedef struct originals {
    const char *const *names;
    int n;
    unsigned char *bytes[ORIGINALS_MAX];
    size_t len[ORIGINALS_MAX];
} originals;

static originals originals_of(const lowmem_bench *b, const char *const *names, int n)
{
    originals o = { .names = names, .n = n };
    cr_assert_leq(n, ORIGINALS_MAX);
    for (int i = 0; i < n; i++)
        o.bytes[i] = temp_read(bench_path(b, names[i]), &o.len[i]);
    return o;
}

static void are_as_they_were(const lowmem_bench *b, const originals *o, const char *words)
{
    for (int i = 0; i < o->n; i++) {
        size_t len;
        unsigned char *now = temp_read(bench_path(b, o->names[i]), &len);
        cr_expect(len == o->len[i] && memcmp(now, o->bytes[i], len) == 0, "%s: %s was replaced",
                  words, o->names[i]);
        free(now);
    }
}

static void originals_free(originals *o)
{
    for (int i = 0; i < o->n; i++)
        free(o->bytes[i]);
}

static void copy_file(const lowmem_bench *b, const char *from, const char *to)
{
    size_t len;
    unsigned char *bytes = temp_read(from, &len);
    temp_write(bench_path(b, to), bytes, len);
    free(bytes);
}

/* `input`: what standard input comes from; `says`: both roles. */
typedef struct clash {
    const char *words, *input, *says[2];
} clash;

static void leaves_alone(const lowmem_bench *b, const originals *o, const clash *c)
{
    lowmem_outcome got = wait_refine_lowmem(b, start_refine_lowmem(b, c->words, c->input));
    cr_expect_eq(got.code, 2, "%s: %d: %s", c->words, got.code, got.err);
    const char *line = strchr(got.err, '\n');
    cr_expect(line && line[1] == 0, "%s: not one line: %s", c->words, got.err);
    for (int i = 0; i < 2; i++)
        cr_expect(strstr(got.err, c->says[i]), "%s: no '%s' in %s", c->words, c->says[i], got.err);
    outcome_free(&got);
    are_as_they_were(b, o, c->words);
}

/* in.png has two more names; the pack is called m.png. */
Test(tools_refine_lowmem, replaces_nothing_that_it_reads)
{
    static const char *const NAMES[] = { "in.png", "m.png", "r.png", "merges.txt", "l.npy" };
    lowmem_bench b = lowmem_bench_open();
    cr_assert(link(b.picture, bench_path(&b, "hard.png")) == 0 &&
              symlink("in.png", bench_path(&b, "soft.png")) == 0);
    copy_file(&b, b.pack, "m.png");
    copy_file(&b, b.pack, "r.png");
    copy_file(&b, "docs/sample/demo_merges.txt", "merges.txt");
    expect_lowmem_success(&b, JOB "--output-latents @l.npy");
    const clash CLASHES[] = {
        { JOB "-o @in.png", NULL, { "the image (-o) ", "the input (-i) " } },
        { JOB "-o @./in.png", NULL, { "the image (-o) ", "the input (-i) " } },
        { JOB "-o @hard.png", NULL, { "hard.png would replace", "in.png" } },
        { JOB "-o @soft.png", NULL, { "soft.png would replace", "in.png" } },
        { JOB "-o @in.png --plan", NULL, { "the image (-o) ", "the input (-i) " } },
        { "-m @ -i @soft.png -p cat --steps 10 -o @in.png",
          NULL,
          { "in.png would replace", "soft.png" } },
        { "-m @ -i - -p cat --steps 10 -o @in.png",
          b.picture,
          { "the image (-o) ", "would replace standard input" } },
        { "-m @m.png -i @in.png -p cat --steps 10 -o @m.png",
          NULL,
          { "the image (-o) ", "the model (-m) " } },
        { JOB "-o @r.png --compare @r.png", NULL, { "the image (-o) ", "(--compare) " } },
        { JOB "-o @merges.txt --tokenizer @merges.txt", NULL, { "(-o) ", "(--tokenizer) " } },
        { JOB "-o @merges.txt --tokenizer @.", NULL, { "(-o) ", "(--tokenizer) " } },
        { JOB "-o @o.png --trace @in.png", NULL, { "the trace (--trace) ", "(-i) " } },
        { "-m @ -i @l.npy -p cat --steps 10 --denoising-start 0.8 --output-latents @./l.npy",
          NULL,
          { "the latents (--output-latents) ", "the input (-i) " } },
    };
    originals o = originals_of(&b, NAMES, 5);
    for (size_t i = 0; i < sizeof CLASHES / sizeof CLASHES[0]; i++)
        leaves_alone(&b, &o, &CLASHES[i]);
    originals_free(&o);
    cr_expect_eq(lowmem_bench_close(&b), 6, "something was made");
}

Test(tools_refine_lowmem, writes_every_output_to_a_file_of_its_own)
{
    static const clash CLASHES[] = {
        { JOB "-o @o.png --trace @./o.png", NULL, { "(-o) ", "(--trace) " } },
        { JOB "-o @o.png --trace @new.png", NULL, { "(-o) ", "(--trace) " } },
        { JOB "-o @l.npy --output-latents @l.npy", NULL, { "(-o) ", "(--output-latents) " } },
        { JOB "--output-latents @l.npy --trace @l.npy",
          NULL,
          { "(--output-latents)", "(--trace)" } },
        { JOB "-o @stdout", NULL, { "(-o) ", "standard output" } },
    };
    lowmem_bench b = lowmem_bench_open();
    const originals none = { 0 };
    cr_assert_eq(symlink("o.png", bench_path(&b, "new.png")), 0);
    for (size_t i = 0; i < sizeof CLASHES / sizeof CLASHES[0]; i++)
        leaves_alone(&b, &none, &CLASHES[i]);
    cr_expect_eq(lowmem_bench_close(&b), 1, "something was made");
}

/* The images lie in d, which is also e. */
Test(tools_refine_lowmem, replaces_nothing_that_a_list_names)
{
    static const char *const NAMES[] = { "in.png", "d/1.png", "d/2.png", "m.png" };
    static const struct {
        clash c;
        const char *list;
    } CASES[] = {
        { { MANY "-i @d -o @d", NULL, { "the directory (-o) ", "the input (-i) " } }, "" },
        { { MANY "-i @d -o @e", NULL, { "the directory (-o) ", "the input (-i) " } }, "" },
        { { MANY "-i @d/1.png -i @d/2.png -o @e", NULL, { "e/1.png would replace", "(-i) " } },
          "" },
        { { MANY "-i @links -o @d", NULL, { "d/1.png would replace", "links/1.png" } }, "" },
        { { MANY "-i @in.png -i @d -o @in.png", NULL, { "the directory (-o) ", "(-i) " } }, "" },
        { { MANY "--manifest @list", NULL, { "d/./2.png would replace", "the input " } },
          "{\"input\": \"d/1.png\", \"output\": \"o.png\"}\n"
          "{\"input\": \"in.png\", \"output\": \"d/./2.png\"}\n"
          "{\"input\": \"d/2.png\", \"output\": \"p.png\"}\n" },
        { { "-p cat --steps 10 -m @m.png --manifest @list", NULL, { "the image ", "(-m) " } },
          "{\"input\": \"in.png\", \"output\": \"d/../m.png\"}\n" },
        { { MANY "--manifest @list", NULL, { "the image ", "the manifest (--manifest) " } },
          "{\"input\": \"in.png\", \"output\": \"list\"}\n" },
        { { MANY "--manifest @list", NULL, { "d/o.png and", "e/o.png are one file" } },
          "{\"input\": \"in.png\", \"output\": \"d/o.png\"}\n"
          "{\"input\": \"d/1.png\", \"output\": \"e/o.png\"}\n" },
        { { MANY "-i @d --manifest @list -o @new", NULL, { "new/2.png and", "new/../new/2.png" } },
          "{\"input\": \"in.png\", \"output\": \"new/../new/2.png\"}\n" },
    };
    lowmem_bench b = lowmem_bench_open();
    cr_assert(mkdir(bench_path(&b, "d"), 0700) == 0 && symlink("d", bench_path(&b, "e")) == 0 &&
              mkdir(bench_path(&b, "links"), 0700) == 0 &&
              symlink("../d/1.png", bench_path(&b, "links/1.png")) == 0);
    add_picture(&b, "d/1.png", 64, 64);
    add_picture(&b, "d/2.png", 64, 64);
    copy_file(&b, b.pack, "m.png");
    originals o = originals_of(&b, NAMES, 4);
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        write_bench_text(&b, "list", CASES[i].list);
        leaves_alone(&b, &o, &CASES[i].c);
        cr_expect_eq(access(bench_path(&b, "new"), F_OK), -1, "a directory was made");
    }
    originals_free(&o);
    (void)unlink(bench_path(&b, "links/1.png"));
    (void)unlink(bench_path(&b, "d/1.png"));
    (void)unlink(bench_path(&b, "d/2.png"));
    cr_expect(rmdir(bench_path(&b, "links")) == 0 && rmdir(bench_path(&b, "d")) == 0,
              "something was made");
    cr_expect_eq(lowmem_bench_close(&b), 3, "something was made");
}

/* Named one by one, what was made is not taken for an input when the command is repeated. */
Test(tools_refine_lowmem, refines_beside_the_originals_when_they_are_named)
{
    lowmem_bench b = lowmem_bench_open();
    add_picture(&b, "1.jpg", 64, 64);
    add_picture(&b, "2.jpg", 64, 64);
    lowmem_outcome o = run_refine_lowmem(&b, MANY "-i @1.jpg -i @2.jpg -o @.");
    cr_expect(o.code == 0 && strstr(o.err, "2 made, 0 there already"), "%s", o.err);
    outcome_free(&o);
    o = run_refine_lowmem(&b, MANY "-i @1.jpg -i @2.jpg -o @.");
    cr_expect(o.code == 0 && strstr(o.err, "0 made, 2 there already"), "%s", o.err);
    outcome_free(&o);
    cr_expect_eq(lowmem_bench_close(&b), 4);
}

Test(tools_refine_lowmem, says_what_was_predicted_beside_what_was)
{
    lowmem_bench b = lowmem_bench_open();
    lowmem_outcome o = run_refine_lowmem(&b,
                                         JOB "-o @out.png --limit-disk 20M --vram 40M --ram 32M");
    cr_expect_eq(o.code, 0, "%s", o.err);
    cr_expect(strstr(o.err, "predicted") && strstr(o.err, "compute waited") &&
                  strstr(o.err, "device memory: planned"),
              "%s", o.err);
    outcome_free(&o);
    o = run_refine_lowmem(&b, JOB "--plan --json");
    cr_expect(strstr(o.out, "\"stall_share\"") && strstr(o.out, "\"spill_file\""), "%s", o.out);
    outcome_free(&o);
    lowmem_bench_close(&b);
}

/* ---- comparing ---- */

#define COMPARE "-i @in.png -p cat --steps 10 --threads 1 --seed 7 --compare "

Test(tools_refine_lowmem, compares_two_packs)
{
    lowmem_bench b = lowmem_bench_open();
    char other[TEMP_NAME], words[1024];
    tiny_pack(other, sizeof other, "--weights int8");
    (void)snprintf(words, sizeof words, "-m %s --precision int8 " COMPARE "@ -o @out.png --quiet",
                   other);
    lowmem_outcome o = run_refine_lowmem(&b, words);
    cr_assert_eq(o.code, 0, "%s", o.err);
    cr_expect_str_eq(o.err, "");
    cr_expect(strstr(o.out, "in int8\nagainst ") && strstr(o.out, "in f32: 96 x 64, 3 steps"), "%s",
              o.out);
    cr_expect(strstr(o.out, "image  PSNR ") && strstr(o.out, "SSIM 0.99"), "%s", o.out);
    cr_expect(strstr(o.out, "unet.out") && strstr(o.out, "unet.conv_in"), "%s", o.out);
    cr_expect(!strstr(o.out, "different weights"), "%s", o.out);
    outcome_free(&o);
    (void)snprintf(words, sizeof words,
                   "-m %s --precision int8 -i @in.png -p cat --steps 10 --threads 1 --seed 7 "
                   "-o @plain.png",
                   other);
    expect_lowmem_success(&b, words);
    cr_expect(is_bench_file_equal(&b, "out.png", "plain.png"), "being compared changes the image");
    (void)unlink(other);
    (void)lowmem_bench_close(&b);
}

Test(tools_refine_lowmem, compares_for_scripts_without_making_a_picture)
{
    lowmem_bench b = lowmem_bench_open();
    lowmem_outcome o = run_refine_lowmem(&b, "-m @ --precision f32 " COMPARE "@ --json --quiet");
    cr_assert_eq(o.code, 0, "%s", o.err);
    json_t *j = json_of(&o), *c = json_object_get(j, "comparison"), *step;
    size_t i;
    cr_expect(json_is_true(json_object_get(c, "same_source")));
    cr_expect_str_eq(string_of(j, "comparison", "reference_precision"), "f32");
    cr_expect_eq(json_array_size(json_object_get(c, "steps")), 3u);
    json_array_foreach(json_object_get(c, "steps"), i, step)
    {
        cr_expect(json_is_null(json_object_get(step, "psnr")));
        cr_expect_eq(json_number_value(json_object_get(step, "relative_error")), 0.0);
    }
    cr_expect_eq(int_of(c, "picture", "largest_difference"), 0);
    cr_expect_geq(json_array_size(json_object_get(c, "layers")), 40u);
    cr_expect(json_is_object(json_object_get(j, "seconds")), "it is the result of a run");
    json_decref(j);
    outcome_free(&o);
    cr_expect_eq(lowmem_bench_close(&b), 0);
}

/* The input's memory is the output's: the reference's run must leave it alone. */
Test(tools_refine_lowmem, compares_from_latents_to_latents)
{
    lowmem_bench b = lowmem_bench_open();
    expect_lowmem_success(&b, JOB "--output-latents @l.npy");
    lowmem_outcome o = run_refine_lowmem(
        &b, "-m @ -i @l.npy --output-latents @m.npy -p cat --steps 10 --threads 1 "
            "--denoising-start 0.8 --precision f32 --compare @ --quiet");
    cr_assert_eq(o.code, 0, "%s", o.err);
    cr_expect(strstr(o.out, "PSNR the same, SSIM 1.00000, at most 0 grey"), "%s", o.out);
    outcome_free(&o);
    (void)lowmem_bench_close(&b);
}

Test(tools_refine_lowmem, warns_when_packs_are_of_different_weights)
{
    lowmem_bench b = lowmem_bench_open();
    const char *bin = getenv("REFINE_BIN");
    char words[1024];
    (void)snprintf(words, sizeof words,
                   "'%s/refine-pack' synthetic:tiny:5 --tokenizer docs/sample/demo_merges.txt "
                   "-o '%s' >/dev/null 2>&1",
                   bin ? bin : "build/release/bin", bench_path(&b, "other.pack"));
    cr_assert_eq(system(words), 0);
    lowmem_outcome o = run_refine_lowmem(&b, "-m @ " COMPARE "@other.pack");
    cr_assert_eq(o.code, 0, "%s", o.err);
    cr_expect(strstr(o.err, "warning") && strstr(o.err, "different weights"), "%s", o.err);
    cr_expect(strstr(o.out, "different weights"), "%s", o.out);
    outcome_free(&o);
    (void)lowmem_bench_close(&b);
}

/* What is wrong with either pack is said as of one. */
Test(tools_refine_lowmem, refuses_what_cannot_be_compared)
{
    static const refusal REFUSALS[] = {
        { 2, "-m @ -i @in.png " COMPARE "@ -o @out", "--compare is for one input" },
        { 2, "-m @ " COMPARE "@ --plan", "--plan" },
        { 2, "-m @ " COMPARE "@ -o -", "stdout" },
        { 2, "-m @ " COMPARE "@ --precision int8 --quiet", "holds 16-bit weights" },
        { 4, "-m @ " COMPARE "@in.png", "not a pack" },
        { 4, "-m @none.pack " COMPARE "@", "none.pack" },
        { 3, "-m @ " COMPARE "@ --vram 64K", "--vram" },
    };
    lowmem_bench b = lowmem_bench_open();
    for (size_t i = 0; i < sizeof REFUSALS / sizeof REFUSALS[0]; i++)
        expect_lowmem_refusal(&b, &REFUSALS[i]);
    cr_assert_eq(lowmem_bench_close(&b), 0);
}

Test(tools_refine_lowmem, says_what_it_is_and_how_it_is_used)
{
    lowmem_bench b = lowmem_bench_open();
    lowmem_outcome o = run_refine_lowmem(&b, "--version");
    cr_assert_eq(o.code, 0);
    cr_assert_eq(strncmp(o.out, "refine-lowmem 0.", 16), 0, "%s", o.out);
    outcome_free(&o);
    o = run_refine_lowmem(&b, "--help");
    cr_assert_eq(o.code, 0);
    cr_assert_not_null(strstr(o.out, "--denoising-start"));
    cr_assert_str_eq(o.err, "");
    outcome_free(&o);
    (void)lowmem_bench_close(&b);
}

Test(tools_refine_lowmem, writes_a_timeline_of_every_step)
{
    lowmem_bench b = lowmem_bench_open();
    json_error_t e;
    int steps = 0;
    expect_lowmem_success(&b, JOB "-o @o.png --trace @t.json");
    json_t *j = json_load_file(bench_path(&b, "t.json"), 0, &e);
    cr_assert_not_null(j, "%s", e.text);
    json_t *events = json_object_get(j, "traceEvents"), *event;
    size_t i;
    json_array_foreach(events, i, event)
        steps += strncmp(json_string_value(json_object_get(event, "name")), "step", 4) == 0;
    cr_assert_eq(steps, 3);
    json_decref(j);
    (void)lowmem_bench_close(&b);
}
