/* engine/plan/arena_layout.h -- the parts of the device arena, and where each begins.
 *
 *     vectors | ring | workspace | region
 *
 * (each with a zone behind it where zones are asked for, engine/base/guard.h).
 *
 * The models of a run have one arena, one after the other: vectors and ring are the same for all,
 * and what lies behind is each model's while it runs.
 *
 * The region is shared by the phases.  Text, once and UNet use it from its start, with
 * the resident weights behind the largest of them; the VAE decoder, which comes after
 * the last step, overlays all of it:
 *
 *     encode   [activations          ]
 *     text     [activations]
 *     UNet     [prompt, table, activations][residents         ]
 *     decode   [activations                       ]
 */
#ifndef REFINE_ARENA_LAYOUT_H
#define REFINE_ARENA_LAYOUT_H

#include "engine/plan/dry_run.h"

typedef struct arena_layout {
    size_t bytes;                                       /* of the whole */
    size_t vectors, workspace, ring, region, residents; /* of its parts; the last is in region */
    size_t residents_at;                                /* in the region */
    size_t zone;                                        /* behind each part */
} arena_layout;

/* For phases of these sizes, beside the vectors of all models. */
arena_layout arena_layout_make(size_t vectors, size_t zone, const phase_sizes *s, size_t ring,
                               size_t residents);

/* Bytes that residents may take in an arena of at most `limit`, where `bare` (which has none)
 * fits. */
uint64_t arena_layout_room(const arena_layout *bare, uint64_t limit);

static inline size_t arena_ring_at(const arena_layout *a) { return a->vectors + a->zone; }
static inline size_t arena_workspace_at(const arena_layout *a)
{
    return arena_ring_at(a) + a->ring + a->zone;
}
static inline size_t arena_region_at(const arena_layout *a)
{
    return arena_workspace_at(a) + a->workspace + a->zone;
}

#endif
