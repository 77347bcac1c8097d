/* tools/files/safetensors.h -- reading a .safetensors file: names, types, shapes, and bytes on
 * demand.
 *
 *     u64 N | N bytes of JSON | data;  offsets in the JSON count from the data's first byte
 *
 * Nothing in the file is trusted: after safetensors_open every tensor lies inside the
 * file, its shape multiplies to its size, no two overlap and no two share a name.
 * Nothing is assumed about alignment.  A tensor of a type that is not known here is kept for its
 * name; only its size is not compared with its shape.
 */
#ifndef REFINE_SAFETENSORS_H
#define REFINE_SAFETENSORS_H

#include <refine/status.h>

#include <stddef.h>
#include <stdint.h>

typedef enum st_dtype {
    ST_F64,
    ST_F32,
    ST_F16,
    ST_BF16,
    ST_I64,
    ST_I32,
    ST_I16,
    ST_I8,
    ST_U8,
    ST_BOOL,
    ST_F8_E4M3,
    ST_F8_E5M2,
    ST_U16,
    ST_U32,
    ST_U64,
    ST_OTHER, /* safetensor.dtype says which */
    N_ST_DTYPES
} st_dtype;

enum { SAFETENSORS_DIMS = 8, SAFETENSORS_HEADER_MAX = 16 << 20 };
enum { SAFETENSORS_DTYPE = 16, SAFETENSORS_NOTE = 100 }; /* bytes of a text, its NUL included */

typedef struct safetensor {
    char *name;
    st_dtype type;
    char dtype[SAFETENSORS_DTYPE]; /* as the file has it, printable, cut where it is long */
    int n_dims;
    uint64_t dim[SAFETENSORS_DIMS];
    uint64_t elements;  /* product of dim; 1 for a scalar */
    uint64_t at, bytes; /* in the file */
} safetensor;

typedef struct safetensors {
    char *path;
    int fd;
    int n;
    safetensor *tensor;      /* sorted by name */
    struct json_t *metadata; /* NULL: none */
    uint64_t file_bytes;
} safetensors;

/* REFINE_EIO: cannot be opened or read.  REFINE_EFORMAT: the text says what it is instead,
 * or what is wrong with it. */
refine_status safetensors_open(safetensors **out, const char *path, refine_error *err);
void safetensors_close(safetensors *f); /* NULL is fine */

const safetensor *safetensors_find(const safetensors *f, const char *name); /* NULL: none */

/* What the file says of itself under this key, such as "modelspec.title"; NULL: nothing, or no
 * text.  In `out`, cut where it is long, '?' for all that is not printable ASCII. */
const char *safetensors_note(char out[SAFETENSORS_NOTE], const safetensors *f, const char *key);

/* Reads `bytes` bytes beginning at byte `at` of a tensor.  Thread-safe. */
refine_status safetensors_read(const safetensors *f, const safetensor *t, uint64_t at, size_t bytes,
                               void *dst, refine_error *err);

size_t st_dtype_bytes(st_dtype t); /* 0: not known */

#endif
