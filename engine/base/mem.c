/* engine/base/mem.c -- counted allocation.
 *
 * Each block carries its size in a 16-byte header, so that freeing can uncount
 * it and the alignment of malloc is kept.
 */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "engine/base/mem.h"

#include "engine/base/guard.h"
#include "engine/base/num.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

enum { HEADER = 16, FIRST_ROOM = 16 };

static _Atomic uint64_t now_bytes, peak_bytes, n_calls;
static _Atomic long until_fault = -1;
static _Atomic int fault_kind;
static _Thread_local bool forbidden;

static int fault_due(void)
{
    long left = atomic_load(&until_fault);
    if (left < 0)
        return 0;
    if (left > 0) {
        atomic_store(&until_fault, left - 1);
        return 0;
    }
    if (atomic_load(&fault_kind) == MEM_FAIL_ONCE)
        atomic_store(&until_fault, -1);
    return 1;
}

static void count_up(size_t bytes)
{
    const uint64_t now = atomic_fetch_add(&now_bytes, bytes) + bytes;
    uint64_t peak = atomic_load(&peak_bytes);
    while (now > peak && !atomic_compare_exchange_weak(&peak_bytes, &peak, now)) {}
    atomic_fetch_add(&n_calls, 1);
}

bool mem_allow(bool allowed)
{
    const bool was = !forbidden;
    forbidden = !allowed;
    return was;
}

void *mem_alloc(size_t bytes)
{
    assert(!forbidden && "memory is taken in the middle of a run");
    if (bytes > SIZE_MAX - HEADER || fault_due())
        return NULL;
    char *p = malloc(bytes + HEADER);
    if (!p)
        return NULL;
    memcpy(p, &bytes, sizeof bytes);
    count_up(bytes);
    return p + HEADER;
}

void *mem_calloc(size_t count, size_t bytes)
{
    uint64_t total;
    if (!num_mul(count, bytes, &total) || total > SIZE_MAX - HEADER)
        return NULL;
    void *p = mem_alloc((size_t)total);
    return p ? memset(p, 0, (size_t)total) : NULL;
}

void *mem_realloc(void *old, size_t bytes)
{
    if (!old)
        return mem_alloc(bytes);
    size_t had;
    memcpy(&had, (char *)old - HEADER, sizeof had);
    void *p = mem_alloc(bytes);
    if (!p)
        return NULL;
    memcpy(p, old, num_min(had, bytes));
    mem_free(old);
    return p;
}

void *mem_grow(void *list, size_t n, size_t *room, size_t bytes)
{
    uint64_t more, total;
    if (n < *room)
        return list;
    if (!num_mul(*room, 2, &more) || !num_mul(num_max(more, FIRST_ROOM), bytes, &total))
        return NULL;
    void *moved = mem_realloc(list, (size_t)total);
    if (moved)
        *room = num_max(more, FIRST_ROOM);
    return moved;
}

char *mem_strdup(const char *s)
{
    const size_t n = strlen(s) + 1;
    char *p = mem_alloc(n);
    return p ? memcpy(p, s, n) : NULL;
}

void mem_free(void *p)
{
    if (!p)
        return;
    size_t bytes;
    memcpy(&bytes, (char *)p - HEADER, sizeof bytes);
    atomic_fetch_sub(&now_bytes, bytes);
    free((char *)p - HEADER);
}

void *mem_map(size_t bytes)
{
    assert(!forbidden && "memory is taken in the middle of a run");
    if (bytes == 0 || fault_due())
        return NULL;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    /* Arenas are walked from end to end, step by step: fewer TLB misses.  A kernel that will
     * not is as good. */
    (void)madvise(p, bytes, MADV_HUGEPAGE);
    count_up(bytes);
    return p;
}

void mem_unmap(void *p, size_t bytes)
{
    if (!p)
        return;
    atomic_fetch_sub(&now_bytes, bytes);
    guard_open(p, bytes); /* what is mapped there next has other zones */
    munmap(p, bytes);
}

void mem_reset_peak(void) { atomic_store(&peak_bytes, atomic_load(&now_bytes)); }

mem_usage mem_used(void)
{
    return (mem_usage){ atomic_load(&now_bytes), atomic_load(&peak_bytes), atomic_load(&n_calls) };
}

bool mem_fail_after(long n, mem_fault kind)
{
    atomic_store(&fault_kind, (int)kind);
    return atomic_exchange(&until_fault, n) >= 0;
}

void mem_trim(void)
{
#if defined(__GLIBC__)
    (void)malloc_trim(0);
#endif
}
