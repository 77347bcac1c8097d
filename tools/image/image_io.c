/* tools/image/image_io.c -- which decoder reads an image, told by its first bytes, and which
 * encoder writes one, told by its name. */
#define _GNU_SOURCE /* memmem */
#include "tools/image/image_io.h"

#include "engine/base/io.h"
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"
#include "tools/files/new_file.h"
#include "tools/image/image_codec.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES_MAX ((size_t)1 << 30)

static uint64_t reading_takes(const image_reading *how)
{
    const uint64_t now = mem_used().now;
    return now > how->before ? now - how->before : 0;
}

refine_status image_check_memory(const image_reading *how, uint64_t more, const char *name,
                                 refine_error *err)
{
    const double mib = 1 << 20;
    const uint64_t bytes = reading_takes(how) + more;
    if (bytes <= how->memory)
        return REFINE_OK;
    return refine_fail(err, REFINE_EBUDGET,
                       "%s: reading it alone takes %.0fM of host memory, the ceiling is %.0fM; "
                       "raise --ram or use a smaller image",
                       name, ceil((double)bytes / mib), floor((double)how->memory / mib));
}

size_t image_memory_share(const image_reading *how, size_t most)
{
    const uint64_t taken = reading_takes(how);
    return taken < how->memory ? (size_t)num_min((how->memory - taken) / 4, most) : 0;
}

refine_status image_alloc(image *out, unsigned long width, unsigned long height, uint64_t coder,
                          const image_reading *how, const char *name, refine_error *err)
{
    if (width == 0 || height == 0 || width > IMAGE_MAX_SIDE || height > IMAGE_MAX_SIDE)
        return refine_fail(err, REFINE_EFORMAT, "%s: %lu x %lu pixels; each side may have 1 to %d",
                           name, width, height, IMAGE_MAX_SIDE);
    TRY(image_check_memory(how, width * height * 3 + coder, name, err));
    *out = (image){ (int)width, (int)height, mem_alloc(width * height * 3) };
    return out->rgb ? REFINE_OK : refine_fail(err, REFINE_ENOMEM, "%s: out of memory", name);
}

void image_free(image *im)
{
    mem_free(im->rgb);
    im->rgb = NULL;
}

static refine_status fail_image_reading(const char *name, int error, refine_error *err)
{
    switch (error) {
    case EFBIG: return refine_fail(err, REFINE_EFORMAT, "%s: too large for an image", name);
    case ENOMEM: return refine_fail(err, REFINE_ENOMEM, "%s: out of memory", name);
    default: return refine_fail(err, REFINE_EIO, "%s: cannot read: %s", name, strerror(error));
    }
}

static refine_status read_image_file(char **data, size_t *len, int fd, const image_reading *how,
                                     const char *name, refine_error *err)
{
    struct stat st;
    if (fstat(fd, &st) == 0 && st.st_size > 0)
        TRY(image_check_memory(how, (uint64_t)st.st_size, name, err));
    if (io_read_whole(data, len, fd, (size_t)num_min(how->memory, FILE_BYTES_MAX)))
        return REFINE_OK;
    return fail_image_reading(name, errno, err);
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

static refine_status decode_by_magic(image *out, image_reading *how, const uint8_t *p, size_t len,
                                     const char *name, refine_error *err)
{
    if (has_magic_at(p, len, 0, "\x89PNG\r\n\x1a\n", 8))
        return image_decode_png(out, how, p, len, name, err);
    if (has_magic_at(p, len, 0, "\xff\xd8\xff", 3))
        return image_decode_jpeg(out, how, p, len, name, err);
    if (len == 0)
        return refine_fail(err, REFINE_EFORMAT, "%s: is empty", name);
    const char *kind = other_kind(p, len);
    return refine_fail(err, REFINE_EFORMAT, "%s: is %s; %s a PNG or JPEG image", name,
                       kind ? kind : "no image this program knows",
                       kind ? "convert it to" : "give");
}

refine_status image_read(image *out, image_reading *how, const char *path, refine_error *err)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *data;
    size_t len;

    *out = (image){ 0 };
    how->note = NULL;
    how->before = mem_used().now;
    if (fd < 0)
        return refine_fail(err, REFINE_EIO, "%s: cannot open: %s", path, strerror(errno));
    refine_status st = read_image_file(&data, &len, fd, how, path, err);
    (void)close(fd);
    if (st != REFINE_OK)
        return st;
    st = decode_by_magic(out, how, (const uint8_t *)data, len, path, err);
    mem_free(data);
    return st;
}

/* ---- texts ---- */

const char IMAGE_TEXT_ABSENT[] = "";

