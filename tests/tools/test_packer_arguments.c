/* tests/tools/test_packer_arguments.c -- what the command line of refine-pack comes to. */
#include "tools/arguments/packer_arguments.h"

#include "engine/model/model_config.h"
#include "tools/cli/exit_code.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <string.h>

static int read_packer(packer_arguments *a, int n, const char *const words[])
{
    char *argv[16] = { (char *)(uintptr_t) "refine-pack" };
    cr_assert_lt(n, 14);
    for (int i = 0; i < n; i++)
        argv[i + 1] = (char *)(uintptr_t)words[i];
    *a = (packer_arguments){ 0 };
    return packer_arguments_read(a, n + 1, argv);
}

#define READ(a, ...)                                                                               \
    read_packer((a), (int)(sizeof((const char *[]){ __VA_ARGS__ }) / sizeof(const char *)),        \
                (const char *const[]){ __VA_ARGS__ })

Test(tools_packer_arguments, a_source_becomes_an_output)
{
    packer_arguments a;
    cr_assert_eq(READ(&a, "--weights", "int8", "--codec", "raw", "in", "-o", "out"), -1);
    cr_expect(a.mode == MODE_PACK && a.weights == WEIGHTS_INT8 && a.codec == PACKER_RAW);
    cr_expect_str_eq(a.input, "in");
    cr_assert_eq(READ(&a, "--weights", "fp16", "--codec", "zstd", "in", "-o", "out"), -1);
    cr_expect(a.weights == WEIGHTS_FP16 && a.codec == PACKER_ZSTD && a.chunk_bytes == 0);
    cr_assert_eq(READ(&a, "in", "-o", "out", "--vae", "fix.safetensors"), -1);
    cr_expect_str_eq(a.vae, "fix.safetensors");
    cr_assert_eq(READ(&a, "in", "-o", "out", "--variant", "fp16", "--sampler", "euler-ancestral",
                      "--spacing", "trailing", "--prediction", "v"),
                 -1);
    cr_expect_str_eq(a.variant, "fp16");
    schedule_config c = MODEL_BASE.schedule;
    schedule_choices_apply(&c, &a.schedule);
    cr_expect(c.sampler == SAMPLER_EULER_ANCESTRAL && c.spacing == SPACING_TRAILING &&
              c.prediction == PREDICTS_V && c.steps_offset == MODEL_BASE.schedule.steps_offset);
    cr_assert_eq(READ(&a, "in", "-o", "out", "--sampler", "auto"), -1);
    c = MODEL_BASE.schedule;
    schedule_choices_apply(&c, &a.schedule);
    cr_expect_eq(memcmp(&c, &MODEL_BASE.schedule, sizeof c), 0);
    cr_expect_eq(READ(&a, "in", "-o", "out", "--sampler", "heun"), EXIT_USAGE);
    cr_expect_eq(READ(&a, "in", "-o", ""), EXIT_USAGE);
    cr_expect_eq(READ(&a, "in"), EXIT_USAGE);
    cr_expect_eq(READ(&a, "-o", "out"), EXIT_USAGE);
    cr_expect_eq(READ(&a, "in", "other", "-o", "out"), EXIT_USAGE);
}

Test(tools_packer_arguments, one_pack_is_read_at_a_time_and_none_is_written)
{
    packer_arguments a;
    cr_assert_eq(READ(&a, "--json", "--verify", "a.pack"), -1);
    cr_expect_eq(a.mode, MODE_VERIFY);
    cr_expect_str_eq(a.input, "a.pack");
    cr_assert_eq(READ(&a, "--inspect=b.pack"), -1);
    cr_expect_eq(a.mode, MODE_INSPECT);
    cr_expect_eq(READ(&a, "--inspect", "a", "--verify", "b"), EXIT_USAGE);
    cr_expect_eq(READ(&a, "--verify", "a", "--verify", "a"), EXIT_USAGE);
    cr_expect_eq(READ(&a, "--verify", "a", "in"), EXIT_USAGE);
    cr_expect_eq(READ(&a, "--verify", "a", "-o", "out"), EXIT_USAGE);
}
