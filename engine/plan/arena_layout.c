/* engine/plan/arena_layout.c -- the arena that phases, ring and residents make. */
#include "engine/plan/arena_layout.h"

#include "engine/base/num.h"

static size_t phases_before_decode(const phase_sizes *s)
{
    return num_max(s->encode, num_max(s->text, s->unet));
}

arena_layout arena_layout_make(size_t vectors, size_t zone, const phase_sizes *s, size_t ring,
                               size_t residents)
{
    arena_layout a = { .vectors = num_align(vectors, SCRATCH_ALIGN),
                       .workspace = s->workspace,
                       .ring = ring,
                       .residents = residents,
                       .residents_at = phases_before_decode(s),
                       .zone = zone };
    a.region = num_max(a.residents_at + residents, s->decode);
    a.bytes = arena_region_at(&a) + a.region + a.zone;
    return a;
}

/* Residents may lie where the decoder will. */
uint64_t arena_layout_room(const arena_layout *bare, uint64_t limit)
{
    return limit - (bare->bytes - bare->region + bare->residents_at);
}
