/* tests/support/cuda/emulation.h -- how a test makes the emulated card behave. */
#ifndef EMULATION_H
#define EMULATION_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* In which order the threads of a block run between two meetings. */
typedef enum { EMULATION_FORWARD, EMULATION_REVERSE, EMULATION_RANDOM } emulation_order;
void emulation_set_order(emulation_order o, uint32_t seed);

#ifdef __cplusplus
}
#endif
#endif
