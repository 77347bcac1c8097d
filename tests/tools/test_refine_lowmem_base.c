/* tests/tools/test_refine_lowmem_base.c -- images from text, and a base before the refiner. */
#include "tests/support/lowmem_bench.h"
#include "tests/support/sanitized.h"
#include "tests/support/tiny_pack.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FROM_TEXT "-p cat --size 96x64 --steps 5 --threads 1 --seed 7 "
#define ENSEMBLE  "--base @base.pack -m @ " FROM_TEXT

static void add_bench_pack(const lowmem_bench *b, const char *name, const char *source,
                           const char *options)
{
    char made[TEMP_NAME];
    made_pack(made, sizeof made, source, options);
    cr_assert_eq(rename(made, bench_path(b, name)), 0);
}

/* With base.pack beside the refiner's. */
static lowmem_bench open_base_bench(void)
{
    const lowmem_bench b = lowmem_bench_open();
    add_bench_pack(&b, "base.pack", "synthetic:tiny-base", "");
    return b;
}

Test(tools_refine_lowmem_base, makes_an_image_of_text_in_every_budget)
{
    lowmem_bench b = open_base_bench();
    expect_lowmem_success(&b, "-m @base.pack -o @a.png " FROM_TEXT);
    expect_lowmem_success(&b, "-m @base.pack -o @b.png --vram 6M --ram 32M " FROM_TEXT);
    cr_expect(same_picture(&b, "a.png", "b.png"));
    char *flow = png_text_of(bench_path(&b, "a.png"), "flow");
    cr_expect_str_eq(flow, "text to image");
    free(flow);
    (void)lowmem_bench_close(&b);
}

Test(tools_refine_lowmem_base, makes_several_images_of_text_in_lock_step)
{
    static const char LIST[] = "{\"prompt\": \"dog\", \"width\": 64, \"height\": 64}\n"
                               "{\"input\": \"in.png\", \"output\": \"i.png\"}\n"
                               "{\"seed\": 9, \"output\": \"t.png\"}\n";
    lowmem_bench b = open_base_bench();
    expect_lowmem_success(&b, "-m @base.pack -o @out --count 3 --batch 3 " FROM_TEXT);
    expect_lowmem_success(&b, "-m @base.pack -o @one.png " FROM_TEXT "--seed 9");
    cr_expect(is_bench_file_equal(&b, "out/0003.png", "one.png"));
    temp_write(bench_path(&b, "list"), LIST, strlen(LIST));
    lowmem_outcome o = run_refine_lowmem(&b, "-m @base.pack --manifest @list -o @out " FROM_TEXT);
    cr_expect(o.code == 0 && strstr(o.err, "3 made"), "%s", o.err);
    outcome_free(&o);
    cr_expect(is_bench_file_equal(&b, "t.png", "one.png"));
    for (int i = 1; i <= 3; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "out/000%d.png", i);
        cr_assert_eq(unlink(bench_path(&b, name)), 0);
    }
    cr_assert_eq(rmdir(bench_path(&b, "out")), 0);
    (void)lowmem_bench_close(&b);
}

Test(tools_refine_lowmem_base, tells_no_negative_prompt_from_an_empty_one)
{
    lowmem_bench b = open_base_bench();
    expect_lowmem_success(&b, "-m @base.pack -o @none.png " FROM_TEXT);
    expect_lowmem_success(&b, "-m @base.pack -o @empty.png --negative= " FROM_TEXT);
    expect_lowmem_success(&b, "-m @base.pack -o @second.png --prompt-2 dog " FROM_TEXT);
    expect_lowmem_success(&b, "-m @base.pack -o @same.png --prompt-2 cat " FROM_TEXT);
    cr_expect_not(same_picture(&b, "none.png", "empty.png"));
    cr_expect_not(same_picture(&b, "none.png", "second.png"));
    cr_expect(same_picture(&b, "none.png", "same.png"));
    (void)lowmem_bench_close(&b);
}

