/* tests/tools/test_component_files.c -- of all that lies in a component's directory, the file that
 * is read. */
#define _XOPEN_SOURCE 700
#include "tools/source/component_files.h"

#include "engine/base/mem.h"
#include "tests/support/temp_file.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES = 6 };

/* A directory with these files; "name ->" is a link to nothing. */
static void make_component_dir(char dir[TEMP_NAME], const char *const names[FILES])
{
    char path[2 * TEMP_NAME];
    temp_file(dir, ".dir");
    (void)unlink(dir);
    cr_assert_eq(mkdir(dir, 0700), 0);
    for (int i = 0; i < FILES && names[i]; i++) {
        const size_t n = strcspn(names[i], " ");
        (void)snprintf(path, sizeof path, "%s/%.*s", dir, (int)n, names[i]);
        if (names[i][n])
            cr_assert_eq(symlink("../../blobs/missing", path), 0);
        else
            temp_write(path, "x", 1);
    }
}

static void remove_component_dir(const char *dir)
{
    char command[2 * TEMP_NAME];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    cr_assert_eq(system(command), 0);
}

#define ST ".safetensors"

Test(tools_component_files, the_plain_file_is_read_or_what_was_asked_for_or_the_only_one)
{
    static const struct {
        const char *names[FILES], *variant, *chosen;
        bool sharded;
    } CASES[] = {
        { { "m" ST }, NULL, "m" ST, false },
        { { "m" ST, "m.fp16" ST }, NULL, "m" ST, false },
        { { "m" ST, "m.fp16" ST }, "fp16", "m.fp16" ST, false },
        { { "m" ST, "m.fp16" ST }, "bf16", "m" ST, false },
        { { "m.fp16" ST, "m.non_ema" ST }, "non_ema", "m.non_ema" ST, false },
        { { "m.fp16" ST, "m.fp16.bin" }, NULL, "m.fp16" ST, false },
        { { "m" ST ".index.json", "m-00001-of-00002" ST, "m-00002-of-00002" ST },
          NULL,
          "m" ST ".index.json",
          true },
        { { "m" ST ".index.json", "m.fp16" ST }, NULL, "m" ST ".index.json", true },
        { { "m" ST ".index.json", "m" ST }, NULL, "m" ST, false },
        { { "m" ST ".index.json", "m" ST ".index.fp16.json" },
          "fp16",
          "m" ST ".index.fp16.json",
          true },
        { { "m.fp16" ST ".index.json" }, NULL, "m.fp16" ST ".index.json", true },
        { { "m" ST " ->", "m.fp16" ST }, NULL, "m.fp16" ST, false },
        { { "m" ST " ->" }, NULL, "m" ST, false },
        { { "m.fp16" ST, "m.bf16" ST " ->" }, NULL, "m.fp16" ST, false },
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        char dir[TEMP_NAME];
        component_file f;
        refine_error err = { 0 };
        make_component_dir(dir, CASES[i].names);
        cr_assert_eq(component_files_choose(&f, dir, "m", CASES[i].variant, &err), REFINE_OK,
                     "case %zu: %s", i, err.text);
        cr_expect_str_eq(f.name, CASES[i].chosen, "case %zu: %s", i, f.name);
        cr_expect_eq(f.sharded, CASES[i].sharded, "case %zu", i);
        cr_expect_eq(mem_used().now, 0u);
        remove_component_dir(dir);
    }
}

Test(tools_component_files, what_is_there_instead_is_named)
{
    static const struct {
        const char *names[FILES], *variant, *because;
    } CASES[] = {
        { { "m.bf16" ST, "m.fp16" ST }, NULL, "as bf16 and as fp16: choose with --variant bf16" },
        { { "m.bf16" ST, "m.fp16" ST }, "non_ema", "choose with --variant" },
        { { "m.bin" }, NULL, "has pickled weights (m.bin) only; get its m.safetensors" },
        { { "m.fp16.bin" }, NULL, "has pickled weights (m.fp16.bin)" },
        { { "m.ckpt" }, NULL, "pickled" },
        { { "flax_model.msgpack" }, NULL, "Flax" },
        { { "model.onnx", "model.onnx_data" }, NULL, "ONNX" },
        { { "openvino_model.bin", "openvino_model.xml" }, NULL, "OpenVINO" },
        { { "m.gguf" }, NULL, "GGUF" },
        { { "other" ST }, NULL, "under another name (other.safetensors)" },
        { { "m.a.b" ST }, NULL, "under another name" },
        { { "m-00001-of-00002" ST }, NULL, "shards, but not their index" },
        { { "m" ST ".incomplete", "m.bin" }, NULL, "a download that is not finished" },
        { { "config.json" }, NULL, "has no m.safetensors" },
        { { NULL }, NULL, "has no m.safetensors" },
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        char dir[TEMP_NAME];
        component_file f;
        refine_error err = { 0 };
        make_component_dir(dir, CASES[i].names);
        cr_assert_eq(component_files_choose(&f, dir, "m", CASES[i].variant, &err), REFINE_EFORMAT,
                     "case %zu", i);
        cr_expect(strstr(err.text, CASES[i].because), "case %zu: %s", i, err.text);
        cr_expect(strstr(err.text, dir), "%s", err.text);
        cr_expect_eq(mem_used().now, 0u);
        remove_component_dir(dir);
    }
    component_file f;
    refine_error err = { 0 };
    cr_assert_eq(component_files_choose(&f, "/no/such/dir", "m", NULL, &err), REFINE_EIO);
    cr_expect(strstr(err.text, "cannot be opened"), "%s", err.text);
}

Test(tools_component_files, survives_the_failure_of_any_allocation)
{
    static const char *const NAMES[FILES] = { "m" ST, "m.fp16" ST };
    char dir[TEMP_NAME];
    component_file f;
    make_component_dir(dir, NAMES);
    refine_status st = REFINE_ENOMEM;
    for (long k = 0; st != REFINE_OK; k++) {
        mem_fail_after(k, MEM_FAIL_ONCE);
        st = component_files_choose(&f, dir, "m", NULL, NULL);
        mem_fail_after(-1, MEM_FAIL_ONCE);
        cr_assert(st == REFINE_OK ? k > 0 : st == REFINE_ENOMEM);
        cr_assert_eq(mem_used().now, 0u);
    }
    remove_component_dir(dir);
}
