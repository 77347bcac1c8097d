/* tests/support/cuda/emulation_memory.h -- the card's memory, and what it knows of the host's. */
#ifndef EMULATION_MEMORY_H
#define EMULATION_MEMORY_H

#include <cstddef>

namespace emulation {

/* NaN of every type.  NULL: the machine has no more. */
void *memory_take(size_t bytes);
/* Whether p is where an allocation begins, which it is no longer. */
bool memory_give(void *p);
/* Whether all of it lies in one allocation. */
bool memory_has(const void *p, size_t bytes);
size_t memory_taken(); /* bytes */
int memory_live();     /* allocations and registrations */

/* What is not open may not be touched.  Opens what holds all of it, if that is there; opens all;
 * closes all. */
bool memory_open(const void *p, size_t bytes);
void memory_open_all();
void memory_close_all();

enum host_kind { HOST_PAGEABLE, HOST_PINNED, HOST_PARTLY_PINNED };
bool host_register(const void *p, size_t bytes); /* false: some of it is already */
bool host_unregister(const void *p);             /* false: nothing begins there */
host_kind host_kind_of(const void *p, size_t bytes);

/* Notes what a variable of the card is before it is written to for the first time. */
void symbol_note(void *symbol, size_t bytes);
void symbols_restore();

void memory_reset();

} /* namespace emulation */

#endif
