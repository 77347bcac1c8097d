/* tests/tools/test_checkpoint_numbers.c -- numbers of every type become those of the pack. */
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

TestSuite(tools_checkpoint_numbers, .timeout = 100);

enum { TYPES = 4 };
static const st_dtype TYPE[TYPES] = { ST_BF16, ST_F64, ST_F32, ST_F16 };
static const char *const TYPE_NAME[TYPES] = { "BF16", "F64", "F32", "F16" };

/* A number of the fp16 file, in between two fp16 numbers where its new type can tell. */
static double read_perturbed_number(const safetensors *f, const safetensor *t, uint64_t i)
{
    uint16_t h;
    cr_assert_eq(safetensors_read(f, t, i * 2, 2, &h, NULL), REFINE_OK);
    return (double)f16_to_f32(h) * (1.0 + 0.0007 * (double)(i % 5));
}

static void write_typed_number(FILE *f, st_dtype type, double v)
{
    const float single = (float)v;
    const uint16_t brain = f32_to_bf16(single), half = f32_to_f16(single);
    const void *from = type == ST_F64   ? (const void *)&v
                       : type == ST_F32 ? (const void *)&single
                       : type == ST_F16 ? (const void *)&half
                                        : (const void *)&brain;
    cr_assert_eq(fwrite(from, st_dtype_bytes(type), 1, f), 1u);
}

/* The VAE again, its tensors of every type in turn, at any alignment. */
static safetensors *mix_types(const char *dir)
{
    char path[400], dims[64];
    tensors_file t = { 0 };
    safetensors *was;
    name_vae_file(path, dir);
    cr_assert_eq(safetensors_open(&was, path, NULL), REFINE_OK);
    (void)unlink(path);                               /* still open */
    tensors_file_add(&t, "first", "F8_E8M0", 1, "1"); /* nobody needs it */
    for (int i = 0; i < was->n; i++) {
        size_t at = 0;
        for (int d = 0; d < was->tensor[i].n_dims; d++)
            at += (size_t)snprintf(dims + at, sizeof dims - at, "%s%llu", d ? ", " : "",
                                   (unsigned long long)was->tensor[i].dim[d]);
        tensors_file_add(&t, was->tensor[i].name, TYPE_NAME[i % TYPES],
                         st_dtype_bytes(TYPE[i % TYPES]), dims);
    }
    const uint64_t data = t.data;
    tensors_file_write(&t, path);
    FILE *f = fopen(path, "r+b");
    cr_assert_eq(fseek(f, -(long)(data - 1), SEEK_END), 0);
    for (int i = 0; i < was->n; i++)
        for (uint64_t k = 0; k < was->tensor[i].elements; k++)
            write_typed_number(f, TYPE[i % TYPES], read_perturbed_number(was, &was->tensor[i], k));
    cr_assert_eq(fclose(f), 0);
    return was;
}

/* What the source should give for a number of tensor i. */
static float expected_source_number(double v, int i, dtype to)
{
    float w = (float)v;
    if (TYPE[i % TYPES] == ST_BF16)
        w = bf16_to_f32(f32_to_bf16(w));
    if (TYPE[i % TYPES] == ST_F16 || to == DT_F16)
        w = f16_to_f32(f32_to_f16(w));
    return w;
}

static void check_source_tensor(const weight_source *s, const safetensors *was, int i)
{
    static uint16_t half[1 << 16];
    static float wide[1 << 16];
    char name[WEIGHT_NAME];
    const safetensor *t = &was->tensor[i];
    (void)snprintf(name, sizeof name, "vae.%s", t->name);
    for (int e = 0; e < s->list.n; e++)
        for (int part = 0; part < s->list.entry[e].n_sources; part++) {
            if (strcmp(s->list.entry[e].source[part], name) != 0)
                continue;
            const size_t n = (size_t)t->elements;
            cr_assert_leq(n, sizeof wide / sizeof wide[0]);
            cr_assert_eq(s->read(s, e, part, 0, n, DT_F16, half, NULL), REFINE_OK);
            cr_assert_eq(s->read(s, e, part, 0, n, DT_F32, wide, NULL), REFINE_OK);
            for (size_t k = 0; k < n; k++) {
                const double v = read_perturbed_number(was, t, k);
                cr_assert_eq(f16_to_f32(half[k]), expected_source_number(v, i, DT_F16), "%s[%zu]",
                             name, k);
                cr_assert_eq(wide[k], expected_source_number(v, i, DT_F32), "%s[%zu]", name, k);
            }
            return;
        }
    cr_assert_fail("%s", name);
}

