/* tests/support/fake_nvml.c -- the functions of NVML that kernels/cuda/cuda_memory.c looks up. */
#include "tests/support/fake_nvml.h"

#include <dlfcn.h>
#include <string.h>

typedef struct process {
    unsigned pid;
    unsigned long long used;
    unsigned gpu_instance, compute_instance;
} process;

fake_nvml fake_nvml_now;

/* ---- what it answers ---- */

static int fake_nvml_init(void)
{
    fake_nvml_now.open++;
    return 0;
}

static int fake_nvml_shutdown(void)
{
    fake_nvml_now.open--;
    return 0;
}

static int fake_nvml_find_device(const char *pci, void **device)
{
    *device = &fake_nvml_now;
    return strlen(pci) == sizeof "00000000:00:00.0" - 1 ? 0 : 2;
}

static int fake_nvml_memory_info(void *device, unsigned long long out[3])
{
    fake_nvml *f = device;
    out[2] = f->used[f->asked++ > 0];
    return 0;
}

static int fake_nvml_list_processes(void *device, unsigned *n, process *out)
{
    fake_nvml *f = device;
    const int when = f->listed++ > 0;
    if (*n < (unsigned)f->n[when])
        return 7; /* NVML_ERROR_INSUFFICIENT_SIZE */
    *n = (unsigned)f->n[when];
    for (int i = 0; i < f->n[when]; i++)
        out[i] = (process){ f->pid[i], f->own[when][i], ~0u, ~0u };
    return 0;
}

/* ---- how it is found ---- */

typedef union address {
    int (*call)(void);
    int (*find)(const char *, void **);
    int (*memory)(void *, unsigned long long[3]);
    int (*list)(void *, unsigned *, process *);
    void *object;
} address;

void *__real_dlopen(const char *name, int flags);
void *__wrap_dlopen(const char *name, int flags);
void *__real_dlsym(void *library, const char *name);
void *__wrap_dlsym(void *library, const char *name);
int __real_dlclose(void *library);
int __wrap_dlclose(void *library);

void *__wrap_dlopen(const char *name, int flags)
{
    if (!name || strcmp(name, "libnvidia-ml.so.1") != 0)
        return __real_dlopen(name, flags);
    fake_nvml_now.open += fake_nvml_now.is_there;
    return fake_nvml_now.is_there ? &fake_nvml_now : NULL;
}

void *__wrap_dlsym(void *library, const char *name)
{
    if (library != &fake_nvml_now)
        return __real_dlsym(library, name);
    if (strcmp(name, "nvmlInit_v2") == 0)
        return (address){ .call = fake_nvml_init }.object;
    if (strcmp(name, "nvmlShutdown") == 0)
        return (address){ .call = fake_nvml_shutdown }.object;
    if (strcmp(name, "nvmlDeviceGetHandleByPciBusId_v2") == 0)
        return (address){ .find = fake_nvml_find_device }.object;
    if (strcmp(name, "nvmlDeviceGetMemoryInfo") == 0)
        return (address){ .memory = fake_nvml_memory_info }.object;
    if (strcmp(name, "nvmlDeviceGetComputeRunningProcesses_v3") == 0 && fake_nvml_now.lists)
        return (address){ .list = fake_nvml_list_processes }.object;
    return NULL;
}

int __wrap_dlclose(void *library)
{
    if (library != &fake_nvml_now)
        return __real_dlclose(library);
    fake_nvml_now.open--;
    return 0;
}
