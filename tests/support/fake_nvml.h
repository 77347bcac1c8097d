/* tests/support/fake_nvml.h -- the driver's management library, as the test would have it.
 *
 * A test that includes this has dlopen, dlsym and dlclose wrapped by the linker: where
 * libnvidia-ml.so.1 is asked for it finds this one.
 */
#ifndef TEST_FAKE_NVML_H
#define TEST_FAKE_NVML_H

#include <stdbool.h>
#include <stddef.h>

enum { FAKE_NVML_PROCESSES = 4 };

typedef struct fake_nvml {
    bool is_there, lists;     /* can it be loaded; has it the list of processes */
    size_t used[2];           /* of the card, when it is asked first, and then */
    int n[2];                 /* processes, likewise */
    unsigned pid[FAKE_NVML_PROCESSES];
    unsigned long long own[2][FAKE_NVML_PROCESSES];
    int listed;
    int asked;                /* how often for `used` */
    int open;                 /* loaded, or begun, and not yet ended */
} fake_nvml;

extern fake_nvml fake_nvml_now;

#endif
