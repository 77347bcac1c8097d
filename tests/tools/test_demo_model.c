/* tests/tools/test_demo_model.c -- what the demo promises to show. */
#include "tools/source/demo_model.h"

#include "tests/support/sanitized.h"
#include "tests/support/tiny_pack.h"
#include <refine/refine.h>

#include <criterion/criterion.h>
#include <stdlib.h>
#include <unistd.h>

enum { SIDE = 256, PIXELS = SIDE * SIDE * 3 };

static char pack_file[256];

static char base_file[256];

static void make_demo_packs(void)
{
    made_pack(pack_file, sizeof pack_file, "synthetic:demo", "");
    made_pack(base_file, sizeof base_file, "synthetic:demo-base", "");
}

static void remove_demo_packs(void)
{
    (void)unlink(pack_file);
    (void)unlink(base_file);
}

TestSuite(tools_demo_model, .init = make_demo_packs, .fini = remove_demo_packs, .timeout = 300);

/* A disc on a slope: flat parts, an edge, three different channels. */
static void render_disc_image(uint8_t *rgb)
{
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++, rgb += 3) {
            const int dx = x - SIDE / 2, dy = y - SIDE / 2;
            const int inside = dx * dx + dy * dy < SIDE * SIDE / 9;

            rgb[0] = (uint8_t)(inside ? 220 : 40 + x / 2);
            rgb[1] = (uint8_t)(inside ? 180 : 40 + y / 2);
            rgb[2] = (uint8_t)(inside ? 60 : 140);
        }
}

/* in: NULL, a base begins. */
static void refine_demo_image(uint8_t *out, const uint8_t *in, uint64_t seed, double strength)
{
    refine_options o = REFINE_OPTIONS_INIT;
    refine_job j = REFINE_JOB_INIT;
    refine_engine *e;
    refine_error err;

    o.pack_path = pack_file;
    o.base_path = in ? NULL : base_file;
    o.precision = REFINE_F32;
    o.device = REFINE_DEVICE_CPU;
    o.vram_bytes = o.ram_bytes = 256u << 20;
    o.threads = 2;
    j.prompt = "a photo";
    j.width = j.height = SIDE;
    j.steps = 20;
    j.strength = strength;
    j.seed = seed;
    j.rgb_in = in;
    j.rgb_out = out;
    cr_assert_eq(refine_open(&e, &o, &j, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(refine_run(e, &j, &err), REFINE_OK, "%s", err.text);
    refine_close(e);
}

/* Mean distance in grey levels, away from the border, where the networks see zeros. */
static double mean_grey_distance(const uint8_t *a, const uint8_t *b)
{
    double sum = 0;
    int n = 0;

    for (int y = 16; y < SIDE - 16; y++)
        for (int i = (y * SIDE + 16) * 3; i < (y * SIDE + SIDE - 16) * 3; i++, n++)
            sum += abs(a[i] - b[i]);
    return sum / n;
}

Test(tools_demo_model, returns_the_picture_softened_but_recognisable)
{
    uint8_t in[PIXELS], out[PIXELS];

    render_disc_image(in);
    refine_demo_image(out, in, 1, 0.3);
    const double off = mean_grey_distance(in, out);
    cr_expect_lt(off, 15, "%.1f grey levels", off);
    cr_expect_gt(off, 1, "%.1f grey levels", off);
}

ReleaseTest(tools_demo_model, shows_what_seed_and_strength_do)
{
    uint8_t in[PIXELS], weak[PIXELS], other[PIXELS], strong[PIXELS];

    render_disc_image(in);
    refine_demo_image(weak, in, 1, 0.1);
    refine_demo_image(other, in, 2, 0.1);
    refine_demo_image(strong, in, 1, 0.6);
    cr_expect_gt(mean_grey_distance(weak, other), 0.1, "%g", mean_grey_distance(weak, other));
    cr_expect_gt(mean_grey_distance(strong, in), mean_grey_distance(weak, in) * 1.5,
                 "%g against %g", mean_grey_distance(strong, in), mean_grey_distance(weak, in));
}

/* Neighbours are alike, and what lies apart is not. */
ReleaseTest(tools_demo_model, makes_clouds_of_noise)
{
    enum { APART = 64 };
    uint8_t out[PIXELS], other[PIXELS];
    double near = 0, far = 0;
    int n = 0;

    refine_demo_image(out, NULL, 1, 0.3);
    refine_demo_image(other, NULL, 2, 0.3);
    for (int y = 0; y < SIDE; y++)
        for (int i = y * SIDE * 3; i < (y * SIDE + SIDE - APART) * 3; i++, n++) {
            near += abs(out[i] - out[i + 3]);
            far += abs(out[i] - out[i + 3 * APART]);
        }
    cr_expect_lt(near / n, 8, "%.1f grey levels", near / n);
    cr_expect_gt(far / n, 30, "%.1f grey levels", far / n);
    cr_expect_gt(mean_grey_distance(out, other), 30, "%g", mean_grey_distance(out, other));
}
