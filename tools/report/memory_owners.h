/* tools/report/memory_owners.h -- who holds device and host memory, in the order of their stack.
 *
 * The counters of a trace (trace_json.h) have the keys, tables and charts of refine-memprof the
 * titles.  Together the owners of the device hold no more than `device_planned`.
 */
#ifndef REFINE_MEMORY_OWNERS_H
#define REFINE_MEMORY_OWNERS_H

#include <refine/refine.h>

enum { DEVICE_OWNERS = 7, HOST_OWNERS = 3 };

typedef struct memory_owner {
    const char *key;
    const char *title; /* for people */
} memory_owner;

extern const memory_owner device_owners[DEVICE_OWNERS];
extern const memory_owner host_owners[HOST_OWNERS];

/* What each owner holds at a moment of the phase, `activations` of that phase being in use: prompts
 * are a part of them. */
void owners_of_device(uint64_t bytes[DEVICE_OWNERS], const refine_memory *m, refine_phase phase,
                      uint64_t activations);

/* All of it is taken at the start and held to the end. */
void owners_of_host(uint64_t bytes[HOST_OWNERS], const refine_memory *m);

#endif
