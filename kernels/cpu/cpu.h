/* kernels/cpu/cpu.h -- what the files of the CPU device share.
 *
 * Every operator is cut into tasks, each computed by one thread from start to end, whose shape
 * does not depend on how many threads there are.  Every element is one chain of operations whatever
 * task it falls into (kernels/cpu/gemm.h; statistics by units of rows at fixed places), so results
 * depend neither on threads nor on chunks, bands, or how many images travel together.
 *
 * Workspace is cut by the same function that says how much is needed (engine/base/carve.h):
 *
 *     size_t cpu_thing_workspace(...) { return cpu_workspace_bytes(lay_out, &state); }
 *
 *     if (!cpu_workspace_cut(c, lay_out, &state))
 *         return;
 *     ... run the tasks, whether they fail or not ...
 *     cpu_workspace_check(c, "thing", lay_out, &state);
 */
#ifndef REFINE_CPU_H
#define REFINE_CPU_H

#include "engine/base/carve.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/int8.h"
#include "kernels/cpu/pool.h"
#include "kernels/cpu/vec.h"
#include "kernels/host_device.h"

typedef struct cpu_dev {
    host_dev host;
    pool *pool;
    const vec *v;
    const gemm *f32, *bf16; /* which product takes which: kernels/cpu/operand.h */
    const int8_variant *int8;
    dtype compute; /* what activations are kept in */
    bool int8_math;     /* they are quantised where int8 weights meet them */
    int threads;
} cpu_dev;

static inline cpu_dev *cpu_of(dev *d) { return (cpu_dev *)(void *)d; }
static inline const cpu_dev *cpu_peek(const dev *d) { return (const cpu_dev *)(const void *)d; }

/* The workspace, 64-aligned; NULL and the device failed when it is smaller than `bytes`,
 * which count the alignment (CPU_ALIGN more than what is used). */
enum { CPU_ALIGN = CARVE_ALIGN };
char *cpu_workspace(cpu_dev *c, size_t bytes);

/* What `walk` takes, with the alignment.  Cut: the workspace as blocks of `plan`; false and the
 * device failed when it is smaller.  Check: fails the device when `op` wrote beside a block. */
size_t cpu_workspace_bytes(carve_walk *walk, void *plan);
bool cpu_workspace_cut(cpu_dev *c, carve_walk *walk, void *plan);
void cpu_workspace_check(cpu_dev *c, const char *op, carve_walk *walk, void *plan);

DECLARE_OPERATORS(cpu)

#endif
