/* engine/arena.c -- what lies behind each part of the arena. */
#include "engine/arena.h"

#include "engine/base/guard.h"

#include <stdio.h>

typedef struct arena_part {
    const char *name;
    size_t zone_at;
} arena_part;

enum { PARTS = 4 };

static void find_parts(const arena_layout *a, arena_part out[PARTS])
{
    out[0] = (arena_part){ "the vectors", a->vectors };
    out[1] = (arena_part){ "the ring", arena_ring_at(a) + a->ring };
    out[2] = (arena_part){ "the workspace", arena_workspace_at(a) + a->workspace };
    out[3] = (arena_part){ "the region", arena_region_at(a) + a->region };
}

void arena_guard(dev *d, const arena_layout *a, char *arena)
{
    _Alignas(2) char pattern[GUARD_MAX];
    arena_part parts[PARTS];

    if (a->zone == 0)
        return;
    find_parts(a, parts);
    guard_fill(pattern, sizeof pattern);
    for (int i = 0; i < PARTS; i++)
        dev_put(d, arena + parts[i].zone_at, pattern, a->zone);
}

void arena_check(dev *d, const arena_layout *a, const char *arena)
{
    _Alignas(2) char zone[GUARD_MAX];
    arena_part parts[PARTS];
    char why[96];

    find_parts(a, parts);
    for (int i = 0; i < PARTS && a->zone > 0 && dev_status(d) == REFINE_OK; i++) {
        dev_get(d, zone, arena + parts[i].zone_at, a->zone);
        const size_t spoilt = guard_spoilt(zone, a->zone);
        if (spoilt == a->zone || dev_status(d) != REFINE_OK)
            continue;
        (void)snprintf(why, sizeof why, "the arena: byte %zu behind %s was written", spoilt,
                       parts[i].name);
        dev_fail(d, REFINE_EDEVICE, why);
    }
}
