/* tools/files/file_kind.h -- what a file is by its first bytes, whatever its name. */
#ifndef REFINE_FILE_KIND_H
#define REFINE_FILE_KIND_H

#include <refine/status.h>

#include <stddef.h>

/* Enough for any kind, an archive's first name included. */
enum { FILE_KIND_HEAD = 512 };

typedef enum file_kind {
    FILE_OTHER,
    FILE_SAFETENSORS,
    FILE_NPY,     /* one array of NumPy */
    FILE_NPZ,     /* a ZIP archive of them */
    FILE_TORCH,   /* pickled, in a ZIP archive or not */
    FILE_ZIP,     /* of anything else */
    FILE_ARCHIVE, /* gzip, 7z, RAR, zstd, xz */
    FILE_GGUF,
    FILE_HDF5,
    FILE_PACK,
    FILE_LFS_POINTER,
    FILE_HTML,
    FILE_JSON,
    FILE_IMAGE,
    N_FILE_KINDS
} file_kind;

/* n: of FILE_KIND_HEAD bytes, as many as there are. */
file_kind file_kind_find(const unsigned char *head, size_t n);

/* REFINE_EIO, with errno's reason; of a link that points to nothing it says that. */
refine_status fail_to_open(const char *path, refine_error *err);

#endif