/* As in diffusers, whose pipeline of one text encoder reads the first prompt alone. */
Test(tools_refine_lowmem_base, alone_reads_second_prompts_and_says_so)
{
    static const char NOTE[] = "not used by the models of this run: prompt 2, negative prompt 2\n";
    lowmem_bench b = open_base_bench();
    expect_lowmem_success(&b, "-m @ -i @in.png -o @one.png -p cat -n ugly --steps 5 --strength 0.2 "
                              "--seed 7");
    lowmem_outcome o = run_refine_lowmem(
        &b, "-m @ -i @in.png -o @two.png -p cat -n ugly --steps 5 --strength 0.2 --seed 7 "
            "--prompt-2 dog --negative-2 fog");
    const char *told = strstr(o.err, NOTE);
    cr_expect(o.code == 0 && told && !strstr(told + 1, NOTE), "once, in %s", o.err);
    outcome_free(&o);
    cr_expect(same_picture(&b, "one.png", "two.png"));
    o = run_refine_lowmem(
        &b, "-m @base.pack --prompt-2 dog -n ugly --negative-2 fog --plan " FROM_TEXT);
    cr_expect(o.code == 0 && !strstr(o.out, "not used"), "%s", o.out);
    outcome_free(&o);
    (void)lowmem_bench_close(&b);
}

/* Each image's result has its own, and the terminal has every one once. */
Test(tools_refine_lowmem_base, says_of_every_image_of_a_manifest_what_is_not_used)
{
    static const char LIST[] = "{\"output\": \"a.png\"}\n"
                               "{\"output\": \"b.png\", \"negative\": \"fog\"}\n"
                               "{\"output\": \"c.png\", \"negative\": \"rain\"}\n";
    static const char WORDS[] = "negative prompt (guidance is off)";
    lowmem_bench b = open_base_bench();
    temp_write(bench_path(&b, "list"), LIST, strlen(LIST));
    for (int together = 1; together <= 3; together += 2) {
        char words[256];
        (void)snprintf(words, sizeof words,
                       "-m @base.pack --manifest @list --guidance 1 --json --batch %d " FROM_TEXT,
                       together);
        lowmem_outcome o = run_refine_lowmem(&b, words);
        const char *of_b = strstr(o.out, "b.png"), *first = strstr(o.out, WORDS);
        cr_expect(o.code == 0 && first > of_b && strstr(first + 1, WORDS), "%s", o.out);
        const char *told = strstr(o.err, WORDS);
        cr_expect(told && !strstr(told + 1, WORDS), "%s", o.err);
        outcome_free(&o);
        for (const char *name = "a.png"; name; name = name[0] == 'a'   ? "b.png"
                                                      : name[0] == 'b' ? "c.png"
                                                                       : NULL)
            (void)unlink(bench_path(&b, name));
    }
    (void)lowmem_bench_close(&b);
}

/* Names are then those of the directory it is called in. */
Test(tools_refine_lowmem_base, reads_a_manifest_from_standard_input)
{
    lowmem_bench b = open_base_bench();
    char list[2 * TEMP_NAME];
    (void)snprintf(list, sizeof list, "{\"output\": \"%s\"}\n", bench_path(&b, "a.png"));
    temp_write(bench_path(&b, "list"), list, strlen(list));
    lowmem_outcome o = wait_refine_lowmem(
        &b,
        start_refine_lowmem(&b, "-m @base.pack --manifest - " FROM_TEXT, bench_path(&b, "list")));
    cr_expect_eq(o.code, 0, "%s", o.err);
    cr_expect_eq(access(bench_path(&b, "a.png"), R_OK), 0);
    outcome_free(&o);
    o = run_refine_lowmem(&b, "-m @base.pack --manifest - -i - -o @out -p x");
    cr_expect(o.code == 2 && strstr(o.err, "both want stdin"), "%d: %s", o.code, o.err);
    outcome_free(&o);
    (void)lowmem_bench_close(&b);
}

Test(tools_refine_lowmem_base, and_a_refiner_in_one_command_are_the_two_one_after_the_other)
{
    lowmem_bench b = open_base_bench();
    expect_lowmem_success(&b, ENSEMBLE "-o @one.png --output-latents @one.npy");
    expect_lowmem_success(&b,
                          "-m @base.pack --denoising-end 0.8 --output-latents @z.npy " FROM_TEXT);
    expect_lowmem_success(&b, "-m @ -i @z.npy -p cat --steps 5 --threads 1 --seed 7 "
                              "--denoising-start 0.8 -o @two.png --output-latents @two.npy");
    cr_expect(same_picture(&b, "one.png", "two.png"));
    cr_expect(is_bench_file_equal(&b, "one.npy", "two.npy"));
    char *base = png_text_of(bench_path(&b, "one.png"), "base_model");
    cr_expect_not_null(base);
    free(base);
    (void)lowmem_bench_close(&b);
}

