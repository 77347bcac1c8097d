/* tests/tools/test_checkpoint.c -- the same weights in any published layout make the same pack. */
#define _POSIX_C_SOURCE 200809L
#include "engine/base/mem.h"
#include "offload/pack.h"
#include "quant/f16.h"
#include "tests/support/checkpoint_fixture.h"
#include "tests/support/checkpoint_pack.h"
#include "tests/support/temp_file.h"
#include "tests/support/tensors_file.h"
#include "tools/files/safetensors.h"
#include "tools/packer/pack_write.h"
#include "tools/source/checkpoint.h"
#include "tools/source/synthetic.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TestSuite(tools_checkpoint, .timeout = 100);

Test(tools_checkpoint, every_layout_of_the_same_weights_makes_the_same_pack)
{
    char want[TEMP_NAME], got[TEMP_NAME], single[TEMP_NAME], dir[TEMP_NAME];
    weight_source *s;
    temp_file(want, ".pack");
    temp_file(got, ".pack");
    temp_file(single, ".safetensors");
    cr_assert_eq(synthetic_open(&s, "synthetic:tiny", NULL), REFINE_OK);
    write_source_pack(s, want);

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
        remove_checkpoint_tree(dir);
    }
    (void)unlink(want);
    (void)unlink(got);
    (void)unlink(single);
}

/* The configuration in a pack's meta data, as text. */
static json_t *pack_model(const char *path)
{
    size_t len;
    pack *p;
    cr_assert_eq(pack_open(&p, path, NULL), REFINE_OK);
    const char *text = pack_meta(p, &len);
    json_t *meta = json_loadb(text, len, 0, NULL);
    json_t *model = json_incref(json_object_get(meta, "model"));
    json_decref(meta);
    pack_close(p);
    cr_assert_not_null(model);
    return model;
}

static void same_model(const char *a, const char *b)
{
    json_t *x = pack_model(a), *y = pack_model(b);
    cr_assert(json_equal(x, y));
    json_decref(x);
    json_decref(y);
}

Test(tools_checkpoint, every_layout_of_the_base_makes_the_same_pack)
{
    char want[TEMP_NAME], first[TEMP_NAME], got[TEMP_NAME], single[TEMP_NAME], dir[TEMP_NAME];
    weight_source *s;
    temp_file(want, ".pack");
    temp_file(first, ".pack");
    temp_file(got, ".pack");
    temp_file(single, ".safetensors");
    cr_assert_eq(synthetic_open(&s, "synthetic:tiny-base", NULL), REFINE_OK);
    write_source_pack(s, want);

    for (int f32 = 0; f32 < 2; f32++) {
        fixture_base_file(single, f32, NULL);
        pack_checkpoint(single, f32 ? got : first);
        same_weights(f32 ? got : first, want);
    }
    same_model(got, first);
    for (int i = 0; i < 3; i++) {
        temp_directory(dir);
        fixture_base_directory(dir, i & 1, i >> 1);
        pack_checkpoint(dir, got);
        same_weights(got, want);
        same_model(got, first);
        remove_checkpoint_tree(dir);
    }
    (void)unlink(want);
    (void)unlink(first);
    (void)unlink(got);
    (void)unlink(single);
}

Test(tools_checkpoint, a_base_that_wants_another_schedule_is_told_by_its_mark)
{
    char single[TEMP_NAME];
    weight_source *s;
    temp_file(single, ".safetensors");
    fixture_base_file(single, 0, "v_pred");
    cr_assert_eq(checkpoint_open(&s, single, NULL, NULL), REFINE_OK);
    cr_expect_eq(s->list.config.schedule.prediction, PREDICTS_V);
    s->close(s);
    fixture_base_file(single, 0, "ztsnr");
    expect_checkpoint_refused(single, "zero terminal SNR");
    (void)unlink(single);
}

