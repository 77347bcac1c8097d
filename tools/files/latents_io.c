/* tools/files/latents_io.c -- latents in and out: safetensors, NumPy, ComfyUI.
 *
 * ComfyUI's files hold latents before the VAE's scaling; older ones, without the marker
 * tensor "latent_format_version_0", were divided by the factor of another model (0.18215).
 */
#define _POSIX_C_SOURCE 200809L
#include "tools/files/latents_io.h"

#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"
#include "quant/f16.h"
#include "tools/files/file_kind.h"
#include "tools/files/new_file.h"
#include "tools/files/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const float OLD_COMFY_FACTOR = 0.18215f;
static const char COMFY_TENSOR[] = "latent_tensor", COMFY_MARKER[] = "latent_format_version_0";

enum { NPY_HEADER_MAX = 4096 };

void latents_free(latents *l)
{
    mem_free(l->v);
    l->v = NULL;
}

static size_t latents_count(const latents *l)
{
    return LATENT_CHANNELS * (size_t)l->h * (size_t)l->w;
}

/* FILE_OTHER also when it cannot be read. */
static file_kind read_kind(const char *path)
{
    unsigned char head[FILE_KIND_HEAD];
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return FILE_OTHER;
    const ssize_t n = read(fd, head, sizeof head);
    (void)close(fd);
    return n < 0 ? FILE_OTHER : file_kind_find(head, (size_t)n);
}

/* What is read of which file: all of it, or one latent of several. */
typedef struct wanted {
    char path[LATENTS_PATH];
    uint64_t index; /* ALL: none was named */
} wanted;

static const uint64_t ALL = UINT64_MAX;
enum { INDEX_DIGITS = 6 };

/* "FILE[12]", unless a file is called so. */
static void split_index(wanted *w, const char *path)
{
    const char *bracket = strrchr(path, '[');
    const size_t digits = bracket ? strspn(bracket + 1, "0123456789") : 0;
    struct stat st;

    w->index = ALL;
    (void)snprintf(w->path, sizeof w->path, "%s", path);
    if (digits < 1 || digits > INDEX_DIGITS || strcmp(bracket + 1 + digits, "]") != 0 ||
        (size_t)(bracket - path) >= sizeof w->path || lstat(path, &st) == 0)
        return;
    w->index = strtoull(bracket + 1, NULL, 10);
    w->path[bracket - path] = 0;
}

const char *latents_file(char out[LATENTS_PATH], const char *path)
{
    wanted w;
    split_index(&w, path);
    memcpy(out, w.path, sizeof w.path);
    return out;
}

/* Files that others hand latents over in and that are refused in words belong to them too. */
bool latents_recognise(const char *path)
{
    wanted w;
    split_index(&w, path);
    switch (read_kind(w.path)) {
    case FILE_SAFETENSORS:
    case FILE_NPY:
    case FILE_NPZ:
    case FILE_TORCH:
    case FILE_ZIP: return true;
    default: return false;
    }
}

static refine_status choose_latent(uint64_t *chosen, uint64_t count, const wanted *w,
                                   refine_error *err)
{
    *chosen = w->index == ALL ? 0 : w->index;
    if (w->index == ALL ? count == 1 : w->index < count)
        return REFINE_OK;
    return refine_fail(
        err, REFINE_EFORMAT, "%s: holds %llu latent%s; give one of them as FILE[0] to FILE[%llu]",
        w->path, (unsigned long long)count, count == 1 ? "" : "s", (unsigned long long)count - 1);
}

/* [n,4,h,w] or [4,h,w]: takes the memory of one.  *skip: numbers before it, *rest: behind it. */
static refine_status take_shape(latents *l, uint64_t *skip, uint64_t *rest, const uint64_t *dim,
                                int n, const wanted *w, refine_error *err)
{
    enum { COUNT_MAX = 1 << 20 };
    const uint64_t count = n == 4 ? dim[0] : 1, *d = n == 4 ? dim + 1 : dim;
    if ((n != 3 && n != 4) || count < 1 || count > COUNT_MAX || d[0] != LATENT_CHANNELS ||
        d[1] < 1 || d[2] < 1 || d[1] > LATENTS_MAX_SIDE || d[2] > LATENTS_MAX_SIDE)
        return refine_fail(err, REFINE_EFORMAT,
                           "%s: holds no latents of shape [1,4,h,w] with sides up to %d", w->path,
                           LATENTS_MAX_SIDE);
    TRY(choose_latent(skip, count, w, err));
    *l = (latents){ (int)d[1], (int)d[2], NULL };
    *rest = (count - 1 - *skip) * latents_count(l);
    *skip *= latents_count(l);
    l->v = mem_alloc(latents_count(l) * sizeof(float));
    return l->v ? REFINE_OK : refine_fail(err, REFINE_ENOMEM, "%s: out of memory", w->path);
}