/* The base's latents go on clean, with noise that goes on where the base's ended; or by way of
 * pixels. */
Test(tools_refine_lowmem_base, and_a_refiner_in_two_stages)
{
    lowmem_bench b = open_base_bench();
    expect_lowmem_success(&b, ENSEMBLE "--flow two-stage --strength 0.4 -o @one.png");
    expect_lowmem_success(&b, ENSEMBLE "--flow two-stage --strength 0.4 -o @small.png --vram 6M");
    expect_lowmem_success(&b, ENSEMBLE "--flow two-stage --strength 0.4 --via-pixels -o @px.png");
    cr_expect(same_picture(&b, "one.png", "small.png"));
    cr_expect_not(same_picture(&b, "one.png", "px.png"));
    char *strength = png_text_of(bench_path(&b, "one.png"), "second_stage_strength");
    cr_expect_str_eq(strength, "0.4");
    free(strength);
    (void)lowmem_bench_close(&b);
}

/* SDEdit whose last part is the refiner's. */
Test(tools_refine_lowmem_base, and_a_refiner_refine_a_photo)
{
    lowmem_bench b = open_base_bench();
    expect_lowmem_success(&b, "--base @base.pack -m @ -i @in.png -p cat --steps 5 --strength 0.8 "
                              "--handoff 0.6 --threads 1 --seed 7 -o @one.png");
    expect_lowmem_success(&b, "-m @base.pack -i @in.png -p cat --steps 5 --strength 0.8 "
                              "--denoising-end 0.6 --threads 1 --seed 7 --output-latents @z.npy");
    expect_lowmem_success(&b, "-m @ -i @z.npy -p cat --steps 5 --threads 1 --seed 7 "
                              "--denoising-start 0.6 -o @two.png");
    cr_expect(same_picture(&b, "one.png", "two.png"));
    (void)lowmem_bench_close(&b);
}

static void expect_list_outcome(const lowmem_bench *b, const char *list, const char *options,
                                const char *says)
{
    char words[512];
    temp_write(bench_path(b, "list"), list, strlen(list));
    (void)snprintf(words, sizeof words, ENSEMBLE "--manifest @list %s", options);
    lowmem_outcome o = run_refine_lowmem(b, words);
    cr_expect(o.code == 0 && strstr(o.err, says), "%d: %s", o.code, o.err);
    outcome_free(&o);
}

/* Of text strength says nothing, and every image is what a command of its own makes. */
Test(tools_refine_lowmem_base, and_a_refiner_make_the_images_of_a_manifest)
{
    static const char LIST[] = "{\"output\": \"a.png\"}\n"
                               "{\"output\": \"i.png\", \"input\": \"in.png\", \"strength\": 0.8}\n"
                               "{\"output\": \"t.png\", \"seed\": 9, \"strength\": 0}\n";
    lowmem_bench b = open_base_bench();
    expect_list_outcome(&b, LIST, "--handoff 0.6", "3 made, 0 there already, 0 failed");
    expect_list_outcome(&b, LIST, "--handoff 0.6",
                        "list: \"strength\" is not used for 1 of 3 images: they have no input\n");
    expect_list_outcome(&b, LIST, "--handoff 0.6", "0 made, 3 there already, 0 failed");
    expect_lowmem_success(&b, ENSEMBLE "--handoff 0.6 --seed 9 -o @one.png");
    expect_lowmem_success(&b, ENSEMBLE "--handoff 0.6 --strength 0.8 -i @in.png -o @photo.png");
    cr_expect(is_bench_file_equal(&b, "t.png", "one.png"));
    cr_expect(is_bench_file_equal(&b, "i.png", "photo.png"));
    (void)lowmem_bench_close(&b);
}

/* What the command says would be refused, and is no line's. */
Test(tools_refine_lowmem_base, and_a_refiner_take_steps_from_the_lines_of_a_manifest)
{
    static const char PHOTOS[] =
        "{\"output\": \"i.png\", \"input\": \"in.png\", \"strength\": 0.9}\n"
        "{\"output\": \"k.png\", \"input\": \"in.png\", \"strength\": 0.8}\n";
    static const char TEXTS[] = "{\"output\": \"t.png\", \"steps\": 4}\n"
                                "{\"output\": \"u.png\", \"steps\": 3}\n";
    lowmem_bench b = open_base_bench();
    expect_list_outcome(&b, PHOTOS, "--handoff 0.5", "2 made, 0 there already, 0 failed");
    expect_list_outcome(&b, TEXTS, "--steps 1", "2 made, 0 there already, 0 failed");
    (void)lowmem_bench_close(&b);
}

