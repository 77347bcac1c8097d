/* offload/chunk_list.c -- the chunks of one pack, or of several, under one numbering. */
#include "offload/chunk_list.h"

#include "engine/base/num.h"

#include <assert.h>

chunk_list chunk_list_make(const pack *const *packs, int n)
{
    chunk_list l = { .n_packs = n };
    assert(n >= 1 && n <= PACKS_MAX);
    for (int k = 0; k < n; k++) {
        l.pack[k] = packs[k];
        l.first[k + 1] = l.first[k] + n_pack_chunks(packs[k]);
    }
    return l;
}

const pack_frame *chunk_list_frame(const chunk_list *l, int number, int i)
{
    const pack_chunk *c = chunk_list_at(l, number);
    return pack_frame_at(l->pack[chunk_list_pack(l, number)], (int)c->first_frame + i);
}

const char *chunk_list_name(const chunk_list *l, int number)
{
    const pack_chunk *c = chunk_list_at(l, number);
    return pack_tensor_name(l->pack[chunk_list_pack(l, number)], (int)c->tensor);
}

static size_t most_of_packs(const chunk_list *l, size_t (*of)(const pack *))
{
    size_t most = 0;
    for (int k = 0; k < l->n_packs; k++)
        most = num_max(most, of(l->pack[k]));
    return most;
}

size_t chunk_list_biggest(const chunk_list *l) { return most_of_packs(l, pack_biggest); }

size_t chunk_list_biggest_stored(const chunk_list *l)
{
    return most_of_packs(l, pack_biggest_stored);
}

size_t chunk_list_biggest_split(const chunk_list *l)
{
    return most_of_packs(l, pack_biggest_split);
}