/* Gives a fixture's file another __metadata__. */
static void write_metadata(const char *path, const char *metadata)
{
    static const char OLD[] = "{\"format\":\"pt\"}";
    const size_t at = 8 + strlen("{\"__metadata__\":"), end = at + strlen(OLD);
    const size_t n = strlen(metadata);
    uint64_t length;
    size_t len;
    unsigned char *bytes = temp_read(path, &len), *made = malloc(len + n);
    cr_assert_eq(memcmp(bytes + at, OLD, strlen(OLD)), 0);
    memcpy(&length, bytes, sizeof length);
    length += n - strlen(OLD);
    memcpy(made, bytes, at);
    memcpy(made, &length, sizeof length);
    memcpy(made + at, metadata, n);
    memcpy(made + at + n, bytes + end, len - end);
    temp_write(path, made, len - end + at + n);
    free(bytes);
    free(made);
}

Test(tools_checkpoint, what_a_single_file_says_of_its_prediction_is_honoured)
{
    static const struct {
        const char *metadata;
        prediction_type is;
    } FILES[] = {
        { "{\"modelspec.prediction_type\":\"v\"}", PREDICTS_V },
        { "{\"modelspec.prediction_type\":\"v_prediction\",\"x\":1}", PREDICTS_V },
        { "{\"modelspec.prediction_type\":\"epsilon\"}", PREDICTS_EPSILON },
        { "{\"modelspec.prediction_type\":7,\"a\":\"\\u0000\"}", PREDICTS_EPSILON },
    };
    char single[TEMP_NAME];
    weight_source *s;
    temp_file(single, ".safetensors");
    for (size_t i = 0; i < sizeof FILES / sizeof FILES[0]; i++) {
        fixture_base_file(single, 0, NULL);
        write_metadata(single, FILES[i].metadata);
        cr_assert_eq(checkpoint_open(&s, single, NULL, NULL), REFINE_OK);
        cr_expect_eq(s->list.config.schedule.prediction, FILES[i].is, "%s", FILES[i].metadata);
        s->close(s);
    }
    const checkpoint_choices epsilon = { .schedule = { .prediction = 1 + PREDICTS_EPSILON } };
    fixture_base_file(single, 0, "v_pred");
    cr_assert_eq(checkpoint_open(&s, single, &epsilon, NULL), REFINE_OK);
    cr_expect_eq(s->list.config.schedule.prediction, PREDICTS_EPSILON);
    s->close(s);
    fixture_base_file(single, 0, NULL);
    write_metadata(single, "{\"modelspec.title\":\"Coffee \\u001b[2J XL\"}");
    cr_assert_eq(checkpoint_open(&s, single, NULL, NULL), REFINE_OK);
    cr_expect_str_eq(s->title, "Coffee ?[2J XL");
    s->close(s);
    fixture_base_file(single, 0, NULL);
    write_metadata(single, "{\"modelspec.prediction_type\":\"sample\"}");
    expect_checkpoint_refused(single, "modelspec.prediction_type is sample");
    cr_assert_eq(checkpoint_open(&s, single, &epsilon, NULL), REFINE_OK);
    s->close(s);
    (void)unlink(single);
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

Test(tools_checkpoint, says_what_a_file_is_that_cannot_be_packed)
{
    static const struct {
        const char *tensor, *is;
    } FILES[] = {
        { "conditioner.embedders.1.model.ln_final.weight", "a text encoder alone" },
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
        expect_checkpoint_refused(path, FILES[i].is);
    }
    (void)unlink(path);
}

Test(tools_checkpoint, a_file_that_nobody_knows_is_called_what_it_calls_itself)
{
    static const char HEADER[] =
        "{\"__metadata__\":{\"modelspec.architecture\":\"newest-1-dev\"},"
        "\"blocks.0.w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}";
    char path[TEMP_NAME];
    temp_file(path, ".safetensors");
    tensors_file_raw(path, HEADER, sizeof HEADER - 1, 4);
    expect_checkpoint_refused(path, "nor the refiner: it calls itself newest-1-dev, and none of");
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
        cr_assert_eq(checkpoint_open(&s, path, NULL, &err), REFINE_EFORMAT, "cut at %zu", cuts[i]);
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
    cr_assert_eq(checkpoint_open(&s, dir, NULL, &err), REFINE_EFORMAT);
    cr_assert_not_null(strstr(err.text, "vae"), "%s", err.text);
    remove_checkpoint_tree(dir);
}

/* `from` and `to` are of one length. */
static void replace_in_file(const char *path, const char *from, const char *to)
{
    const size_t n = strlen(from);
    size_t len;
    unsigned char *bytes = temp_read(path, &len);
    for (size_t i = 0; i + n <= len; i++)
        if (memcmp(bytes + i, from, n) == 0)
            memcpy(bytes + i, to, n);
    temp_write(path, bytes, len);
    free(bytes);
}

/* ---- a VAE from elsewhere ---- */

/* A weight of the VAE, and one of the UNet, are those of these seeds. */
static void check_seeds(const char *path, const char *vae, const char *model, int unet, int other)
{
    static const char *const NAMES[] = { "unet.conv_in.weight", "vae.decoder.conv_in.weight" };
    const int seeds[] = { unet, other };
    weight_source *s, *want;
    refine_error err = { 0 };
    cr_assert_eq(checkpoint_open(&s, path, &(checkpoint_choices){ .vae = vae }, &err), REFINE_OK,
                 "%s", err.text);
    for (int i = 0; i < 2; i++) {
        char spec[64];
        float have[100], expected[100];
        (void)snprintf(spec, sizeof spec, "%s:%d", model, seeds[i]);
        cr_assert_eq(synthetic_open(&want, spec, NULL), REFINE_OK);
        const int e = weight_list_find(&s->list, NAMES[i]);
        cr_assert_eq(s->read(s, e, 0, 0, 100, DT_F32, have, NULL), REFINE_OK);
        cr_assert_eq(want->read(want, e, 0, 0, 100, DT_F32, expected, NULL), REFINE_OK);
        cr_assert_arr_eq(have, expected, sizeof have, "%s", NAMES[i]);
        want->close(want);
    }
    s->close(s);
}

Test(tools_checkpoint, a_vae_of_its_own_takes_the_place_of_the_models)
{
    char single[TEMP_NAME], vae[TEMP_NAME], dir[TEMP_NAME], path[400];
    temp_file(single, ".safetensors");
    temp_file(vae, ".safetensors");
    temp_directory(dir);
    fixture_base_file(single, 0, NULL);
    fixture_vae_file(vae);
    fixture_directory(dir, 0, 1);
    check_seeds(single, vae, "synthetic:tiny-base", 0, 7);
    check_seeds(dir, vae, "synthetic:tiny", 0, 7);
    check_seeds(single, single, "synthetic:tiny-base", 0, 0);
    /* Diffusers' directories, and the file in one. */
    check_seeds(single, dir, "synthetic:tiny-base", 0, 0);
    (void)snprintf(path, sizeof path, "%s/vae", dir);
    check_seeds(single, path, "synthetic:tiny-base", 0, 0);
    name_vae_file(path, dir);
    check_seeds(single, path, "synthetic:tiny-base", 0, 0);
    /* Where it has none. */
    replace_in_file(single, "\"first_stage_model.", "\"other_stage_model.");
    expect_checkpoint_refused(single, "give one with --vae");
    check_seeds(single, vae, "synthetic:tiny-base", 0, 7);
    remove_checkpoint_tree(dir);
    (void)unlink(single);
    (void)unlink(vae);
}

Test(tools_checkpoint, the_pack_says_whose_vae_it_has)
{
    char single[TEMP_NAME], vae[TEMP_NAME], path[TEMP_NAME];
    size_t len;
    pack *p;
    temp_file(single, ".safetensors");
    temp_file(vae, ".safetensors");
    temp_file(path, ".pack");
    fixture_single_file(single, 0);
    fixture_vae_file(vae);
    pack_checkpoint_vae(single, vae, path);
    cr_assert_eq(pack_open(&p, path, NULL), REFINE_OK);
    const char *text = pack_meta(p, &len);
    json_t *meta = json_loadb(text, len, 0, NULL);
    const json_t *name = json_object_get(json_object_get(meta, "source"), "vae");
    cr_assert_str_eq(json_string_value(name), strrchr(vae, '/') + 1);
    json_decref(meta);
    pack_close(p);
    (void)unlink(single);
    (void)unlink(vae);
    (void)unlink(path);
}

Test(tools_checkpoint, a_vae_that_does_not_fit_is_refused_in_words)
{
    char single[TEMP_NAME], other[TEMP_NAME], dir[TEMP_NAME], config[400];
    tensors_file t = { 0 };
    temp_file(single, ".safetensors");
    temp_file(other, ".safetensors");
    fixture_base_file(single, 0, NULL);
    one_tensor(other, "lora_unet.lora_up.weight");
    expect_vae_refused(single, other, "holds no complete VAE");

    tensors_file_add(&t, "encoder.conv_in.weight", "F16", 2, "2");
    tensors_file_add(&t, "decoder.conv_in.weight", "F16", 2, "2");
    tensors_file_write(&t, other);
    expect_vae_refused(single, other, "it has no quant_conv");

    tensors_file_add(&t, "encoder.conv_in.weight", "F16", 2, "32, 3, 3, 4");
    tensors_file_add(&t, "decoder.conv_in.weight", "F16", 2, "2");
    tensors_file_add(&t, "quant_conv.weight", "F16", 2, "2");
    tensors_file_write(&t, other);
    expect_vae_refused(single, other, "is missing");

    temp_directory(dir);
    fixture_directory(dir, 0, 1);
    (void)snprintf(config, sizeof config, "%s/vae/config.json", dir);
    replace_in_file(config, "0.13025", "0.18215");
    expect_vae_refused(single, dir, "scaling_factor is 0.18215");
    remove_checkpoint_tree(dir);
    (void)unlink(single);
    (void)unlink(other);
}

/* ---- hostile directories ---- */

Test(tools_checkpoint, an_index_may_only_name_files_beside_it)
{
    static const struct {
        const char *index, *because;
    } BAD[] = {
        { "{\"weight_map\": {\"a\": \"../../../etc/passwd\"}}", "beside it" },
        { "{\"weight_map\": {\"a\": \"/etc/passwd\"}}", "beside it" },
        { "{\"weight_map\": {\"a\": \"\"}}", "beside it" },
        { "{\"weight_map\": {\"a\": 7}}", "beside it" },
        { "{\"weight_map\": {}}", "names no shards" },
        { "{\"weight_map\": []}", "names no shards" },
        { "{}", "names no shards" },
        { "{\"weight_map\": {\"a\": \"config.json\"}}", "JSON" },
        { "[", "index.json" },
    };
    char dir[TEMP_NAME], path[400];
    temp_directory(dir);
    fixture_directory(dir, 0, 1);
    name_vae_file(path, dir);
    (void)unlink(path);
    (void)snprintf(path, sizeof path, "%s/vae/diffusion_pytorch_model.safetensors.index.json", dir);
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        temp_write(path, BAD[i].index, strlen(BAD[i].index));
        expect_checkpoint_refused(dir, BAD[i].because);
    }
    cr_assert_eq(mem_used().now, 0u);
    remove_checkpoint_tree(dir);
}

