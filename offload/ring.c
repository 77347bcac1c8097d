/* offload/ring.c -- a ring of bytes: pieces of any size, taken and given back in order. */
#include "offload/ring.h"

#include "engine/base/num.h"

#include <assert.h>

bool ring_alloc(ring *r, size_t n, size_t *at, uint64_t *end)
{
    const size_t bytes = num_align(n, DEV_ALIGN);
    uint64_t begin = r->head;

    if (bytes > r->bytes)
        return false;
    if (begin % r->bytes + bytes > r->bytes)
        begin += r->bytes - begin % r->bytes;
    if (r->tail == r->head) /* empty: what is skipped has been given back already */
        r->tail = r->head = begin;
    if (begin + bytes - r->tail > r->bytes)
        return false;
    r->head = begin + bytes;
    *at = (size_t)(begin % r->bytes);
    *end = r->head;
    return true;
}

void ring_free(ring *r, uint64_t end)
{
    assert(r->tail <= end && end <= r->head);
    r->tail = end;
}

size_t ring_min(size_t sum, size_t biggest)
{
    return num_align(sum, DEV_ALIGN) + num_align(biggest, DEV_ALIGN);
}
