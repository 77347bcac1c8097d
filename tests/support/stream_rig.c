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

/* Of other sizes, and as many as to have residents and cached chunks elsewhere. */
static const fixture_tensor SECOND_TENSORS[] = {
    { "norm2", 0, DT_F32, 1, 1, 1, 130, 0 },       { "text2.a", 1, DT_F16, 128, 1, 1, 90, 0 },
    { "text2.b", 1, DT_F16, 64, 1, 1, 333, 0 },    { "text2.c", 1, DT_F16, 9, 1, 1, 20, 0 },
    { "unet2.a", 4, DT_F16, 256, 1, 1, 900, 128 }, { "unet2.b", 4, DT_F16, 64, 3, 3, 40, 0 },
    { "unet2.c", 4, DT_F16, 384, 1, 1, 350, 128 }, { "vae2.a", 5, DT_F16, 128, 3, 3, 50, 64 },
    { "vae2.b", 5, DT_F16, 70, 1, 1, 30, 0 },      { "tokens2", 6, DT_F16, 100, 1, 1, 32, 0 },
};

enum {
    N_TENSORS = sizeof TENSORS / sizeof TENSORS[0],
    N_SECOND_TENSORS = sizeof SECOND_TENSORS / sizeof SECOND_TENSORS[0]
};

static void open_fixture(rig *r, pack_fixture *f, pack **p, const fixture_tensor *t, int n,
                         fixture_codec codec)
{
    pack_fixture_make(f, t, n, codec, NULL);
    pack_fixture_write(f);
    cr_assert_eq(pack_open(p, f->path, &r->err), REFINE_OK, "%s", r->err.text);
}

void rig_open_pack_of(rig *r, const fixture_tensor *t, int n, fixture_codec codec)
{
    memset(r, 0, sizeof *r);
    open_fixture(r, &r->f, &r->p, t, n, codec);
}

void rig_open_pack(rig *r, fixture_codec codec) { rig_open_pack_of(r, TENSORS, N_TENSORS, codec); }

void rig_open_second_pack_of(rig *r, const fixture_tensor *t, int n, fixture_codec codec)
{
    open_fixture(r, &r->f2, &r->p2, t, n, codec);
}

void rig_open_second_pack(rig *r, fixture_codec codec)
{
    rig_open_second_pack_of(r, SECOND_TENSORS, N_SECOND_TENSORS, codec);
}

/* ---- chunks by their numbers ---- */

static bool is_of_second(const rig *r, int chunk)
{
    return chunk_list_pack(&r->c.chunks, chunk) > 0;
}

static int number_in_pack(const rig *r, int chunk)
{
    return chunk - r->c.chunks.first[chunk_list_pack(&r->c.chunks, chunk)];
}

const pack_chunk *rig_chunk(const rig *r, int chunk) { return chunk_list_at(&r->c.chunks, chunk); }

const uint8_t *rig_plain(const rig *r, int chunk)
{
    return (is_of_second(r, chunk) ? &r->f2 : &r->f)->plain[number_in_pack(r, chunk)];
}

void rig_enter(rig *r, int chunk) { stream_enter_pack(r->s, chunk_list_pack(&r->c.chunks, chunk)); }

const void *rig_acquire(rig *r, int chunk)
{
    weights *w = stream_weights(r->s);
    return w->acquire(w, number_in_pack(r, chunk));
}

void rig_release(rig *r, int chunk)
{
    weights *w = stream_weights(r->s);
    w->release(w, number_in_pack(r, chunk));
}

/* ---- the stream ---- */

stream_pass rig_pass(const rig *r, int segment, int passes)
{
    stream_pass s = { .passes = passes };
    pack_segment(r->p, segment, &s.first, &s.end);
    return s;
}

/* Room for all of a pack. */
static size_t all_resident(const pack *p)
{
    size_t sum = 256;
    for (int i = 0; i < n_pack_chunks(p); i++)
        sum += num_align(pack_chunk_at(p, i)->bytes, 256);
    return sum;
}

static void schedule_pack(stream_pass to[RIG_PASSES], const pack *p, int first)
{
    static const int SEGMENTS[] = { TEXT, 2, UNET, VAE }, PASSES[] = { 1, 1, STEPS, 1 };
    for (int i = 0; i < RIG_PASSES; i++) {
        to[i].passes = PASSES[i];
        pack_segment(p, SEGMENTS[i], &to[i].first, &to[i].end);
        to[i].first += first;
        to[i].end += first;
    }
}

