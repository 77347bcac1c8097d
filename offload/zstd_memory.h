/* offload/zstd_memory.h -- what zstd allocates is counted like everything else. */
#ifndef REFINE_ZSTD_MEMORY_H
#define REFINE_ZSTD_MEMORY_H

#define ZSTD_STATIC_LINKING_ONLY /* custom memory */
#include <zstd.h>

/* By way of engine/base/mem.h; for a context of either direction. */
extern const ZSTD_customMem zstd_memory;

#endif