bool image_texts_match(image_text_find *find, const void *have, const image_text *want, int n_want)
{
    for (int i = 0; i < n_want; i++) {
        const char *value = find(have, want[i].key);
        if ((value != NULL) == (want[i].value == IMAGE_TEXT_ABSENT))
            return false;
        if (value && want[i].value && strcmp(value, want[i].value) != 0)
            return false;
    }
    return true;
}

bool image_text_is_ascii(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s >= 0x80)
            return false;
    return true;
}

bool image_has_texts(const char *path, const image_text *text, int n_text)
{
    FILE *f = fopen(path, "rbe");
    if (!f)
        return false;
    const bool has = image_name_format(path) == IMAGE_FORMAT_JPEG ? image_jpeg_has(f, text, n_text)
                                                                  : image_png_has(f, text, n_text);
    (void)fclose(f);
    return has;
}

/* Anywhere in what follows. */
static bool has_bytes(FILE *f, const char *mark, size_t len)
{
    enum { BLOCK = 1 << 14 };
    uint8_t block[BLOCK];
    size_t kept = 0, n;
    while ((n = fread(block + kept, 1, sizeof block - kept, f)) > 0) {
        n += kept;
        if (memmem(block, n, mark, len))
            return true;
        kept = num_min(n, len - 1);
        memmove(block, block + n - kept, kept);
    }
    return false;
}

/* Of an image that was cut off or damaged it cannot be told whether the key was there; nothing is
 * lost where it holds no pixels. */
static bool is_foreign_file(FILE *f, const char *key)
{
    uint8_t head[8];
    const size_t n = fread(head, 1, sizeof head, f);
    const bool png = has_magic_at(head, n, 0, "\x89PNG\r\n\x1a\n", 8);
    const bool jpeg = has_magic_at(head, n, 0, "\xff\xd8\xff", 3);
    if (!png && !jpeg)
        return n > 0;
    rewind(f);
    if ((png ? image_png_has_key : image_jpeg_has_key)(f, key))
        return false;
    rewind(f);
    return png ? has_bytes(f, "IDAT", 4) : has_bytes(f, "\xff\xda", 2);
}

bool image_is_foreign(const char *path, const char *key)
{
    struct stat st;
    FILE *f = stat(path, &st) == 0 && S_ISREG(st.st_mode) ? fopen(path, "rbe") : NULL;
    if (!f)
        return false;
    const bool foreign = is_foreign_file(f, key);
    (void)fclose(f);
    return foreign;
}

/* ---- writing ---- */

image_format image_name_format(const char *path)
{
    static const char *const JPEGS[] = { ".jpg", ".jpeg", ".jpe", ".jfif", NULL };
    static const char *const OTHERS[] = { ".webp", ".tif",  ".tiff", ".bmp", ".gif", ".avif",
                                          ".heic", ".heif", ".jxl",  ".jp2", ".ppm", ".tga",
                                          ".exr",  ".psd",  ".svg",  ".pdf", NULL };
    const char *slash = strrchr(path, '/'), *dot = strrchr(slash ? slash : path, '.');
    for (int i = 0; dot && JPEGS[i]; i++)
        if (strcasecmp(dot, JPEGS[i]) == 0)
            return IMAGE_FORMAT_JPEG;
    for (int i = 0; dot && OTHERS[i]; i++)
        if (strcasecmp(dot, OTHERS[i]) == 0)
            return IMAGE_FORMAT_OTHER;
    return IMAGE_FORMAT_PNG;
}

bool image_bytes_reserve(image_bytes *b, size_t n)
{
    if (b->data && n <= b->room - b->len)
        return true;
    const size_t room = num_max(2 * b->room, b->len + n + 65536);
    uint8_t *more = mem_realloc(b->data, room);
    if (!more)
        return false;
    b->data = more;
    b->room = room;
    return true;
}

static refine_status fill_image_file(new_file *f, const void *encoded, refine_error *err)
{
    const image_bytes *b = encoded;
    return new_file_write(f, b->data, b->len, 0, err);
}

refine_status image_check_name(const char *path, refine_error *err)
{
    if (image_name_format(path) != IMAGE_FORMAT_OTHER)
        return REFINE_OK;
    return refine_fail(err, REFINE_EINVAL,
                       "%s: images are written as PNG or JPEG; let the name end in .png or .jpg",
                       path);
}

refine_status image_save(const char *path, const image *im, const image_text *text, int n_text,
                         refine_error *err)
{
    image_bytes out = { 0 };
    TRY(image_check_name(path, err));
    refine_status st = image_name_format(path) == IMAGE_FORMAT_JPEG
                           ? image_encode_jpeg(&out, im, text, n_text, path, err)
                           : image_encode_png(&out, im, text, n_text, path, err);
    if (st == REFINE_OK)
        st = new_file_save(path, fill_image_file, &out, err);
    mem_free(out.data);
    return st;
}
