/* tests/tools/test_work_list.c -- which files are inputs, and what their outputs are called. */
#include "tools/batch/work_list.h"

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

Test(tools_work_list, a_manifest_is_seen_from_its_directory)
{
    const temp_place p = temp_place_make("list.jsonl");
    work_list l = { 0 };
    refine_error err;
    write_work_file(&p, "list.jsonl",
                    "{\"input\": \"a.png\", \"output\": \"/o/a.png\"}\n\n"
                    "{\"input\": \"/b.png\", \"output\": \"d/b.png\", \"seed\": 7}\n");
    cr_assert_eq(work_list_add_manifest(&l, p.path, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(l.n, 2);
    expect_path(l.item[0].input, &p, "a.png");
    cr_expect_str_eq(l.item[0].output, "/o/a.png");
    cr_expect_not(l.item[0].seeded);
    cr_expect_str_eq(l.item[1].input, "/b.png");
    expect_path(l.item[1].output, &p, "d/b.png");
    cr_expect(l.item[1].seeded && l.item[1].seed == 7);
    work_list_free(&l);
    remove_work_file(&p, "list.jsonl");
    cr_assert_eq(rmdir(p.dir), 0);
}