Test(tools_checkpoint, weights_of_another_kind_are_refused)
{
    char dir[TEMP_NAME], path[400];
    temp_directory(dir);
    fixture_directory(dir, 0, 1);
    name_vae_file(path, dir);
    (void)unlink(path);
    expect_checkpoint_refused(dir, "has no diffusion_pytorch_model.safetensors");
    (void)snprintf(path, sizeof path, "%s/vae/diffusion_pytorch_model.bin", dir);
    temp_write(path, "PK", 2);
    expect_checkpoint_refused(dir, "pickled");
    remove_checkpoint_tree(dir);
}

/* "BOM" is no type of today. */
Test(tools_checkpoint, a_variant_is_read_where_a_component_has_it)
{
    char dir[TEMP_NAME], plain[400], fp16[400];
    refine_error err = { 0 };
    weight_source *s;
    temp_directory(dir);
    fixture_directory(dir, 0, 1);
    name_vae_file(fp16, dir);
    (void)snprintf(plain, sizeof plain, "%s/vae/diffusion_pytorch_model.safetensors", dir);
    cr_assert_eq(rename(fp16, plain), 0);
    cr_assert_eq(checkpoint_open(&s, dir, &(checkpoint_choices){ .variant = "fp16" }, &err),
                 REFINE_OK, "%s", err.text);
    s->close(s);
    cr_assert_eq(checkpoint_open(&s, dir, &(checkpoint_choices){ .variant = "bf16" }, &err),
                 REFINE_EFORMAT);
    cr_assert(strstr(err.text, "no weights of a variant bf16"), "%s", err.text);
    cr_assert_eq(symlink("../../blobs/x", fp16), 0);
    (void)unlink(plain);
    cr_assert_eq(checkpoint_open(&s, dir, NULL, &err), REFINE_EIO);
    cr_expect(strstr(err.text, "points to nothing"), "%s", err.text);
    remove_checkpoint_tree(dir);
}

