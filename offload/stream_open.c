/* offload/stream_open.c -- what a stream takes and how it gives it back. */
#include "offload/stream_state.h"

#include "engine/base/guard.h"
#include "engine/base/mem.h"
#include "engine/base/try.h"

#include <assert.h>
#include <inttypes.h>

/* ---- sizes ---- */

static bool is_coded(const chunk_list *l)
{
    for (int i = 0; i < n_listed_chunks(l); i++) {
        const pack_chunk *c = chunk_list_at(l, i);
        for (uint32_t k = 0; k < c->n_frames && c->segment != PACK_SEGMENT_TOKENS; k++)
            if (chunk_list_frame(l, i, (int)k)->codec != PACK_RAW)
                return true;
    }
    return false;
}

static size_t plain_part(const chunk_list *l)
{
    return num_align(chunk_list_biggest(l), PACK_ALIGN);
}

/* A zone behind it keeps the next one aligned. */
static size_t slot_bytes(const chunk_list *l, bool guards)
{
    return plain_part(l) + (is_coded(l) ? chunk_list_biggest_stored(l) : 0) +
           num_align(guard_zone(guards), PACK_ALIGN);
}

size_t stream_staging_bytes(const chunk_list *l, int slots, bool guards)
{
    return (size_t)slots * slot_bytes(l, guards);
}

size_t stream_host_bytes(const chunk_list *l, int slots, int workers, bool guards)
{
    const size_t chunks = (size_t)n_listed_chunks(l);
    const size_t each = sizeof(size_t) + sizeof(bool) + sizeof(use_time);
    return stream_staging_bytes(l, slots, guards) + sizeof(stream) + (size_t)slots * sizeof(slot) +
           (size_t)workers * (sizeof(decode_worker) + codec_memory(chunk_list_biggest_split(l))) +
           (chunks + 1) * each + schedule_memory(PASSES, (int)chunks) + reader_memory(DEPTH) +
           (2 * STREAM_IN_FLIGHT_MAX + 1 + QUEUE_CLOCK_MARKS) * EVENT;
}

size_t stream_span(size_t chunk_bytes) { return num_align(chunk_bytes, DEV_ALIGN) + GUARD_ZONE; }

size_t stream_ring_min(const pack *p, size_t inside_bytes)
{
    return ring_min(inside_bytes, stream_span(pack_biggest(p)));
}

/* ---- opening ---- */

static refine_status fail_stream_memory(refine_error *err)
{
    return refine_fail(err, REFINE_ENOMEM, "weights: out of memory; lower --ram, or free some");
}

static refine_status check_config(const stream_config *c, refine_error *err)
{
    assert(c->slots >= 2 && c->workers >= 1);
    for (int i = 0; i < c->n_passes; i++)
        for (int k = c->schedule[i].first; k < c->schedule[i].end; k++) {
            const pack_chunk *chunk = chunk_list_at(&c->chunks, k);
            assert(chunk->segment != PACK_SEGMENT_TOKENS && "the token table does not travel");
            if (stream_span(chunk->bytes) > c->ring_bytes && !(c->resident && c->resident[k]))
                return refine_fail(err, REFINE_EBUDGET,
                                   "a ring of %zu bytes does not hold chunk %d (%" PRIu32
                                   " bytes); give it more, or pack with smaller chunks",
                                   c->ring_bytes, k, chunk->bytes);
        }
    return REFINE_OK;
}

static refine_status open_staging(stream *s, refine_error *err)
{
    const size_t each = slot_bytes(&s->chunks, s->guards);

    s->slots = mem_calloc((size_t)s->n_slots, sizeof *s->slots);
    s->staging = dev_alloc(s->d, s->staging_bytes, DEV_PINNED);
    if (!s->slots || !s->staging)
        return fail_stream_memory(err);
    s->cache = s->staging + stream_staging_bytes(&s->chunks, s->n_slots, s->guards);
    for (int i = 0; i < s->n_slots; i++) {
        s->slots[i].plain = s->staging + (size_t)i * each;
        s->slots[i].coded = s->slots[i].plain + plain_part(&s->chunks);
    }
    stream_lay_zones(s);
    return REFINE_OK;
}

