/* tools/report/memory_owners.c -- owners of memory, and what each of them holds. */
#include "tools/report/memory_owners.h"

enum { RESIDENT, RING, PROMPT, ACTIVATIONS, WORKSPACE, VECTORS, OVERHEAD };
enum { STAGING, CACHED, SPILL };

const memory_owner device_owners[DEVICE_OWNERS] = {
    [RESIDENT] = { "resident", "resident weights" },
    [RING] = { "ring", "ring of weights" },
    [PROMPT] = { "prompt", "prompt keys and values" },
    [ACTIVATIONS] = { "activations", "activations" },
    [WORKSPACE] = { "workspace", "workspace" },
    [VECTORS] = { "vectors", "norms and biases" },
    [OVERHEAD] = { "overhead", "the GPU's own" },
};

const memory_owner host_owners[HOST_OWNERS] = {
    [STAGING] = { "staging", "staging" },
    [CACHED] = { "cached", "cached weights" },
    [SPILL] = { "spill", "spilled activations" },
};

/* Ring, workspace, vectors and what the device takes for itself are held throughout.  Residents and
 * the prompt's keys and values lie beside the UNet's activations, where the other phases have
 * theirs. */
void owners_of_device(uint64_t bytes[DEVICE_OWNERS], const refine_memory *m, refine_phase phase,
                      uint64_t activations)
{
    const bool denoising = phase == REFINE_DENOISING;
    const uint64_t held = denoising ? m->prompt : 0;
    const uint64_t prompt = held < activations ? held : activations;
    bytes[RESIDENT] = denoising ? m->resident : 0;
    bytes[RING] = m->ring;
    bytes[PROMPT] = prompt;
    bytes[ACTIVATIONS] = activations - prompt;
    bytes[WORKSPACE] = m->workspace;
    bytes[VECTORS] = m->vectors;
    bytes[OVERHEAD] = m->device_overhead;
}

void owners_of_host(uint64_t bytes[HOST_OWNERS], const refine_memory *m)
{
    bytes[STAGING] = m->staging;
    bytes[CACHED] = m->cached;
    bytes[SPILL] = m->spill_host;
}
