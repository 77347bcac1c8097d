/* tests/tools/test_merges.c -- one made-up merge list in every file format.
 *
 * The list is the first 48894 pairs of byte symbols: "! !", "! \"", ...
 */
#define _XOPEN_SOURCE 700 /* mkdtemp */
#include "engine/base/mem.h"
#include "engine/text/tokenizer.h"
#include "tools/files/merges.h"
#include "tools/vocabulary/clip_vocabulary.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define PUBLISHED "tools/vocabulary/bpe_simple_vocab_16e6.txt.gz"

enum { TEXT_ROOM = 1 << 20 };

/* Everything a test makes lies in one directory, removed by close_merges_dir(). */
static void open_merges_dir(char dir[64])
{
    (void)snprintf(dir, 64, "refine-merges-XXXXXX");
    const char *tmp = getenv("TMPDIR");
    cr_assert_eq(chdir(tmp ? tmp : "/tmp"), 0);
    cr_assert_not_null(mkdtemp(dir));
    cr_assert_eq(chdir(dir), 0);
}

static void close_merges_dir(const char dir[64])
{
    static const char *const files[] = {
        "merges.txt", "vocab.json", "tokenizer.json",         "list.gz",
        "cut.gz",     "bomb.gz",    "tokenizer_2/merges.txt", "other"
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        (void)unlink(files[i]);
    (void)rmdir("tokenizer_2");
    cr_assert_eq(chdir(".."), 0);
    cr_expect_eq(rmdir(dir), 0);
}

static size_t encode_merge_symbol(char *out, int i)
{
    static const int printable_ends[][2] = { { 33, 126 }, { 161, 172 }, { 174, 255 } };
    int point = 0x100;
    for (int k = 0, n = 0; k < 3; n += printable_ends[k][1] - printable_ends[k][0] + 1, k++)
        if (i < n + printable_ends[k][1] - printable_ends[k][0] + 1) {
            point = printable_ends[k][0] + i - n;
            break;
        }
    if (point == 0x100)
        point += i - 188;
    if (point < 0x80) {
        out[0] = (char)point;
        return 1;
    }
    out[0] = (char)(0xc0 | point >> 6);
    out[1] = (char)(0x80 | (point & 0x3f));
    return 2;
}

static size_t make_merges_text(char *text, int n)
{
    size_t len = 0;
    for (int i = 0; i < n; i++) {
        len += encode_merge_symbol(text + len, i / 256);
        text[len++] = ' ';
        len += encode_merge_symbol(text + len, i % 256);
        text[len++] = '\n';
    }
    return len;
}

static void write_merges_file(const char *path, const char *header, const char *text, size_t len)
{
    FILE *f = fopen(path, "wb");
    cr_assert_not_null(f);
    cr_assert_geq(fputs(header, f), 0);
    cr_assert_eq(fwrite(text, 1, len, f), len);
    cr_assert_eq(fclose(f), 0);
}

static void write_gzip(const char *path, const char *text, size_t len)
{
    gzFile f = gzopen(path, "wb");
    cr_assert_not_null(f);
    cr_assert_eq(gzwrite(f, text, (unsigned)len), (int)len);
    cr_assert_eq(gzclose(f), Z_OK);
}

/* vocab.json as published: symbols, symbols that end a word, merges. */
static json_t *make_vocab_json(const char *text)
{
    json_t *v = json_object();
    const char *line = text;
    for (int i = 0; i < TOKENIZER_MERGES; i++) {
        char token[16];
        const char *space = strchr(line, ' '), *stop = strchr(line, '\n');
        (void)snprintf(token, sizeof token, "%.*s%.*s", (int)(space - line), line,
                       (int)(stop - space - 1), space + 1);
        json_object_set_new(v, token, json_integer(TOKENIZER_SYMBOLS + i));
        line = stop + 1;
    }
    return v;
}

static json_t *merge_array(const char *text, bool pairs)
{
    json_t *list = json_array();
    for (const char *line = text, *stop; *line; line = stop + 1) {
        stop = strchr(line, '\n');
        const char *space = strchr(line, ' ');
        if (pairs)
            json_array_append_new(list, json_pack("[s#s#]", line, (int)(space - line), space + 1,
                                                  (int)(stop - space - 1)));
        else
            json_array_append_new(list, json_stringn(line, (size_t)(stop - line)));
    }
    return list;
}

static void expect_merges_loaded(const char *path, const char *want, size_t want_len)
{
    char *text;
    size_t len;
    refine_error err = { 0 };
    const uint64_t before = mem_used().now;
    cr_assert_eq(merges_load(path, &text, &len, &err), REFINE_OK, "%s", err.text);
    cr_expect_eq(len, want_len, "%s", path);
    cr_expect_str_eq(text, want, "%s", path);
    mem_free(text);
    cr_expect_eq(mem_used().now, before);
}

static void expect_merges_refused(const char *path, refine_status st, const char *why)
{
    char *text;
    size_t len;
    refine_error err = { 0 };
    const uint64_t before = mem_used().now;
    cr_expect_eq(merges_load(path, &text, &len, &err), st, "%s: %s", path, err.text);
    cr_expect_not_null(strstr(err.text, why), "%s: \"%s\" does not say \"%s\"", path, err.text,
                       why);
    cr_expect_null(text);
    cr_expect_eq(mem_used().now, before);
}

Test(tools_merges, reads_text_and_gzip)
{
    char dir[64], *text = mem_calloc(1, TEXT_ROOM);
    const size_t len = make_merges_text(text, TOKENIZER_MERGES);
    open_merges_dir(dir);
    write_merges_file("merges.txt", "#version: 0.2\n", text, len);
    expect_merges_loaded("merges.txt", text, len);
    expect_merges_loaded(".", text, len);
    write_merges_file("merges.txt", "", text, len);
    expect_merges_loaded("merges.txt", text, len);
    write_gzip("list.gz", text, len);
    expect_merges_loaded("list.gz", text, len);
    cr_assert_eq(mkdir("tokenizer_2", 0700), 0);
    cr_assert_eq(rename("merges.txt", "tokenizer_2/merges.txt"), 0);
    expect_merges_loaded(".", text, len);
    close_merges_dir(dir);
    mem_free(text);
}

Test(tools_merges, reads_json_of_every_generation)
{
    char dir[64], *text = mem_calloc(1, TEXT_ROOM);
    const size_t len = make_merges_text(text, TOKENIZER_MERGES);
    json_t *vocab = make_vocab_json(text);
    open_merges_dir(dir);

    cr_assert_eq(json_dump_file(vocab, "vocab.json", 0), 0);
    expect_merges_refused("vocab.json", REFINE_EIO, "merges.txt");
    write_merges_file("merges.txt", "#version: 0.2\n", text, len);
    expect_merges_loaded("vocab.json", text, len);
    for (int pairs = 0; pairs < 2; pairs++) {
        json_t *root = json_pack("{s{sOso}}", "model", "vocab", vocab, "merges",
                                 merge_array(text, pairs));
        cr_assert_eq(json_dump_file(root, "tokenizer.json", 0), 0);
        json_decref(root);
        expect_merges_loaded("tokenizer.json", text, len);
    }
    json_object_set_new(vocab, "!\"", json_integer(7));
    cr_assert_eq(json_dump_file(vocab, "vocab.json", 0), 0);
    expect_merges_refused(".", REFINE_EFORMAT, "not CLIP's vocabulary");
    close_merges_dir(dir);
    json_decref(vocab);
    mem_free(text);
}

Test(tools_merges, takes_a_short_list_only_if_it_says_so)
{
    char dir[64], *text = mem_calloc(1, TEXT_ROOM);
    const size_t len = make_merges_text(text, 100);
    open_merges_dir(dir);
    write_merges_file("other", "#version: demo\n", text, len);
    expect_merges_loaded("other", text, len);
    write_merges_file("other", "#version: 0.2\n", text, len);
    expect_merges_refused("other", REFINE_EFORMAT, "100 merges where CLIP has 48894");
    write_merges_file("other", "#version: demo\n", text, 0);
    expect_merges_refused("other", REFINE_EFORMAT, "0 merges");
    close_merges_dir(dir);
    mem_free(text);
}

Test(tools_merges, refuses_what_is_not_a_clip_tokenizer)
{
    char dir[64], *text = mem_calloc(1, TEXT_ROOM);
    const size_t len = make_merges_text(text, TOKENIZER_MERGES);
    open_merges_dir(dir);
    expect_merges_refused(".", REFINE_EIO, "no tokenizer here");
    expect_merges_refused("other", REFINE_EIO, "other");
    write_merges_file("other", "", text, len / 2);
    expect_merges_refused("other", REFINE_EFORMAT, "merges where CLIP has 48894");
    write_merges_file("other", "", text, 0);
    expect_merges_refused("other", REFINE_EFORMAT, "0 merges");
    write_merges_file("other", "! zz\n", text, len);
    expect_merges_refused("other", REFINE_EFORMAT, "merge 1 ");
    write_merges_file("other", "{\"model\": {}}", text, 0);
    expect_merges_refused("other", REFINE_EFORMAT, "0 merges");
    write_merges_file("other", "{\"model\": {\"merges\": [", text, 0);
    expect_merges_refused("other", REFINE_EFORMAT, "line 1");

    json_t *broken = merge_array(text, false);
    json_array_set_new(broken, 5, json_string("! !\n! !"));
    json_t *root = json_pack("{s{s{}so}}", "model", "vocab", "merges", broken);
    cr_assert_eq(json_dump_file(root, "other", 0), 0);
    json_decref(root);
    expect_merges_refused("other", REFINE_EFORMAT, "neither text nor a pair");
    close_merges_dir(dir);
    mem_free(text);
}

Test(tools_merges, refuses_damaged_and_endless_gzip)
{
    char dir[64], *text = mem_calloc(1, TEXT_ROOM);
    const size_t len = make_merges_text(text, TOKENIZER_MERGES);
    open_merges_dir(dir);
    write_gzip("list.gz", text, len);
    FILE *f = fopen("list.gz", "rb");
    cr_assert_not_null(f);
    const size_t packed = fread(text, 1, TEXT_ROOM, f);
    (void)fclose(f);
    write_merges_file("cut.gz", "", text, packed / 2);
    expect_merges_refused("cut.gz", REFINE_EFORMAT, "damaged or cut");
    text[packed / 2] ^= 0x55;
    write_merges_file("cut.gz", "", text, packed);
    expect_merges_refused("cut.gz", REFINE_EFORMAT, "damaged or cut");

    char *zeros = mem_calloc(1, 32 << 20);
    write_gzip("bomb.gz", zeros, 32 << 20);
    expect_merges_refused("bomb.gz", REFINE_EFORMAT, "more than 16 MiB");
    mem_free(zeros);
    close_merges_dir(dir);
    mem_free(text);
}

/* path: NULL for the built-in list. */
static void expect_failures_survived(const char *path)
{
    for (long k = 0;; k++) {
        const uint64_t before = mem_used().now;
        char *got;
        size_t len;
        refine_error err = { 0 };
        mem_fail_after(k, MEM_FAIL_ONCE);
        const refine_status st = path ? merges_load(path, &got, &len, &err)
                                      : merges_unpack(clip_vocabulary, clip_vocabulary_bytes, &got,
                                                      &len, &err);
        mem_fail_after(-1, MEM_FAIL_ONCE);
        if (st == REFINE_OK) {
            mem_free(got);
            cr_assert_geq(k, 8);
            break;
        }
        cr_assert_eq(st, REFINE_ENOMEM, "allocation %ld: %s", k, err.text);
        cr_assert_eq(mem_used().now, before);
    }
}

Test(tools_merges, survives_every_failed_allocation)
{
    char dir[64], *text = mem_calloc(1, TEXT_ROOM);
    const size_t len = make_merges_text(text, TOKENIZER_MERGES);
    open_merges_dir(dir);
    write_gzip("list.gz", text, len);
    expect_failures_survived("list.gz");
    expect_failures_survived(NULL);
    close_merges_dir(dir);
    mem_free(text);
}

Test(tools_merges, says_which_files_it_would_read)
{
    char dir[64], file[MERGES_PATH], beside[MERGES_PATH];
    open_merges_dir(dir);
    cr_expect(!merges_files(file, beside, "."));
    cr_assert_eq(mkdir("tokenizer_2", 0700), 0);
    write_merges_file("tokenizer_2/merges.txt", "", "", 0);
    cr_assert(merges_files(file, beside, "."));
    cr_expect_str_eq(file, "./tokenizer_2/merges.txt");
    cr_assert(merges_files(file, beside, "vocab.json"));
    cr_expect_str_eq(file, "vocab.json");
    cr_expect_str_eq(beside, "merges.txt");
    cr_assert(merges_files(file, beside, "tokenizer_2/vocab.json"));
    cr_expect_str_eq(beside, "tokenizer_2/merges.txt");
    close_merges_dir(dir);
}

/* What prompts become rests on it. */
Test(tools_merges, has_the_published_vocabulary_built_in)
{
    char *built_in, *read;
    size_t len, read_len, lines = 0;
    refine_error err = { 0 };
    const uint64_t before = mem_used().now;
    cr_assert_eq(merges_unpack(clip_vocabulary, clip_vocabulary_bytes, &built_in, &len, &err),
                 REFINE_OK, "%s", err.text);
    cr_expect_eq(strncmp(built_in, "i n\nt h\n", 8), 0);
    for (size_t i = 0; i < len; i++)
        lines += built_in[i] == '\n';
    cr_expect_eq(lines, TOKENIZER_MERGES);
    cr_assert_eq(merges_load(PUBLISHED, &read, &read_len, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(read_len, len);
    cr_expect_eq(memcmp(read, built_in, len), 0);
    mem_free(read);
    mem_free(built_in);
    cr_expect_eq(merges_unpack(clip_vocabulary, clip_vocabulary_bytes / 2, &read, &len, &err),
                 REFINE_EFORMAT);
    cr_expect_eq(mem_used().now, before);
}
