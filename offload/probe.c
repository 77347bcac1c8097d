/* offload/probe.c -- a few reads, frames and copies, with a clock beside them. */
#include "offload/probe.h"

#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "offload/codec.h"

#include <string.h>

enum {
    DEPTH = 2,
    READS = 24, /* requests */
    COPIES = 4,
    FRAMES = 4,
    TRIES = 5
};

static const double LONGEST = 0.04; /* seconds for one of them */

typedef struct transfer_probe {
    dev *d;
    const pack *p;
    reader *rd;
    size_t request;
    char *buffer; /* pinned: DEPTH requests; holds a stored frame */
    char *frame;  /* one decoded frame */
    codec *c;
} transfer_probe;

size_t probe_host_memory(size_t request)
{
    return DEPTH * request + PACK_FRAME + codec_memory(PACK_FRAME) + reader_memory(DEPTH);
}

/* What the buffer is copied to. */
size_t probe_device_memory(size_t request) { return DEPTH * request; }

static refine_status open_probe_reader(transfer_probe *b, reader_kind kind)
{
    const char *const path = pack_path(b->p);
    const reader_config c = { .paths = &path,
                              .n_files = 1,
                              .buffer = b->buffer,
                              .buffer_bytes = DEPTH * b->request,
                              .depth = DEPTH };
    return reader_open(&b->rd, kind, &c, NULL, NULL);
}

/* Reads on from `at` with DEPTH requests under way; what arrives is not looked at. */
static double read_rate(transfer_probe *b, uint64_t at, uint64_t end)
{
    const double t0 = clock_seconds();
    int asked = 0, come = 0;
    read_done done[DEPTH];

    for (;;) {
        while (asked < READS && asked - come < DEPTH && at + b->request <= end &&
               clock_seconds() - t0 < LONGEST) {
            char *dst = b->buffer + (size_t)(asked % DEPTH) * b->request;
            if (b->rd->submit(b->rd, (uint64_t)asked++, 0, dst, at, b->request) != REFINE_OK)
                return 0;
            at += b->request;
        }
        if (asked == come)
            break;
        const int n = b->rd->reap(b->rd, done, DEPTH, 1);
        for (int i = 0; i < n; i++, come++)
            if (done[i].status != REFINE_OK)
                return 0;
    }
    return (double)come * (double)b->request / (clock_seconds() - t0);
}

/* Frames of one chunk, the stored bytes of which begin the buffer. */
static size_t decode_some(transfer_probe *b, const pack_chunk *k, size_t stored)
{
    size_t at = 0, decoded = 0;
    int bad;
    for (uint32_t i = 0; i < k->n_frames && i < FRAMES; i++) {
        const pack_frame *f = pack_frame_at(b->p, (int)(k->first_frame + i));
        if (at + f->stored_bytes > stored ||
            codec_decode(b->c, b->frame, b->buffer + at, f, 1, &bad) != REFINE_OK)
            break;
        at += f->stored_bytes;
        decoded += f->bytes;
    }
    return decoded;
}

static double decode_rate(transfer_probe *b, int chunk)
{
    const pack_chunk *k = pack_chunk_at(b->p, chunk);
    const size_t n = num_min(num_align(k->stored_bytes, PACK_ALIGN),
                             num_max(b->request, PACK_FRAME));
    read_done done;

    if (b->rd->submit(b->rd, 0, 0, b->buffer, k->file_at, n) != REFINE_OK ||
        b->rd->reap(b->rd, &done, 1, 1) != 1 || done.status != REFINE_OK)
        return 0;
    /* The best of a few: the first touches fresh memory, and others run here too. */
    double rate = 0;
    for (int i = 0; i < TRIES; i++) {
        const double t0 = clock_seconds();
        const size_t decoded = decode_some(b, k, n);
        const double seconds = clock_seconds() - t0;
        if (decoded && (double)decoded > rate * seconds)
            rate = (double)decoded / seconds;
    }
    return rate;
}

/* The first of the largest: others may hold little, or nothing that is coded as the rest. */
static int typical_chunk(const pack *p, int first, int end)
{
    int best = first;
    for (int i = first; i < end; i++)
        if (pack_chunk_at(p, i)->bytes > pack_chunk_at(p, best)->bytes)
            best = i;
    return best;
}

static double copy_rate(transfer_probe *b)
{
    const size_t bytes = DEPTH * b->request;
    char *to = dev_alloc(b->d, bytes, DEV_VRAM);
    dev_event *e = dev_event_open(b->d);
    double rate = 0;

    if (to && e) {
        dev_copy_in(b->d, to, b->buffer, bytes); /* touches the pages */
        dev_record(b->d, e, DEV_COPY);
        dev_sync(b->d, e);
        const double t0 = clock_seconds();
        for (int i = 0; i < COPIES; i++)
            dev_copy_in(b->d, to, b->buffer, bytes);
        dev_record(b->d, e, DEV_COPY);
        dev_sync(b->d, e);
        rate = (double)COPIES * (double)bytes / (clock_seconds() - t0);
    }
    dev_event_close(b->d, e);
    dev_free(b->d, to, bytes, DEV_VRAM);
    return rate;
}

probe_rates probe_transfers(dev *d, const pack *p, int first, int end, reader_kind kind,
                            size_t request)
{
    const size_t bytes = DEPTH * request;
    transfer_probe b = { .d = d, .p = p, .request = request };
    probe_rates r = { 0 };

    b.buffer = dev_alloc(d, bytes, DEV_PINNED);
    b.frame = mem_alloc(PACK_FRAME);
    b.c = codec_open(pack_biggest_split(p));
    if (b.buffer && b.frame && b.c && first < end) {
        memset(b.buffer, 0, bytes);
        r.copy = copy_rate(&b);
        if (open_probe_reader(&b, kind) == REFINE_OK) {
            const pack_chunk *last = pack_chunk_at(p, end - 1);
            r.disk = read_rate(&b, pack_chunk_at(p, first)->file_at,
                               last->file_at + last->stored_bytes);
            if (r.disk > 0) /* else a read may still be under way */
                r.decode = decode_rate(&b, typical_chunk(p, first, end));
            b.rd->close(b.rd);
        }
    }
    codec_close(b.c);
    mem_free(b.frame);
    dev_free(d, b.buffer, bytes, DEV_PINNED);
    return r;
}
