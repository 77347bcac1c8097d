/* tests/tools/test_checkpoint_files.c -- which files count as the checkpoint's. */
#define _XOPEN_SOURCE 700
#include "tools/source/checkpoint_files.h"

#include "engine/base/mem.h"
#include "tests/support/temp_place.h"

#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const DIRS[] = { "d", "d/unet", "d/unet/deeper", "beside" };

static temp_place open_checkpoint_dir(void)
{
    const temp_place p = temp_place_make("unused");
    cr_assert_eq(chdir(p.dir), 0);
    for (int i = 0; i < 4; i++)
        cr_assert_eq(mkdir(DIRS[i], 0700), 0);
    return p;
}

static void close_checkpoint_dir(const temp_place *p)
{
    for (int i = 3; i >= 0; i--)
        cr_assert_eq(rmdir(DIRS[i]), 0, "%s", DIRS[i]);
    cr_assert_eq(chdir("/"), 0);
    cr_assert_eq(rmdir(p->dir), 0);
    cr_assert_eq(mem_used().now, 0u);
}

static bool is_of(const char *checkpoint, const char *file)
{
    places p = { 0 };
    checkpoint_files(&p, "the source", checkpoint);
    places_add(&p, PLACE_WRITTEN, "the pack", file);
    const refine_status st = places_check(&p, NULL);
    places_free(&p);
    return st != REFINE_OK;
}

static void make_checkpoint_file(const char *name, const char *text)
{
    temp_write(name, text, strlen(text));
}

Test(tools_checkpoint_files, a_file_is_its_own)
{
    const temp_place p = open_checkpoint_dir();
    make_checkpoint_file("one.safetensors", "weights");
    cr_expect(is_of("one.safetensors", "d/../one.safetensors"));
    cr_expect(!is_of("one.safetensors", "other"));
    cr_expect(!is_of("none.safetensors", "one.safetensors"));
    (void)unlink("one.safetensors");
    close_checkpoint_dir(&p);
}

Test(tools_checkpoint_files, a_directorys_are_all_but_packs)
{
    const temp_place p = open_checkpoint_dir();
    make_checkpoint_file("d/README.md", "a card");
    make_checkpoint_file("d/m.pack", "RFNPACK\nand so on");
    make_checkpoint_file("d/short", "RFN");
    make_checkpoint_file("d/unet/weights", "");
    make_checkpoint_file("d/unet/deeper/x", "");
    make_checkpoint_file("beside/x", "");
    cr_assert(symlink("../../beside/x", "d/unet/blob") == 0 && mkfifo("d/fifo", 0600) == 0);
    cr_expect(is_of("d", "d/README.md"));
    cr_expect(is_of("d/", "d/short"));
    cr_expect(is_of("d", "d/unet/weights"));
    cr_expect(is_of("d", "beside/x"), "what a link leads to is read");
    cr_expect(is_of(".", "d/README.md"));
    cr_expect(!is_of("d", "d/m.pack"));
    cr_expect(!is_of("d", "d/new"));
    cr_expect(!is_of("d", "d/unet/deeper/x"), "no checkpoint has it");
    cr_expect(!is_of("beside", "d/README.md"));
    (void)unlink("d/README.md");
    (void)unlink("d/m.pack");
    (void)unlink("d/short");
    (void)unlink("d/fifo");
    (void)unlink("d/unet/weights");
    (void)unlink("d/unet/blob");
    (void)unlink("d/unet/deeper/x");
    (void)unlink("beside/x");
    close_checkpoint_dir(&p);
}
