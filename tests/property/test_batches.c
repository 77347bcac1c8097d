/* tests/property/test_batches.c -- a batch that is broken off goes on where it was, and no output
 * is laid over an input.
 *
 * refine-lowmem makes a few images of its own accord, is stopped or killed at any moment, once or
 * more, and called again: what then lies in its directory is what an undisturbed run leaves, to the
 * byte, and nothing else but what was being written when it was killed.
 */
#define _POSIX_C_SOURCE 200809L
#include "tests/property/property.h"
#include "tests/support/random.h"
#include "tests/support/temp_place.h"
#include "tests/support/tiny_pack.h"
#include "tools/image/image_io.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST_IMAGES = 4, SIDE = 64, PATH = 512 };

static char pack[PATH];

static void find_pack(void) { kept_pack(pack, sizeof pack, "--weights fp16"); }

TestSuite(property, .init = find_pack);

typedef struct batch_case {
    temp_place place; /* 0.png, 1.png, ... in it, and outputs in directories below */
    int n, together;
    char inputs[MOST_IMAGES][PATH];
} batch_case;

static void make_batch_inputs(batch_case *b)
{
    uint8_t rgb[SIDE * SIDE * 3];
    char name[PATH];
    for (int i = 0; i < b->n; i++) {
        uint64_t seed = (uint64_t)i;
        const image im = { SIDE, SIDE, rgb };
        for (size_t k = 0; k < sizeof rgb; k++)
            rgb[k] = (uint8_t)(random_bits(&seed) >> 56);
        (void)snprintf(name, sizeof name, "%s/%d.png", b->place.dir, i);
        memcpy(b->inputs[i], name, sizeof name);
        cr_assert_eq(image_save(b->inputs[i], &im, NULL, 0, NULL), REFINE_OK);
    }
}

_Noreturn static void exec_batch_program(const batch_case *b, const char *out)
{
    char program[PATH], together[8];
    const char *bin = getenv("REFINE_BIN");
    const char *args[32] = { program, "-m",      pack,       "-o",      out,       "-p",
                             "a cat", "--seed",  "3",        "--steps", "10",      "--strength",
                             "0.2",   "--quiet", "--device", "cpu",     "--batch", together };
    int n = 18;
    (void)snprintf(program, sizeof program, "%s/refine-lowmem", bin ? bin : "build/release/bin");
    (void)snprintf(together, sizeof together, "%d", b->together);
    for (int i = 0; i < b->n; i++) {
        args[n++] = "-i";
        args[n++] = b->inputs[i];
    }
    execv(program, (char *const *)(uintptr_t)args);
    _exit(99);
}