/* Files as the hub's cache keeps them: links to blobs. */
Test(tools_checkpoint, a_model_is_found_in_the_cache_of_the_hub)
{
    char dir[TEMP_NAME], inner[400], command[1200];
    refine_error err = { 0 };
    weight_source *s;
    temp_directory(dir);
    (void)snprintf(command, sizeof command, "mkdir -p '%s/snapshots/0a1b'", dir);
    cr_assert_eq(system(command), 0);
    (void)snprintf(inner, sizeof inner, "%s/snapshots/0a1b", dir);
    fixture_directory(inner, 0, 1);
    (void)snprintf(command, sizeof command,
                   "cd '%s' && mkdir blobs && mv snapshots/0a1b/vae/diffusion* blobs/ff && "
                   "ln -s ../../../blobs/ff snapshots/0a1b/vae/diffusion_pytorch_model.safetensors",
                   dir);
    cr_assert_eq(system(command), 0);
    cr_assert_eq(checkpoint_open(&s, dir, &(checkpoint_choices){ .vae = dir }, &err), REFINE_OK,
                 "%s", err.text);
    cr_expect_str_eq(s->name, strrchr(dir, '/') + 1);
    s->close(s);
    (void)snprintf(command, sizeof command, "rm '%s/blobs/ff'", dir);
    cr_assert_eq(system(command), 0);
    cr_assert_eq(checkpoint_open(&s, dir, NULL, &err), REFINE_EIO);
    cr_expect(strstr(err.text, "points to nothing"), "%s", err.text);
    (void)snprintf(command, sizeof command,
                   "rm -r '%s/snapshots/0a1b/unet' && touch '%s/x.safetensors'", dir, inner);
    cr_assert_eq(system(command), 0);
    expect_checkpoint_refused(dir, "/x.safetensors");
    remove_checkpoint_tree(dir);
}

