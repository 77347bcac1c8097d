/* tests/tools/test_refine_lowmem_files.c -- several images in one run, and files that must stay as
 * they are: no output replaces what is read, or another output. */
#define _XOPEN_SOURCE 700
#include "tests/support/lowmem_bench.h"
#include "tests/support/tiny_pack.h"
#include "tools/image/image_io.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- several images ---- */

#define MANY "-m @ -p cat --steps 10 --threads 1 --seed 7 "

static void add_picture(const lowmem_bench *b, const char *name, int w, int h)
{
    static uint8_t rgb[96 * 64 * 3];
    cr_assert_leq((size_t)(w * h * 3), sizeof rgb);
    for (int i = 0; i < w * h * 3; i++)
        rgb[i] = (uint8_t)(i * (name[0] - '0' + 3));
    cr_assert_eq(image_save(bench_path(b, name), &(image){ w, h, rgb }, NULL, 0, NULL), REFINE_OK);
}

static void write_bench_text(const lowmem_bench *b, const char *name, const char *text)
{
    temp_write(bench_path(b, name), text, strlen(text));
}

Test(tools_refine_lowmem_files, refines_many_as_it_would_each)
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

    /* Of another input, or cut off in its pixels. */
    add_picture(&b, "9.png", 96, 64);
    cr_assert_eq(rename(bench_path(&b, "9.png"), bench_path(&b, "1.png")), 0);
    cr_assert_eq(truncate(bench_path(&b, "out/2.png"), 1000), 0);
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

/* The same weights all, and not the same results, but for the last one's. */
Test(tools_refine_lowmem_files, makes_an_image_anew_with_a_pack_that_gives_another)
{
    static const struct {
        const char *packed;
        bool there;
    } MODELS[] = {
        { "--weights int8", false },
        { "--spacing trailing", false },
        { "--prediction v", false },
        { "--sampler euler-ancestral", false },
        { "", false },
        { "--codec raw --chunk 64K", true },
    };
    lowmem_bench b = lowmem_bench_open();
    add_picture(&b, "1.png", 96, 64);
    cr_assert_eq(mkdir(bench_path(&b, "d"), 0700), 0);
    cr_assert_eq(rename(bench_path(&b, "1.png"), bench_path(&b, "d/1.png")), 0);
    expect_lowmem_success(&b, MANY "-i @d -o @out");
    for (size_t i = 0; i < sizeof MODELS / sizeof MODELS[0]; i++) {
        char path[BENCH_PATH], words[BENCH_PATH + 128];
        tiny_pack(path, sizeof path, MODELS[i].packed);
        (void)snprintf(words, sizeof words,
                       "-m %s -p cat --steps 10 --threads 1 --seed 7 -i @d -o @out", path);
        lowmem_outcome o = run_refine_lowmem(&b, words);
        cr_expect(o.code == 0 && !strstr(o.err, "1.png is there already") == !MODELS[i].there,
                  "%s: %s", MODELS[i].packed, o.err);
        outcome_free(&o);
        (void)unlink(path);
    }
    cr_assert(unlink(bench_path(&b, "d/1.png")) == 0 && unlink(bench_path(&b, "out/1.png")) == 0);
    cr_assert(rmdir(bench_path(&b, "d")) == 0 && rmdir(bench_path(&b, "out")) == 0);
    (void)lowmem_bench_close(&b);
}

