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
    const uintptr_t at = (uintptr_t)c->base.workspace;
    return (char *)c->base.workspace + (-at & (CPU_ALIGN - 1));
}

char *cpu_workspace(cpu_dev *c, size_t bytes)
{
    if (bytes <= c->base.workspace_bytes)
        return aligned_workspace(c);
    char why[160];
    (void)snprintf(why, sizeof why,
                   "cpu: an operator needs %zu bytes of workspace, %zu were planned", bytes,
                   c->base.workspace_bytes);
    dev_fail(&c->base, REFINE_EBUDGET, why);
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
    dev_fail(&c->base, REFINE_EDEVICE, why);
}

static void *cpu_alloc(dev *d, size_t bytes, dev_mem kind)
{
    (void)d, (void)kind;
    return host_memory_alloc(bytes);
}

static void cpu_free(dev *d, void *p, size_t bytes, dev_mem kind)
{
    (void)d, (void)kind;
    host_memory_free(p, bytes);
}

static dev_event *cpu_event_open(dev *d)
{
    (void)d;
    return host_event_open();
}

static void cpu_event_close(dev *d, dev_event *e)
{
    (void)d;
    host_event_close(e);
}

static void cpu_copy_in(dev *d, void *dst, const void *src, size_t bytes)
{
    host_queue_copy(cpu_of(d)->queue, dst, src, bytes);
}

static void cpu_move(dev *d, void *dst, const void *src, size_t bytes)
{
    (void)d;
    memcpy(dst, src, bytes);
}

static void cpu_record(dev *d, dev_event *e, dev_queue q)
{
    host_queue_record(cpu_of(d)->queue, e, q);
}

static void cpu_wait(dev *d, dev_queue q, dev_event *e) { host_queue_wait(cpu_of(d)->queue, q, e); }

static void cpu_sync(dev *d, dev_event *e) { host_queue_sync(cpu_of(d)->queue, e); }

static void cpu_close(dev *d)
{
    cpu_dev *c = cpu_of(d);
    host_queue_close(c->queue);
    pool_close(c->pool);
    mem_free(c);
}

static const struct dev_ops CPU_OPS = {
    .name = "cpu",
    .alloc = cpu_alloc,
    .free = cpu_free,
    .event_open = cpu_event_open,
    .event_close = cpu_event_close,
    .copy_in = cpu_copy_in,
    .put = cpu_move,
    .get = cpu_move,
    .record = cpu_record,
    .wait = cpu_wait,
    .sync = cpu_sync,
    .close = cpu_close,
    .linear_workspace = cpu_linear_workspace,
    .conv2d_workspace = cpu_conv2d_workspace,
    .attention_workspace = cpu_attention_workspace,
    .groupnorm_workspace = cpu_groupnorm_workspace,
    .prepare_bytes = cpu_prepare_bytes,
    .linear = cpu_linear,
    .prepare = cpu_prepare,
    .conv2d = cpu_conv2d,
    .attention = cpu_attention,
    .groupnorm_sums = cpu_groupnorm_sums,
    .groupnorm = cpu_groupnorm,
    .apply_norm = cpu_apply_norm,
    .layernorm = cpu_layernorm,
    .silu = cpu_silu,
    .convert = cpu_convert,
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
    c->base.ops = &CPU_OPS;
    c->v = vec_pick();
    c->f32 = gemm_pick(DT_F32);
    c->bf16 = gemm_pick(DT_BF16);
    c->int8 = int8_pick();
    c->compute = o->compute;
    c->int8_math = o->int8_math;
    read_brand(c->base.model, sizeof c->base.model);
    if (!(c->queue = host_queue_open(err)) || !(c->pool = pool_open(o->threads, err))) {
        cpu_close(&c->base);
        return NULL;
    }
    c->threads = c->base.threads = pool_threads(c->pool);
    return &c->base;
}
