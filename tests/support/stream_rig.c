/* tests/support/stream_rig.c -- a pack of every kind of chunk, and how to walk through it. */
#include "tests/support/stream_rig.h"

#include "engine/base/num.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

/* Chunks of different sizes, one of them of several requests and of several frames. */
static const fixture_tensor TENSORS[] = {
    { "norm", 0, DT_F32, 1, 1, 1, 300, 0 },       { "bias", 0, DT_F32, 1, 1, 1, 77, 0 },
    { "text.a", 1, DT_F16, 256, 1, 1, 64, 128 },  { "text.b", 1, DT_F16, 3, 1, 1, 10, 0 },
    { "unet.a", 4, DT_F16, 384, 1, 1, 200, 128 }, { "unet.b", 4, DT_F16, 128, 3, 3, 72, 64 },
    { "unet.c", 4, DT_F16, 384, 1, 1, 1600, 0 },  { "unet.d", 4, DT_F16, 5, 3, 3, 4, 0 },
    { "unet.e", 4, DT_F16, 640, 1, 1, 96, 128 },  { "vae.a", 5, DT_F16, 192, 3, 3, 32, 64 },
    { "tokens", 6, DT_F16, 200, 1, 1, 32, 128 },
};

enum { N_TENSORS = sizeof TENSORS / sizeof TENSORS[0] };

void rig_open_pack_of(rig *r, const fixture_tensor *t, int n, fixture_codec codec)
{
    memset(r, 0, sizeof *r);
    pack_fixture_make(&r->f, t, n, codec, NULL);
    pack_fixture_write(&r->f);
    cr_assert_eq(pack_open(&r->p, r->f.path, &r->err), REFINE_OK, "%s", r->err.text);
}

void rig_open_pack(rig *r, fixture_codec codec) { rig_open_pack_of(r, TENSORS, N_TENSORS, codec); }

stream_pass rig_pass(const rig *r, int segment, int passes)
{
    stream_pass s = { .passes = passes };
    pack_segment(r->p, segment, &s.first, &s.end);
    return s;
}

void rig_configure(rig *r, dev *d, size_t ring_bytes)
{
    r->d = d;
    memset(r->resident, 0, sizeof r->resident);
    memset(r->cached, 0, sizeof r->cached);
    r->schedule[0] = rig_pass(r, TEXT, 1);
    r->schedule[1] = rig_pass(r, 2, 1);
    r->schedule[2] = rig_pass(r, UNET, STEPS);
    r->schedule[3] = rig_pass(r, VAE, 1);
    r->ring_bytes = num_align(ring_bytes, 256);
    r->residents_bytes = 256;
    for (int i = 0; i < n_pack_chunks(r->p); i++)
        r->residents_bytes += num_align(pack_chunk_at(r->p, i)->bytes, 256);
    r->ring = dev_alloc(d, r->ring_bytes, DEV_VRAM);
    r->residents = dev_alloc(d, r->residents_bytes, DEV_VRAM);
    cr_assert(r->ring && r->residents);
    r->c = (stream_config){ .d = d,
                            .chunks = chunk_list_make((const pack *const[]){ r->p }, 1),
                            .ring = r->ring,
                            .ring_bytes = r->ring_bytes,
                            .residents = { r->residents },
                            .resident = r->resident,
                            .cached = r->cached,
                            .schedule = r->schedule,
                            .n_passes = 4,
                            .slots = 3,
                            .workers = 2,
                            .reader = READER_PREAD };
}

void rig_open_stream(rig *r)
{
    cr_assert_eq(stream_open(&r->s, &r->c, &r->err), REFINE_OK, "%s", r->err.text);
}

void rig_stop(rig *r)
{
    stream_close(r->s);
    r->s = NULL;
    dev_free(r->d, r->ring, r->ring_bytes, DEV_VRAM);
    dev_free(r->d, r->residents, r->residents_bytes, DEV_VRAM);
    dev_close(r->d);
    r->d = NULL;
}

void rig_close(rig *r)
{
    if (r->d)
        rig_stop(r);
    pack_close(r->p);
    pack_fixture_free(&r->f);
}

void rig_resize(rig *r, size_t ring_bytes)
{
    dev_free(r->d, r->ring, r->ring_bytes, DEV_VRAM);
    r->ring_bytes = r->c.ring_bytes = ring_bytes;
    r->c.ring = r->ring = dev_alloc(r->d, ring_bytes, DEV_VRAM);
}

