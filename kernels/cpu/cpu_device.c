/* kernels/cpu/cpu_device.c -- this machine's processor as a device. */
#include "kernels/cpu/cpu.h"

#include "engine/base/mem.h"
#include "kernels/cpu/isa.h"

#include <stdio.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

static char *aligned_workspace(const cpu_dev *c)
{
    const uintptr_t at = (uintptr_t)c->host.base.workspace;
    return (char *)c->host.base.workspace + (-at & (CPU_ALIGN - 1));
}

char *cpu_workspace(cpu_dev *c, size_t bytes)
{
    if (bytes <= c->host.base.workspace_bytes)
        return aligned_workspace(c);
    char why[160];
    (void)snprintf(why, sizeof why,
                   "cpu: an operator needs %zu bytes of workspace, %zu were planned", bytes,
                   c->host.base.workspace_bytes);
    dev_fail(&c->host.base, REFINE_EBUDGET, why);
    return NULL;
}

size_t cpu_workspace_bytes(carve_walk *walk, void *plan)
{
    return CPU_ALIGN + carve_bytes(walk, plan);
}

bool cpu_workspace_cut(cpu_dev *c, carve_walk *walk, void *plan)
{
    char *region = cpu_workspace(c, cpu_workspace_bytes(walk, plan));
    if (region)
        carve_cut(walk, plan, region);
    return region != NULL;
}

void cpu_workspace_check(cpu_dev *c, const char *op, carve_walk *walk, void *plan)
{
    char why[160];
    const carve_fault f = carve_check(walk, plan, aligned_workspace(c));
    if (f.block < 0)
        return;
    (void)snprintf(why, sizeof why,
                   "cpu: %s wrote byte %td of block %d of its workspace, which has %zu bytes", op,
                   f.at, f.block, f.bytes);
    dev_fail(&c->host.base, REFINE_EDEVICE, why);
}

static void cpu_close(dev *d)
{
    pool_close(cpu_of(d)->pool);
    host_device_close(d);
}

static const struct dev_ops CPU_OPS = {
    .name = "cpu",
    HOST_DEVICE_OPS,
    OPERATORS_OF(cpu),
    .close = cpu_close,
};

/* The brand string, without the blanks vendors pad it with. */
static void read_brand(char *out, size_t size)
{
    char brand[49] = "CPU";
#if defined(__x86_64__)
    unsigned r[4];
    if ((unsigned)__get_cpuid_max(0x80000000u, NULL) >= 0x80000004u) {
        for (unsigned i = 0; i < 3; i++) {
            (void)__get_cpuid(0x80000002u + i, &r[0], &r[1], &r[2], &r[3]);
            memcpy(brand + 16 * i, r, sizeof r);
        }
        brand[48] = '\0';
    }
#endif
    const char *from = brand + strspn(brand, " ");
    size_t n = strlen(from);
    while (n > 0 && from[n - 1] == ' ')
        n--;
    (void)snprintf(out, size, "%.*s", (int)n, from);
}

dtype dev_cpu_best(void) { return gemm_pick(DT_BF16)->element == DT_BF16 ? DT_BF16 : DT_F32; }

dev *dev_open_cpu(const dev_options *o, refine_error *err)
{
    if (o->compute != DT_F32 && o->compute != DT_BF16) {
        refine_fail(err, REFINE_EINVAL, "device cpu computes in f32 or bf16; choose one of these");
        return NULL;
    }
    if (isa_unknown()) {
        refine_fail(err, REFINE_EINVAL, "REFINE_ISA is %s; choose %s, or leave it unset",
                    isa_unknown(), ISA_NAMES);
        return NULL;
    }
    cpu_dev *c = mem_calloc(1, sizeof *c);
    if (!c) {
        refine_fail(err, REFINE_ENOMEM, "device cpu: out of memory (%zu bytes)", sizeof *c);
        return NULL;
    }
    c->v = vec_pick();
    c->f32 = gemm_pick(DT_F32);
    c->bf16 = gemm_pick(DT_BF16);
    c->int8 = int8_pick();
    c->compute = o->compute;
    c->int8_math = o->int8_math;
    read_brand(c->host.base.model, sizeof c->host.base.model);
    if ((isa_available() & ISA_AVX2) == 0)
        (void)snprintf(c->host.base.rounding, sizeof c->host.base.rounding, "without FMA");
    if (!host_device_open(&c->host, &CPU_OPS, err) || !(c->pool = pool_open(o->threads, err))) {
        cpu_close(&c->host.base);
        return NULL;
    }
    c->threads = c->host.base.threads = pool_threads(c->pool);
    return &c->host.base;
}
