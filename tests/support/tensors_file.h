/* tests/support/tensors_file.h -- .safetensors files whose header is what matters.
 *
 * The data are zeros that take no room on the disk, so a file may be as large as the
 * published ones.
 */
#ifndef TENSORS_FILE_H
#define TENSORS_FILE_H

#include <stddef.h>
#include <stdint.h>

/* This header, as it is, and so many bytes of data. */
void tensors_file_raw(const char *path, const char *header, size_t header_bytes,
                      uint64_t data_bytes);

/* A header made tensor by tensor. */
typedef struct tensors_file {
    char *text;
    size_t len, cap;
    uint64_t data;
} tensors_file;

/* dims: "64, 32"; its elements are of `bytes` bytes each. */
void tensors_file_add(tensors_file *t, const char *name, const char *dtype, size_t bytes,
                      const char *dims);
/* Writes, and frees what was gathered. */
void tensors_file_write(tensors_file *t, const char *path);

#endif