Test(tools_checkpoint_numbers, numbers_of_every_type_are_rounded_to_the_nearest)
{
    char dir[TEMP_NAME];
    weight_source *s;
    refine_error err = { 0 };
    temp_directory(dir);
    fixture_directory(dir, 0, 1);
    safetensors *was = mix_types(dir);
    cr_assert_eq(checkpoint_open(&s, dir, NULL, &err), REFINE_OK, "%s", err.text);
    cr_expect_str_eq(s->types, "F16");
    cr_expect_eq(strlen(s->vae_types), strlen("BF16, F16, F32, F64"), "%s", s->vae_types);
    for (int i = 0; i < TYPES; i++)
        cr_expect(strstr(s->vae_types, TYPE_NAME[i]), "%s", s->vae_types);
    for (int i = 0; i < was->n; i++)
        if (was->tensor[i].elements < 20000)
            check_source_tensor(s, was, i);
    s->close(s);
    safetensors_close(was);
    remove_checkpoint_tree(dir);
}

static void poke_byte(const char *path, uint64_t at, uint8_t byte)
{
    FILE *f = fopen(path, "r+b");
    cr_assert_not_null(f);
    cr_assert(fseek(f, (long)at, SEEK_SET) == 0 && fputc(byte, f) == byte);
    cr_assert_eq(fclose(f), 0);
}

/* The VAE again, of one type and all zeros; `scale`: with a tensor of this name, type and shape. */
static void make_typed_vae(const char *dir, char path[400], const char *type, size_t bytes,
                           const char *const scale[3], size_t scale_bytes)
{
    char dims[64];
    safetensors *was;
    tensors_file t = { 0 };
    name_vae_file(path, dir);
    cr_assert_eq(safetensors_open(&was, path, NULL), REFINE_OK);
    for (int i = 0; i < was->n; i++) {
        size_t at = 0;
        for (int d = 0; d < was->tensor[i].n_dims; d++)
            at += (size_t)snprintf(dims + at, sizeof dims - at, "%s%llu", d ? ", " : "",
                                   (unsigned long long)was->tensor[i].dim[d]);
        tensors_file_add(&t, was->tensor[i].name, type, bytes, dims);
    }
    safetensors_close(was);
    if (scale)
        tensors_file_add(&t, scale[0], scale[1], scale_bytes, scale[2]);
    tensors_file_write(&t, path);
}

/* Where a tensor of the file begins. */
static uint64_t tensor_begin(const char *path, const char *name)
{
    safetensors *f;
    cr_assert_eq(safetensors_open(&f, path, NULL), REFINE_OK);
    const safetensor *t = safetensors_find(f, name);
    cr_assert_not_null(t);
    const uint64_t at = t->at;
    safetensors_close(f);
    return at;
}

enum { SAID = 8 };

/* Eight numbers at the beginning of a matrix, whichever way they are read. */
static void expect_matrix_begins(const char *dir, const float value[SAID])
{
    weight_source *s;
    refine_error err = { 0 };
    float wide[SAID];
    uint16_t half[SAID];
    cr_assert_eq(checkpoint_open(&s, dir, NULL, &err), REFINE_OK, "%s", err.text);
    const int e = weight_list_find(&s->list, "vae.decoder.conv_in.weight");
    cr_assert_eq(s->read(s, e, 0, 0, SAID, DT_F32, wide, NULL), REFINE_OK);
    cr_assert_eq(s->read(s, e, 0, 0, SAID, DT_F16, half, NULL), REFINE_OK);
    for (int i = 0; i < SAID; i++) {
        cr_expect_eq(wide[i], value[i], "%d: %a", i, (double)wide[i]);
        cr_expect_eq(f16_to_f32(half[i]), value[i]);
    }
    s->close(s);
}