static refine_status check_latents_finite(const latents *l, const char *path, refine_error *err)
{
    for (size_t i = 0; i < latents_count(l); i++)
        if (!isfinite(l->v[i]))
            return refine_fail(err, REFINE_EFORMAT, "%s: holds numbers that are not finite", path);
    return REFINE_OK;
}

/* ---- safetensors ---- */

static const safetensor *choose_latents_tensor(const safetensors *f)
{
    const safetensor *t = safetensors_find(f, "latents");
    if (!t)
        t = safetensors_find(f, COMFY_TENSOR);
    return t || f->n != 1 ? t : &f->tensor[0];
}

static refine_status read_values(latents *l, const safetensors *f, const safetensor *t,
                                 uint64_t skip, refine_error *err)
{
    const size_t n = latents_count(l);
    if (t->type == ST_F32)
        return safetensors_read(f, t, skip * sizeof(float), n * sizeof(float), l->v, err);
    if (t->type != ST_F16 && t->type != ST_BF16)
        return refine_fail(err, REFINE_EFORMAT, "%s: latents of type %s; give F32, F16 or BF16",
                           f->path, t->dtype);
    uint16_t *half = mem_alloc(n * sizeof *half);
    if (!half)
        return refine_fail(err, REFINE_ENOMEM, "%s: out of memory", f->path);
    const refine_status st = safetensors_read(f, t, skip * sizeof *half, n * sizeof *half, half,
                                              err);
    if (st == REFINE_OK && t->type == ST_F16)
        f16_decode(l->v, half, n);
    else if (st == REFINE_OK)
        bf16_decode(l->v, half, n);
    mem_free(half);
    return st;
}

static refine_status load_tensor(latents *l, const safetensors *f, const wanted *w, float factor,
                                 refine_error *err)
{
    uint64_t skip, rest;
    const safetensor *t = choose_latents_tensor(f);
    if (!t)
        return refine_fail(err, REFINE_EFORMAT, "%s: holds %d tensors and none named latents",
                           f->path, f->n);
    TRY(take_shape(l, &skip, &rest, t->dim, t->n_dims, w, err));
    TRY(read_values(l, f, t, skip, err));
    if (strcmp(t->name, COMFY_TENSOR) == 0) {
        const bool old = !safetensors_find(f, COMFY_MARKER);
        for (size_t i = 0; i < latents_count(l); i++)
            l->v[i] = (old ? l->v[i] / OLD_COMFY_FACTOR : l->v[i]) * factor;
    }
    return REFINE_OK;
}

static refine_status load_safetensors(latents *l, const wanted *w, float factor, refine_error *err)
{
    safetensors *f;
    TRY(safetensors_open(&f, w->path, err));
    const refine_status st = load_tensor(l, f, w, factor, err);
    safetensors_close(f);
    return st;
}

/* ---- NumPy ---- */

typedef struct npy {
    char header[NPY_HEADER_MAX + 1];
    bool half;
    uint64_t dim[4];
    int n_dims;
} npy;

static refine_status bad_npy(const char *path, const char *why, refine_error *err)
{
    return refine_fail(err, REFINE_EFORMAT, "%s: %s", path, why);
}

/* magic, version, length (2 bytes in version 1, else 4), then a Python dictionary. */
static refine_status read_npy_header(npy *h, FILE *f, const char *path, refine_error *err)
{
    unsigned char fixed[12] = { 0 };
    if (fread(fixed, 1, 10, f) != 10)
        return bad_npy(path, "the NumPy file ends in its header", err);
    const bool wide = fixed[6] >= 2;
    if (fixed[6] < 1 || fixed[6] > 3 || (wide && fread(fixed + 10, 1, 2, f) != 2))
        return bad_npy(path, "a NumPy file of an unknown version", err);
    size_t n = (size_t)fixed[8] | (size_t)fixed[9] << 8;
    if (wide)
        n |= (size_t)fixed[10] << 16 | (size_t)fixed[11] << 24;
    if (n > NPY_HEADER_MAX || fread(h->header, 1, n, f) != n)
        return bad_npy(path, "the NumPy file ends in its header, or that is too long", err);
    h->header[n] = 0;
    return REFINE_OK;
}

/* What stands behind 'key': in the dictionary, spaces skipped. */
static const char *find_npy_value(const npy *h, const char *key)
{
    char quoted[32];
    snprintf(quoted, sizeof quoted, "'%s':", key);
    const char *p = strstr(h->header, quoted);
    if (!p)
        return NULL;
    p += strlen(quoted);
    return p + strspn(p, " ");
}