/* Only as many lie in memory as are made together. */
Test(tools_refine_lowmem_base, and_a_refiner_need_no_more_for_many_images_than_for_two)
{
    lowmem_bench b = open_base_bench();
    lowmem_outcome two = run_refine_lowmem(&b, ENSEMBLE "--ram 2M --batch 1 -o @out --count 2");
    lowmem_outcome many = run_refine_lowmem(&b, ENSEMBLE "--ram 2M --batch 1 -o @out --count 8");
    cr_expect_eq(two.code, 3, "%s", two.err);
    const char *one_says = strstr(two.err, "needs at least"),
               *other_says = strstr(many.err, "needs at least");
    cr_expect(one_says && other_says && strcmp(one_says, other_says) == 0, "%s%s", two.err,
              many.err);
    outcome_free(&two);
    outcome_free(&many);
    (void)lowmem_bench_close(&b);
}

Test(tools_refine_lowmem_base, and_a_refiner_make_several_images_in_two_stages)
{
    static const char LIST[] = "{\"output\": \"a.png\"}\n"
                               "{\"output\": \"s.png\", \"strength\": 0.8}\n";
    static const char PHOTO[] = "{}\n{\"input\": \"in.png\"}\n";
    static const refusal REFUSAL = { 2, ENSEMBLE "--flow two-stage --manifest @list -o @out",
                                     "list: line 2: --flow two-stage begins with text" };
    lowmem_bench b = open_base_bench();
    expect_lowmem_success(&b, ENSEMBLE "--flow two-stage --strength 0.4 --count 2 -o @out");
    expect_lowmem_success(&b, ENSEMBLE "--flow two-stage --strength 0.4 --seed 8 -o @one.png");
    cr_expect(is_bench_file_equal(&b, "out/0002.png", "one.png"));
    expect_list_outcome(&b, LIST, "--flow two-stage --strength 0.4", "2 made");
    expect_list_outcome(&b, LIST, "--flow two-stage --strength 0.4", "2 there already");
    expect_lowmem_success(&b, ENSEMBLE "--flow two-stage --strength 0.8 -o @strong.png");
    cr_expect(is_bench_file_equal(&b, "a.png", "out/0001.png"));
    cr_expect(is_bench_file_equal(&b, "s.png", "strong.png"));
    temp_write(bench_path(&b, "list"), PHOTO, strlen(PHOTO));
    expect_lowmem_refusal(&b, &REFUSAL);
    cr_assert(unlink(bench_path(&b, "out/0001.png")) == 0 &&
              unlink(bench_path(&b, "out/0002.png")) == 0 && rmdir(bench_path(&b, "out")) == 0);
    (void)lowmem_bench_close(&b);
}

/* Of an int8 base, which needs less than the refiner does. */
Test(tools_refine_lowmem_base, names_a_budget_that_both_parts_can_keep)
{
    static const char *const CEILINGS[] = { "--vram", "--ram" };
    static const char SMALL_BASE[] = "--base @small.pack -m @ --plan " FROM_TEXT;
    lowmem_bench b = lowmem_bench_open();
    char words[512];
    add_bench_pack(&b, "small.pack", "synthetic:tiny-base", "--weights int8");
    for (int i = 0; i < 2; i++) {
        (void)snprintf(words, sizeof words, "%s%s 1M", SMALL_BASE, CEILINGS[i]);
        lowmem_outcome o = run_refine_lowmem(&b, words);
        cr_assert_eq(o.code, 3, "%s", o.err);
        const char *named = strstr(o.err, CEILINGS[i]);
        cr_assert_not_null(named, "%s", o.err);
        (void)snprintf(words, sizeof words, "%s%.*s", SMALL_BASE, (int)strcspn(named, "M") + 1,
                       named);
        outcome_free(&o);
        expect_lowmem_success(&b, words);
    }
    (void)lowmem_bench_close(&b);
}

