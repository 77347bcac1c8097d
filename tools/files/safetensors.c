/* tools/files/safetensors.c -- the header, checked; the data, read where it lies. */
#define _XOPEN_SOURCE 700
#include "tools/files/safetensors.h"

#include "engine/base/io.h"
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"
#include "tools/files/file_kind.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LENGTH = 8 };

static const struct {
    const char *name;
    size_t bytes;
} DTYPES[N_ST_DTYPES] = {
    [ST_F64] = { "F64", 8 },   [ST_F32] = { "F32", 4 },         [ST_F16] = { "F16", 2 },
    [ST_BF16] = { "BF16", 2 }, [ST_I64] = { "I64", 8 },         [ST_I32] = { "I32", 4 },
    [ST_I16] = { "I16", 2 },   [ST_I8] = { "I8", 1 },           [ST_U8] = { "U8", 1 },
    [ST_BOOL] = { "BOOL", 1 }, [ST_F8_E4M3] = { "F8_E4M3", 1 }, [ST_F8_E5M2] = { "F8_E5M2", 1 },
    [ST_U16] = { "U16", 2 },   [ST_U32] = { "U32", 4 },         [ST_U64] = { "U64", 8 },
    [ST_OTHER] = { NULL, 0 },
};

size_t st_dtype_bytes(st_dtype t) { return DTYPES[t].bytes; }

/* ---- bytes ---- */

static refine_status read_file_range(const safetensors *f, uint64_t at, size_t bytes, void *dst,
                                     refine_error *err)
{
    if (io_read_at(f->fd, dst, bytes, at) == bytes)
        return REFINE_OK;
    if (errno != 0)
        return refine_fail(err, REFINE_EIO, "%s: cannot be read: %s", f->path, strerror(errno));
    return refine_fail(err, REFINE_EIO, "%s: became shorter while it was read", f->path);
}

refine_status safetensors_read(const safetensors *f, const safetensor *t, uint64_t at, size_t bytes,
                               void *dst, refine_error *err)
{
    if (!num_within(at, bytes, t->bytes))
        return refine_fail(err, REFINE_EINVAL, "%s: %s: read beyond its end", f->path, t->name);
    return read_file_range(f, t->at + at, bytes, dst, err);
}

/* What fits, '?' for all that is not printable ASCII. */
static const char *copy_printable(char *out, size_t room, const char *text)
{
    size_t n = 0;
    for (; text[n] && n < room - 1; n++)
        out[n] = text[n] > 31 && text[n] < 127 ? text[n] : '?';
    out[n] = 0;
    return out;
}

/* ---- one entry of the header ---- */

static refine_status bad_tensor(const safetensors *f, const char *name, const char *what,
                                refine_error *err)
{
    return refine_fail(err, REFINE_EFORMAT, "%s: tensor %.200s: %s; the file is damaged", f->path,
                       name, what);
}

static refine_status parse_dtype(const safetensors *f, safetensor *t, const json_t *v,
                                 refine_error *err)
{
    const char *name = json_string_value(v);

    if (!name)
        return bad_tensor(f, t->name, "no dtype", err);
    (void)copy_printable(t->dtype, sizeof t->dtype, name);
    t->type = 0;
    while (t->type < ST_OTHER && strcmp(name, DTYPES[t->type].name) != 0)
        t->type++;
    return REFINE_OK;
}