Test(tools_checkpoint, a_weight_of_a_type_that_is_not_read_is_refused_by_it)
{
    char single[TEMP_NAME];
    temp_file(single, ".safetensors");
    fixture_single_file(single, 0);
    replace_in_file(single, "input_blocks.0.0.weight\":{\"dtype\":\"F16",
                    "input_blocks.0.0.weight\":{\"dtype\":\"BOM");
    expect_checkpoint_refused(single, "input_blocks.0.0.weight is BOM; get a checkpoint in F16");
    fixture_single_file(single, 0);
    replace_in_file(single, "quant_conv.weight\":{\"dtype\":\"F16",
                    "quant_conv.weight\":{\"dtype\":\"I16");
    expect_checkpoint_refused(single, "quant_conv.weight is I16; get a checkpoint in F16");
    (void)unlink(single);
}

Test(tools_checkpoint, survives_the_failure_of_any_allocation)
{
    char dir[TEMP_NAME];
    weight_source *s;
    long k = 0, step = 1;
    temp_directory(dir);
    fixture_directory(dir, 0, 1);
    /* One per tensor's name among them: the later ones are sampled. */
    for (;; k += step) {
        refine_error err = { 0 };
        mem_fail_after(k, MEM_FAIL_ONCE);
        const refine_status st = checkpoint_open(&s, dir, NULL, &err);
        mem_fail_after(-1, MEM_FAIL_ONCE);
        if (st == REFINE_OK)
            break;
        cr_assert_eq(st, REFINE_ENOMEM, "allocation %ld: %s", k, err.text);
        cr_assert_eq(mem_used().now, 0u, "allocation %ld", k);
        step = k < 40 ? 1 : 37;
    }
    cr_assert_geq(k, 500);
    s->close(s);
    remove_checkpoint_tree(dir);
}
