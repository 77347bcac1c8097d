/* offload/probe.h -- what disk, decoder and link of this machine can do, in some 30 ms. */
#ifndef REFINE_PROBE_H
#define REFINE_PROBE_H

#include "kernels/device.h"
#include "offload/pack.h"

/* Bytes a second; 0: could not be measured. */
typedef struct probe_rates {
    double disk, decode, copy; /* decode: of one thread */
} probe_rates;

/* Host and device memory it takes for a moment. */
size_t probe_memory(void);

/* first, end: chunks to try with.  kind: of reader, as in offload/stream.h.  A pack that cannot
 * be read is not the probe's to report: it leaves zeros. */
probe_rates probe_transfers(dev *d, const pack *p, int first, int end, int kind);

#endif