/* The second of each is there already where it is the first spelt otherwise. */
Test(tools_refine_lowmem_files, makes_an_image_anew_that_differs_in_little)
{
    static const struct {
        const char *first, *second;
        bool there;
    } PAIRS[] = {
        { "--device cpu", "--device ref", false },
        { "--strength 1 --steps 2", "--strength 0.99999999 --steps 2", false },
        { "--guidance 5", "--guidance 5.0000005", false },
        { "", "--tokenizer tools/vocabulary/bpe_simple_vocab_16e6.txt.gz", false },
        { "--strength 0.34", "--strength 3.4e-1 --threads 2 --batch 1 --reader pread", true },
    };
    lowmem_bench b = lowmem_bench_open();
    add_picture(&b, "1.png", 64, 64);
    write_bench_text(&b, "list", "{\"input\": \"1.png\", \"output\": \"a.png\"}\n");
    for (size_t i = 0; i < sizeof PAIRS / sizeof PAIRS[0]; i++) {
        char words[256];
        (void)snprintf(words, sizeof words, MANY "--precision f32 --manifest @list %s",
                       PAIRS[i].first);
        expect_lowmem_success(&b, words);
        (void)snprintf(words, sizeof words, MANY "--precision f32 --manifest @list %s",
                       PAIRS[i].second);
        lowmem_outcome o = run_refine_lowmem(&b, words);
        cr_expect(o.code == 0 && !strstr(o.err, "is there already") == !PAIRS[i].there, "%s: %s",
                  PAIRS[i].second, o.err);
        outcome_free(&o);
        cr_assert_eq(unlink(bench_path(&b, "a.png")), 0);
    }
    (void)lowmem_bench_close(&b);
}

/* A picture, or anything else, of somebody else's; what is empty or cut off is nobody's. */
Test(tools_refine_lowmem_files, replaces_nothing_that_it_did_not_make)
{
    lowmem_bench b = lowmem_bench_open();
    add_picture(&b, "1.png", 64, 64);
    add_picture(&b, "a.png", 64, 64);
    write_bench_text(&b, "b.png", "notes");
    write_bench_text(&b, "c.png", "");
    write_bench_text(&b, "list",
                     "{\"input\": \"1.png\", \"output\": \"a.png\"}\n"
                     "{\"input\": \"1.png\", \"output\": \"b.png\"}\n"
                     "{\"input\": \"1.png\", \"output\": \"c.png\"}\n");
    lowmem_outcome o = run_refine_lowmem(&b, MANY "--manifest @list");
    cr_expect(o.code == 4 && strstr(o.err, "a.png: is there, and no image of this program's") &&
                  strstr(o.err, "b.png: is there, and no") && strstr(o.err, "1 made"),
              "%d: %s", o.code, o.err);
    outcome_free(&o);
    cr_assert_eq(truncate(bench_path(&b, "c.png"), 1000), 0);
    o = run_refine_lowmem(&b, MANY "--manifest @list");
    cr_expect(o.code == 4 && strstr(o.err, "1 made, 0 there already, 2 failed"), "%s", o.err);
    outcome_free(&o);
    o = run_refine_lowmem(&b, MANY "--manifest @list");
    cr_expect(o.code == 4 && strstr(o.err, "0 made, 1 there already, 2 failed"), "%s", o.err);
    outcome_free(&o);
    (void)lowmem_bench_close(&b);
}

/* The second image comes through a pipe, when nothing was in the way of the first. */
Test(tools_refine_lowmem_files, replaces_nothing_that_came_meanwhile)
{
    lowmem_bench b = lowmem_bench_open();
    size_t n;
    add_picture(&b, "1.png", 64, 64);
    cr_assert_eq(mkfifo(bench_path(&b, "2.png"), 0600), 0);
    write_bench_text(&b, "list",
                     "{\"input\": \"1.png\", \"output\": \"a.png\"}\n"
                     "{\"input\": \"2.png\", \"output\": \"b.png\"}\n");
    const pid_t pid = start_refine_lowmem(&b, MANY "--manifest @list --batch 2", NULL);
    FILE *pipe = fopen(bench_path(&b, "2.png"), "wb");
    cr_assert_not_null(pipe);
    write_bench_text(&b, "a.png", "notes");
    unsigned char *picture = temp_read(bench_path(&b, "1.png"), &n);
    cr_assert(fwrite(picture, 1, n, pipe) == n && fclose(pipe) == 0);
    free(picture);
    lowmem_outcome o = wait_refine_lowmem(&b, pid);
    cr_expect(o.code == 4 && strstr(o.err, "a.png: is there, and no image of this program's") &&
                  strstr(o.err, "1 made, 0 there already, 1 failed"),
              "%d: %s", o.code, o.err);
    outcome_free(&o);
    unsigned char *left = temp_read(bench_path(&b, "a.png"), &n);
    cr_expect(n == 5 && memcmp(left, "notes", 5) == 0);
    free(left);
    lowmem_bench_close(&b);
}

