/* kernels/cuda/cuda_memory.c -- NVML, by name.
 *
 * Its interface is versioned by symbol and has been stable since 2013; what is declared here is
 * the part used, as in nvml.h of the toolkit.
 */
#include "kernels/cuda/cuda_memory.h"

#include <dlfcn.h>
#include <stdio.h>

typedef struct nvml_memory {
    unsigned long long total, free, used;
} nvml_memory;

typedef int nvml_call(void);
typedef int nvml_find(const char *pci, void **device);
typedef int nvml_ask(void *device, nvml_memory *out);

/* dlsym gives an object pointer where a function's is wanted: POSIX has them alike. */
typedef union symbol {
    void *object;
    nvml_call *call;
    nvml_find *find;
    nvml_ask *ask;
} symbol;

static symbol look_up(void *library, const char *name)
{
    return (symbol){ .object = dlsym(library, name) };
}

static bool ask(void *library, size_t *used, const char *pci)
{
    const symbol find = look_up(library, "nvmlDeviceGetHandleByPciBusId_v2");
    const symbol memory = look_up(library, "nvmlDeviceGetMemoryInfo");
    nvml_memory m = { 0, 0, 0 };
    void *device = NULL;
    if (!find.object || !memory.object || find.find(pci, &device) != 0 ||
        memory.ask(device, &m) != 0)
        return false;
    *used = (size_t)m.used;
    return true;
}

bool cuda_memory_used(size_t *used, int domain, int bus, int device)
{
    char pci[32];
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    bool known = false;
    if (!library)
        return false;
    (void)snprintf(pci, sizeof pci, "%08x:%02x:%02x.0", (unsigned)domain, (unsigned)bus,
                   (unsigned)device);
    const symbol begin = look_up(library, "nvmlInit_v2"), end = look_up(library, "nvmlShutdown");
    if (begin.object && end.object && begin.call() == 0) {
        known = ask(library, used, pci);
        (void)end.call();
    }
    (void)dlclose(library);
    return known;
}
