/* tests/engine/test_rss.c -- a process takes as much memory as was foretold.
 *
 * Jobs of the tiny model with images so large that they, and not the program itself, decide:
 * 85 MiB and more; and one so small that what each model takes beside its plan decides.  Each runs
 * in a process of its own, since a peak never falls.
 */
#define _POSIX_C_SOURCE 200809L
#include "tests/support/sanitized.h"
#include "tests/support/tiny_pack.h"
#include <refine/refine.h>

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const double MIB = 1048576.0, SHARE = 0.01, LEAST = 2;

static char pack_file[256], base_file[512];

static void make_rss_pack(void)
{
    tiny_pack(pack_file, sizeof pack_file, "");
    kept_pack_of(base_file, sizeof base_file, "synthetic:tiny-base", "");
}
static void remove_rss_pack(void) { (void)unlink(pack_file); }

TestSuite(engine_rss, .init = make_rss_pack, .fini = remove_rss_pack, .timeout = 100);

typedef struct sizes {
    int side;
    uint64_t vram_mib, ram_mib;
    bool ensemble; /* a base makes it of text, and the refiner finishes */
} sizes;

static refine_status run_rss_job(refine_report *r, sizes z, refine_precision precision)
{
    const size_t pixels = (size_t)z.side * (size_t)z.side * 3;
    uint8_t *rgb = malloc(pixels);
    refine_options o = REFINE_OPTIONS_INIT;
    refine_job j = REFINE_JOB_INIT;
    refine_engine *e;

    if (!rgb)
        return REFINE_ENOMEM;
    memset(rgb, 90, pixels);
    o.pack_path = pack_file;
    o.device = REFINE_DEVICE_CPU;
    o.precision = precision;
    o.vram_bytes = z.vram_mib << 20;
    o.ram_bytes = z.ram_mib << 20;
    o.caller_bytes = pixels;
    o.threads = 2;
    j.prompt = "a photo of a cat";
    j.width = j.height = z.side;
    j.steps = 10;
    j.strength = 0.1;
    j.rgb_in = j.rgb_out = rgb;
    if (z.ensemble) {
        o.base_path = base_file;
        j.rgb_in = NULL;
        j.steps = 3;
        j.handoff = 0.6;
    }
    refine_status st = refine_open(&e, &o, &j, NULL);
    if (st == REFINE_OK)
        st = refine_run(e, &j, NULL);
    if (st == REFINE_OK)
        refine_get_report(e, r);
    return st;
}

static refine_report run_in_child(sizes z, refine_precision precision)
{
    refine_report r = REFINE_REPORT_INIT;
    int ends[2], status;

    cr_assert_eq(pipe(ends), 0);
    const pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        const bool ok = run_rss_job(&r, z, precision) == REFINE_OK &&
                        write(ends[1], &r.memory, sizeof r.memory) == (ssize_t)sizeof r.memory;
        _exit(ok ? 0 : 1);
    }
    cr_assert_eq(read(ends[0], &r.memory, sizeof r.memory), (ssize_t)sizeof r.memory);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    (void)close(ends[0]);
    (void)close(ends[1]);
    return r;
}

static void expect_rss_planned(sizes z)
{
    static const struct {
        refine_precision type;
        const char *name;
    } PRECISIONS[] = { { REFINE_F32, "f32" }, { REFINE_BF16, "bf16" } };
    if (SANITIZED)
        cr_skip_test("a sanitizer's own memory cannot be told apart");
    for (size_t i = 0; i < 2; i++) {
        const refine_report r = run_in_child(z, PRECISIONS[i].type);
        const double planned = (double)r.memory.rss_planned, peak = (double)r.memory.rss_peak;
        cr_expect_gt(peak, z.ensemble ? 16 * MIB : 64 * MIB);
        cr_expect(fabs(peak - planned) < fmax(SHARE * planned, LEAST * MIB),
                  "%d, %d and %d MiB, %s: %.1f MiB, not %.1f", z.side, (int)z.vram_mib,
                  (int)z.ram_mib, PRECISIONS[i].name, peak / MIB, planned / MIB);
    }
}

Test(engine_rss, all_weights_and_pictures_on_the_device)
{
    expect_rss_planned((sizes){ 704, 1024, 64, false });
}

Test(engine_rss, some_weights_on_the_device) { expect_rss_planned((sizes){ 704, 86, 64, false }); }

Test(engine_rss, pictures_in_host_memory) { expect_rss_planned((sizes){ 704, 50, 300, false }); }

Test(engine_rss, two_models) { expect_rss_planned((sizes){ 64, 256, 64, true }); }

Test(engine_rss, pictures_in_host_memory_and_a_file)
{
    expect_rss_planned((sizes){ 704, 45, 130, false });
}
