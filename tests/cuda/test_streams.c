/* tests/cuda/test_streams.c -- the stream of weights onto the CUDA device, whatever the order in
 * which its two streams advance; and that each wait of the device is needed.
 *
 * A card that compares every chunk where it lies, in the order of the compute stream, is emulated
 * (tests/support/cuda/emulation.h).  A wait is left out by the card, not by the program: that of
 * the copy stream for compute, of the compute stream for copies, of the copy thread for its
 * copies, which are invariants (5), (7) and (1) of offload/stream.c.
 */
#include "kernels/cuda/cuda.h"
#include "tests/cuda/streams_kernels.h"
#include "tests/support/cuda/emulation.h"
#include "tests/support/own_process.h"
#include "tests/support/stream_rig.h"

#include <criterion/criterion.h>

enum { SEEDS = 30, SECONDS = 60 };

static void cuda_streams_teardown(void) { (void)emulation_reset(); }

TestSuite(cuda_streams, .fini = cuda_streams_teardown, .timeout = 600);

/* What the chunks are to be is on the card too. */
typedef struct stream_bench {
    rig r;
    void *want[FIXTURE_CHUNKS];
    unsigned *wrong;
} stream_bench;

static void open_streams_bench(stream_bench *b, bool residents)
{
    const dev_options o = { .compute = DT_F32 };
    const unsigned none = 0;
    rig *r = &b->r;
    dev *d = dev_open_cuda(&o, 0, &r->err);
    cr_assert(d, "%s", r->err.text);
    rig_configure(r, d, 256);
    rig_resize(r, stream_ring_min(r->p, rig_biggest_group(r, 2)));
    if (residents)
        rig_make_resident(r);
    for (int c = 0; c < n_pack_chunks(r->p); c++) {
        const size_t bytes = pack_chunk_at(r->p, c)->bytes;
        b->want[c] = dev_alloc(d, bytes, DEV_VRAM);
        cr_assert(b->want[c]);
        dev_put(d, b->want[c], r->f.plain[c], bytes);
    }
    b->wrong = dev_alloc(d, sizeof *b->wrong, DEV_VRAM);
    cr_assert(b->wrong);
    dev_put(d, b->wrong, &none, sizeof none);
}

static void close_streams_bench(stream_bench *b)
{
    for (int c = 0; c < n_pack_chunks(b->r.p); c++)
        dev_free(b->r.d, b->want[c], pack_chunk_at(b->r.p, c)->bytes, DEV_VRAM);
    dev_free(b->r.d, b->wrong, sizeof *b->wrong, DEV_VRAM);
    rig_stop(&b->r);
}

/* Enters up to two chunks, looks at them, leaves them. */
static bool use_chunk_pairs(stream_bench *b, int first, int end)
{
    weights *w = stream_weights(b->r.s);
    const cudaStream_t s = cuda_of(b->r.d)->stream[DEV_COMPUTE];
    for (int c = first; c < end; c += 2) {
        const int n = c + 2 <= end ? 2 : 1;
        const void *at[2] = { NULL };
        for (int i = 0; i < n; i++) {
            at[i] = w->acquire(w, c + i);
            if (!at[i])
                return false;
        }
        for (int i = 0; i < n; i++)
            (void)weights_compare(s, b->wrong, at[i], b->want[c + i],
                                  pack_chunk_at(b->r.p, c + i)->bytes);
        for (int i = 0; i < n; i++)
            w->release(w, c + i);
    }
    return true;
}

/* The whole script, twice. */
static bool use_schedule_twice(stream_bench *b)
{
    for (int run = 0; run < 2; run++) {
        if (run > 0 && stream_restart(b->r.s) != REFINE_OK)
            return false;
        for (int p = 0; p < b->r.c.n_passes; p++)
            for (int k = 0; k < b->r.schedule[p].passes; k++)
                if (!use_chunk_pairs(b, b->r.schedule[p].first, b->r.schedule[p].end))
                    return false;
    }
    return true;
}

/* Whether every chunk was right when compute came to it. */
static bool are_stream_chunks_right(stream_bench *b, emulation_schedule under, uint32_t seed,
                                    emulation_omission without, bool residents)
{
    unsigned wrong = 1;
    open_streams_bench(b, residents);
    emulation_set_schedule(under, seed);
    emulation_ignore(without);
    rig_open_stream(&b->r);
    const bool played = use_schedule_twice(b);
    dev_get(b->r.d, &wrong, b->wrong, sizeof wrong);
    const bool right = played && wrong == 0 && dev_status(b->r.d) == REFINE_OK;
    if (without == EMULATION_NOTHING) {
        close_streams_bench(b);
        cr_expect_eq(emulation_live(), 0);
    }
    return right;
}

Test(cuda_streams, every_chunk_is_there_when_compute_comes_under_every_schedule)
{
    stream_bench b;
    rig_open_pack(&b.r, FIXTURE_MIXED);
    for (int s = 0; s < EMULATION_SCHEDULES; s++)
        for (uint32_t seed = 0; seed < (s == EMULATION_BY_CHANCE ? SEEDS : SEEDS / 5); seed++)
            cr_expect(are_stream_chunks_right(&b, (emulation_schedule)s, seed, EMULATION_NOTHING,
                                              seed % 2 == 1),
                      "schedule %d, seed %u", s, seed);
    rig_close(&b.r);
}

/* Streams that go without a wait. */
typedef struct wait_loss {
    stream_bench *b;
    emulation_schedule schedule;
    uint32_t seed;
    emulation_omission without;
} wait_loss;

static bool goes_wrong(const void *context)
{
    const wait_loss *l = context;
    return !are_stream_chunks_right(l->b, l->schedule, l->seed, l->without, l->seed % 2 == 1);
}

static bool is_found(stream_bench *b, emulation_schedule under, uint32_t seed,
                     emulation_omission without)
{
    const wait_loss l = { b, under, seed, without };
    return own_process_fails(goes_wrong, &l, SECONDS);
}

static void expect_omission_found(emulation_omission without, emulation_schedule made_for)
{
    stream_bench b;
    bool by_chance = false;
    rig_open_pack(&b.r, FIXTURE_MIXED);
    cr_expect_not(is_found(&b, made_for, 0, EMULATION_NOTHING));
    for (uint32_t seed = 0; seed < SEEDS; seed++) {
        cr_expect(is_found(&b, made_for, seed, without), "seed %u", seed);
        by_chance = by_chance || is_found(&b, EMULATION_BY_CHANCE, seed, without);
    }
    cr_expect(by_chance);
    rig_close(&b.r);
}

Test(cuda_streams, copies_that_do_not_wait_for_compute_are_found)
{
    expect_omission_found(EMULATION_COPY_WAITS, EMULATION_COPY_FIRST);
}

Test(cuda_streams, compute_that_does_not_wait_for_copies_is_found)
{
    expect_omission_found(EMULATION_COMPUTE_WAITS, EMULATION_COMPUTE_FIRST);
}

Test(cuda_streams, staging_that_is_overwritten_too_early_is_found)
{
    expect_omission_found(EMULATION_HOST_WAITS, EMULATION_LAZY);
}
