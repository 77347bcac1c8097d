/* tests/support/card_memory.h -- what is in use on the first GPU, as the driver counts it. */
#ifndef TEST_CARD_MEMORY_H
#define TEST_CARD_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of all processes; false: cannot be found out, or there is no CUDA in this build.
 * has_context: this process has used the card, so CUDA too can be asked. */
bool card_memory_used(size_t *bytes, bool has_context);

#endif
