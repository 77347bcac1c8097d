/* engine/base/carve.c -- one block behind the other. */
#include "engine/base/carve.h"

#include "engine/base/num.h"

#include <assert.h>

/* The zone [p, p + bytes), which begins at byte `at` of a block. */
static void carve_zone(carver *c, char *p, size_t bytes, carve_fault at)
{
    if (c->zones == CARVE_CUT) {
        guard_fill(p, bytes);
        guard_shut(p, bytes);
    } else if (c->zones == CARVE_CHECK) {
        guard_open(p, bytes);
        const size_t spoilt = guard_spoilt(p, bytes);
        at.at += (ptrdiff_t)spoilt;
        if (spoilt < bytes && c->fault.block < 0)
            c->fault = at;
    }
}

void *carve_block(carver *c, size_t bytes)
{
    const size_t at = c->at, end = at + bytes;
    const int block = c->blocks++;

    c->at = num_align(end, CARVE_ALIGN) + GUARD_ZONE;
    if (!c->base)
        return NULL;
    if (GUARDED && block == 0)
        carve_zone(c, c->base, GUARD_ZONE, (carve_fault){ block, bytes, -GUARD_ZONE });
    if (GUARDED)
        carve_zone(c, c->base + end, c->at - end, (carve_fault){ block, bytes, (ptrdiff_t)bytes });
    return c->base + at;
}

carve_parts carve_each(carver *c, int n, carve_walk *part, void *plan)
{
    const size_t at = c->at;
    carve_parts p = { .first = c->base ? c->base + at : NULL };
    for (int i = 0; i < n; i++) {
        const size_t before = c->at;
        part(c, plan);
        assert(i == 0 || c->at - before == p.bytes);
        p.bytes = c->at - before;
    }
    return p;
}

carver carve_part(carve_parts p, int i)
{
    return (carver){ .base = p.first + (size_t)i * p.bytes };
}

/* A walk over a whole region. */
static carver carve_region(carve_walk *walk, void *plan, void *region, carve_zones zones)
{
    carver c = { .base = region, .at = GUARD_ZONE, .zones = zones, .fault = { .block = -1 } };
    walk(&c, plan);
    return c;
}

size_t carve_bytes(carve_walk *walk, void *plan)
{
    return carve_region(walk, plan, NULL, CARVE_ADDRESSES).at;
}

void carve_cut(carve_walk *walk, void *plan, void *region)
{
    (void)carve_region(walk, plan, region, CARVE_CUT);
}

carve_fault carve_check(carve_walk *walk, void *plan, void *region)
{
    if (!GUARDED)
        return (carve_fault){ .block = -1 };
    return carve_region(walk, plan, region, CARVE_CHECK).fault;
}
