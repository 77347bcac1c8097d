/* tests/tools/test_work_list.c -- which files are inputs, and what their outputs are called. */
#include "tools/batch/work_list.h"

#include "engine/base/mem.h"
#include "tests/support/random.h"
#include "tests/support/temp_place.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH = TEMP_NAME + 32 };

static void write_work_file(const temp_place *p, const char *name, const char *text)
{
    char path[PATH];
    (void)snprintf(path, sizeof path, "%s/%s", p->dir, name);
    temp_write(path, text, strlen(text));
}

static void remove_work_file(const temp_place *p, const char *name)
{
    char path[PATH];
    (void)snprintf(path, sizeof path, "%s/%s", p->dir, name);
    cr_assert_eq(remove(path), 0, "%s", path);
}

static void expect_path(const char *path, const temp_place *p, const char *name)
{
    char right[PATH];
    (void)snprintf(right, sizeof right, "%s/%s", p->dir, name);
    cr_expect_str_eq(path, right);
}

Test(tools_work_list, a_directory_gives_its_pictures_and_latents_by_name)
{
    static const char *const FILES[] = { "b.PNG", "a.latent", ".a.png",     ".png",  "c.jpeg",
                                         "d.txt", "png",      "e.npy.part", "f.Jpe", "g.jfif" };
    static const char *const TAKEN[] = { "a.latent", "b.PNG", "c.jpeg", "f.Jpe", "g.jfif" };
    enum { N_FILES = sizeof FILES / sizeof FILES[0] };
    const temp_place p = temp_place_make("unused");
    char slashes[PATH];
    refine_error err;
    for (int i = 0; i < N_FILES; i++)
        write_work_file(&p, FILES[i], "");
    (void)snprintf(slashes, sizeof slashes, "%s//", p.dir);
    for (int i = 0; i < 2; i++) {
        work_list l = { 0 };
        cr_assert_eq(work_list_add(&l, i ? slashes : p.dir, &err), REFINE_OK);
        cr_assert_eq(l.n, 5);
        cr_expect(l.several);
        for (int k = 0; k < l.n; k++)
            expect_path(l.item[k].input, &p, TAKEN[k]);
        work_list_free(&l);
    }
    for (int i = 0; i < N_FILES; i++)
        remove_work_file(&p, FILES[i]);
    cr_assert_eq(rmdir(p.dir), 0);
}

Test(tools_work_list, outputs_are_called_after_inputs)
{
    static const struct {
        const char *input, *output;
    } CASES[] = { { "a/b.jpg", "out/b.png" },
                  { "a.b/c", "out/c.png" },
                  { "x.tar.npy", "out/x.tar.png" },
                  { "a/.png", "out/.png.png" },
                  { "-", "out/-.png" },
                  { ".hidden.png", "out/.hidden.png" },
                  { "/top.latent", "out/top.png" } };
    refine_error err;
    for (int slash = 0; slash < 2; slash++) {
        work_list l = { 0 };
        for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++)
            cr_assert_eq(work_list_add(&l, CASES[i].input, &err), REFINE_OK);
        cr_assert_eq(work_list_name_outputs(&l, slash ? "out/" : "out", &err), REFINE_OK);
        for (int i = 0; i < l.n; i++)
            cr_expect_str_eq(l.item[i].output, CASES[i].output);
        work_list_free(&l);
    }
}

Test(tools_work_list, copies_are_numbered_and_keep_what_they_copy)
{
    work_list l = { 0 };
    work_item *item;
    refine_error err;
    cr_assert_eq(work_list_add(&l, "a/b.jpg", &err), REFINE_OK);
    cr_assert_eq(work_list_append(&l, &item, &err), REFINE_OK);
    item->output = mem_strdup("d.e/f.png");
    item->prompt = mem_strdup("a cat");
    cr_assert_eq(work_list_append(&l, &item, &err), REFINE_OK);
    cr_assert_eq(work_list_repeat(&l, 10, &err), REFINE_OK);
    cr_assert_eq(work_list_name_outputs(&l, "out", &err), REFINE_OK);
    cr_assert(l.n == 30 && l.several);
    cr_expect_str_eq(l.item[0].output, "out/b-01.png");
    cr_expect_str_eq(l.item[9].output, "out/b-10.png");
    cr_expect_str_eq(l.item[10].output, "d.e/f-01.png");
    cr_expect_str_eq(l.item[19].prompt, "a cat");
    cr_expect_str_eq(l.item[20].output, "out/0021.png");
    for (int i = 0; i < l.n; i++)
        cr_expect_eq(l.item[i].copy, i % 10 + 1);
    work_list_free(&l);
    cr_assert_eq(work_list_add(&l, "-", &err), REFINE_OK);
    cr_expect_eq(work_list_repeat(&l, 2, &err), REFINE_EINVAL,
                 "standard input was to be read twice");
    work_list_free(&l);
    cr_expect_eq(mem_used().now, 0u);
}

/* Items of a few kinds, in any order. */
Test(tools_work_list, groups_one_kind_together_in_its_order)
{
    enum { N = 200, KINDS = 6 };
    uint64_t seed = 3;
    work_list l = { 0 };
    refine_error err;
    for (int i = 0; i < N; i++) {
        work_item *item;
        cr_assert_eq(work_list_append(&l, &item, &err), REFINE_OK);
        item->seed = (uint64_t)random_below(&seed, KINDS);
        item->line = i;
        item->input = item->seed == 0 ? mem_strdup("x") : NULL;
        item->steps = item->seed == 1 ? 20 : 0;
        item->strength = item->seed == 2 ? 0.5 : item->strength;
        item->guidance = item->seed == 3 ? 1 : item->guidance;
        item->sized = item->seed == 4;
    }
    cr_assert(work_list_group(&l));
    uint64_t seen = 0;
    for (int i = 0; i < N; i++) {
        if (i > 0 && l.item[i].seed == l.item[i - 1].seed) {
            cr_expect_gt(l.item[i].line, l.item[i - 1].line);
            continue;
        }
        cr_expect_eq(seen >> l.item[i].seed & 1, 0u, "kind %d is in two places",
                     (int)l.item[i].seed);
        seen |= (uint64_t)1 << l.item[i].seed;
    }
    cr_expect_not(work_list_group(&l));
    work_list_free(&l);
}