Test(tools_checkpoint_numbers, eight_bits_are_read_as_sign_exponent_and_mantissa)
{
    static const struct {
        const char *type;
        uint8_t byte[SAID], nan;
        float value[SAID];
    } TYPES_OF_8[] = {
        { "F8_E4M3",
          { 0x00, 0x01, 0x07, 0x08, 0x38, 0xb9, 0x7e, 0xfe },
          0x7f,
          { 0.0f, 0x1p-9f, 0x1.cp-7f, 0x1p-6f, 1.0f, -1.125f, 448.0f, -448.0f } },
        { "F8_E5M2",
          { 0x00, 0x01, 0x03, 0x04, 0x3c, 0xbd, 0x7b, 0xfb },
          0x7c,
          { 0.0f, 0x1p-16f, 0x1.8p-15f, 0x1p-14f, 1.0f, -1.25f, 57344.0f, -57344.0f } },
    };
    for (int k = 0; k < 2; k++) {
        char dir[TEMP_NAME], path[400];
        weight_source *s;
        float wide[SAID];
        temp_directory(dir);
        fixture_directory(dir, 0, 1);
        make_typed_vae(dir, path, TYPES_OF_8[k].type, 1, NULL, 0);
        const uint64_t at = tensor_begin(path, "decoder.conv_in.weight");
        for (uint64_t i = 0; i < SAID; i++)
            poke_byte(path, at + i, TYPES_OF_8[k].byte[i]);
        expect_matrix_begins(dir, TYPES_OF_8[k].value);
        poke_byte(path, at + 3, TYPES_OF_8[k].nan);
        cr_assert_eq(checkpoint_open(&s, dir, NULL, NULL), REFINE_OK);
        const int e = weight_list_find(&s->list, "vae.decoder.conv_in.weight");
        cr_assert_eq(s->read(s, e, 0, 0, SAID, DT_F32, wide, NULL), REFINE_EFORMAT);
        s->close(s);
        remove_checkpoint_tree(dir);
    }
}

/* As ComfyUI stores them, under its older and its newer name. */
Test(tools_checkpoint_numbers, a_scale_of_a_whole_tensor_is_honoured)
{
    static const char *const SCALES[][3] = {
        { "decoder.conv_in.scale_weight", "F32", "1" },
        { "decoder.conv_in.weight_scale", "F32", "" },
    };
    static const float VALUE[SAID] = { 0.375f, -0.375f, 168.0f };
    static const uint8_t SCALE_OF_3_8[4] = { 0, 0, 0xc0, 0x3e };
    static const struct {
        const char *type;
        size_t bytes;
        uint8_t number[6];
    } WEIGHTS[] = { { "F8_E4M3", 1, { 0x38, 0xb8, 0x7e } },
                    { "F16", 2, { 0, 0x3c, 0, 0xbc, 0, 0x5f } } };
    char dir[TEMP_NAME], path[400], single[TEMP_NAME];
    weight_source *s;
    temp_file(single, ".safetensors");
    fixture_base_file(single, 0, "model.diffusion_model.scaled_fp8"); /* marks such a file */
    cr_assert_eq(checkpoint_open(&s, single, NULL, NULL), REFINE_OK);
    s->close(s);
    (void)unlink(single);
    for (int k = 0; k < 4; k++) {
        const char *const *of = SCALES[k % 2];
        temp_directory(dir);
        fixture_directory(dir, 0, 1);
        make_typed_vae(dir, path, WEIGHTS[k / 2].type, WEIGHTS[k / 2].bytes, of, 4);
        const uint64_t scale = tensor_begin(path, of[0]);
        for (uint64_t i = 0; i < 4; i++)
            poke_byte(path, scale + i, SCALE_OF_3_8[i]);
        const uint64_t at = tensor_begin(path, "decoder.conv_in.weight");
        for (uint64_t i = 0; i < 3 * WEIGHTS[k / 2].bytes; i++)
            poke_byte(path, at + i, WEIGHTS[k / 2].number[i]);
        expect_matrix_begins(dir, VALUE);
        poke_byte(path, scale + 2, 0x80);
        poke_byte(path, scale + 3, 0x7f);
        expect_checkpoint_refused(dir, "holds infinity or NaN");
        remove_checkpoint_tree(dir);
    }
}