/* An int8 refiner needs less than the base does before it. */
static uint64_t planned_bytes(const lowmem_bench *b, const char *words, const char *key)
{
    char plan[512];
    (void)snprintf(plan, sizeof plan, "%s--plan --json", words);
    lowmem_outcome o = run_refine_lowmem(b, plan);
    cr_assert_eq(o.code, 0, "%s", o.err);
    json_t *root = json_loads(o.out, 0, NULL);
    const json_int_t v = json_integer_value(json_object_get(json_object_get(root, "memory"), key));
    cr_assert_gt(v, 0, "%s", o.out);
    json_decref(root);
    outcome_free(&o);
    return (uint64_t)v;
}

/* To the byte, whatever the words of the command add to what is in memory. */
Test(tools_refine_lowmem_base, keeps_the_smallest_ceilings_that_its_plan_names)
{
    static const char *const JOBS[] = { ENSEMBLE, ("-m @base.pack " FROM_TEXT),
                                        "-m @ -i @in.png -p x --steps 5 --threads 1 --seed 7 " };
    static const char *const CEILINGS[][2] = { { "smallest_host", "--ram" },
                                               { "smallest_device", "--vram" } };
    lowmem_bench b = open_base_bench();
    for (size_t i = 0; i < 6; i++) {
        const char *const *c = CEILINGS[i % 2];
        const uint64_t least = planned_bytes(&b, JOBS[i / 2], c[0]);
        for (int less = 0; less < 2; less++) {
            char words[512];
            (void)snprintf(words, sizeof words, "%s%s %llu -o @o.png", JOBS[i / 2], c[1],
                           (unsigned long long)least - (unsigned long long)less);
            lowmem_outcome o = run_refine_lowmem(&b, words);
            cr_expect_eq(o.code, less ? 3 : 0, "%s: %s", words, o.err);
            outcome_free(&o);
        }
    }
    (void)lowmem_bench_close(&b);
}

Test(tools_refine_lowmem_base, keeps_the_larger_parts_plan)
{
    lowmem_bench b = open_base_bench();
    add_bench_pack(&b, "small.pack", "synthetic:tiny", "--weights int8");
    lowmem_outcome o = run_refine_lowmem(&b, "--base @base.pack -m @small.pack -o @o.png --json "
                                             "--quiet --vram 90M --ram 16M " FROM_TEXT);
    cr_assert_eq(o.code, 0, "%s", o.err);
    json_t *whole = json_loads(o.out, 0, NULL), *memory = json_object_get(whole, "memory");
    const json_int_t peak = json_integer_value(json_object_get(memory, "host_peak"));
    cr_expect(peak > 0 && peak <= json_integer_value(json_object_get(memory, "host_planned")));
    json_decref(whole);
    outcome_free(&o);
    (void)lowmem_bench_close(&b);
}

/* It is of the run, whichever of the two encodes or decodes. */
Test(tools_refine_lowmem_base, plans_once_for_what_leaves_the_device)
{
    static const char SPILLS[] = "feature maps leave the device";
    lowmem_bench b = open_base_bench();
    lowmem_outcome o = run_refine_lowmem(
        &b, "--base @base.pack -m @ -p x --size 512 --steps 5 --device cpu --vram 12M --plan");
    const char *first = strstr(o.out, SPILLS);
    cr_expect(first && !strstr(first + 1, SPILLS) && strstr(first, "the base\n"), "%s%s", o.out,
              o.err);
    outcome_free(&o);
    (void)lowmem_bench_close(&b);
}

Test(tools_refine_lowmem_base, reports_both_parts)
{
    lowmem_bench b = open_base_bench();
    lowmem_outcome o = run_refine_lowmem(&b, ENSEMBLE "-o @one.png --json --quiet --handoff 0.6");
    cr_assert_eq(o.code, 0, "%s", o.err);
    json_t *whole = json_loads(o.out, 0, NULL), *base = json_object_get(whole, "base");
    cr_expect_eq(json_integer_value(json_object_get(whole, "steps_run")), 2);
    cr_expect_eq(json_integer_value(json_object_get(base, "steps_run")), 3);
    cr_expect_eq(json_real_value(json_object_get(json_object_get(whole, "run"), "handoff")), 0.6);
    json_decref(whole);
    outcome_free(&o);
    o = run_refine_lowmem(&b, ENSEMBLE "--plan --handoff 0.6");
    cr_assert_eq(o.code, 0, "%s", o.err);
    cr_expect_not_null(strstr(o.out, "3 steps of the base and 2 steps of the refiner"), "%s",
                       o.out);
    outcome_free(&o);
    cr_expect_eq(lowmem_bench_close(&b), 2, "a plan made a file");
}

