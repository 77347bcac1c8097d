/* tests/tools/test_lowmem_arguments.c -- what the command line of refine-lowmem comes to. */
#include "tools/arguments/lowmem_arguments.h"

#include "tools/cli/exit_code.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <string.h>

#define WHOLE "-m", "m.pack", "-i", "a.png", "-o", "b.png", "-p", "x"

/* The words follow the program's name. */
static int read_lowmem(lowmem_arguments *a, int n, const char *const words[])
{
    char *argv[24] = { (char *)(uintptr_t) "refine-lowmem" };
    cr_assert_lt(n, 22);
    for (int i = 0; i < n; i++)
        argv[i + 1] = (char *)(uintptr_t)words[i];
    *a = (lowmem_arguments){ .o = REFINE_OPTIONS_INIT, .j = REFINE_JOB_INIT };
    return lowmem_arguments_read(a, n + 1, argv);
}

#define READ(a, ...)                                                                               \
    read_lowmem((a), (int)(sizeof((const char *[]){ __VA_ARGS__ }) / sizeof(const char *)),        \
                (const char *const[]){ __VA_ARGS__ })

Test(tools_lowmem_arguments, a_device_is_a_word_or_a_gpu_of_a_number)
{
    static const struct {
        const char *word;
        int code, device, index;
    } CASES[] = {
        { "auto", -1, REFINE_DEVICE_AUTO, 0 },
        { "cpu", -1, REFINE_DEVICE_CPU, 0 },
        { "ref", -1, REFINE_DEVICE_REF, 0 },
        { "cuda", -1, REFINE_DEVICE_CUDA, 0 },
        { "cuda:0", -1, REFINE_DEVICE_CUDA, 0 },
        { "cuda:63", -1, REFINE_DEVICE_CUDA, 63 },
        { "cuda:64", EXIT_USAGE, REFINE_DEVICE_AUTO, 0 },
        { "cuda:", EXIT_USAGE, REFINE_DEVICE_AUTO, 0 },
        { "cud", EXIT_USAGE, REFINE_DEVICE_AUTO, 0 },
        { "", EXIT_USAGE, REFINE_DEVICE_AUTO, 0 },
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        lowmem_arguments a;
        cr_expect_eq(READ(&a, WHOLE, "--device", CASES[i].word), CASES[i].code, "%s",
                     CASES[i].word);
        cr_expect(a.o.device == (refine_device)CASES[i].device &&
                      a.o.device_index == CASES[i].index,
                  "%s", CASES[i].word);
        lowmem_arguments_free(&a);
    }
}

Test(tools_lowmem_arguments, a_background_is_a_word_or_six_digits)
{
    static const struct {
        const char *word;
        int code;
        uint8_t rgb[3];
    } CASES[] = {
        { "white", -1, { 255, 255, 255 } },      { "black", -1, { 0, 0, 0 } },
        { "#12abEF", -1, { 0x12, 0xab, 0xef } }, { "#12abE", EXIT_USAGE, { 0 } },
        { "#12abEF0", EXIT_USAGE, { 0 } },       { "12abEF", EXIT_USAGE, { 0 } },
        { "#12abEg", EXIT_USAGE, { 0 } },        { "#-12345", EXIT_USAGE, { 0 } },
        { "blue", EXIT_USAGE, { 0 } },           { "", EXIT_USAGE, { 0 } },
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        lowmem_arguments a;
        cr_expect_eq(READ(&a, WHOLE, "--background", CASES[i].word), CASES[i].code, "%s",
                     CASES[i].word);
        cr_expect_eq(memcmp(a.background, CASES[i].rgb, 3), 0, "%s", CASES[i].word);
        lowmem_arguments_free(&a);
    }
}