Test(tools_checkpoint_numbers, scales_of_blocks_are_refused_by_name)
{
    static const char *const SCALES[][3] = {
        { "decoder.conv_in.scale_weight", "F32", "64" },
        { "decoder.conv_in.weight_scale", "F8_E8M0", "1" },
    };
    static const char *const BECAUSE[] = { "conv_in.scale_weight holds 64 scales",
                                           "conv_in.weight_scale is F8_E8M0" };
    char dir[TEMP_NAME], path[400];
    for (int k = 0; k < 2; k++) {
        temp_directory(dir);
        fixture_directory(dir, 0, 1);
        make_typed_vae(dir, path, "F8_E4M3", 1, SCALES[k], k == 0 ? 4 : 1);
        expect_checkpoint_refused(dir, BECAUSE[k]);
        remove_checkpoint_tree(dir);
    }
}

/* Packs a directory after one number of its VAE was overwritten. */
static refine_status pack_with(const char *dir, int f32, const char *name, const void *number,
                               refine_error *err)
{
    char path[400], pack_name[TEMP_NAME];
    safetensors *f;
    weight_source *s;
    pack_written w;
    name_vae_file(path, dir);
    if (f32)
        (void)snprintf(path, sizeof path, "%s/vae/diffusion_pytorch_model.safetensors", dir);
    cr_assert_eq(safetensors_open(&f, path, err), REFINE_OK, "%s", err->text);
    const safetensor *t = safetensors_find(f, name);
    FILE *out = fopen(path, "r+b");
    cr_assert_eq(fseek(out, (long)(t->at + t->bytes / 2), SEEK_SET), 0);
    cr_assert_eq(fwrite(number, f32 ? 4 : 2, 1, out), 1u);
    cr_assert_eq(fclose(out), 0);
    safetensors_close(f);

    temp_file(pack_name, ".pack");
    const pack_write_options o = { .path = pack_name, .replace = true, .raw = true };
    cr_assert_eq(checkpoint_open(&s, dir, NULL, err), REFINE_OK, "%s", err->text);
    const refine_status st = pack_write(&w, s, &o, err);
    s->close(s);
    (void)unlink(pack_name);
    return st;
}

Test(tools_checkpoint_numbers, a_number_that_fp16_cannot_hold_is_named_with_its_tensor)
{
    static const char TENSOR[] = "encoder.down_blocks.0.resnets.0.conv1.weight";
    const float large = 70000.0f, most = 65519.0f;
    const uint16_t infinity = 0x7c00, nan = 0xfe01;
    char dir[TEMP_NAME];
    refine_error err = { 0 };

    temp_directory(dir);
    fixture_directory(dir, 1, 1);
    cr_assert_eq(pack_with(dir, 1, TENSOR, &most, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(pack_with(dir, 1, TENSOR, &large, &err), REFINE_EFORMAT);
    cr_assert_not_null(strstr(err.text, TENSOR), "%s", err.text);
    cr_assert_not_null(strstr(err.text, "70000"), "%s", err.text);
    remove_checkpoint_tree(dir);

    fixture_directory(dir, 0, 1);
    cr_assert_eq(pack_with(dir, 0, TENSOR, &infinity, &err), REFINE_EFORMAT);
    cr_assert_not_null(strstr(err.text, TENSOR), "%s", err.text);
    cr_assert_not_null(strstr(err.text, "infinity or NaN"), "%s", err.text);
    fixture_directory(dir, 0, 1);
    cr_assert_eq(pack_with(dir, 0, "encoder.conv_norm_out.bias", &nan, &err), REFINE_EFORMAT);
    cr_assert_not_null(strstr(err.text, "encoder.conv_norm_out.bias"), "%s", err.text);
    remove_checkpoint_tree(dir);
}

Test(tools_checkpoint_numbers, a_vector_keeps_what_fp16_could_not_hold)
{
    const float large = 70000.0f;
    char dir[TEMP_NAME];
    refine_error err = { 0 };
    temp_directory(dir);
    fixture_directory(dir, 1, 1);
    cr_assert_eq(pack_with(dir, 1, "encoder.conv_norm_out.bias", &large, &err), REFINE_OK, "%s",
                 err.text);
    remove_checkpoint_tree(dir);
}
