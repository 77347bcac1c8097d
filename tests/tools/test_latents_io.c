/* tests/tools/test_latents_io.c -- every format there and back; nothing damaged gets through. */
#include "engine/base/mem.h"
#include "tests/support/temp_file.h"
#include "tools/files/latents_io.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { H = 5, W = 7, N = 4 * H * W };
static const float FACTOR = 0.13025f;

static latents make_sample_latents(float v[N])
{
    for (int i = 0; i < N; i++)
        v[i] = sinf((float)i) * 3.0f;
    return (latents){ H, W, v };
}

static void there_and_back(const char *suffix, float tolerance)
{
    float v[N];
    const latents l = make_sample_latents(v);
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

static void expect_latents_refused(const void *p, size_t n, const char *why)
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
    expect_latents_refused("PK\3\4xxxxxxxx", 12, "a ZIP archive");
    expect_latents_refused("", 0, "nothing");
    size_t n = safetensors_file(
        file, "{\"x\":{\"dtype\":\"F32\",\"shape\":[2,4,1,1],\"data_offsets\":[0,32]}}", data, 32);
    expect_latents_refused(file, n, "two latents");
    n = safetensors_file(
        file, "{\"x\":{\"dtype\":\"F32\",\"shape\":[3,1,1],\"data_offsets\":[0,12]}}", data, 12);
    expect_latents_refused(file, n, "three channels");
    data[2] = NAN;
    n = safetensors_file(
        file, "{\"x\":{\"dtype\":\"F32\",\"shape\":[4,1,1],\"data_offsets\":[0,16]}}", data, 16);
    expect_latents_refused(file, n, "not a number");
}

/* A NumPy file of version 1 with this shape and a header of so many bytes. */
static void refuses_npy(const char *shape, size_t header, const char *why)
{
    static char file[1 << 16];
    memset(file, ' ', sizeof file);
    memcpy(file, "\x93NUMPY\1\0", 8);
    file[8] = (char)(header & 255);
    file[9] = (char)(header >> 8);
    const int n = snprintf(file + 10, 512,
                           "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }", shape);
    file[10 + n] = ' ';
    memset(file + 10 + header, 0, 4096);
    expect_latents_refused(file, 10 + header + 4096, why);
}

/* What lies behind the room for it is not to be written. */
Test(tools_latents_io, refuses_numpy_of_many_dimensions_or_a_long_header)
{
    refuses_npy("(1, 4, 8, 8, 3)", 118, "no shape");
    refuses_npy("(1, 4, 8, 8)", 40000, "too long");
}

