/* offload/codec.c -- from the stored bytes of a chunk to its weights.
 *
 *     stored --XXH3--> raw:   as it is
 *                      zstd:  one zstd frame
 *                      split: one zstd frame of H h h h ... L l l l, zipped to Ll Hh ...
 *
 * High and low bytes of 16-bit weights are stored apart because only the high ones
 * (sign, exponent, first mantissa bits) compress.  Decoding never reads what it wrote
 * except inside zstd, so the destination may be any ordinary memory.
 */
#include "offload/codec.h"

#include "engine/base/mem.h"
#include "offload/zstd_memory.h"

#include <stdbool.h>
#include <string.h>
#include <xxhash.h>

struct codec {
    ZSTD_DCtx *zstd;
    size_t split;
    uint8_t planes[]; /* split of them */
};

static void *zstd_memory_alloc(void *opaque, size_t bytes)
{
    (void)opaque;
    return mem_alloc(bytes);
}

static void zstd_memory_free(void *opaque, void *p)
{
    (void)opaque;
    mem_free(p);
}

const ZSTD_customMem zstd_memory = { zstd_memory_alloc, zstd_memory_free, NULL };

codec *codec_open(size_t split)
{
    codec *c = mem_alloc(sizeof *c + split);
    if (!c)
        return NULL;
    c->split = split;
    c->zstd = ZSTD_createDCtx_advanced(zstd_memory);
    if (!c->zstd) {
        mem_free(c);
        return NULL;
    }
    return c;
}

void codec_close(codec *c)
{
    if (!c)
        return;
    (void)ZSTD_freeDCtx(c->zstd);
    mem_free(c);
}

size_t codec_memory(size_t split) { return sizeof(codec) + split + ZSTD_estimateDCtxSize(); }

uint64_t codec_hash(const void *data, size_t bytes) { return XXH3_64bits(data, bytes); }

/* Exactly `bytes`, or it is damaged. */
static bool decompress_frame(codec *c, void *dst, size_t bytes, const void *stored,
                             size_t stored_bytes)
{
    return ZSTD_decompressDCtx(c->zstd, dst, bytes, stored, stored_bytes) == bytes;
}

/* dst = low[0] high[0] low[1] high[1] ...: little-endian 16-bit numbers. */
static void zip_planes(uint8_t *restrict dst, const uint8_t *restrict high,
                       const uint8_t *restrict low, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        dst[2 * i] = low[i];
        dst[2 * i + 1] = high[i];
    }
}

static bool decode_split(codec *c, void *dst, const void *stored, const pack_frame *f)
{
    const size_t n = f->bytes / 2;
    if (f->bytes > c->split || f->bytes % 2)
        return false;
    if (!decompress_frame(c, c->planes, f->bytes, stored, f->stored_bytes))
        return false;
    zip_planes(dst, c->planes, c->planes + n, n);
    return true;
}

static bool decode_raw(void *dst, const void *stored, const pack_frame *f)
{
    if (f->stored_bytes != f->bytes)
        return false;
    if (dst != stored)
        memcpy(dst, stored, f->bytes);
    return true;
}

static bool decode_frame(codec *c, void *dst, const void *stored, const pack_frame *f)
{
    if (codec_hash(stored, f->stored_bytes) != f->hash)
        return false;
    switch (f->codec) {
    case PACK_RAW: return decode_raw(dst, stored, f);
    case PACK_ZSTD: return decompress_frame(c, dst, f->bytes, stored, f->stored_bytes);
    case PACK_SPLIT: return decode_split(c, dst, stored, f);
    default: return false;
    }
}

refine_status codec_decode(codec *c, void *dst, const void *stored, const pack_frame *frames, int n,
                           int *bad)
{
    uint8_t *to = dst;
    const uint8_t *from = stored;

    for (int i = 0; i < n; i++) {
        if (!decode_frame(c, to, from, &frames[i])) {
            *bad = i;
            return REFINE_EFORMAT;
        }
        to += frames[i].bytes;
        from += frames[i].stored_bytes;
    }
    return REFINE_OK;
}

refine_status codec_text(char **out, size_t *len, const void *stored, size_t stored_bytes,
                         size_t most)
{
    const unsigned long long bytes = ZSTD_getFrameContentSize(stored, stored_bytes);

    *out = NULL;
    if (bytes == ZSTD_CONTENTSIZE_UNKNOWN || bytes == ZSTD_CONTENTSIZE_ERROR || bytes > most)
        return REFINE_EFORMAT;
    codec *c = codec_open(0);
    char *text = mem_alloc((size_t)bytes + 1);
    refine_status st = c && text ? REFINE_OK : REFINE_ENOMEM;
    if (st == REFINE_OK && !decompress_frame(c, text, (size_t)bytes, stored, stored_bytes))
        st = REFINE_EFORMAT;
    codec_close(c);
    if (st != REFINE_OK) {
        mem_free(text);
        return st;
    }
    text[bytes] = '\0';
    *out = text;
    *len = (size_t)bytes;
    return REFINE_OK;
}
