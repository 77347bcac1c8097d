/* tools/packer/disk_advice.c -- probes the pack that has just been written. */
#include "tools/packer/disk_advice.h"

#include "engine/model/weight_list.h"
#include "offload/pack.h"
#include "offload/probe.h"
#include "tools/cli/sizes.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>

/* Less is neither felt nor measured. */
static const double WORTH = 1.02;

double disk_advice_gain(double read, double decode, double ratio)
{
    return fmin(ratio, DISK_ADVICE_DECODERS * decode / read);
}

/* The UNet's: what every step reads. */
static double ratio_of(const pack *p, int first, int end)
{
    double bytes = 0, stored = 0;
    for (int i = first; i < end; i++) {
        bytes += pack_chunk_at(p, i)->bytes;
        stored += pack_chunk_at(p, i)->stored_bytes;
    }
    return bytes / stored;
}

static bool measure_pack_rates(disk_advice *out, const pack *p)
{
    const dev_options one = { .compute = DT_F32, .threads = 1 };
    int first, end;

    pack_segment(p, SEG_UNET, &first, &end);
    dev *d = first < end ? dev_open_ref(&one, NULL) : NULL; /* for its memory alone */
    if (!d)
        return false;
    const probe_rates r = probe_transfers(d, p, first, end, READER_AUTO, PROBE_REQUEST);
    dev_close(d);
    if (r.disk <= 0 || r.decode <= 0)
        return false;
    *out = (disk_advice){ .read = r.disk, .decode = r.decode, .ratio = ratio_of(p, first, end) };
    out->gain = disk_advice_gain(out->read, out->decode, out->ratio);
    return true;
}

bool disk_advice_measure(disk_advice *out, const char *path)
{
    pack *p;
    if (pack_open(&p, path, NULL) != REFINE_OK)
        return false;
    const bool done = measure_pack_rates(out, p);
    pack_close(p);
    return done;
}

const char *disk_advice_text(char out[DISK_ADVICE_TEXT], const disk_advice *a)
{
    char read[SIZES_TEXT], decode[SIZES_TEXT], verdict[64];

    if (a->ratio < WORTH)
        (void)snprintf(verdict, sizeof verdict, "it saves nothing of these weights (--codec raw)");
    else if (a->gain < WORTH)
        (void)snprintf(verdict, sizeof verdict, "raw streams faster here (--codec raw)");
    else
        (void)snprintf(verdict, sizeof verdict, "streams up to %.2f times as fast as raw", a->gain);
    (void)snprintf(
        out, DISK_ADVICE_TEXT, "zstd: this disk reads %s/s, %d threads decode %s/s each: %s",
        sizes_text(read, a->read), DISK_ADVICE_DECODERS, sizes_text(decode, a->decode), verdict);
    return out;
}
