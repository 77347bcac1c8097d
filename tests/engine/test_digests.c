/* tests/engine/test_digests.c -- the bits of a few images, written down.
 *
 * An image depends on the job alone: not on the machine either, as far as it is an x86-64 processor
 * with AVX2 and FMA (docs/numerics.md).  So what these jobs give is recorded here, and must come
 * out on every such machine, in every build; and once more with the twins of AVX-512's products
 * (tests/support/gemm_twin.h) and plain C's of int8 in place of this processor's own.
 *
 * Sums of these small jobs are short: that long ones go on where they stopped is test_gemm.c's.
 *
 * A digest that changes says that everybody's images have: it is written down anew only where sums
 * were changed on purpose, and docs/numerics.md says so.  The C library's log, sin and cos are in
 * it too (noise, embedding of the step).
 */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/isa.h"
#include "tests/support/gemm_twin.h"
#include "tests/support/opened_cpu.h"
#include "tests/support/picture_rig.h"
#include "tests/support/tiny_pack.h"

#include <criterion/criterion.h>
#include <string.h>
#include <xxhash.h>

typedef struct digest {
    const char *pack; /* options of refine-pack */
    refine_precision precision;
    bool latents; /* what goes in, and comes out; else pixels */
    uint64_t want;
} digest;

static const digest DIGESTS[] = {
    { "--weights fp16", REFINE_F32, false, 0x481f3e59c3a6492a },
    { "--weights fp16", REFINE_BF16, false, 0xf6f82a5c1a0a6db3 },
    { "--weights int8", REFINE_F32, false, 0x41fb45deb673a8b9 },
    { "--weights int8", REFINE_BF16, false, 0x1e69a2fcb5f18843 },
    { "--weights int8", REFINE_INT8, false, 0x4d1e3d9421ffb867 },
    { "--weights fp16", REFINE_F32, true, 0x65cdfaf3a71a2d97 },
    { "--weights fp16", REFINE_BF16, true, 0x04c7fe3073e6d325 },
    { "--weights int8", REFINE_INT8, true, 0xf03eff647c857105 },
};

static bool twins;

/* In plain C; the last there is. */
static const int8_variant *plain_int8(void)
{
    const int8_variant *v, *last = NULL;
    bool runs;
    for (int i = 0; (v = int8_nth(i, &runs)); i++)
        last = v;
    return last;
}

void opened_cpu(dev *d, struct dev_ops *ops, const struct dev_ops *real)
{
    (void)ops, (void)real;
#if defined(__x86_64__)
    if (twins) {
        cpu_of(d)->f32 = &GEMM_F32_TWIN;
        cpu_of(d)->bf16 = &GEMM_BF16_TWIN;
        cpu_of(d)->int8 = plain_int8();
    }
#endif
}

/* Two steps with guidance at 72 x 104. */
static uint64_t job_digest(const digest *g)
{
    static uint8_t rgb[PICTURE_BYTES];
    static float given[PICTURE_LATENTS], got[PICTURE_LATENTS];
    char pack[512];
    kept_pack(pack, sizeof pack, g->pack);
    const refine_options o = picture_options(pack, REFINE_DEVICE_CPU, g->precision);
    refine_job j = picture_job(rgb);
    j.strength = 0.2;
    memset(rgb, 0, sizeof rgb);
    if (g->latents) {
        for (int i = 0; i < PICTURE_LATENTS; i++)
            given[i] = (float)(i * 29 % 97) / 48.0f - 1;
        j.rgb_in = j.rgb_out = NULL;
        j.latents_in = given;
        j.latents_out = got;
        j.denoising_start = 0.8;
    }
    picture_run(&o, &j, NULL);
    return g->latents ? XXH3_64bits(got, sizeof got) : XXH3_64bits(rgb, sizeof rgb);
}

static void expect_all(void)
{
    if (!(isa_available() & ISA_AVX2))
        cr_skip_test("this processor rounds each product before it is added");
    for (size_t i = 0; i < sizeof DIGESTS / sizeof DIGESTS[0]; i++) {
        const uint64_t got = job_digest(&DIGESTS[i]);
        cr_expect_eq(got, DIGESTS[i].want, "number %zu is 0x%016llx", i, (unsigned long long)got);
    }
}

Test(engine_digests, are_those_of_every_machine) { expect_all(); }

Test(engine_digests, are_those_of_avx512s_products_too)
{
    twins = true;
    expect_all();
}
