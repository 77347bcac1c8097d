/* tests/fuzz/targets.h -- the fuzz targets under names of their own, for programs that have several
 * of them.
 */
#ifndef FUZZ_TARGETS_H
#define FUZZ_TARGETS_H

#include <stddef.h>
#include <stdint.h>

typedef int fuzz_target(const uint8_t *data, size_t size);

fuzz_target fuzz_jpeg, fuzz_npy, fuzz_pack, fuzz_png, fuzz_safetensors, fuzz_tokenizer, fuzz_trace;

#endif
