/* tests/offload/test_codec.c -- frames come back as they went, or not at all. */
#include "offload/codec.h"

#include "engine/base/mem.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include <zstd.h>

enum { BYTES = 70000, ROOM = 2 * BYTES };

/* A frame, made by hand. */
typedef struct sample {
    pack_frame f;
    uint8_t plain[BYTES], stored[ROOM];
} sample;

static sample *make_codec_sample(pack_codec coding, size_t bytes)
{
    static uint8_t planes[BYTES];
    sample *s = calloc(1, sizeof *s);
    for (size_t i = 0; i < bytes; i++)
        s->plain[i] = (uint8_t)(i % 2 ? 0x3c : i * 2654435761u >> 24);
    const uint8_t *from = s->plain;
    if (coding == PACK_SPLIT) {
        for (size_t i = 0; i < bytes / 2; i++) {
            planes[i] = s->plain[2 * i + 1];
            planes[bytes / 2 + i] = s->plain[2 * i];
        }
        from = planes;
    }
    size_t n = bytes;
    if (coding == PACK_RAW)
        memcpy(s->stored, s->plain, n);
    else
        n = ZSTD_compress(s->stored, ROOM, from, bytes, 1);
    s->f = (pack_frame){ .stored_bytes = (uint32_t)n,
                         .bytes = (uint32_t)bytes,
                         .codec = coding,
                         .hash = XXH3_64bits(s->stored, n) };
    return s;
}

static refine_status decode_codec_sample(const sample *s, uint8_t *out)
{
    int bad = -1;
    codec *c = codec_open(PACK_FRAME);
    cr_assert_not_null(c);
    const refine_status st = codec_decode(c, out, s->stored, &s->f, 1, &bad);
    codec_close(c);
    cr_assert_eq(bad, st == REFINE_OK ? -1 : 0);
    return st;
}

Test(offload_codec, every_coding_gives_back_the_bytes)
{
    static const size_t SIZES[] = { 2, 30, 32, 4098, BYTES };
    static uint8_t out[BYTES + 1];
    for (int coding = PACK_RAW; coding <= PACK_SPLIT; coding++)
        for (size_t i = 0; i < sizeof SIZES / sizeof SIZES[0]; i++) {
            sample *s = make_codec_sample((pack_codec)coding, SIZES[i]);
            memset(out, 0x77, sizeof out);
            cr_assert_eq(decode_codec_sample(s, out), REFINE_OK, "coding %d, %zu bytes", coding,
                         SIZES[i]);
            cr_assert_arr_eq(out, s->plain, SIZES[i]);
            cr_assert_eq(out[SIZES[i]], 0x77, "wrote behind the end");
            free(s);
        }
}

