/* kernels/cuda/cuda_memory.c -- NVML, by name.
 *
 * Its interface is versioned by symbol and has been stable since 2013; what is declared here is
 * the part used, as in nvml.h of the toolkit.
 */
#include "kernels/cuda/cuda_memory.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>

typedef struct nvml_memory {
    unsigned long long total, free, used;
} nvml_memory;

/* Of nvmlDeviceGetComputeRunningProcesses_v3. */
typedef struct nvml_process {
    unsigned pid;
    unsigned long long used; /* all ones: it is not known */
    unsigned gpu_instance, compute_instance;
} nvml_process;

typedef int nvml_call(void);
typedef int nvml_find(const char *pci, void **device);
typedef int nvml_ask(void *device, nvml_memory *out);
typedef int nvml_list(void *device, unsigned *n, nvml_process *out);
typedef int nvml_name(char *version, unsigned size);

/* dlsym gives an object pointer where a function's is wanted: POSIX has them alike. */
typedef union symbol {
    void *object;
    nvml_call *call;
    nvml_find *find;
    nvml_ask *ask;
    nvml_list *list;
    nvml_name *name;
} symbol;

static symbol look_up(void *library, const char *name)
{
    return (symbol){ .object = dlsym(library, name) };
}

/* What is asked while the library is loaded and ready: `about` says of what. */
typedef bool question(void *library, void *about);

static bool query_nvml(question *q, void *about)
{
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    bool known = false;
    if (!library)
        return false;
    const symbol begin = look_up(library, "nvmlInit_v2"), end = look_up(library, "nvmlShutdown");
    if (begin.object && end.object && begin.call() == 0) {
        known = q(library, about);
        (void)end.call();
    }
    (void)dlclose(library);
    return known;
}

typedef struct memory_question {
    char pci[32];
    size_t bytes;
} memory_question;

static void *find_device(void *library, const memory_question *q)
{
    const symbol find = look_up(library, "nvmlDeviceGetHandleByPciBusId_v2");
    void *device = NULL;
    return find.object && find.find(q->pci, &device) == 0 ? device : NULL;
}

static bool query_used_memory(void *library, void *about)
{
    memory_question *q = about;
    const symbol memory = look_up(library, "nvmlDeviceGetMemoryInfo");
    void *device = find_device(library, q);
    nvml_memory m = { 0, 0, 0 };
    if (!device || !memory.object || memory.ask(device, &m) != 0)
        return false;
    q->bytes = (size_t)m.used;
    return true;
}

enum { PROCESSES = 256 };

static bool query_own_memory(void *library, void *about)
{
    memory_question *q = about;
    const symbol list = look_up(library, "nvmlDeviceGetComputeRunningProcesses_v3");
    void *device = find_device(library, q);
    nvml_process p[PROCESSES];
    unsigned n = PROCESSES;
    if (!device || !list.object || list.list(device, &n, p) != 0)
        return false;
    for (unsigned i = 0; i < n && i < PROCESSES; i++)
        if (p[i].pid == (unsigned)getpid() && p[i].used != ~0ULL) {
            q->bytes = (size_t)p[i].used;
            return true;
        }
    return false;
}

static bool query_bytes(question *about, size_t *bytes, int domain, int bus, int device)
{
    memory_question q = { .bytes = 0 };
    (void)snprintf(q.pci, sizeof q.pci, "%08x:%02x:%02x.0", (unsigned)domain, (unsigned)bus,
                   (unsigned)device);
    const bool known = query_nvml(about, &q);
    *bytes = known ? q.bytes : *bytes;
    return known;
}

bool cuda_memory_used(size_t *used, int domain, int bus, int device)
{
    return query_bytes(query_used_memory, used, domain, bus, device);
}

bool cuda_memory_own(size_t *own, int domain, int bus, int device)
{
    return query_bytes(query_own_memory, own, domain, bus, device);
}

enum { VERSION = 80 }; /* NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE */

static bool query_driver_version(void *library, void *about)
{
    const symbol version = look_up(library, "nvmlSystemGetDriverVersion");
    return version.object && version.name(about, VERSION) == 0;
}

void cuda_driver_name(char *text, size_t size)
{
    char version[VERSION] = "";
    int cuda = 0;
    if (query_nvml(query_driver_version, version)) {
        (void)snprintf(text, size, "driver %.32s", version);
        return;
    }
    (void)cudaDriverGetVersion(&cuda);
    (void)snprintf(text, size, "a driver for CUDA %d.%d", cuda / 1000, cuda % 1000 / 10);
}
