/* engine/arena.c -- what lies behind each part of the arena. */
#include "engine/arena.h"

#include "engine/base/guard.h"

#include <stdio.h>

typedef struct arena_part {
    const char *name;
    size_t zone_at;
} arena_part;

enum { PARTS = 4 };

static void find_parts(const plan *p, arena_part out[PARTS])
{
    out[0] = (arena_part){ "the vectors", p->vectors };
    out[1] = (arena_part){ "the workspace", plan_workspace_at(p) + p->workspace };
    out[2] = (arena_part){ "the ring", plan_ring_at(p) + p->ring };
    out[3] = (arena_part){ "the region", plan_region_at(p) + p->region };
}

void arena_guard(dev *d, const plan *p, char *arena)
{
    _Alignas(2) char pattern[GUARD_MAX];
    arena_part parts[PARTS];

    if (p->zone == 0)
        return;
    find_parts(p, parts);
    guard_fill(pattern, sizeof pattern);
    for (int i = 0; i < PARTS; i++)
        dev_put(d, arena + parts[i].zone_at, pattern, p->zone);
}

void arena_check(dev *d, const plan *p, const char *arena)
{
    _Alignas(2) char zone[GUARD_MAX];
    arena_part parts[PARTS];
    char why[96];

    find_parts(p, parts);
    for (int i = 0; i < PARTS && p->zone > 0 && dev_status(d) == REFINE_OK; i++) {
        dev_get(d, zone, arena + parts[i].zone_at, p->zone);
        const size_t spoilt = guard_spoilt(zone, p->zone);
        if (spoilt == p->zone || dev_status(d) != REFINE_OK)
            continue;
        (void)snprintf(why, sizeof why, "the arena: byte %zu behind %s was written", spoilt,
                       parts[i].name);
        dev_fail(d, REFINE_EDEVICE, why);
    }
}