static bool parse_npy_shape(npy *h, const char *p)
{
    if (!p || *p++ != '(')
        return false;
    for (h->n_dims = 0; *p != ')'; h->n_dims++) {
        char *end;
        p += strspn(p, " ");
        if (h->n_dims == 4 || *p < '0' || *p > '9')
            return false;
        errno = 0;
        h->dim[h->n_dims] = strtoull(p, &end, 10);
        if (errno)
            return false;
        p = end + strspn(end, " ");
        if (*p == ',')
            p++;
        else if (*p != ')')
            return false;
        p += strspn(p, " ");
    }
    return true;
}

static refine_status parse_npy_header(npy *h, const char *path, refine_error *err)
{
    const char *descr = find_npy_value(h, "descr"), *order = find_npy_value(h, "fortran_order");
    if (!descr || (strncmp(descr, "'<f4'", 5) != 0 && strncmp(descr, "'<f2'", 5) != 0))
        return bad_npy(path, "the NumPy array is not little-endian float32 or float16", err);
    h->half = strncmp(descr, "'<f2'", 5) == 0;
    if (!order || strncmp(order, "False", 5) != 0)
        return bad_npy(
            path, "the NumPy array is in Fortran order; save it with np.ascontiguousarray", err);
    if (!parse_npy_shape(h, find_npy_value(h, "shape")))
        return bad_npy(path, "the NumPy array has no shape [1,4,h,w]", err);
    return REFINE_OK;
}

static refine_status read_npy_values(latents *l, const npy *h, FILE *f, const char *path,
                                     refine_error *err)
{
    const size_t n = latents_count(l);
    if (!h->half)
        return fread(l->v, sizeof(float), n, f) == n
                   ? REFINE_OK
                   : bad_npy(path, "the NumPy file ends in the middle", err);
    uint16_t *half = mem_alloc(n * sizeof *half);
    if (!half)
        return refine_fail(err, REFINE_ENOMEM, "%s: out of memory", path);
    const bool whole = fread(half, sizeof *half, n, f) == n;
    if (whole)
        f16_decode(l->v, half, n);
    mem_free(half);
    return whole ? REFINE_OK : bad_npy(path, "the NumPy file ends in the middle", err);
}

/* An array from here on, to its end. */
static refine_status read_npy(latents *l, FILE *f, const wanted *w, refine_error *err)
{
    npy h = { .n_dims = 0 };
    uint64_t skip, rest;
    TRY(read_npy_header(&h, f, w->path, err));
    TRY(parse_npy_header(&h, w->path, err));
    TRY(take_shape(l, &skip, &rest, h.dim, h.n_dims, w, err));
    const uint64_t each = h.half ? sizeof(uint16_t) : sizeof(float);
    if (fseeko(f, (off_t)(skip * each), SEEK_CUR) != 0)
        return bad_npy(w->path, "the NumPy file ends in the middle", err);
    TRY(read_npy_values(l, &h, f, w->path, err));
    if (fseeko(f, (off_t)(rest * each), SEEK_CUR) != 0)
        return bad_npy(w->path, "the NumPy file ends in the middle", err);
    return REFINE_OK;
}

/* A ZIP archive: each array is a member behind a header of its own; np.savez stores the members as
 * they are.  Of several none is chosen: those that trainers cache are not scaled, which no name in
 * the archive says. */
static refine_status read_npz(latents *l, FILE *f, const wanted *w, float factor, refine_error *err)
{
    const char *path = w->path;
    enum { HEADER = 30, FLAGS = 6, METHOD = 8, NAME_BYTES = 26 };
    enum { STREAMED = 8, ENCRYPTED = 1 };
    unsigned char h[HEADER], next[4] = { 0 };

    if (fread(h, 1, HEADER, f) != HEADER)
        return bad_npy(path, "the NumPy archive ends in its header", err);
    if (h[METHOD] != 0 || h[METHOD + 1] != 0 || h[FLAGS] & (STREAMED | ENCRYPTED))
        return bad_npy(path, "is a compressed NumPy archive; save the array with np.save", err);
    const long name = h[NAME_BYTES] | h[NAME_BYTES + 1] << 8;
    const long more = h[NAME_BYTES + 2] | h[NAME_BYTES + 3] << 8;
    if (fseek(f, name + more, SEEK_CUR) != 0)
        return bad_npy(path, "the NumPy archive ends in its header", err);
    TRY(read_npy(l, f, w, err));
    if (fread(next, 1, sizeof next, f) == sizeof next && memcmp(next, "PK\3\4", 4) == 0)
        return refine_fail(err, REFINE_EFORMAT,
                           "%s: holds several NumPy arrays; save the latents alone with np.save, "
                           "those of a trainer's cache times %g, the VAE's factor",
                           path, (double)factor);
    return REFINE_OK;
}