static refine_status open_transfer_slots(stream *s, refine_error *err)
{
    s->compute.epoch = dev_event_open(s->d);
    bool ok = s->compute.epoch != NULL;
    for (int i = 0; i < STREAM_IN_FLIGHT_MAX && ok; i++) {
        s->transfer_slots[i].ready = dev_event_open(s->d);
        s->transfer_slots[i].done = dev_event_open(s->d);
        ok = s->transfer_slots[i].ready && s->transfer_slots[i].done;
    }
    ok = ok && queue_clock_open(&s->compute.clock, s->d, stream_record_stretch, s);
    s->compute.use_began = -1;
    dev_listen(s->d, stream_set_kind, s);
    return ok ? REFINE_OK : fail_stream_memory(err);
}

size_t stream_cached_bytes(const pack_chunk *c)
{
    return num_align(num_max(c->bytes, stream_padded(c)), PACK_ALIGN);
}

/* A pack's residents lie one behind the other in the order of chunks, and so do its cached chunks.
 * Returns the bytes of the latter. */
static size_t place_chunks(stream *s, int k)
{
    size_t at = 0, cached = 0;
    for (int i = s->chunks.first[k]; i < s->chunks.first[k + 1]; i++) {
        assert(!(s->schedule.resident[i] && stream_is_cached(s, i)));
        s->place[i] = stream_is_cached(s, i) ? cached : at;
        if (s->schedule.resident[i])
            at += num_align(stream_chunk(s, i)->bytes, DEV_ALIGN);
        else if (stream_is_cached(s, i))
            cached += stream_cached_bytes(stream_chunk(s, i));
    }
    return cached;
}

/* The cache lies behind the staging; all packs have the same. */
static refine_status find_places(stream *s, refine_error *err)
{
    const size_t n = (size_t)n_listed_chunks(&s->chunks) + 1;
    size_t cached = 0;

    s->place = mem_calloc(n, sizeof *s->place);
    s->shared.kept = mem_calloc(n, sizeof *s->shared.kept);
    s->compute.times = mem_calloc(n, sizeof *s->compute.times);
    if (!s->place || !s->shared.kept || !s->compute.times)
        return fail_stream_memory(err);
    for (int k = 0; k < s->chunks.n_packs; k++)
        cached = num_max(cached, place_chunks(s, k));
    s->staging_bytes = stream_staging_bytes(&s->chunks, s->n_slots, s->guards) + cached;
    return REFINE_OK;
}

_Static_assert((int)PACKS_MAX <= (int)READER_FILES_MAX, "a reader reads all packs of a stream");

static refine_status open_stream_reader(stream *s, const stream_config *c, refine_error *err)
{
    const char *paths[PACKS_MAX];
    for (int k = 0; k < s->chunks.n_packs; k++)
        paths[k] = pack_path(s->chunks.pack[k]);
    const reader_config rc = { .paths = paths,
                               .n_files = s->chunks.n_packs,
                               .buffer = s->staging,
                               .buffer_bytes = s->staging_bytes,
                               .depth = DEPTH,
                               .calls = c->calls };
    return reader_open(&s->io.rd, c->reader, &rc, s->note, err);
}

static bool open_locks(stream *s)
{
    s->has_lock = pthread_mutex_init(&s->lock, NULL) == 0;
    if (!s->has_lock)
        return false;
    while (s->n_conditions < STREAM_THREADS)
        if (pthread_cond_init(&s->changed[s->n_conditions++], NULL) != 0)
            return false;
    return true;
}

static refine_status open_workers(stream *s, int n, refine_error *err)
{
    s->decode.workers = mem_calloc((size_t)n, sizeof *s->decode.workers);
    if (!s->decode.workers)
        return fail_stream_memory(err);
    for (; s->decode.n_workers < n; s->decode.n_workers++) {
        decode_worker *w = &s->decode.workers[s->decode.n_workers];
        w->s = s;
        w->c = codec_open(chunk_list_biggest_split(&s->chunks));
        if (!w->c)
            return fail_stream_memory(err);
    }
    return REFINE_OK;
}

