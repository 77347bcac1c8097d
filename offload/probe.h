/* offload/probe.h -- what disk, decoder and link of this machine can do, in some 30 ms. */
#ifndef REFINE_PROBE_H
#define REFINE_PROBE_H

#include "kernels/device.h"
#include "offload/pack.h"
#include "offload/reader.h"

/* Bytes a second; 0: could not be measured. */
typedef struct probe_rates {
    double disk, decode, copy; /* decode: of one thread */
} probe_rates;

/* Bytes of a request: as large as the stream's, or half of a frame where memory is short. */
enum { PROBE_REQUEST = 1 << 20, PROBE_SMALL_REQUEST = PACK_FRAME / 2 };

/* Memory it takes for a moment with such requests. */
size_t probe_host_memory(size_t request);
size_t probe_device_memory(size_t request);

/* first, end: chunks to try with.  A pack that cannot be read is not the probe's to report: it
 * leaves zeros. */
probe_rates probe_transfers(dev *d, const pack *p, int first, int end, reader_kind kind,
                            size_t request);

#endif
