/* offload/chunk_list.h -- the chunks of one pack, or of several, under one numbering.
 *
 *     number of chunk c of pack k  =  first[k] + c,    first[0] = 0
 *
 * A value that borrows its packs.
 */
#ifndef REFINE_CHUNK_LIST_H
#define REFINE_CHUNK_LIST_H

#include "offload/pack.h"

enum { PACKS_MAX = 2 };

typedef struct chunk_list {
    const pack *pack[PACKS_MAX];
    int first[PACKS_MAX + 1]; /* numbers of each pack's first chunk; [n_packs]: all there are */
    int n_packs;
} chunk_list;

chunk_list chunk_list_make(const pack *const *packs, int n);

static inline int n_listed_chunks(const chunk_list *l) { return l->first[l->n_packs]; }

/* The pack in which a number lies. */
static inline int chunk_list_pack(const chunk_list *l, int number)
{
    int k = 0;
    while (number >= l->first[k + 1])
        k++;
    return k;
}

static inline const pack_chunk *chunk_list_at(const chunk_list *l, int number)
{
    const int k = chunk_list_pack(l, number);
    return pack_chunk_at(l->pack[k], number - l->first[k]);
}

/* Frame `i` of a chunk. */
const pack_frame *chunk_list_frame(const chunk_list *l, int number, int i);
const char *chunk_list_name(const chunk_list *l, int number); /* of the chunk's tensor */

/* The largest of all packs, as offload/pack.h says them of one. */
size_t chunk_list_biggest(const chunk_list *l);
size_t chunk_list_biggest_stored(const chunk_list *l);
size_t chunk_list_biggest_split(const chunk_list *l);

#endif