static void refuses_every_truncation(const char *suffix)
{
    float v[N];
    const latents l = make_sample_latents(v);
    char name[TEMP_NAME];
    size_t len;
    temp_file(name, suffix);
    cr_assert_eq(latents_save(name, &l, FACTOR, NULL), REFINE_OK);
    unsigned char *whole = temp_read(name, &len);
    for (size_t n = 0; n < len; n++)
        expect_latents_refused(whole, n, "a truncated file");
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
    const latents l = make_sample_latents(v);
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

/* ---- what other programs write (tests/tools/make_pictures.py) ---- */

/* All of shape [1,4,2,3], element i being (i - 12) / 8, which every type holds exactly. */
static void reads_sample(const char *path, float scale)
{
    latents l;
    refine_error err = { 0 };
    cr_assert_eq(latents_load(&l, path, FACTOR, &err), REFINE_OK, "%s", err.text);
    cr_assert(l.h == 2 && l.w == 3, "%s", path);
    for (int i = 0; i < 24; i++) {
        const float want = (float)(i - 12) / 8.0f * scale;
        cr_assert_leq(fabsf(l.v[i] - want), 0x1p-22f * fabsf(want), "%s: %g, not %g", path,
                      (double)l.v[i], (double)want);
    }
    latents_free(&l);
}

Test(tools_latents_io, reads_what_other_programs_write)
{
    static const char *const AS_THEY_ARE[] = {
        "tests/fuzz/corpora/npy/f4_v1.npy",           "tests/fuzz/corpora/npy/f4_v2.npy",
        "tests/fuzz/corpora/npy/f4_v3.npy",           "tests/fuzz/corpora/npy/f2.npy",
        "tests/fuzz/corpora/npy/three_dims.npy",      "tests/fuzz/corpora/latents/f32.safetensors",
        "tests/fuzz/corpora/latents/f16.safetensors", "tests/fuzz/corpora/latents/bf16.safetensors",
        "tests/fuzz/corpora/latents/one.npz",
    };
    for (size_t i = 0; i < sizeof AS_THEY_ARE / sizeof AS_THEY_ARE[0]; i++)
        reads_sample(AS_THEY_ARE[i], 1.0f);
    reads_sample("tests/fuzz/corpora/latents/comfy.latent", FACTOR);
    reads_sample("tests/fuzz/corpora/latents/comfy_old.latent", FACTOR / 0.18215f);
}

/* An archive as np.savez writes one: `before` and `after` stand around the array of f2.npy. */
static size_t make_npz(unsigned char *file, unsigned method, const char *after, size_t n_after)
{
    static const char NAME[] = "latents.npy";
    enum { HEADER = 30, EXTRA = 20, NAME_LEN = sizeof NAME - 1 };
    size_t n;
    unsigned char *array = temp_read("tests/fuzz/corpora/npy/f2.npy", &n);
    memset(file, 0, HEADER + NAME_LEN + EXTRA);
    memcpy(file, "PK\3\4", 4);
    file[8] = (unsigned char)method;
    file[26] = NAME_LEN;
    file[28] = EXTRA;
    memcpy(file + HEADER, NAME, NAME_LEN);
    memcpy(file + HEADER + NAME_LEN + EXTRA, array, n);
    memcpy(file + HEADER + NAME_LEN + EXTRA + n, after, n_after);
    free(array);
    return HEADER + NAME_LEN + EXTRA + n + n_after;
}

static refine_status load_npz(unsigned char *file, size_t n, latents *l, refine_error *err)
{
    char name[TEMP_NAME];
    temp_file(name, ".npz");
    temp_write(name, file, n);
    cr_assert(latents_recognise(name));
    *err = (refine_error){ 0 };
    const refine_status st = latents_load(l, name, FACTOR, err);
    (void)unlink(name);
    return st;
}

Test(tools_latents_io, reads_one_array_of_an_archive_of_numpy)
{
    unsigned char file[1 << 14];
    latents l, want;
    refine_error err;
    size_t n = make_npz(file, 0, "PK\1\2", 4);
    cr_assert_eq(load_npz(file, n, &l, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(latents_load(&want, "tests/fuzz/corpora/npy/f2.npy", FACTOR, &err), REFINE_OK);
    cr_assert(l.h == want.h && l.w == want.w);
    cr_assert_eq(memcmp(l.v, want.v, 4 * sizeof(float) * (size_t)l.h * (size_t)l.w), 0);
    latents_free(&l);
    latents_free(&want);

    n = make_npz(file, 0, "PK\3\4", 4);
    cr_assert_eq(load_npz(file, n, &l, &err), REFINE_EFORMAT);
    cr_assert(strstr(err.text, "several NumPy arrays; save the latents alone with np.save"), "%s",
              err.text);
    cr_assert(strstr(err.text, "cache times 0.13025"), "%s", err.text);
    n = make_npz(file, 8, "PK\1\2", 4);
    cr_assert_eq(load_npz(file, n, &l, &err), REFINE_EFORMAT);
    cr_assert(strstr(err.text, "compressed"), "%s", err.text);
    n = make_npz(file, 0, "", 0);
    for (size_t cut = 50; cut < n; cut += 7)
        cr_assert_eq(load_npz(file, cut, &l, &err), REFINE_EFORMAT, "cut to %zu bytes", cut);
    cr_assert_eq(mem_used().now, 0u);
}

static void expect_latent_of(const char *path, const char *index, float first, float last)
{
    char name[2 * TEMP_NAME], file[LATENTS_PATH];
    latents l;
    refine_error err = { 0 };
    (void)snprintf(name, sizeof name, "%s%s", path, index);
    cr_expect(latents_recognise(name));
    cr_expect_str_eq(latents_file(file, name), path);
    cr_assert_eq(latents_load(&l, name, FACTOR, &err), REFINE_OK, "%s", err.text);
    cr_expect_eq(l.v[0], first, "%s: %g", name, (double)l.v[0]);
    cr_expect_eq(l.v[LATENT_CHANNELS * l.h * l.w - 1], last, "%s", name);
    latents_free(&l);
}

static void expect_no_latent_of(const char *path, const char *index, const char *why)
{
    char name[2 * TEMP_NAME];
    latents l;
    refine_error err = { 0 };
    (void)snprintf(name, sizeof name, "%s%s", path, index);
    cr_expect_neq(latents_load(&l, name, FACTOR, &err), REFINE_OK, "%s", name);
    cr_expect(strstr(err.text, why), "%s: %s", name, err.text);
    cr_expect_null(l.v);
}

Test(tools_latents_io, reads_one_of_several)
{
    static const char NPZ[] = "tests/fuzz/corpora/latents/two.npz";
    static const float DATA[12] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 };
    char file[512], path[TEMP_NAME], named[TEMP_NAME + 8];
    temp_file(path, ".safetensors");
    const size_t n = safetensors_file(
        file, "{\"x\":{\"dtype\":\"F32\",\"shape\":[3,4,1,1],\"data_offsets\":[0,48]}}", DATA, 48);
    temp_write(path, file, n);
    expect_latent_of(path, "[0]", 1, 4);
    expect_latent_of(path, "[2]", 9, 12);
    expect_no_latent_of(path, "", "holds 3 latents; give one of them as FILE[0] to FILE[2]");
    expect_no_latent_of(path, "[3]", "holds 3 latents");
    expect_no_latent_of(path, "[-1]", "cannot be opened");
    expect_no_latent_of(path, "[1x]", "cannot be opened");
    expect_no_latent_of(path, "[9999999]", "cannot be opened");
    /* A file that is called so is meant. */
    (void)snprintf(named, sizeof named, "%s[0]", path);
    cr_assert_eq(rename(path, named), 0);
    expect_no_latent_of(named, "", "holds 3 latents");
    expect_latent_of(named, "[1]", 5, 8);
    (void)unlink(named);
    expect_latent_of(NPZ, "[0]", 0, 23);
    expect_latent_of(NPZ, "[1]", 24, 47);
    expect_no_latent_of(NPZ, "[2]", "holds 2 latents");
    expect_no_latent_of("tests/fuzz/corpora/npy/f2.npy", "[1]", "holds 1 latent;");
    expect_latent_of("tests/fuzz/corpora/npy/f2.npy", "[0]", -1.5f, 1.375f);
    cr_assert_eq(mem_used().now, 0u);
}

Test(tools_latents_io, says_why_it_refuses)
{
    static const struct {
        const char *path, *says;
    } REFUSED[] = {
        { "tests/fuzz/corpora/npy/fortran.npy", "Fortran order" },
        { "tests/fuzz/corpora/npy/big_endian.npy", "little-endian" },
        { "tests/fuzz/corpora/npy/f8.npy", "float32 or float16" },
        { "tests/fuzz/corpora/npy/two.npy", "holds 2 latents" },
        { "tests/fuzz/corpora/npy/one_dim.npy", "shape [1,4,h,w]" },
        { "tests/fuzz/corpora/npy/empty.npy", "shape [1,4,h,w]" },
        { "tests/fuzz/corpora/npy/nan.npy", "not finite" },
        { "tests/fuzz/corpora/latents/two_tensors.safetensors",
          "2 tensors and none named latents" },
        { "tests/fuzz/corpora/latents/torch.pt", "safetensors.torch.save_file" },
        { "tests/fuzz/corpora/latents/compressed.npz", "a compressed NumPy archive" },
        { "tests/fuzz/corpora/latents/several.npz[0]", "several NumPy arrays" },
        { "tests/fuzz/corpora/latents/several.npz[1]", "several NumPy arrays" },
    };
    for (size_t i = 0; i < sizeof REFUSED / sizeof REFUSED[0]; i++) {
        latents l;
        char file[LATENTS_PATH];
        refine_error err = { 0 };
        cr_assert_eq(latents_load(&l, REFUSED[i].path, FACTOR, &err), REFINE_EFORMAT);
        cr_assert_null(l.v);
        cr_assert_not_null(strstr(err.text, REFUSED[i].says), "%s", err.text);
        cr_assert_not_null(strstr(err.text, latents_file(file, REFUSED[i].path)), "%s", err.text);
        cr_assert_eq(mem_used().now, 0u);
    }
}

Test(tools_latents_io, takes_no_picture_for_latents)
{
    /* A JPEG whose comment puts a brace where a safetensors header begins. */
    static const uint8_t COMMENT[] = { 0xff, 0xd8, 0xff, 0xfe, 0, 8, 'a', 'b', '{', '}', 'c', 'd' };
    char name[TEMP_NAME];
    temp_file(name, ".jpg");
    temp_write(name, COMMENT, sizeof COMMENT);
    cr_assert(!latents_recognise(name));
    cr_assert(!latents_recognise("tests/fuzz/corpora/png/rgb8.png"));
    cr_assert(!latents_recognise("no/such/file"));
    (void)unlink(name);
}

static void check_latents_alloc_failures(const char *path)
{
    for (long k = 0;; k++) {
        latents l;
        refine_error err = { 0 };
        mem_fail_after(k, MEM_FAIL_ONCE);
        const refine_status st = latents_load(&l, path, FACTOR, &err);
        mem_fail_after(-1, MEM_FAIL_ONCE);
        latents_free(&l);
        cr_assert_eq(mem_used().now, 0u, "%s: allocation %ld", path, k);
        if (st == REFINE_OK) {
            cr_assert_geq(k, 2);
            return;
        }
        cr_assert_eq(st, REFINE_ENOMEM, "%s: allocation %ld: %s", path, k, err.text);
    }
}

Test(tools_latents_io, survives_every_failed_allocation)
{
    check_latents_alloc_failures("tests/fuzz/corpora/npy/f2.npy");
    check_latents_alloc_failures("tests/fuzz/corpora/latents/bf16.safetensors");
}

Test(tools_latents_io, writes_only_formats_it_knows_and_all_or_nothing)
{
    float v[N];
    const latents l = make_sample_latents(v);
    refine_error err = { 0 };
    cr_assert(latents_writable("a.npy") && latents_writable("b.latent"));
    cr_assert(latents_writable("c.safetensors") && !latents_writable("d.png"));
    cr_assert_eq(latents_save("d.png", &l, FACTOR, &err), REFINE_EINVAL);
    cr_assert_eq(latents_save("no/such/directory/l.npy", &l, FACTOR, &err), REFINE_EIO);
    cr_assert_not_null(strstr(err.text, "no/such/directory/l.npy"), "%s", err.text);
    cr_assert(temp_remove_kept(err.text), "%s", err.text);
    cr_assert_eq(mem_used().now, 0u);
}