Test(tools_refine_lowmem_base, refuses_models_at_the_wrong_place_before_any_work)
{
    static const refusal CASES[] = {
        { 2, "--base @ -m @ -o @o.png " FROM_TEXT, "is a refiner, where a base is wanted" },
        { 2, "--base @base.pack -m @base.pack -o @o.png " FROM_TEXT,
          "is a base, where a refiner is wanted" },
        { 2, ENSEMBLE "-o @o.png -i @in.png --flow two-stage", "leave out -i INPUT" },
        { 2, "-m @base.pack -o @o.png --flow two-stage " FROM_TEXT, "give --base" },
        { 2, "-m @base.pack -o @o.png --flow ensemble " FROM_TEXT, "give --base" },
        { 2, "-m @base.pack -o @o.png --strength 0.5 " FROM_TEXT, "--strength is of an input" },
        { 2, ENSEMBLE "-o @o.png --flow two-stage --handoff 0.5", "--flow ensemble" },
        { 2, "-m @base.pack -o @o.png --handoff 0.5 " FROM_TEXT, "give --base" },
        { 2, ENSEMBLE "-o @o.png --via-pixels", "--flow two-stage" },
        { 2, ENSEMBLE "-o @o.png --denoising-end 0.5", "--handoff" },
        { 2, ENSEMBLE "-o @o.png --compare @", "is for one model: leave out --base" },
        { 2, ENSEMBLE "-o @o.png --handoff 1", "above 0 and below 1" },
        { 2, ENSEMBLE "-o @base.pack", "the base (--base)" },
        { 2, ENSEMBLE "-o @o.png --clip-skip 3", "clip skip must be between 0 and 2" },
        { 2, ENSEMBLE "-o @o.png --crop 8x8", "left and top" },
        { 2, ENSEMBLE "-o @o.png --negative-target-size 0x8", "each side from 1 to 65536" },
        { 3, ENSEMBLE "-o @o.png --vram 1M", "--vram" },
    };
    lowmem_bench b = open_base_bench();
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++)
        expect_lowmem_refusal(&b, &CASES[i]);
    cr_expect_eq(lowmem_bench_close(&b), 1, "a refused run made a file");
}

/* What it says of an image that is there, made with `made` and asked for with `asked`. */
static bool is_taken_for_done(const lowmem_bench *b, const char *made, const char *asked)
{
    static const char JOBS[] = "-m @base.pack -i @in.png -i @in2.png -o @dir -p cat --seed 7 "
                               "--steps 5 --strength 0.4 --threads 1 ";
    char words[512];
    (void)snprintf(words, sizeof words, "%s%s", JOBS, made);
    lowmem_outcome o = run_refine_lowmem(b, words);
    cr_assert_eq(o.code, 0, "%s: %s", words, o.err);
    outcome_free(&o);
    (void)snprintf(words, sizeof words, "%s%s", JOBS, asked);
    o = run_refine_lowmem(b, words);
    cr_assert_eq(o.code, 0, "%s: %s", words, o.err);
    const bool done = strstr(o.err, "2 there already") != NULL;
    outcome_free(&o);
    (void)unlink(bench_path(b, "dir/in.png"));
    (void)unlink(bench_path(b, "dir/in2.png"));
    return done;
}

ReleaseTest(tools_refine_lowmem_base, takes_no_image_for_another_that_is_there_already)
{
    static const char *const OTHERS[] = { "--negative=",         "--prompt-2 dog",
                                          "--denoising-end 0.9", "-n bad --negative-2 ugly",
                                          "--clip-skip 1",       "--original-size 512x384",
                                          "--negative-crop 0,8" };
    lowmem_bench b = open_base_bench();
    cr_assert_eq(link(bench_path(&b, "in.png"), bench_path(&b, "in2.png")), 0);
    cr_expect(is_taken_for_done(&b, "--quiet", ""));
    for (size_t i = 0; i < sizeof OTHERS / sizeof OTHERS[0]; i++) {
        cr_expect(is_taken_for_done(&b, OTHERS[i], OTHERS[i]), "%s", OTHERS[i]);
        cr_expect_not(is_taken_for_done(&b, OTHERS[i], ""), "made with %s", OTHERS[i]);
        cr_expect_not(is_taken_for_done(&b, "--quiet", OTHERS[i]), "asked for %s", OTHERS[i]);
    }
    (void)rmdir(bench_path(&b, "dir"));
    (void)lowmem_bench_close(&b);
}