Test(tools_refine_lowmem_files, makes_an_image_anew_on_another_background)
{
    lowmem_bench b = lowmem_bench_open();
    add_picture(&b, "1.png", 64, 64);
    write_bench_text(&b, "list", "{\"input\": \"1.png\", \"output\": \"a.png\"}\n");
    expect_lowmem_success(&b, MANY "--manifest @list");
    lowmem_outcome o = run_refine_lowmem(&b, MANY "--manifest @list --background #00ff00");
    cr_expect(o.code == 0 && strstr(o.err, "a.png\n") && !strstr(o.err, "already"), "%s", o.err);
    outcome_free(&o);
    o = run_refine_lowmem(&b, MANY "--manifest @list --background #00FF00");
    cr_expect(o.code == 0 && strstr(o.err, "a.png is there already"), "%s", o.err);
    outcome_free(&o);
    char *text = png_text_of(bench_path(&b, "a.png"), "background");
    cr_expect_str_eq(text, "#00ff00");
    free(text);
    lowmem_bench_close(&b);
}

Test(tools_refine_lowmem_files, writes_a_jpeg_where_the_name_says_so_and_finds_it_there)
{
    lowmem_bench b = lowmem_bench_open();
    add_picture(&b, "1.png", 64, 64);
    write_bench_text(&b, "list", "{\"input\": \"1.png\", \"output\": \"a.jpg\"}\n");
    expect_lowmem_success(&b, MANY "-i @1.png -o @b.jpg");
    expect_lowmem_success(&b, MANY "--manifest @list");
    cr_expect(is_bench_file_equal(&b, "a.jpg", "b.jpg"));
    lowmem_outcome o = run_refine_lowmem(&b, MANY "--manifest @list");
    cr_expect(o.code == 0 && strstr(o.err, "a.jpg is there already"), "%s", o.err);
    outcome_free(&o);
    o = run_refine_lowmem(&b, MANY "--manifest @list -n dog");
    cr_expect(o.code == 0 && !strstr(o.err, "already"), "%s", o.err);
    outcome_free(&o);
    cr_expect(!is_bench_file_equal(&b, "a.jpg", "b.jpg"));
    write_bench_text(&b, "list",
                     "{\"input\": \"1.png\", \"output\": \"c.png\"}\n"
                     "{\"input\": \"1.png\", \"output\": \"d.gif\"}\n");
    expect_lowmem_refusal(&b, &(refusal){ 2, MANY "--manifest @list", "d.gif: images are" });
    cr_expect_eq(access(bench_path(&b, "c.png"), F_OK), -1);
    lowmem_bench_close(&b);
}

/* Nobody will ever write into the pipe. */
Test(tools_refine_lowmem_files, waits_for_no_pipe_of_a_directory_and_for_others_until_a_signal)
{
    lowmem_bench b = lowmem_bench_open();
    cr_assert_eq(mkdir(bench_path(&b, "dir"), 0700), 0);
    add_picture(&b, "dir/a.png", 64, 64);
    cr_assert_eq(mkfifo(bench_path(&b, "dir/p.png"), 0600), 0);
    lowmem_outcome o = run_refine_lowmem(&b, MANY "-i @dir -o @out");
    cr_expect(o.code == 0 && strstr(o.err, "1 left out") && strstr(o.err, ": p.png"), "%s", o.err);
    outcome_free(&o);

    const pid_t pid = start_refine_lowmem(&b, MANY "-i @dir/a.png -i @dir/p.png -o @out2", NULL);
    sleep(1); /* it may end earlier, and does not wait then */
    cr_assert_eq(kill(pid, SIGTERM), 0);
    o = wait_refine_lowmem(&b, pid);
    cr_expect_eq(o.code, 128 + SIGTERM, "%s", o.err);
    outcome_free(&o);
    (void)unlink(bench_path(&b, "dir/p.png"));
    (void)unlink(bench_path(&b, "dir/a.png"));
    (void)rmdir(bench_path(&b, "dir"));
    (void)unlink(bench_path(&b, "out/a.png"));
    (void)unlink(bench_path(&b, "out2/a.png"));
    (void)rmdir(bench_path(&b, "out"));
    (void)rmdir(bench_path(&b, "out2"));
    (void)lowmem_bench_close(&b);
}