void rig_configure(rig *r, dev *d, size_t ring_bytes)
{
    const pack *const packs[] = { r->p, r->p2 };
    const chunk_list l = chunk_list_make(packs, r->p2 ? 2 : 1);
    r->d = d;
    memset(r->resident, 0, sizeof r->resident);
    memset(r->cached, 0, sizeof r->cached);
    memset(r->schedule, 0, sizeof r->schedule);
    r->ring_bytes = num_align(ring_bytes, 256);
    r->residents_bytes = 0;
    for (int k = 0; k < l.n_packs; k++) {
        schedule_pack(r->schedule + k * RIG_PASSES, packs[k], l.first[k]);
        r->residents_bytes = num_max(r->residents_bytes, all_resident(packs[k]));
    }
    r->ring = dev_alloc(d, r->ring_bytes, DEV_VRAM);
    r->residents = dev_alloc(d, r->residents_bytes, DEV_VRAM);
    cr_assert(r->ring && r->residents);
    r->c = (stream_config){ .d = d,
                            .chunks = l,
                            .ring = r->ring,
                            .ring_bytes = r->ring_bytes,
                            .residents = { r->residents, r->residents },
                            .resident = r->resident,
                            .cached = r->cached,
                            .schedule = r->schedule,
                            .n_passes = l.n_packs * RIG_PASSES,
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
    pack_close(r->p2);
    pack_fixture_free(&r->f);
    pack_fixture_free(&r->f2);
}

void rig_resize(rig *r, size_t ring_bytes)
{
    dev_free(r->d, r->ring, r->ring_bytes, DEV_VRAM);
    r->ring_bytes = r->c.ring_bytes = ring_bytes;
    r->c.ring = r->ring = dev_alloc(r->d, ring_bytes, DEV_VRAM);
}

void rig_look(rig *r, int chunk, const void *at)
{
    order_device_read(r->d, at, rig_plain(r, chunk), rig_chunk(r, chunk)->bytes);
}

bool rig_use(rig *r, int first, int end, int inside)
{
    const void *at[FIXTURE_CHUNKS];
    if (first < end)
        rig_enter(r, first);
    for (int c = first; c < end; c += inside) {
        const int n = c + inside <= end ? inside : end - c;
        for (int i = 0; i < n; i++)
            at[i] = rig_acquire(r, c + i);
        for (int i = 0; i < n; i++) {
            if (!at[i])
                return false;
            rig_look(r, c + i, at[i]);
        }
        for (int i = 0; i < n; i++)
            rig_release(r, c + i);
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
    for (int p = 0; p < r->c.n_passes; p++)
        for (int c = r->schedule[p].first; c < r->schedule[p].end; c += inside) {
            size_t sum = 0;
            for (int i = c; i < c + inside && i < r->schedule[p].end; i++)
                sum += stream_span(rig_chunk(r, i)->bytes);
            most = num_max(most, sum);
        }
    return most;
}

void rig_compare_in_place(rig *r)
{
    for (int p = 0; p < r->c.n_passes; p++)
        for (int k = 0; k < r->schedule[p].passes; k++)
            for (int c = r->schedule[p].first; c < r->schedule[p].end; c++) {
                rig_enter(r, c);
                const void *at = rig_acquire(r, c);
                cr_assert_not_null(at);
                cr_assert_arr_eq(at, rig_plain(r, c), rig_chunk(r, c)->bytes);
                rig_release(r, c);
            }
}

void rig_make_resident(rig *r)
{
    for (int p = 0; p < r->c.n_passes; p += RIG_PASSES) {
        const stream_pass text = r->schedule[p], unet = r->schedule[p + 2];
        for (int i = unet.first; i < unet.end; i += 2)
            r->resident[i] = true;
        r->resident[text.first] = true;
    }
}

void rig_begin_to_play(rig *r, int n)
{
    for (int p = 0; p < r->c.n_passes; p++)
        for (int k = 0; k < r->schedule[p].passes; k++)
            for (int c = r->schedule[p].first; c < r->schedule[p].end; c++) {
                if (n-- == 0)
                    return;
                rig_enter(r, c);
                rig_look(r, c, rig_acquire(r, c));
                rig_release(r, c);
            }
}

void rig_expect_restart(rig *r, int n)
{
    int reads, wrong;
    rig_begin_to_play(r, n);
    cr_assert_eq(stream_restart(r->s), REFINE_OK);
    cr_assert(rig_play(r, 1), "%s", dev_why(r->d));
    order_device_finish(r->d, &reads, &wrong);
    cr_assert_eq(reads, n + rig_uses(r));
    cr_assert_eq(wrong, 0, "restarted after %d uses", n);
}

void rig_make_cached(rig *r)
{
    for (int p = 0; p < r->c.n_passes; p++)
        for (int i = r->schedule[p].first; i < r->schedule[p].end; i++)
            r->cached[i] = !r->resident[i] && i % 3 != 0;
}

uint64_t rig_stored(const rig *r, const bool *b, stream_pass p)
{
    uint64_t sum = 0;
    for (int i = p.first; i < p.end; i++)
        if (b[i])
            sum += num_align(rig_chunk(r, i)->stored_bytes, PACK_ALIGN);
    return sum;
}

void rig_flip(rig *r, int c)
{
    const pack_fixture *of = is_of_second(r, c) ? &r->f2 : &r->f;
    const pack_chunk *k = rig_chunk(r, c);
    const size_t at = (size_t)k->file_at + k->stored_bytes * 2 / 3;
    FILE *f = fopen(of->path, "r+b");
    cr_assert_not_null(f);
    cr_assert_eq(fseek(f, (long)at, SEEK_SET), 0);
    fputc(of->file[at] ^ 0x10, f);
    cr_assert_eq(fclose(f), 0);
}