Test(tools_lowmem_arguments, words_are_those_of_the_library)
{
    lowmem_arguments a;
    cr_assert_eq(READ(&a, WHOLE, "--rng", "philox", "--precision", "fp16", "--reader", "pread",
                      "--scheduler", "euler"),
                 -1);
    cr_expect(a.j.rng == REFINE_RNG_PHILOX && a.o.precision == REFINE_FP16 &&
              a.o.reader == REFINE_READER_PREAD);
    lowmem_arguments_free(&a);
    cr_assert_eq(READ(&a, WHOLE, "--precision", "int8", "--reader", "io_uring"), -1);
    cr_expect(a.o.precision == REFINE_INT8 && a.o.reader == REFINE_READER_URING);
    lowmem_arguments_free(&a);
    cr_assert_eq(READ(&a, WHOLE, "--precision", "bf16"), -1);
    cr_expect_eq(a.o.precision, REFINE_BF16);
    lowmem_arguments_free(&a);
}

Test(tools_lowmem_arguments, a_seed_of_0_is_given_and_a_trace_is_recorded)
{
    lowmem_arguments a;
    cr_assert_eq(READ(&a, WHOLE), -1);
    cr_expect(!a.seeded && !a.o.trace && a.n_inputs == 1);
    lowmem_arguments_free(&a);
    cr_assert_eq(READ(&a, WHOLE, "--seed", "0", "--trace", "t.json", "-i", "c.png"), -1);
    cr_expect(a.seeded && a.j.seed == 0 && a.o.trace && a.n_inputs == 2);
    cr_expect_str_eq(a.inputs[1], "c.png");
    lowmem_arguments_free(&a);
    cr_assert_eq(READ(&a, WHOLE, "--seed", "5", "--seed", "-1"), -1);
    cr_expect_not(a.seeded);
    lowmem_arguments_free(&a);
    cr_assert_eq(READ(&a, WHOLE, "--seed", "-2"), EXIT_USAGE);
    lowmem_arguments_free(&a);
}

Test(tools_lowmem_arguments, zero_threads_are_one_per_core)
{
    lowmem_arguments a;
    cr_expect_eq(READ(&a, WHOLE, "--threads", "0"), -1);
    lowmem_arguments_free(&a);
    cr_expect_eq(READ(&a, WHOLE, "--threads", "257"), EXIT_USAGE);
    lowmem_arguments_free(&a);
}

Test(tools_lowmem_arguments, texts_are_utf8)
{
    static const char *const OPTIONS[] = { "-p", "-n", "--prompt-2", "--negative-2" };
    for (size_t i = 0; i < sizeof OPTIONS / sizeof OPTIONS[0]; i++) {
        lowmem_arguments a;
        cr_expect_eq(READ(&a, WHOLE, OPTIONS[i], "caf\xc3\xa9"), -1);
        lowmem_arguments_free(&a);
        cr_expect_eq(READ(&a, WHOLE, OPTIONS[i], "caf\xe9"), EXIT_USAGE, "%s", OPTIONS[i]);
        lowmem_arguments_free(&a);
    }
}

Test(tools_lowmem_arguments, an_option_that_would_do_nothing_is_refused)
{
    static const struct {
        const char *option, *value, *needs, *with;
    } CASES[] = {
        { "--fit", "contain", "--size", "128x96" },
        { "--fit", "cover", "--manifest", "m.jsonl" },
        { "--handoff", "0.7", "--base", "b.pack" },
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        lowmem_arguments a;
        cr_expect_eq(READ(&a, WHOLE, CASES[i].option, CASES[i].value), EXIT_USAGE, "%s",
                     CASES[i].option);
        lowmem_arguments_free(&a);
        cr_expect_eq(
            READ(&a, WHOLE, CASES[i].option, CASES[i].value, CASES[i].needs, CASES[i].with), -1,
            "%s %s", CASES[i].option, CASES[i].needs);
        lowmem_arguments_free(&a);
    }
}

Test(tools_lowmem_arguments, two_that_say_where_denoising_begins_are_one_too_many)
{
    lowmem_arguments a;
    cr_expect_eq(READ(&a, WHOLE, "--strength", "0.3", "--denoising-start", "0.8"), EXIT_USAGE);
    lowmem_arguments_free(&a);
    cr_expect_eq(READ(&a, WHOLE, "--strength", "0.3", "--denoising-start", "0"), -1);
    lowmem_arguments_free(&a);
}