void rig_look(rig *r, int chunk, const void *at)
{
    order_device_read(r->d, at, r->f.plain[chunk], pack_chunk_at(r->p, chunk)->bytes);
}

bool rig_use(rig *r, int first, int end, int inside)
{
    weights *w = stream_weights(r->s);
    const void *at[FIXTURE_CHUNKS];
    for (int c = first; c < end; c += inside) {
        const int n = c + inside <= end ? inside : end - c;
        for (int i = 0; i < n; i++)
            at[i] = w->acquire(w, c + i);
        for (int i = 0; i < n; i++) {
            if (!at[i])
                return false;
            rig_look(r, c + i, at[i]);
        }
        for (int i = 0; i < n; i++)
            w->release(w, c + i);
    }
    return true;
}

bool rig_play(rig *r, int inside)
{
    for (int p = 0; p < r->c.n_passes; p++)
        for (int k = 0; k < r->schedule[p].passes; k++)
            if (!rig_use(r, r->schedule[p].first, r->schedule[p].end, inside))
                return false;
    return true;
}

int rig_uses(const rig *r)
{
    int n = 0;
    for (int p = 0; p < r->c.n_passes; p++)
        n += r->schedule[p].passes * (r->schedule[p].end - r->schedule[p].first);
    return n;
}

void rig_expect_right(rig *r, int runs)
{
    int reads, wrong;
    order_device_finish(r->d, &reads, &wrong);
    cr_assert_eq(reads, runs * rig_uses(r));
    cr_assert_eq(wrong, 0, "%d of %d reads saw other bytes", wrong, reads);
    cr_assert_eq(dev_status(r->d), REFINE_OK, "%s", dev_why(r->d));
}

size_t rig_biggest_group(const rig *r, int inside)
{
    size_t most = 0;
    for (int p = 0; p < r->c.n_passes || p < 4; p++)
        for (int c = r->schedule[p].first; c < r->schedule[p].end; c += inside) {
            size_t sum = 0;
            for (int i = c; i < c + inside && i < r->schedule[p].end; i++)
                sum += stream_span(pack_chunk_at(r->p, i)->bytes);
            most = num_max(most, sum);
        }
    return most;
}

void rig_compare_in_place(rig *r)
{
    weights *w = stream_weights(r->s);
    for (int p = 0; p < r->c.n_passes; p++)
        for (int k = 0; k < r->schedule[p].passes; k++)
            for (int c = r->schedule[p].first; c < r->schedule[p].end; c++) {
                const void *at = w->acquire(w, c);
                cr_assert_not_null(at);
                cr_assert_arr_eq(at, r->f.plain[c], pack_chunk_at(r->p, c)->bytes);
                w->release(w, c);
            }
}

void rig_make_resident(rig *r)
{
    int first, end;
    pack_segment(r->p, UNET, &first, &end);
    for (int i = first; i < end; i += 2)
        r->resident[i] = true;
    pack_segment(r->p, TEXT, &first, &end);
    r->resident[first] = true;
}

void rig_begin_to_play(rig *r, int n)
{
    weights *w = stream_weights(r->s);
    for (int p = 0; p < r->c.n_passes; p++)
        for (int k = 0; k < r->schedule[p].passes; k++)
            for (int c = r->schedule[p].first; c < r->schedule[p].end; c++) {
                if (n-- == 0)
                    return;
                rig_look(r, c, w->acquire(w, c));
                w->release(w, c);
            }
}

void rig_make_cached(rig *r)
{
    for (int i = r->schedule[0].first; i < r->schedule[3].end; i++)
        r->cached[i] = !r->resident[i] && i % 3 != 0;
}

uint64_t rig_stored(const rig *r, const bool *b, stream_pass p)
{
    uint64_t sum = 0;
    for (int i = p.first; i < p.end; i++)
        if (b[i])
            sum += num_align(pack_chunk_at(r->p, i)->stored_bytes, PACK_ALIGN);
    return sum;
}

void rig_flip(rig *r, int c)
{
    const pack_chunk *k = pack_chunk_at(r->p, c);
    const size_t at = (size_t)k->file_at + k->stored_bytes * 2 / 3;
    FILE *f = fopen(r->f.path, "r+b");
    cr_assert_not_null(f);
    cr_assert_eq(fseek(f, (long)at, SEEK_SET), 0);
    fputc(r->f.file[at] ^ 0x10, f);
    cr_assert_eq(fclose(f), 0);
}
