/* kernels/cuda/cuda_memory.h -- what CUDA itself does not tell: how much of a card is in use
 * before CUDA has touched it, and which driver this is.
 *
 * CUDA can only be asked for memory once its context has taken its part.  The driver's management
 * library (NVML) knows without one; it is loaded where it is found.
 */
#ifndef REFINE_CUDA_MEMORY_H
#define REFINE_CUDA_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes in use by all processes on the card at this PCI address; false: cannot be found out. */
bool cuda_memory_used(size_t *used, int domain, int bus, int device);

/* Bytes that this process has on it; false: the driver does not say, as under WDDM, or knows it by
 * another number, as in a container. */
bool cuda_memory_own(size_t *own, int domain, int bus, int device);

/* "driver 550.54.14"; without NVML "a driver for CUDA 12.4". */
void cuda_driver_name(char *text, size_t size);

#endif