/* Its exit status, -1 when it was killed; sent the signal after so long, unless that is 0. */
static int run_batch_program(const batch_case *b, const char *out, int signal, int after_ms)
{
    const struct timespec wait = { after_ms / 1000, after_ms % 1000 * 1000000L };
    int status;
    const pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0)
        exec_batch_program(b, out);
    if (signal) {
        (void)nanosleep(&wait, NULL);
        (void)kill(child, signal);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool is_batch_output_equal(const char *a, const char *b)
{
    size_t n_a, n_b;
    if (access(a, R_OK) != 0 || access(b, R_OK) != 0)
        return false;
    unsigned char *x = temp_read(a, &n_a), *y = temp_read(b, &n_b);
    const bool same = n_a == n_b && memcmp(x, y, n_a) == 0;
    free(x);
    free(y);
    return same;
}

static void expect_equal(draws *d, const batch_case *b, const char *got, const char *want)
{
    char one[PATH], other[PATH];
    for (int i = 0; i < b->n; i++) {
        (void)snprintf(one, sizeof one, "%.490s/%d.png", want, i);
        (void)snprintf(other, sizeof other, "%.490s/%d.png", got, i);
        if (!is_batch_output_equal(one, other))
            fail_case(d, "%d.png is another than an undisturbed run's", i);
    }
    if (temp_files_in(got) != b->n)
        fail_case(d, "%d files, not %d", temp_files_in(got), b->n);
}

/* What a killed run had not finished is called *.part. */
static void remove_parts(const char *dir)
{
    char command[PATH + 16];
    (void)snprintf(command, sizeof command, "rm -f '%s'/*.part", dir);
    cr_assert_eq(system(command), 0);
}

static void remove_all(const char *dir)
{
    char command[PATH + 16];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    cr_assert_eq(system(command), 0);
}

CostlyProperty(any_batch_that_is_broken_off_goes_on)
{
    static const int SIGNALS[] = { SIGINT, SIGTERM, SIGKILL };
    static batch_case b;
    char got[PATH], want[PATH], text[128] = "";
    int signal[3], after[3], status = 0;
    b.n = draw_integer(d, 2, MOST_IMAGES);
    b.together = draw_integer(d, 1, 3);
    const int breaks = draw_integer(d, 1, 3);
    for (int i = 0; i < breaks; i++) {
        signal[i] = SIGNALS[draw_below(d, 3)];
        after[i] = draw_integer(d, 1, 400);
        (void)snprintf(text + strlen(text), sizeof text - strlen(text), ", signal %d after %d ms",
                       signal[i], after[i]);
    }
    describe_case(d, "%d images, %d together%s", b.n, b.together, text);
    b.place = temp_place_make("");
    (void)snprintf(got, sizeof got, "%s/got", b.place.dir);
    (void)snprintf(want, sizeof want, "%s/want", b.place.dir);
    make_batch_inputs(&b);
    for (int i = 0; i < breaks; i++)
        (void)run_batch_program(&b, got, signal[i], after[i]);
    if ((status = run_batch_program(&b, got, 0, 0)) != 0 || run_batch_program(&b, want, 0, 0) != 0)
        fail_case(d, "ends with %d", status);
    remove_parts(got);
    if (!is_wrong(d))
        expect_equal(d, &b, got, want);
    remove_all(b.place.dir);
}

/* ---- inputs stay ---- */

typedef enum path_spelling {
    AS_IT_IS,
    DOTTED,
    AROUND,
    BY_LINK,
    BY_HARD_LINK,
    N_SPELLINGS
} path_spelling;

/* A place that is the inputs', as somebody may write it: of one input its file, else the
 * directory. */
static void format_input_path(char out[PATH], const batch_case *b, path_spelling way)
{
    static const char *const FORMS[] = { [AS_IT_IS] = "%s",
                                         [DOTTED] = "%s/.",
                                         [AROUND] = "%s/sub/..",
                                         [BY_LINK] = "%s/again",
                                         [BY_HARD_LINK] = "%s" };
    char dir[PATH - 16], other[PATH];
    (void)snprintf(other, sizeof other, "%s/%s", b->place.dir, way == AROUND ? "sub" : "again");
    if (way == AROUND)
        cr_assert_eq(mkdir(other, 0700), 0);
    if (way == BY_LINK)
        cr_assert_eq(symlink(b->place.dir, other), 0);
    (void)snprintf(dir, sizeof dir, FORMS[way], b->place.dir);
    (void)snprintf(out, PATH, b->n > 1 ? "%s" : "%s/0.png", dir);
    if (way == BY_HARD_LINK && b->n == 1) {
        (void)snprintf(out, PATH, "%s/other.png", dir);
        cr_assert_eq(link(b->inputs[0], out), 0);
    }
}

Property(any_output_leaves_the_inputs)
{
    static const char *const NAMES[] = { "as it is", "dotted", "around", "by a link",
                                         "by a hard link" };
    static batch_case b;
    unsigned char *before[MOST_IMAGES];
    size_t bytes[MOST_IMAGES], now;
    char out[PATH];
    b.n = draw_integer(d, 1, 3);
    b.together = 1;
    const path_spelling way = (path_spelling)draw_below(d, N_SPELLINGS);
    describe_case(d, "%d images, %s", b.n, NAMES[way]);
    b.place = temp_place_make("");
    make_batch_inputs(&b);
    for (int i = 0; i < b.n; i++)
        before[i] = temp_read(b.inputs[i], &bytes[i]);
    format_input_path(out, &b, way);
    (void)run_batch_program(&b, out, 0, 0);
    for (int i = 0; i < b.n; i++) {
        unsigned char *after = temp_read(b.inputs[i], &now);
        if (now != bytes[i] || memcmp(after, before[i], now) != 0)
            fail_case(d, "%d.png has been changed", i);
        free(after);
        free(before[i]);
    }
    remove_all(b.place.dir);
}