Test(tools_refine_lowmem_base, warns_of_whichever_prompt_was_cut)
{
    lowmem_bench b = open_base_bench();
    char words[2048] = "-m @base.pack -o @o.png --size 64x64 --steps 2 --prompt-2 hi -p cat";
    for (int i = 0; i < 90; i++)
        strcat(words, ",cat");
    lowmem_outcome o = run_refine_lowmem(&b, words);
    cr_assert_eq(o.code, 0, "%s", o.err);
    cr_expect_not_null(strstr(o.err, "was cut"), "%s", o.err);
    outcome_free(&o);
    (void)lowmem_bench_close(&b);
}

Test(tools_refine_lowmem_base, tells_where_base_and_refiner_space_their_steps_differently)
{
    static const char NOTE[] = "the refiner expects";
    lowmem_bench b = open_base_bench();
    add_bench_pack(&b, "trailing.pack", "synthetic:tiny-base", "--spacing trailing");
    lowmem_outcome o = run_refine_lowmem(&b, "--base @trailing.pack -m @ --plan " FROM_TEXT);
    cr_expect_not_null(strstr(o.out, NOTE), "%s", o.out);
    outcome_free(&o);
    /* Its steps are so far apart that it reaches the end. */
    o = run_refine_lowmem(&b, "--base @trailing.pack -m @ --plan " FROM_TEXT "--steps 4");
    cr_expect_not_null(strstr(o.out, "noise of 0 and the refiner expects"), "%s", o.out);
    outcome_free(&o);
    o = run_refine_lowmem(&b, "--base @trailing.pack -m @ --flow two-stage --plan " FROM_TEXT);
    cr_expect(o.code == 0 && !strstr(o.out, NOTE), "%s%s", o.out, o.err);
    outcome_free(&o);
    o = run_refine_lowmem(&b, ENSEMBLE "--plan");
    cr_expect(o.code == 0 && !strstr(o.out, NOTE), "%s%s", o.out, o.err);
    outcome_free(&o);
    (void)lowmem_bench_close(&b);
}

Test(tools_refine_lowmem_base, tells_whose_vae_decodes_where_they_differ)
{
    static const char NOTE[] = "the refiner's decodes";
    lowmem_bench b = open_base_bench();
    add_bench_pack(&b, "other.pack", "synthetic:tiny-base:5", "");
    add_bench_pack(&b, "int8.pack", "synthetic:tiny-base", "--weights int8 --codec raw");
    lowmem_outcome o = run_refine_lowmem(&b, "--base @other.pack -m @ --plan " FROM_TEXT);
    cr_expect_not_null(strstr(o.out, NOTE), "%s", o.out);
    outcome_free(&o);
    o = run_refine_lowmem(&b, "--base @int8.pack -m @ --plan " FROM_TEXT);
    cr_expect(o.code == 0 && !strstr(o.out, NOTE), "%s%s", o.out, o.err);
    outcome_free(&o);
    (void)lowmem_bench_close(&b);
}

static double memory_member(const json_t *result, const char *key)
{
    return json_number_value(json_object_get(json_object_get(result, "memory"), key));
}

/* The image that is to be written is there before the plan, and so counts in it. */
ReleaseTest(tools_refine_lowmem_base, takes_as_much_memory_as_foretold)
{
    static const double MOST = 1.5 * (1 << 20);
    lowmem_bench b = open_base_bench();
    lowmem_outcome o = run_refine_lowmem(
        &b, "-m @base.pack -o @o.png -p cat --size 768x768 --steps 1 --device cpu --vram 200M "
            "--ram 20M --json");
    json_t *result = json_loads(o.out, 0, NULL);
    cr_assert(o.code == 0 && result, "%s", o.err);
    const double planned = memory_member(result, "rss_planned"),
                 peak = memory_member(result, "rss_peak");
    cr_expect(peak > 0 && peak < planned + MOST, "%.0f, not %.0f", peak, planned);
    json_decref(result);
    outcome_free(&o);
    (void)lowmem_bench_close(&b);
}
