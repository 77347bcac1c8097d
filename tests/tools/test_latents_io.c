/* tests/tools/test_latents_io.c -- every format there and back; nothing damaged gets through. */
#include "engine/base/mem.h"
#include "tests/support/temp_file.h"
#include "tools/latents_io.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { H = 5, W = 7, N = 4 * H * W };
static const float FACTOR = 0.13025f;

static latents sample(float v[N])
{
    for (int i = 0; i < N; i++)
        v[i] = sinf((float)i) * 3.0f;
    return (latents){ H, W, v };
}

static void there_and_back(const char *suffix, float tolerance)
{
    float v[N];
    const latents l = sample(v);
    latents back;
    refine_error err = { 0 };
    char name[TEMP_NAME];
    temp_file(name, suffix);
    cr_assert_eq(latents_save(name, &l, FACTOR, &err), REFINE_OK, "%s", err.text);
    cr_assert(latents_recognise(name));
    cr_assert_eq(latents_load(&back, name, FACTOR, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(back.h, H);
    cr_assert_eq(back.w, W);
    for (int i = 0; i < N; i++)
        cr_assert_leq(fabsf(back.v[i] - v[i]), tolerance * fabsf(v[i]));
    latents_free(&back);
    (void)unlink(name);
}

Test(tools_latents_io, safetensors_there_and_back) { there_and_back(".safetensors", 0.0f); }
Test(tools_latents_io, numpy_there_and_back) { there_and_back(".npy", 0.0f); }
/* Divided and multiplied by the factor: two roundings. */
Test(tools_latents_io, comfyui_there_and_back) { there_and_back(".latent", 0x1p-22f); }

static refine_status load_bytes(const void *p, size_t n, refine_error *err, float first[4])
{
    char name[TEMP_NAME];
    latents l;
    temp_file(name, ".bin");
    temp_write(name, p, n);
    const refine_status st = latents_load(&l, name, FACTOR, err);
    if (st == REFINE_OK && first)
        memcpy(first, l.v, 4 * sizeof *first);
    latents_free(&l);
    (void)unlink(name);
    return st;
}

static size_t safetensors_file(char *out, const char *header, const void *data, size_t n)
{
    const uint64_t len = strlen(header);
    memcpy(out, &len, 8);
    memcpy(out + 8, header, len);
    memcpy(out + 8 + len, data, n);
    return 8 + len + n;
}

Test(tools_latents_io, scales_comfyui_files_with_and_without_marker)
{
    char file[512];
    const float data[4] = { 1.0f, -2.0f, 3.0f, 4.0f };
    float got[4];
    size_t n = safetensors_file(
        file,
        "{\"latent_format_version_0\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},"
        "\"latent_tensor\":{\"dtype\":\"F32\",\"shape\":[1,4,1,1],\"data_offsets\":[0,16]}}",
        data, sizeof data);
    refine_error err = { 0 };
    cr_assert_eq(load_bytes(file, n, &err, got), REFINE_OK, "%s", err.text);
    cr_assert_float_eq(got[1], -2.0f * FACTOR, 1e-6f);
    n = safetensors_file(
        file, "{\"latent_tensor\":{\"dtype\":\"F32\",\"shape\":[1,4,1,1],\"data_offsets\":[0,16]}}",
        data, sizeof data);
    cr_assert_eq(load_bytes(file, n, &err, got), REFINE_OK, "%s", err.text);
    cr_assert_float_eq(got[1], -2.0f / 0.18215f * FACTOR, 1e-6f);
}

Test(tools_latents_io, reads_half_precision)
{
    char file[512];
    const uint16_t data[4] = { 0x3c00, 0xc000, 0x3800, 0x0000 }; /* 1, -2, 0.5, 0 */
    float got[4];
    refine_error err = { 0 };
    const size_t n = safetensors_file(
        file, "{\"x\":{\"dtype\":\"F16\",\"shape\":[4,1,1],\"data_offsets\":[0,8]}}", data,
        sizeof data);
    cr_assert_eq(load_bytes(file, n, &err, got), REFINE_OK, "%s", err.text);
    cr_assert_eq(got[0], 1.0f);
    cr_assert_eq(got[1], -2.0f);
    cr_assert_eq(got[2], 0.5f);
}

static void refused(const void *p, size_t n, const char *why)
{
    refine_error err = { 0 };
    cr_assert_eq(load_bytes(p, n, &err, NULL), REFINE_EFORMAT, "accepted: %s", why);
    cr_assert_gt(strlen(err.text), 0u);
    cr_assert_eq(mem_used().now, 0u, "leak: %s", why);
}

Test(tools_latents_io, refuses_what_it_cannot_use)
{
    char file[512];
    float data[8] = { 0 };
    refused("PK\3\4xxxxxxxx", 12, "a PyTorch file");
    refused("", 0, "nothing");
    size_t n = safetensors_file(
        file, "{\"x\":{\"dtype\":\"F32\",\"shape\":[2,4,1,1],\"data_offsets\":[0,32]}}", data, 32);
    refused(file, n, "two latents");
    n = safetensors_file(
        file, "{\"x\":{\"dtype\":\"F32\",\"shape\":[3,1,1],\"data_offsets\":[0,12]}}", data, 12);
    refused(file, n, "three channels");
    data[2] = NAN;
    n = safetensors_file(
        file, "{\"x\":{\"dtype\":\"F32\",\"shape\":[4,1,1],\"data_offsets\":[0,16]}}", data, 16);
    refused(file, n, "not a number");
}

static void refuses_every_truncation(const char *suffix)
{
    float v[N];
    const latents l = sample(v);
    char name[TEMP_NAME];
    size_t len;
    temp_file(name, suffix);
    cr_assert_eq(latents_save(name, &l, FACTOR, NULL), REFINE_OK);
    unsigned char *whole = temp_read(name, &len);
    for (size_t n = 0; n < len; n++)
        refused(whole, n, "a truncated file");
    free(whole);
    (void)unlink(name);
}

Test(tools_latents_io, refuses_every_truncation_of_numpy) { refuses_every_truncation(".npy"); }
Test(tools_latents_io, refuses_every_truncation_of_safetensors)
{
    refuses_every_truncation(".safetensors");
}

Test(tools_latents_io, survives_every_flipped_bit_of_a_header)
{
    float v[N];
    const latents l = sample(v);
    const char *const suffixes[] = { ".npy", ".safetensors" };
    for (int s = 0; s < 2; s++) {
        char name[TEMP_NAME];
        size_t len;
        temp_file(name, suffixes[s]);
        cr_assert_eq(latents_save(name, &l, FACTOR, NULL), REFINE_OK);
        unsigned char *p = temp_read(name, &len);
        for (size_t bit = 0; bit < 8 * 128; bit++) {
            p[bit / 8] ^= (unsigned char)(1u << bit % 8);
            refine_error err = { 0 };
            const refine_status st = load_bytes(p, len, &err, NULL);
            cr_assert(st == REFINE_OK || strlen(err.text) > 0);
            cr_assert_eq(mem_used().now, 0u);
            p[bit / 8] ^= (unsigned char)(1u << bit % 8);
        }
        free(p);
        (void)unlink(name);
    }
}