static refine_status parse_tensor_shape(const safetensors *f, safetensor *t, const json_t *v,
                                        refine_error *err)
{
    const size_t n = json_array_size(v);
    if (!json_is_array(v) || n > SAFETENSORS_DIMS)
        return bad_tensor(f, t->name, "no shape, or one of more than 8 dimensions", err);
    t->n_dims = (int)n;
    t->elements = 1;
    for (size_t i = 0; i < n; i++) {
        const json_t *d = json_array_get(v, i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return bad_tensor(f, t->name, "a dimension that is no size", err);
        t->dim[i] = (uint64_t)json_integer_value(d);
        if (!num_mul(t->elements, t->dim[i], &t->elements))
            return bad_tensor(f, t->name, "a shape too large for any file", err);
    }
    return REFINE_OK;
}

static refine_status parse_offsets(const safetensors *f, safetensor *t, const json_t *v,
                                   uint64_t data_at, refine_error *err)
{
    const json_t *begin = json_array_get(v, 0), *end = json_array_get(v, 1);
    uint64_t bytes;

    if (json_array_size(v) != 2 || !json_is_integer(begin) || !json_is_integer(end) ||
        json_integer_value(begin) < 0 || json_integer_value(end) < json_integer_value(begin))
        return bad_tensor(f, t->name, "no data_offsets, or backward ones", err);
    t->bytes = (uint64_t)(json_integer_value(end) - json_integer_value(begin));
    if (t->type != ST_OTHER &&
        (!num_mul(t->elements, DTYPES[t->type].bytes, &bytes) || bytes != t->bytes))
        return bad_tensor(f, t->name, "its shape and its data_offsets disagree", err);
    if (!num_add(data_at, (uint64_t)json_integer_value(begin), &t->at))
        return bad_tensor(f, t->name, "an offset too large for any file", err);
    return REFINE_OK;
}

/* ---- the header ---- */

static int compare_tensor_names(const void *a, const void *b)
{
    return strcmp(((const safetensor *)a)->name, ((const safetensor *)b)->name);
}

static int compare_tensor_ranges(const void *a, const void *b)
{
    const safetensor *x = *(const safetensor *const *)a, *y = *(const safetensor *const *)b;
    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static refine_status check_tensor_ranges(const safetensors *f, refine_error *err)
{
    const safetensor **order = mem_alloc(((size_t)f->n + 1) * sizeof(const safetensor *));
    refine_status st = REFINE_OK;
    uint64_t end = 0;

    if (!order)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    for (int i = 0; i < f->n; i++)
        order[i] = &f->tensor[i];
    qsort(order, (size_t)f->n, sizeof *order, compare_tensor_ranges);
    for (int i = 0; i < f->n && st == REFINE_OK; i++) {
        if (order[i]->bytes && order[i]->at < end)
            st = bad_tensor(f, order[i]->name, "overlaps another tensor", err);
        end = num_max(end, order[i]->at + order[i]->bytes);
    }
    mem_free(order);
    if (st == REFINE_OK && end > f->file_bytes)
        st = refine_fail(err, REFINE_EFORMAT,
                         "%s: incomplete: %" PRIu64 " bytes of %" PRIu64 " are there; download it "
                         "again",
                         f->path, f->file_bytes, end);
    return st;
}

static refine_status parse_tensors(safetensors *f, json_t *root, uint64_t data_at,
                                   refine_error *err)
{
    const char *name;
    json_t *v;

    f->tensor = mem_calloc(json_object_size(root) + 1, sizeof *f->tensor);
    if (!f->tensor)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    json_object_foreach(root, name, v)
    {
        if (strcmp(name, "__metadata__") == 0) {
            f->metadata = json_incref(v);
            continue;
        }
        safetensor *t = &f->tensor[f->n];
        t->name = mem_strdup(name);
        if (!t->name)
            return refine_fail(err, REFINE_ENOMEM, "out of memory");
        f->n++;
        TRY(parse_dtype(f, t, json_object_get(v, "dtype"), err));
        TRY(parse_tensor_shape(f, t, json_object_get(v, "shape"), err));
        TRY(parse_offsets(f, t, json_object_get(v, "data_offsets"), data_at, err));
        if (t->at > UINT64_MAX - t->bytes)
            return bad_tensor(f, t->name, "an offset too large for any file", err);
    }
    TRY(check_tensor_ranges(f, err));
    qsort(f->tensor, (size_t)f->n, sizeof *f->tensor, compare_tensor_names);
    return REFINE_OK;
}

static refine_status parse_header(safetensors *f, char *json, size_t len, refine_error *err)
{
    json_error_t where;
    json_t *root = json_loadb(json, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);
    refine_status st;

    if (!root && json_error_code(&where) == json_error_out_of_memory)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    if (!root)
        return refine_fail(err, REFINE_EFORMAT, "%s: its header is damaged: %s (byte %d)", f->path,
                           where.text, where.position);
    if (json_is_object(root))
        st = parse_tensors(f, root, LENGTH + len, err);
    else
        st = refine_fail(err, REFINE_EFORMAT, "%s: its header is no JSON object", f->path);
    json_decref(root);
    return st;
}

/* What people have instead of a .safetensors file. */
static const char *const INSTEAD[N_FILE_KINDS] = {
    [FILE_OTHER] = "is no .safetensors file",
    [FILE_SAFETENSORS] = "is no .safetensors file: its header is too large for one",
    [FILE_NPY] = "is a NumPy array, not a .safetensors file",
    [FILE_NPZ] = "is a NumPy archive (.npz); get the .safetensors version",
    [FILE_TORCH] =
        "is a pickled PyTorch file (.ckpt, .pt, .pth, .bin); get the .safetensors version",
    [FILE_ZIP] = "is a ZIP archive; give the .safetensors file or the directory that is in it",
    [FILE_ARCHIVE] = "is an archive; give the .safetensors file or the directory that is in it",
    [FILE_GGUF] = "is a GGUF file; get the .safetensors version",
    [FILE_HDF5] = "is an HDF5 file (.h5); get the .safetensors version",
    [FILE_PACK] = "is a pack already; give it to refine-lowmem -m",
    [FILE_LFS_POINTER] = "is a Git LFS pointer, not the file: run git lfs pull",
    [FILE_HTML] = "is a web page, not the file: download it again",
    [FILE_JSON] = "is JSON, not a checkpoint; give the model's directory or .safetensors file",
    [FILE_IMAGE] = "is an image, not a .safetensors file",
};

static refine_status read_header(safetensors *f, refine_error *err)
{
    unsigned char begin[FILE_KIND_HEAD] = { 0 };
    const size_t n = (size_t)num_min(sizeof begin, f->file_bytes);
    uint64_t len = 0;

    TRY(read_file_range(f, 0, n, begin, err));
    for (int i = LENGTH - 1; i >= 0; i--)
        len = len << 8 | begin[i];
    if (n < LENGTH + 2 || begin[LENGTH] != '{' || len > SAFETENSORS_HEADER_MAX)
        return refine_fail(err, REFINE_EFORMAT, "%s: %s", f->path,
                           INSTEAD[file_kind_find(begin, n)]);
    if (!num_within(LENGTH, len, f->file_bytes))
        return refine_fail(err, REFINE_EFORMAT,
                           "%s: incomplete: %" PRIu64
                           " bytes are there, its header alone has %" PRIu64 "; download it again",
                           f->path, f->file_bytes, len);

    char *json = mem_alloc((size_t)len);
    if (!json)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    refine_status st = read_file_range(f, LENGTH, (size_t)len, json, err);
    if (st == REFINE_OK)
        st = parse_header(f, json, (size_t)len, err);
    mem_free(json);
    return st;
}

static refine_status open_safetensors_file(safetensors *f, refine_error *err)
{
    struct stat st;
    f->fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not block */
    if (f->fd < 0 || fstat(f->fd, &st) != 0)
        return fail_to_open(f->path, err);
    if (!S_ISREG(st.st_mode))
        return refine_fail(err, REFINE_EFORMAT, "%s: is no regular file", f->path);
    f->file_bytes = (uint64_t)st.st_size;
    return REFINE_OK;
}

refine_status safetensors_open(safetensors **out, const char *path, refine_error *err)
{
    refine_status st;

    *out = NULL;
    safetensors *f = mem_calloc(1, sizeof *f);
    if (!f)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    f->fd = -1;
    f->path = mem_strdup(path);
    if (!f->path) {
        st = refine_fail(err, REFINE_ENOMEM, "out of memory");
        goto fail;
    }
    TRY_OR(fail, open_safetensors_file(f, err));
    TRY_OR(fail, read_header(f, err));
    *out = f;
    return REFINE_OK;

fail:
    safetensors_close(f);
    return st;
}

void safetensors_close(safetensors *f)
{
    if (!f)
        return;
    if (f->fd >= 0)
        (void)close(f->fd);
    for (int i = 0; i < f->n; i++)
        mem_free(f->tensor[i].name);
    mem_free(f->tensor);
    json_decref(f->metadata);
    mem_free(f->path);
    mem_free(f);
}

const safetensor *safetensors_find(const safetensors *f, const char *name)
{
    int low = 0, high = f->n;
    while (low < high) {
        const int mid = low + (high - low) / 2, order = strcmp(name, f->tensor[mid].name);
        if (order == 0)
            return &f->tensor[mid];
        if (order < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}

const char *safetensors_note(char out[SAFETENSORS_NOTE], const safetensors *f, const char *key)
{
    const char *text = json_string_value(json_object_get(f->metadata, key));
    return text ? copy_printable(out, SAFETENSORS_NOTE, text) : NULL;
}
