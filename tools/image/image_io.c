/* tools/image/image_io.c -- recognises an image by its first bytes and hands it to its decoder. */
#define _POSIX_C_SOURCE 200809L
#include "tools/image/image_io.h"

#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"
#include "tools/image/image_codec.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define FILE_BYTES_MAX ((size_t)1 << 30)

refine_status image_alloc(image *out, unsigned long width, unsigned long height, const char *name,
                          refine_error *err)
{
    if (width == 0 || height == 0 || width > IMAGE_MAX_SIDE || height > IMAGE_MAX_SIDE)
        return refine_fail(err, REFINE_EFORMAT, "%s: %lu x %lu pixels; each side may have 1 to %d",
                           name, width, height, IMAGE_MAX_SIDE);
    *out = (image){ (int)width, (int)height, mem_alloc(width * height * 3) };
    return out->rgb ? REFINE_OK : refine_fail(err, REFINE_ENOMEM, "%s: out of memory", name);
}

void image_free(image *im)
{
    mem_free(im->rgb);
    im->rgb = NULL;
}

/* The whole of a file (or pipe), in a buffer that doubles. */
static refine_status read_whole_stream(int fd, const char *name, uint8_t **data, size_t *len,
                                       refine_error *err)
{
    size_t room = (size_t)1 << 20, n = 0;
    uint8_t *p = mem_alloc(room);
    refine_status st = p ? REFINE_OK : refine_fail(err, REFINE_ENOMEM, "%s: out of memory", name);

    while (st == REFINE_OK) {
        if (n == room) {
            uint8_t *more = room < FILE_BYTES_MAX ? mem_realloc(p, 2 * room) : NULL;
            if (!more) {
                st = refine_fail(err, room < FILE_BYTES_MAX ? REFINE_ENOMEM : REFINE_EFORMAT,
                                 "%s: too large for an image", name);
                break;
            }
            p = more;
            room *= 2;
        }
        const ssize_t got = read(fd, p + n, room - n);
        if (got == 0)
            break;
        if (got < 0 && errno != EINTR)
            st = refine_fail(err, REFINE_EIO, "%s: cannot read: %s", name, strerror(errno));
        else if (got > 0)
            n += (size_t)got;
    }
    if (st != REFINE_OK) {
        mem_free(p);
        return st;
    }
    *data = p;
    *len = n;
    return REFINE_OK;
}

static int has_magic_at(const uint8_t *p, size_t len, size_t at, const char *with, size_t n)
{
    return num_within(at, n, len) && memcmp(p + at, with, n) == 0;
}

/* Kinds that people try, to be named in the refusal. */
static const char *other_kind(const uint8_t *p, size_t len)
{
    if (has_magic_at(p, len, 0, "RIFF", 4) && has_magic_at(p, len, 8, "WEBP", 4))
        return "a WebP image";
    if (has_magic_at(p, len, 4, "ftypavi", 7))
        return "an AVIF image";
    if (has_magic_at(p, len, 4, "ftyphe", 6) || has_magic_at(p, len, 4, "ftypmif1", 8) ||
        has_magic_at(p, len, 4, "ftypmsf1", 8))
        return "a HEIC image";
    if (has_magic_at(p, len, 0, "GIF8", 4))
        return "a GIF image";
    if (has_magic_at(p, len, 0, "BM", 2))
        return "a BMP image";
    if (has_magic_at(p, len, 0, "II*\0", 4) || has_magic_at(p, len, 0, "MM\0*", 4))
        return "a TIFF image";
    if (has_magic_at(p, len, 0, "\xff\x0a", 2) || has_magic_at(p, len, 4, "JXL ", 4))
        return "a JPEG XL image";
    return NULL;
}

static refine_status decode_by_magic(image *out, const uint8_t *p, size_t len, const char *name,
                                     refine_error *err)
{
    if (has_magic_at(p, len, 0, "\x89PNG\r\n\x1a\n", 8))
        return image_decode_png(out, p, len, name, err);
    if (has_magic_at(p, len, 0, "\xff\xd8\xff", 3))
        return image_decode_jpeg(out, p, len, name, err);
    if (len == 0)
        return refine_fail(err, REFINE_EFORMAT, "%s: is empty", name);
    const char *kind = other_kind(p, len);
    return refine_fail(err, REFINE_EFORMAT, "%s: is %s; %s a PNG or JPEG image", name,
                       kind ? kind : "no image this program knows",
                       kind ? "convert it to" : "give");
}

refine_status image_load(image *out, const char *path, refine_error *err)
{
    const bool from_stdin = strcmp(path, "-") == 0;
    const char *name = from_stdin ? "standard input" : path;
    const int fd = from_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    uint8_t *data = NULL;
    size_t len = 0;

    *out = (image){ 0 };
    if (fd < 0)
        return refine_fail(err, REFINE_EIO, "%s: cannot open: %s", name, strerror(errno));
    refine_status st = read_whole_stream(fd, name, &data, &len, err);
    if (!from_stdin)
        (void)close(fd);
    TRY(st);
    st = decode_by_magic(out, data, len, name, err);
    mem_free(data);
    return st;
}
