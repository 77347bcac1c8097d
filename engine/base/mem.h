/* engine/base/mem.h -- every host allocation of the project, counted.
 *
 * All heap memory of the library and the tools goes through here, so that the
 * peak can be reported and compared with the plan, and so that tests can fail
 * the k-th allocation.  Thread-safe.  Sizes are bytes.
 */
#ifndef REFINE_MEM_H
#define REFINE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *mem_alloc(size_t bytes);                /* uninitialised; NULL when out of memory */
void *mem_calloc(size_t count, size_t bytes); /* zeroed; checks the product */
void *mem_realloc(void *p, size_t bytes);     /* NULL: p is still valid */
char *mem_strdup(const char *s);

/* An array with room for another element of `bytes`: `list`, which has `n` of them and room for
 * *room, or where it has moved to with twice the room.  NULL: out of memory; list and *room are as
 * they were. */
void *mem_grow(void *list, size_t n, size_t *room, size_t bytes);
void mem_free(void *p); /* NULL is fine */

/* Page-aligned anonymous mapping for arenas and staging; returned to the system
 * by mem_unmap.  `bytes` must be the same in both calls. */
void *mem_map(size_t bytes);
void mem_unmap(void *p, size_t bytes); /* NULL is fine */

/* Gives back to the system what the heap keeps of what was freed, as far as it can. */
void mem_trim(void);

/* Whether this thread may allocate (it may, to begin with); what was so before.  Where it may not,
 * an allocation is our bug: what runs under a ceiling takes everything when it is opened. */
bool mem_allow(bool allowed);

typedef struct mem_usage {
    uint64_t now, peak; /* bytes asked for and not yet given back */
    uint64_t calls;     /* successful allocations ever: unchanged across a run */
} mem_usage;

mem_usage mem_used(void);

/* The peak begins anew, from what is in use now. */
void mem_reset_peak(void);

/* Tests: let the next `n` allocations succeed, then fail one (once) or all
 * (forever).  n < 0 switches the fault off.  Says whether a fault set before, to fail one, was
 * still to come. */
typedef enum { MEM_FAIL_ONCE, MEM_FAIL_FOREVER } mem_fault;
bool mem_fail_after(long n, mem_fault kind);

#endif
