/* tests/tools/test_checkpoint.c -- the same weights in any published layout make the same pack. */
#define _POSIX_C_SOURCE 200809L
#include "offload/pack.h"
#include "tests/support/checkpoint_fixture.h"
#include "tests/support/temp_file.h"
#include "tools/checkpoint.h"
#include "tools/pack_write.h"
#include "tools/synthetic.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TestSuite(tools_checkpoint, .timeout = 100);

static void pack_source(weight_source *s, const char *path)
{
    const pack_write_options o = { .path = path, .replace = true, .raw = true };
    pack_written w;
    refine_error err = { 0 };
    cr_assert_eq(pack_write(&w, s, &o, &err), REFINE_OK, "%s", err.text);
    s->close(s);
}

static void pack_checkpoint(const char *from, const char *path)
{
    weight_source *s;
    refine_error err = { 0 };
    cr_assert_eq(checkpoint_open(&s, from, &err), REFINE_OK, "%s", err.text);
    pack_source(s, path);
}

/* Chunk by chunk, and by the hash over all weights. */
static void same_weights(const char *a, const char *b)
{
    pack *pa, *pb;
    cr_assert_eq(pack_open(&pa, a, NULL), REFINE_OK);
    cr_assert_eq(pack_open(&pb, b, NULL), REFINE_OK);
    cr_assert_eq(pack_super(pa)->source_hash, pack_super(pb)->source_hash);
    cr_assert_eq(pack_super(pa)->n_frames, pack_super(pb)->n_frames);
    for (int i = 0; i < (int)pack_super(pa)->n_frames; i++)
        cr_assert_eq(pack_frame_at(pa, i)->hash, pack_frame_at(pb, i)->hash, "frame %d", i);
    pack_close(pa);
    pack_close(pb);
}

static void remove_tree(const char *dir)
{
    char command[600];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    cr_assert_eq(system(command), 0);
}

static void temp_directory(char name[TEMP_NAME])
{
    temp_file(name, ".dir");
    (void)unlink(name);
}

Test(tools_checkpoint, every_layout_of_the_same_weights_makes_the_same_pack)
{
    char want[TEMP_NAME], got[TEMP_NAME], single[TEMP_NAME], dir[TEMP_NAME];
    weight_source *s;
    temp_file(want, ".pack");
    temp_file(got, ".pack");
    temp_file(single, ".safetensors");
    cr_assert_eq(synthetic_open(&s, "synthetic:tiny", NULL), REFINE_OK);
    pack_source(s, want);

    fixture_single_file(single, 0);
    pack_checkpoint(single, got);
    same_weights(got, want);
    fixture_single_file(single, 1);
    pack_checkpoint(single, got);
    same_weights(got, want);

    for (int f32 = 0; f32 < 2; f32++) {
        temp_directory(dir);
        fixture_directory(dir, f32, f32 ? 3 : 1);
        pack_checkpoint(dir, got);
        same_weights(got, want);
        remove_tree(dir);
    }
    (void)unlink(want);
    (void)unlink(got);
    (void)unlink(single);
}

static void refused(const char *path, const char *because)
{
    weight_source *s;
    refine_error err = { 0 };
    cr_assert_eq(checkpoint_open(&s, path, &err), REFINE_EFORMAT, "%s", because);
    cr_assert_not_null(strstr(err.text, because), "'%s' in: %s", because, err.text);
}

/* A safetensors file of one tensor of four numbers. */
static void one_tensor(const char *path, const char *name)
{
    char file[400];
    const int n = snprintf(file + 8, sizeof file - 8,
                           "{\"%s\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}",
                           name);
    const uint64_t length = (uint64_t)n;
    memcpy(file, &length, 8);
    memset(file + 8 + n, 0, 16);
    temp_write(path, file, 8 + (size_t)n + 16);
}

Test(tools_checkpoint, says_what_a_file_is_that_is_no_refiner)
{
    static const struct {
        const char *tensor, *is;
    } FILES[] = {
        { "conditioner.embedders.1.model.ln_final.weight", "the SDXL base model" },
        { "cond_stage_model.transformer.text_model.x", "Stable Diffusion 1" },
        { "lora_unet_down_blocks_0.lora_up.weight", "a LoRA" },
        { "decoder.conv_in.weight", "a VAE alone" },
        { "first_stage_model.decoder.conv_in.weight", "a VAE alone" },
        { "text_model.final_layer_norm.weight", "a text encoder alone" },
    };
    char path[TEMP_NAME];
    temp_file(path, ".safetensors");
    for (size_t i = 0; i < sizeof FILES / sizeof FILES[0]; i++) {
        one_tensor(path, FILES[i].tensor);
        refused(path, FILES[i].is);
    }
    (void)unlink(path);
}

Test(tools_checkpoint, a_download_cut_short_is_named_so)
{
    char path[TEMP_NAME];
    size_t len;
    temp_file(path, ".safetensors");
    fixture_single_file(path, 0);
    unsigned char *whole = temp_read(path, &len);
    const size_t cuts[] = { 0, 4, 8, 1000, len / 2, len - 1 };
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        weight_source *s;
        refine_error err = { 0 };
        temp_write(path, whole, cuts[i]);
        cr_assert_eq(checkpoint_open(&s, path, &err), REFINE_EFORMAT, "cut at %zu", cuts[i]);
        cr_assert_gt(strlen(err.text), 0u);
    }
    free(whole);
    (void)unlink(path);
}

Test(tools_checkpoint, a_missing_weight_is_named)
{
    char dir[TEMP_NAME], path[400];
    temp_directory(dir);
    fixture_directory(dir, 0, 1);
    snprintf(path, sizeof path, "%s/vae/diffusion_pytorch_model.fp16.safetensors", dir);
    one_tensor(path, "decoder.conv_in.weight");
    weight_source *s;
    refine_error err = { 0 };
    cr_assert_eq(checkpoint_open(&s, dir, &err), REFINE_EFORMAT);
    cr_assert_not_null(strstr(err.text, "vae"), "%s", err.text);
    remove_tree(dir);
}