static refine_status load_numpy(latents *l, const wanted *w, bool archive, float factor,
                                refine_error *err)
{
    FILE *f = fopen(w->path, "rbe");
    if (!f)
        return fail_to_open(w->path, err);
    const refine_status st = archive ? read_npz(l, f, w, factor, err) : read_npy(l, f, w, err);
    (void)fclose(f);
    return st;
}

/* ---- */

refine_status latents_load(latents *out, const char *path, float scaling_factor, refine_error *err)
{
    refine_status st;
    wanted w;

    *out = (latents){ 0 };
    if (strlen(path) >= LATENTS_PATH)
        return refine_fail(err, REFINE_EINVAL, "%s: the path is too long", path);
    split_index(&w, path);
    switch (read_kind(w.path)) {
    case FILE_NPY: st = load_numpy(out, &w, false, scaling_factor, err); break;
    case FILE_NPZ: st = load_numpy(out, &w, true, scaling_factor, err); break;
    case FILE_TORCH:
        st = refine_fail(err, REFINE_EFORMAT,
                         "%s: is a PyTorch file; save it with safetensors.torch.save_file", w.path);
        break;
    case FILE_ZIP:
        st = refine_fail(err, REFINE_EFORMAT,
                         "%s: is a ZIP archive; give the .safetensors or .npy file that is in it",
                         w.path);
        break;
    default: st = load_safetensors(out, &w, scaling_factor, err);
    }
    if (st == REFINE_OK)
        st = check_latents_finite(out, path, err);
    if (st != REFINE_OK)
        latents_free(out);
    return st;
}

/* ---- writing ---- */

static bool has_extension(const char *s, const char *end)
{
    const size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

/* The bytes before the data, a multiple of 64, in `out` of 512. */
static size_t npy_front(char *out, const latents *l)
{
    enum { FRONT = 128 };
    memset(out, ' ', FRONT);
    memcpy(out, "\x93NUMPY\1\0", 8);
    out[8] = FRONT - 10;
    out[9] = 0;
    const int n = snprintf(out + 10, FRONT - 10,
                           "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 4, %d, %d), }",
                           l->h, l->w);
    out[10 + n] = ' ';
    out[FRONT - 1] = '\n';
    return FRONT;
}

/* ComfyUI's marker is an empty tensor. */
static size_t safetensors_front(char *out, const latents *l, bool comfy)
{
    enum { FRONT = 256 };
    const uint64_t n = FRONT - 8;
    memset(out, ' ', FRONT);
    memcpy(out, &n, sizeof n);
    const int used = snprintf(
        out + 8, FRONT - 8,
        "{%s\"%s\":{\"dtype\":\"F32\",\"shape\":[1,4,%d,%d],"
        "\"data_offsets\":[0,%zu]}}",
        comfy ? "\"latent_format_version_0\":{\"dtype\":\"F32\",\"shape\":[0],"
                "\"data_offsets\":[0,0]},"
              : "",
        comfy ? COMFY_TENSOR : "latents", l->h, l->w, latents_count(l) * sizeof(float));
    out[8 + used] = ' ';
    return FRONT;
}

typedef struct latents_parts {
    char front[512];
    size_t n_front;
    const latents *l;
    float factor;
} latents_parts;

static refine_status fill_latents_file(new_file *f, const void *parts, refine_error *err)
{
    enum { BLOCK = 4096 };
    float block[BLOCK];
    const latents_parts *p = parts;
    const size_t n = latents_count(p->l);
    TRY(new_file_write(f, p->front, p->n_front, 0, err));
    for (size_t i = 0; i < n; i += BLOCK) {
        const size_t m = num_min(BLOCK, n - i);
        for (size_t k = 0; k < m; k++)
            block[k] = p->l->v[i + k] / p->factor;
        TRY(new_file_write(f, block, m * sizeof *block, p->n_front + i * sizeof *block, err));
    }
    return REFINE_OK;
}

bool latents_writable(const char *path)
{
    return has_extension(path, ".safetensors") || has_extension(path, ".npy") ||
           has_extension(path, ".latent");
}

refine_status latents_save(const char *path, const latents *l, float scaling_factor,
                           refine_error *err)
{
    const bool comfy = has_extension(path, ".latent"), npy_file = has_extension(path, ".npy");
    latents_parts p = { .l = l, .factor = comfy ? scaling_factor : 1.0f };

    if (!latents_writable(path))
        return refine_fail(err, REFINE_EINVAL,
                           "%s: the name must end in .safetensors, .npy or .latent", path);
    p.n_front = npy_file ? npy_front(p.front, l) : safetensors_front(p.front, l, comfy);
    return new_file_save(path, fill_latents_file, &p, err);
}