static refine_status start_threads(stream *s, refine_error *err)
{
    bool ok = thread_start(&s->io.t, "refine-io", stream_run_read, s) &&
              thread_start(&s->copy.t, "refine-upload", stream_run_copy, s);
    for (int i = 0; i < s->decode.n_workers && ok; i++)
        ok = thread_start(&s->decode.workers[i].t, "refine-decode", stream_run_decode,
                          &s->decode.workers[i]);
    if (ok)
        return REFINE_OK;
    return refine_fail(err, REFINE_ENOMEM,
                       "weights: cannot start a thread; is the limit on processes reached "
                       "(ulimit -u)?");
}

refine_status stream_open(stream **out, const stream_config *c, refine_error *err)
{
    refine_status st;

    *out = NULL;
    TRY(check_config(c, err));
    stream *s = mem_calloc(1, sizeof *s);
    if (!s)
        return fail_stream_memory(err);
    s->w = (weights){ stream_acquire, stream_release };
    s->d = c->d;
    s->chunks = c->chunks;
    s->ring_base = c->ring;
    s->ring_bytes = c->ring_bytes;
    for (int k = 0; k < PACKS_MAX; k++)
        s->residents[k] = c->residents[k];
    s->cached = c->cached;
    s->t = c->t;
    s->guards = GUARDED || c->guards;
    s->io.pace.rate = c->disk_limit;
    s->copy.pace.rate = c->copy_limit;
    s->compute.inside = -1;
    s->n_slots = c->slots;
    st = open_locks(s) && schedule_open(&s->schedule, c->schedule, c->n_passes, c->resident,
                                        n_listed_chunks(&c->chunks))
             ? REFINE_OK
             : fail_stream_memory(err);
    if (st != REFINE_OK)
        goto fail;
    TRY_OR(fail, find_places(s, err));
    TRY_OR(fail, open_staging(s, err));
    TRY_OR(fail, open_transfer_slots(s, err));
    TRY_OR(fail, open_stream_reader(s, c, err));
    TRY_OR(fail, open_workers(s, c->workers, err));
    stream_reset(s);
    TRY_OR(fail, start_threads(s, err));
    *out = s;
    return REFINE_OK;

fail:
    stream_close(s);
    return st;
}

/* ---- closing ---- */

static void stop_threads(stream *s)
{
    if (s->has_lock) {
        pthread_mutex_lock(&s->lock);
        s->shared.stop = true;
        for (int i = 0; i < s->n_conditions; i++)
            stream_signal(s, i);
        pthread_mutex_unlock(&s->lock);
    }
    thread_join(&s->io.t);
    for (int i = 0; i < s->decode.n_workers; i++)
        thread_join(&s->decode.workers[i].t);
    thread_join(&s->copy.t);
}

/* The copy thread has waited for its copies before it ended, and closing the reader waits for
 * its reads: after both nobody touches the staging any more. */
void stream_close(stream *s)
{
    if (!s)
        return;
    stop_threads(s);
    dev_listen(s->d, NULL, NULL);
    if (s->io.rd)
        s->io.rd->close(s->io.rd);
    for (int i = 0; i < s->decode.n_workers; i++)
        codec_close(s->decode.workers[i].c);
    mem_free(s->decode.workers);
    for (int i = 0; i < STREAM_IN_FLIGHT_MAX; i++) {
        dev_event_close(s->d, s->transfer_slots[i].ready);
        dev_event_close(s->d, s->transfer_slots[i].done);
    }
    queue_clock_close(&s->compute.clock);
    dev_event_close(s->d, s->compute.epoch);
    stream_lift_zones(s);
    dev_free(s->d, s->staging, s->staging_bytes, DEV_PINNED);
    mem_free(s->slots);
    mem_free(s->place);
    mem_free(s->shared.kept);
    mem_free(s->compute.times);
    schedule_close(&s->schedule);
    for (int i = 0; i < s->n_conditions; i++)
        pthread_cond_destroy(&s->changed[i]);
    if (s->has_lock)
        pthread_mutex_destroy(&s->lock);
    mem_free(s);
}