Test(tools_refine_lowmem_files, names_the_inputs_that_would_become_one_image)
{
    lowmem_bench b = lowmem_bench_open();
    add_picture(&b, "a.png", 64, 64);
    add_picture(&b, "a.PNG", 64, 64);
    expect_lowmem_refusal(&b,
                          &(refusal){ 2, MANY "-i @a.png -i @a.PNG -o @out", "would both become" });
    (void)lowmem_bench_close(&b);
}

/* The second image needs more memory than was set aside beside the engine of the first, the third
 * more than there is: zeros behind them are part of their files. */
Test(tools_refine_lowmem_files, lets_an_image_wait_until_there_is_memory_to_read_it)
{
    lowmem_bench b = lowmem_bench_open();
    for (int i = 1; i <= 4; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "%d.png", i);
        add_picture(&b, name, 64, 64);
    }
    cr_assert_eq(truncate(bench_path(&b, "2.png"), 4 << 20), 0);
    cr_assert_eq(truncate(bench_path(&b, "3.png"), 41 << 20), 0);
    lowmem_outcome o = run_refine_lowmem(
        &b, MANY "-i @1.png -i @2.png -i @3.png -i @4.png -o @out --batch 1 --ram 40M");
    cr_expect_eq(o.code, 4, "%s", o.err);
    cr_expect(strstr(o.err, "3.png: reading it alone takes") && strstr(o.err, "3 made"), "%s",
              o.err);
    outcome_free(&o);
    expect_lowmem_success(&b, MANY "-i @2.png -o @a.png");
    cr_expect(same_picture(&b, "out/2.png", "a.png"));
    for (int i = 1; i <= 4; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "out/%d.png", i);
        cr_expect_eq(unlink(bench_path(&b, name)) == 0, i != 3);
    }
    cr_assert_eq(rmdir(bench_path(&b, "out")), 0);
    lowmem_bench_close(&b);
}

Test(tools_refine_lowmem_files, one_bad_picture_does_not_lose_the_others)
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
    const char *bad = strstr(o.out, "b.png\",\n \"error\": \"");
    cr_expect(bad && strstr(bad, "2.png: is no image"), "%s", o.out);
    outcome_free(&o);
    o = run_refine_lowmem(&b, MANY "--manifest @list --json");
    cr_expect(strstr(o.out, "c.png\",\n \"there_already\": true\n"), "%s", o.out);
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