Test(offload_codec, any_flipped_bit_of_what_is_stored_is_found)
{
    static uint8_t out[BYTES];
    for (int coding = PACK_RAW; coding <= PACK_SPLIT; coding++) {
        sample *s = make_codec_sample((pack_codec)coding, 300);
        for (uint32_t bit = 0; bit < 8 * s->f.stored_bytes; bit++) {
            s->stored[bit / 8] ^= (uint8_t)(1u << bit % 8);
            cr_assert_eq(decode_codec_sample(s, out), REFINE_EFORMAT);
            s->stored[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        cr_assert_eq(decode_codec_sample(s, out), REFINE_OK);
        free(s);
    }
}

/* Whoever made the file can make its hashes. */
Test(offload_codec, damage_with_a_right_hash_never_reaches_beyond_the_frame)
{
    static uint8_t out[BYTES + 64];
    uint32_t x = 3;
    for (int coding = PACK_ZSTD; coding <= PACK_SPLIT; coding++)
        for (int i = 0; i < 2000; i++) {
            sample *s = make_codec_sample((pack_codec)coding, 600);
            for (int k = 0; k < 3; k++) {
                x = x * 1664525u + 1013904223u;
                s->stored[(x >> 8) % s->f.stored_bytes] ^= (uint8_t)(x >> 24);
            }
            s->f.hash = XXH3_64bits(s->stored, s->f.stored_bytes);
            memset(out, 0x77, sizeof out);
            (void)decode_codec_sample(s, out);
            for (int k = 0; k < 64; k++)
                cr_assert_eq(out[600 + k], 0x77);
            free(s);
        }
}

Test(offload_codec, a_frame_that_decodes_to_another_size_is_damaged)
{
    static uint8_t out[2 * BYTES];
    for (int coding = PACK_RAW; coding <= PACK_SPLIT; coding++)
        for (int by = -2; by <= 2; by += 4) {
            sample *s = make_codec_sample((pack_codec)coding, 4096);
            s->f.bytes = (uint32_t)((int)s->f.bytes + by);
            cr_assert_eq(decode_codec_sample(s, out), REFINE_EFORMAT);
            free(s);
        }
}

Test(offload_codec, an_unknown_coding_or_an_odd_split_is_damaged)
{
    static uint8_t out[BYTES];
    sample *s = make_codec_sample(PACK_RAW, 64);
    s->f.codec = 3;
    cr_assert_eq(decode_codec_sample(s, out), REFINE_EFORMAT);
    free(s);
    s = make_codec_sample(PACK_ZSTD, 63);
    s->f.codec = PACK_SPLIT;
    cr_assert_eq(decode_codec_sample(s, out), REFINE_EFORMAT);
    free(s);
}

Test(offload_codec, a_split_frame_larger_than_was_said_is_damaged)
{
    static uint8_t out[BYTES];
    int bad = -1;
    sample *s = make_codec_sample(PACK_SPLIT, 600);
    codec *c = codec_open(598);
    cr_assert_eq(codec_decode(c, out, s->stored, &s->f, 1, &bad), REFINE_EFORMAT);
    cr_assert_eq(bad, 0);
    codec_close(c);
    free(s);
}

Test(offload_codec, frames_follow_each_other_and_the_bad_one_is_named)
{
    static uint8_t stored[ROOM], out[3 * 1000];
    pack_frame f[3];
    size_t at = 0;
    int bad = -1;
    codec *c = codec_open(PACK_FRAME);
    for (int i = 0; i < 3; i++) {
        sample *s = make_codec_sample((pack_codec)i, 1000);
        f[i] = s->f;
        memcpy(stored + at, s->stored, f[i].stored_bytes);
        at += f[i].stored_bytes;
        free(s);
    }
    cr_assert_eq(codec_decode(c, out, stored, f, 3, &bad), REFINE_OK);
    sample *s = make_codec_sample(PACK_RAW, 1000);
    for (int i = 0; i < 3; i++)
        cr_assert_arr_eq(out + 1000 * i, s->plain, 1000);
    stored[f[0].stored_bytes + 5] ^= 1;
    cr_assert_eq(codec_decode(c, out, stored, f, 3, &bad), REFINE_EFORMAT);
    cr_assert_eq(bad, 1);
    free(s);
    codec_close(c);
}

Test(offload_codec, raw_frames_may_be_decoded_in_place)
{
    int bad;
    sample *s = make_codec_sample(PACK_RAW, BYTES);
    codec *c = codec_open(PACK_FRAME);
    cr_assert_eq(codec_decode(c, s->stored, s->stored, &s->f, 1, &bad), REFINE_OK);
    cr_assert_arr_eq(s->stored, s->plain, BYTES);
    codec_close(c);
    free(s);
}

Test(offload_codec, it_takes_the_memory_it_said_and_answers_each_failing_allocation)
{
    const uint64_t before = mem_used().now;
    for (long k = 0; k < 2; k++) {
        mem_fail_after(k, MEM_FAIL_ONCE);
        cr_assert_null(codec_open(PACK_FRAME));
        cr_assert_eq(mem_used().now, before);
    }
    mem_fail_after(-1, MEM_FAIL_ONCE);
    codec *c = codec_open(PACK_FRAME);
    cr_assert_leq(mem_used().now - before, codec_memory(PACK_FRAME));
    codec_close(c);
    cr_assert_eq(mem_used().now, before);
}

Test(offload_codec, a_text_is_bounded_and_terminated)
{
    static const char TEXT[] = "#version: 0.2\nh e\nl l\n";
    char stored[256], *out;
    size_t len;
    const size_t n = ZSTD_compress(stored, sizeof stored, TEXT, sizeof TEXT - 1, 1);
    cr_assert_eq(codec_text(&out, &len, stored, n, 100), REFINE_OK);
    cr_assert_eq(len, sizeof TEXT - 1);
    cr_assert_str_eq(out, TEXT);
    mem_free(out);
    cr_assert_eq(codec_text(&out, &len, stored, n, sizeof TEXT - 2), REFINE_EFORMAT);
    cr_assert_eq(codec_text(&out, &len, stored, n - 1, 100), REFINE_EFORMAT);
    cr_assert_eq(codec_text(&out, &len, "not zstd", 8, 100), REFINE_EFORMAT);
    cr_assert_null(out);
    for (long k = 0; k < 3; k++) {
        mem_fail_after(k, MEM_FAIL_ONCE);
        cr_assert_eq(codec_text(&out, &len, stored, n, 100), REFINE_ENOMEM);
    }
}
