/* tests/engine/test_sizes.c -- whole images larger than those of tests/property/test_jobs.c.
 *
 * Sizes whose last rows of pixels are cut otherwise than the rest, in some level of the UNet or the
 * VAE.  Each is made with one and with three threads: both must be equal, to the bit, and finite.
 */
#include "tests/support/picture_rig.h"
#include "tests/support/random.h"
#include "tests/support/sanitized.h"
#include "tests/support/tiny_pack.h"
#include <refine/refine.h>

#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

enum { MOST = 1920 * 1080 * 3, MANY = 3 };

static char pack_file[256];

static void make_sizes_pack(void) { tiny_pack(pack_file, sizeof pack_file, ""); }
static void remove_sizes_pack(void) { (void)unlink(pack_file); }

TestSuite(engine_sizes, .init = make_sizes_pack, .fini = remove_sizes_pack);

static uint8_t photo[MOST], one[MOST], many[MOST];

static void fill_photo(void)
{
    uint64_t seed = 5;
    for (size_t i = 0; i < MOST; i++)
        photo[i] = (uint8_t)(random_bits(&seed) >> 56);
}

static bool is_all_black(const uint8_t *rgb, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (rgb[i])
            return false;
    return true;
}

/* One step, without guidance: each operator meets its shape once. */
static refine_job one_step_job(int width, int height, uint8_t *out)
{
    refine_job j = picture_job(out);
    j.width = width;
    j.height = height;
    j.rgb_in = photo;
    j.strength = 0.1;
    j.guidance = 1;
    return j;
}

static void expect_same_with_many_threads(int width, int height, refine_precision precision)
{
    const size_t bytes = (size_t)width * (size_t)height * 3;
    cr_assert(bytes <= MOST);
    fill_photo();
    for (int threads = 1; threads <= MANY; threads += MANY - 1) {
        refine_options o = picture_options(pack_file, REFINE_DEVICE_CPU, precision);
        const refine_job j = one_step_job(width, height, threads == 1 ? one : many);
        o.vram_bytes = (uint64_t)2 << 30;
        o.ram_bytes = (uint64_t)1 << 30;
        o.threads = threads;
        picture_run(&o, &j, NULL);
        cr_assert(!is_all_black(j.rgb_out, bytes), "%dx%d, %d threads", width, height, threads);
        cr_expect(threads == 1 || memcmp(one, many, bytes) == 0, "%dx%d: %d threads", width, height,
                  threads);
    }
}

ReleaseTest(engine_sizes, megapixel) { expect_same_with_many_threads(1032, 1032, REFINE_BF16); }
ReleaseTest(engine_sizes, full_hd) { expect_same_with_many_threads(1920, 1080, REFINE_F32); }
