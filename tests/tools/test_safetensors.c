/* tests/tools/test_safetensors.c -- what is right is read, what is wrong is named. */
#define _POSIX_C_SOURCE 200809L
#include "engine/base/mem.h"
#include "tests/support/temp_file.h"
#include "tests/support/tensors_file.h"
#include "tools/files/safetensors.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

TestSuite(tools_safetensors, .timeout = 60);

static void expect_safetensors_refused(const char *path, const char *because)
{
    safetensors *f;
    refine_error err = { 0 };
    cr_assert_eq(safetensors_open(&f, path, &err), REFINE_EFORMAT, "%s", because);
    cr_assert_null(f);
    cr_assert_not_null(strstr(err.text, because), "'%s' in: %s", because, err.text);
    cr_assert_not_null(strstr(err.text, path), "names the file: %s", err.text);
    cr_assert_eq(mem_used().now, 0u);
}

Test(tools_safetensors, finds_tensors_of_every_type_at_odd_addresses)
{
    /* Eleven bytes of name make the data begin at an odd byte. */
    static const char HEADER[] =
        "{\"__metadata__\":{\"format\":\"pt\",\"thumb\":\"data:\\u0041\\\"\\\\\"},"
        "\"b\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[1,7]},"
        "\"a.weight\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[7,15]},"
        "\"s\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[15,17]},"
        "\"none\":{\"dtype\":\"I64\",\"shape\":[0,4],\"data_offsets\":[3,3]},"
        "\"u\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}  ";
    unsigned char bytes[8 + sizeof HEADER - 1 + 17], got[8];
    const uint64_t n = sizeof HEADER - 1;
    char path[TEMP_NAME];
    safetensors *f;
    refine_error err = { 0 };

    memcpy(bytes, &n, 8);
    memcpy(bytes + 8, HEADER, sizeof HEADER - 1);
    for (int i = 0; i < 17; i++)
        bytes[8 + sizeof HEADER - 1 + i] = (unsigned char)(100 + i);
    temp_file(path, ".safetensors");
    temp_write(path, bytes, sizeof bytes);
    cr_assert_eq(safetensors_open(&f, path, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(f->n, 5);
    const safetensor *a = safetensors_find(f, "a.weight");
    cr_assert_not_null(a);
    cr_assert_eq(a->type, ST_F32);
    cr_assert_eq(a->n_dims, 2);
    cr_assert_eq(a->elements, 2u);
    cr_assert_eq(safetensors_read(f, a, 3, 5, got, &err), REFINE_OK);
    for (int i = 0; i < 5; i++)
        cr_assert_eq(got[i], 100 + 7 + 3 + i);
    cr_assert_eq(safetensors_find(f, "s")->elements, 1u);
    cr_assert_eq(safetensors_find(f, "none")->bytes, 0u);
    cr_assert_null(safetensors_find(f, "a"));
    cr_assert_null(safetensors_find(f, "zz"));
    cr_assert_eq(safetensors_read(f, a, 4, 5, got, &err), REFINE_EINVAL);
    safetensors_close(f);
    cr_assert_eq(mem_used().now, 0u);
    (void)unlink(path);
}

Test(tools_safetensors, every_lie_in_a_header_is_named)
{
    static const struct {
        const char *header, *because;
    } LIES[] = {
        { "{\"a\":{\"dtype\":\"F17\",\"shape\":[2],\"data_offsets\":[0,40]}}", "incomplete" },
        { "{\"a\":{\"dtype\":3,\"shape\":[2],\"data_offsets\":[0,4]}}", "no dtype" },
        { "{\"a\":{\"dtype\":\"F16\",\"data_offsets\":[0,4]}}", "no shape" },
        { "{\"a\":{\"dtype\":\"F16\",\"shape\":[1,1,1,1,1,1,1,1,2],\"data_offsets\":[0,4]}}",
          "8 dimensions" },
        { "{\"a\":{\"dtype\":\"F16\",\"shape\":[-2],\"data_offsets\":[0,4]}}", "no size" },
        { "{\"a\":{\"dtype\":\"F16\",\"shape\":[2.0],\"data_offsets\":[0,4]}}", "no size" },
        { "{\"a\":{\"dtype\":\"F16\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}",
          "too large for any file" },
        { "{\"a\":{\"dtype\":\"F16\",\"shape\":[9223372036854775807],\"data_offsets\":[0,4]}}",
          "disagree" },
        { "{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0]}}", "no data_offsets" },
        { "{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[4,0]}}", "backward" },
        { "{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[-4,0]}}", "backward" },
        { "{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,6]}}", "disagree" },
        { "{\"a\":{\"dtype\":\"F16\",\"shape\":[2],"
          "\"data_offsets\":[9223372036854775803,9223372036854775807]}}",
          "incomplete" },
        { "{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]},"
          "\"b\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[3,7]}}",
          "overlaps" },
        { "{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]},"
          "\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[4,8]}}",
          "duplicate" },
        { "{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,40]}}", "disagree" },
        { "{\"a\":{\"dtype\":\"F16\",\"shape\":[20],\"data_offsets\":[0,40]}}", "incomplete" },
        { "{\"a\":7}", "no dtype" },
        { "{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]}", "damaged" },
        { "{\"a\xff\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]}}", "damaged" },
    };
    char path[TEMP_NAME];
    temp_file(path, ".safetensors");
    for (size_t i = 0; i < sizeof LIES / sizeof LIES[0]; i++) {
        tensors_file_raw(path, LIES[i].header, strlen(LIES[i].header), 8);
        expect_safetensors_refused(path, LIES[i].because);
    }
    (void)unlink(path);
}

/* What is in a file and not used does not make it damaged. */
Test(tools_safetensors, types_and_notes_of_others_are_kept_as_they_are)
{
    static const char HEADER[] =
        "{\"__metadata__\":{\"modelspec.title\":\"A\\u001b\\u0000B\",\"n\":7,\"o\":{\"p\":[null]},"
        "\"modelspec.architecture\":\"stable-diffusion-xl-v1-base\"},"
        "\"four\":{\"dtype\":\"F4\",\"shape\":[3,2],\"data_offsets\":[0,3]},"
        "\"scale\":{\"dtype\":\"F8_E8M0\",\"shape\":[1],\"data_offsets\":[3,4]},"
        "\"long\":{\"dtype\":\"\\u001bSOMETHING_NEW_AND_LONG\",\"shape\":[],"
        "\"data_offsets\":[4,5]},"
        "\"half\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[5,7]}}";
    char path[TEMP_NAME], note[SAFETENSORS_NOTE];
    safetensors *f;
    refine_error err = { 0 };

    temp_file(path, ".safetensors");
    tensors_file_raw(path, HEADER, sizeof HEADER - 1, 7);
    cr_assert_eq(safetensors_open(&f, path, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(f->n, 4);
    const safetensor *four = safetensors_find(f, "four");
    cr_assert_eq(four->type, ST_OTHER);
    cr_assert_str_eq(four->dtype, "F4");
    cr_assert_eq(four->bytes, 3u);
    cr_assert_eq(st_dtype_bytes(four->type), 0u);
    cr_assert_str_eq(safetensors_find(f, "scale")->dtype, "F8_E8M0");
    cr_assert_str_eq(safetensors_find(f, "long")->dtype, "?SOMETHING_NEW_");
    cr_assert_eq(safetensors_find(f, "half")->type, ST_F16);
    cr_assert_str_eq(safetensors_note(note, f, "modelspec.architecture"),
                     "stable-diffusion-xl-v1-base");
    cr_assert_str_eq(safetensors_note(note, f, "modelspec.title"), "A?");
    cr_assert_null(safetensors_note(note, f, "n"));
    cr_assert_null(safetensors_note(note, f, "none"));
    safetensors_close(f);

    static const char ODD[] = "{\"__metadata__\":[1,2]}";
    tensors_file_raw(path, ODD, sizeof ODD - 1, 0);
    cr_assert_eq(safetensors_open(&f, path, &err), REFINE_OK, "%s", err.text);
    cr_assert_null(safetensors_note(note, f, "modelspec.title"));
    safetensors_close(f);
    cr_assert_eq(mem_used().now, 0u);
    (void)unlink(path);
}

Test(tools_safetensors, says_what_people_have_instead)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *is;
    } OTHERS[] = {
        { "version https://git-lfs.github.com/spec/v1\noid sha256:0", 54, "Git LFS pointer" },
        { "PK\003\004....................................", 40, "ZIP archive" },
        { "\200\002\212\nl\374\234", 7, "pickled" },
        { "\037\213\010.........", 12, "an archive" },
        { "\211HDF\r\n\032\n", 8, "HDF5" },
        { "\223NUMPY\001.......", 14, "NumPy array" },
        { "<!DOCTYPE html><html></html>", 28, "web page" },
        { "GGUF\003\0\0\0\0\0\0\0", 12, "GGUF" },
        { "RFNPACK\n\1\0\0\0", 12, "a pack already" },
        { "{\"weight_map\": {}}", 18, "JSON" },
        { "what is this thing here", 23, "no .safetensors" },
        { "", 0, "no .safetensors" },
        { "\2\0\0\0\0\0\0\0{", 9, "no .safetensors" },
    };
    char path[TEMP_NAME];
    temp_file(path, ".safetensors");
    for (size_t i = 0; i < sizeof OTHERS / sizeof OTHERS[0]; i++) {
        temp_write(path, OTHERS[i].bytes, OTHERS[i].len);
        expect_safetensors_refused(path, OTHERS[i].is);
    }
    (void)unlink(path);
}

Test(tools_safetensors, a_header_that_would_not_fit_in_memory_is_refused_unread)
{
    char path[TEMP_NAME];
    const uint64_t n = (uint64_t)1 << 40;
    unsigned char bytes[9];
    memcpy(bytes, &n, 8);
    bytes[8] = '{';
    temp_file(path, ".safetensors");
    temp_write(path, bytes, sizeof bytes);
    expect_safetensors_refused(path, "no .safetensors");
    (void)unlink(path);
}

Test(tools_safetensors, a_download_cut_short_tells_both_lengths)
{
    static const char HEADER[] =
        "{\"a\":{\"dtype\":\"F16\",\"shape\":[500],\"data_offsets\":[0,1000]}}";
    char path[TEMP_NAME], lengths[80];
    temp_file(path, ".safetensors");
    tensors_file_raw(path, HEADER, sizeof HEADER - 1, 400);
    (void)snprintf(lengths, sizeof lengths, "%zu bytes of %zu", 8 + sizeof HEADER - 1 + 400,
                   8 + sizeof HEADER - 1 + 1000);
    expect_safetensors_refused(path, lengths);
    tensors_file_raw(path, HEADER, sizeof HEADER - 1, 0);
    cr_assert_eq(truncate(path, 40), 0);
    expect_safetensors_refused(path, "incomplete: 40 bytes are there");
    (void)unlink(path);
}

Test(tools_safetensors, a_file_that_shrinks_while_it_is_read_is_an_error)
{
    static const char HEADER[] =
        "{\"a\":{\"dtype\":\"F16\",\"shape\":[500],\"data_offsets\":[0,1000]}}";
    static char got[1000];
    char path[TEMP_NAME];
    safetensors *f;
    refine_error err = { 0 };
    temp_file(path, ".safetensors");
    tensors_file_raw(path, HEADER, sizeof HEADER - 1, 1000);
    cr_assert_eq(safetensors_open(&f, path, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(truncate(path, 200), 0);
    cr_assert_eq(safetensors_read(f, f->tensor, 0, 1000, got, &err), REFINE_EIO);
    safetensors_close(f);
    (void)unlink(path);
}

Test(tools_safetensors, only_a_regular_file_will_do)
{
    char path[TEMP_NAME];
    safetensors *f;
    refine_error err = { 0 };
    temp_file(path, ".fifo");
    (void)unlink(path);
    cr_assert_eq(safetensors_open(&f, path, &err), REFINE_EIO);
    cr_assert_eq(mkfifo(path, 0600), 0);
    expect_safetensors_refused(path, "no regular file");
    (void)unlink(path);
    cr_assert_eq(mkdir(path, 0700), 0);
    expect_safetensors_refused(path, "no regular file");
    (void)rmdir(path);
}

Test(tools_safetensors, survives_the_failure_of_any_allocation)
{
    tensors_file t = { 0 };
    char path[TEMP_NAME];
    safetensors *f;
    long k = 0;

    temp_file(path, ".safetensors");
    tensors_file_add(&t, "a.weight", "F16", 2, "4, 2");
    tensors_file_add(&t, "a.bias", "F32", 4, "4");
    tensors_file_write(&t, path);
    for (;; k++) {
        refine_error err = { 0 };
        mem_fail_after(k, MEM_FAIL_ONCE);
        const refine_status st = safetensors_open(&f, path, &err);
        mem_fail_after(-1, MEM_FAIL_ONCE);
        if (st == REFINE_OK)
            break;
        cr_assert_eq(st, REFINE_ENOMEM, "allocation %ld", k);
        cr_assert_eq(mem_used().now, 0u, "allocation %ld", k);
    }
    cr_assert_geq(k, 5);
    safetensors_close(f);
    (void)unlink(path);
}