Test(tools_refine_lowmem_files, refuses_lists_that_make_no_sense)
{
    static const struct {
        const char *words, *list;
        int code;
    } CASES[] = {
        { MANY "--manifest @list -o @", "[1]\n", 4 },
        { MANY "--manifest @list -o @out", "{\"prompt\": \"x\"}\n", 4 },
        { MANY "--manifest @list -o @out", "{\"input\": \"in.png\", \"strength\": 0}\n", 4 },
        { "-m @ --manifest @list -o @out", "{\"input\": \"in.png\"}\n", 2 },
        { MANY "-i - --count 2 -o @out", "", 2 },
        { MANY "-i @in.png --count 2 -o -", "", 2 },
        { MANY "-i @in.png --count 0 -o @out", "", 2 },
        { MANY "--manifest @list -o @", "{\"input\": 3}\n", 4 },
        { MANY "--manifest @list -o @", "{\"input\": \"in.png\", \"seed\": -2}\n", 4 },
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

/* Kinds take turns in the list, and yet each image is what a command of its own makes. */
Test(tools_refine_lowmem_files, refines_each_image_of_a_manifest_in_its_own_way)
{
    static const struct {
        const char *line, *words;
    } IMAGES[] = {
        { "\"steps\": 6, \"strength\": 0.8", "--steps 6 --strength 0.8 -p cat --seed 7" },
        { "\"strength\": 0.5, \"seed\": 3", "--strength 0.5 -p cat --seed 3" },
        { "\"guidance\": 1", "--guidance 1 -p cat --seed 7" },
        { "\"steps\": 6, \"strength\": 0.8, \"prompt\": \"dog\"",
          "--steps 6 --strength 0.8 -p dog --seed 7" },
        { "\"strength\": 0.5, \"negative\": \"bad\"", "--strength 0.5 -n bad -p cat --seed 7" },
        { "\"prompt\": \"dog\"", "-p dog --seed 7" },
        { "\"strength\": 0.8", "--strength 0.8 -p cat --seed 7" },
    };
    enum { N = sizeof IMAGES / sizeof IMAGES[0] };
    lowmem_bench b = lowmem_bench_open();
    char list[1024] = "", words[256], many[24], one[24];
    for (int i = 0; i < N; i++)
        (void)snprintf(list + strlen(list), sizeof list - strlen(list),
                       "{\"input\": \"1.png\", \"output\": \"m%d.png\", %s}\n", i, IMAGES[i].line);
    add_picture(&b, "1.png", 64, 64);
    write_bench_text(&b, "list", list);
    lowmem_outcome o = run_refine_lowmem(
        &b, "-m @ -p cat --steps 4 --threads 1 --seed 7 --manifest @list");
    cr_expect(o.code == 0 && strstr(o.err, "7 made, 0 there already, 0 failed"), "%s", o.err);
    cr_expect(strstr(o.err, "another order"), "%s", o.err);
    const char *fallback = strstr(o.err, "on the CPU");
    cr_expect(!fallback || !strstr(fallback + 1, "on the CPU"), "said twice: %s", o.err);
    outcome_free(&o);
    for (int i = 0; i < N; i++) {
        (void)snprintf(words, sizeof words, "-m @ -i @1.png --steps 4 --threads 1 -o @o%d.png %s",
                       i, IMAGES[i].words);
        expect_lowmem_success(&b, words);
        (void)snprintf(many, sizeof many, "m%d.png", i);
        (void)snprintf(one, sizeof one, "o%d.png", i);
        cr_expect(is_bench_file_equal(&b, many, one), "%s", IMAGES[i].words);
    }
    o = run_refine_lowmem(&b, "-m @ -p cat --steps 4 --threads 1 --seed 7 --manifest @list");
    cr_expect(o.code == 0 && strstr(o.err, "0 made, 7 there already"), "%s", o.err);
    outcome_free(&o);
    (void)lowmem_bench_close(&b);
}

Test(tools_refine_lowmem_files, makes_so_many_of_an_input_with_seeds_in_a_row)
{
    lowmem_bench b = lowmem_bench_open();
    lowmem_outcome o = run_refine_lowmem(&b, MANY "-i @in.png --count 3 -o @out");
    cr_expect(o.code == 0 && strstr(o.err, "3 made"), "%s", o.err);
    outcome_free(&o);
    expect_lowmem_success(&b, MANY "--seed 9 -i @in.png -o @one.png");
    cr_expect(is_bench_file_equal(&b, "out/in-3.png", "one.png"));
    o = run_refine_lowmem(&b, MANY "-i @in.png --seed -1 --count 3 -o @out");
    cr_expect(o.code == 0 && strstr(o.err, "3 there already"), "any seed does: %s", o.err);
    outcome_free(&o);
    for (int i = 1; i <= 3; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "out/in-%d.png", i);
        cr_assert_eq(unlink(bench_path(&b, name)), 0);
    }
    cr_assert_eq(rmdir(bench_path(&b, "out")), 0);
    (void)lowmem_bench_close(&b);
}

/* The notes of the result of this output, on one line; NULL: there is no such result. */
static char *notes_of_result(const char *results, const char *output)
{
    char *notes = NULL;
    json_error_t e;
    for (const char *p = results; *p && !notes; p += e.position) {
        json_t *o = json_loads(p, JSON_DISABLE_EOF_CHECK, &e);
        cr_assert_not_null(o, "%s: %s", e.text, p);
        if (strstr(json_string_value(json_object_get(o, "output")), output))
            notes = json_dumps(json_object_get(o, "notes"), JSON_COMPACT);
        json_decref(o);
        e.position += (int)strspn(p + e.position, "\n");
    }
    return notes;
}

Test(tools_refine_lowmem_files, says_once_and_in_the_result_what_it_decided)
{
    lowmem_bench b = lowmem_bench_open();
    char list[2048];
    (void)snprintf(
        list, sizeof list,
        "{\"input\": \"1.png\", \"output\": \"a.png\"}\n"
        "{\"input\": \"in.png\", \"output\": \"b.png\", \"prompt\": \"%.*s\"}\n",
        200,
        "cat,cat,cat,cat,cat,cat,cat,cat,cat,cat,cat,cat,cat,cat,cat,cat,cat,cat,cat,cat,"
        "cat,cat,cat,cat,cat,cat,cat,cat,cat,cat,cat,cat,cat,cat,cat,cat,cat,cat,cat,cat,"
        "cat,cat,cat,cat,cat,cat,cat,cat,cat,cat,cat,cat");
    write_bench_text(&b, "list", list);
    add_picture(&b, "1.png", 96, 64);
    lowmem_outcome o = run_refine_lowmem(&b, MANY "--manifest @list --json --batch 2");
    cr_assert_eq(o.code, 0, "%s", o.err);
    char *first = notes_of_result(o.out, "a.png"), *second = notes_of_result(o.out, "b.png");
    cr_expect(first && !strstr(first, "tokens") && !strstr(first, "pixels"), "%s", first);
    cr_expect(second && strstr(second, "b.png: the prompt has ") &&
                  strstr(second, "101 x 67 pixels became 96 x 64"),
              "%s", second);
    const char *told = strstr(o.err, "tokens");
    cr_expect(told && !strstr(told + 1, "tokens"), "%s", o.err);
    cr_expect(strstr(o.err, "predicted for 2 images"), "%s", o.err);
    free(first);
    free(second);
    outcome_free(&o);
    (void)lowmem_bench_close(&b);
}

Test(tools_refine_lowmem_files, names_what_it_left_out_of_a_directory)
{
    lowmem_bench b = lowmem_bench_open();
    cr_assert(mkdir(bench_path(&b, "d"), 0700) == 0 && mkdir(bench_path(&b, "d/in"), 0700) == 0);
    add_picture(&b, "d/1.png", 64, 64);
    write_bench_text(&b, "d/2.webp", "RIFF");
    lowmem_outcome o = run_refine_lowmem(&b, MANY "-i @d -o @out --json");
    cr_assert_eq(o.code, 0, "%s", o.err);
    char *notes = notes_of_result(o.out, "1.png");
    cr_expect(strstr(o.err, "2.webp") && strstr(o.err, "in/") && strstr(o.err, "2 left out"), "%s",
              o.err);
    cr_expect(notes && strstr(notes, "2.webp"), "%s", notes);
    free(notes);
    outcome_free(&o);
    cr_assert(unlink(bench_path(&b, "d/1.png")) == 0 && unlink(bench_path(&b, "d/2.webp")) == 0 &&
              unlink(bench_path(&b, "out/1.png")) == 0 && rmdir(bench_path(&b, "d/in")) == 0 &&
              rmdir(bench_path(&b, "d")) == 0 && rmdir(bench_path(&b, "out")) == 0);
    (void)lowmem_bench_close(&b);
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
Test(tools_refine_lowmem_files, replaces_nothing_that_it_reads)
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

Test(tools_refine_lowmem_files, writes_every_output_to_a_file_of_its_own)
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
Test(tools_refine_lowmem_files, replaces_nothing_that_a_list_names)
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
Test(tools_refine_lowmem_files, refines_beside_the_originals_when_they_are_named)
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
