/* tests/property/test_streams.c -- every weight of any run, whatever it goes through.
 *
 * A case is a pack, or two, of chunks of any size and codec, a schedule, a ring from the smallest
 * on, slots, workers, residents, cached chunks, a reader, and a device that runs its queues as
 * early or as late as its contract allows (tests/support/order_device.h).
 *
 *   - Every chunk is there when compute comes to it, and no byte travels twice.
 *   - Whatever fails ends in one status with a text, and the stream then stays failed.
 *   - Either way nothing is left behind: no memory, no event, no thread.
 */
#define _POSIX_C_SOURCE 200809L
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "tests/property/property.h"
#include "tests/support/stream_rig.h"
#include "tests/support/trouble.h"

#include <unistd.h>

enum { MOST_TENSORS = 24, MOST_BYTES = 6 << 20 };

static const char *const CODECS[] = { "raw", "zstd", "split", "mixed" };
static const char *const ORDERS[] = { "eager", "copies first", "compute first", "late", "random" };

/* ---- what is drawn ---- */

typedef struct made {
    char letter; /* of its names */
    fixture_tensor t[MOST_TENSORS];
    char name[MOST_TENSORS][16];
    int n;
    size_t bytes;
} made;

static void draw_fixture_tensor(draws *d, made *m, int segment)
{
    const bool vector = segment == 0;
    fixture_tensor t = { .segment = segment, .dtype = vector ? DT_F32 : DT_F16, .kh = 1, .kw = 1 };
    t.kh = t.kw = !vector && draw_once_in(d, 3) ? 3 : 1;
    t.rows = vector ? 1 : draw_scale(d, 1, 1500);
    t.c_in = draw_scale(d, 1, 2000);
    if (!vector && draw_once_in(d, 2))
        t.chunk_rows = tile_rows(t.kh, t.kw) * draw_integer(d, 1, 3);
    while (m->bytes + (size_t)t.rows * (size_t)(t.kh * t.kw * t.c_in) * 4 > MOST_BYTES &&
           t.c_in > 1)
        t.c_in /= 2;
    (void)snprintf(m->name[m->n], sizeof m->name[0], "%c%d", m->letter, m->n);
    t.name = m->name[m->n];
    m->bytes += (size_t)t.rows * (size_t)(t.kh * t.kw * t.c_in) * 4;
    m->t[m->n++] = t;
}

static void draw_tensors(draws *d, made *m)
{
    static const int SEGMENTS[] = { 0, TEXT, UNET, VAE, 6 }, MOST[] = { 2, 3, 8, 3, 1 };
    for (int s = 0; s < 5; s++)
        for (int n = draw_integer(d, SEGMENTS[s] == UNET, MOST[s]); n > 0; n--)
            draw_fixture_tensor(d, m, SEGMENTS[s]);
}

/* A run, its stream not yet open. */
typedef struct course {
    rig r;
    made m, m2; /* the second pack's: empty where there is none */
    trouble t;
    reader_calls calls;
    int inside, runs, before; /* chunks at once; whole runs; uses of one that is broken off */
    fixture_codec codec, codec2;
    order order;
    uint64_t heap;
    char text[512];
} course;

static void draw_places(draws *d, course *c)
{
    rig *r = &c->r;
    const bool residents = draw_once_in(d, 2), cached = draw_once_in(d, 2);
    for (int k = 0; k < r->c.chunks.n_packs; k++)
        for (int i = r->schedule[k * RIG_PASSES].first; i < r->c.chunks.first[k + 1]; i++) {
            r->resident[i] = residents && draw_once_in(d, 3);
            r->cached[i] = cached && !r->resident[i] && draw_once_in(d, 3);
        }
}

static void draw_packs(draws *d, course *c)
{
    c->m.letter = 't';
    draw_tensors(d, &c->m);
    c->codec = (fixture_codec)draw_below(d, FIXTURE_MIXED + 1);
    rig_open_pack_of(&c->r, c->m.t, c->m.n, c->codec);
    if (!draw_once_in(d, 2))
        return;
    c->m2.letter = 's';
    draw_tensors(d, &c->m2);
    c->codec2 = (fixture_codec)draw_below(d, FIXTURE_MIXED + 1);
    rig_open_second_pack_of(&c->r, c->m2.t, c->m2.n, c->codec2);
}

static size_t least_ring_of(const rig *r, int inside)
{
    const size_t group = rig_biggest_group(r, inside), first = stream_ring_min(r->p, group);
    return r->p2 ? num_max(first, stream_ring_min(r->p2, group)) : first;
}

static void draw_course(draws *d, course *c)
{
    rig *r = &c->r;
    draw_packs(d, c);
    c->order = (order)draw_below(d, N_ORDERS);
    rig_configure(r, dev_open_order(c->order, (unsigned)draw_integer(d, 0, 1000)), 256);
    for (int i = 0; i < r->c.n_passes; i++)
        r->schedule[i].passes = draw_integer(d, 1, 4);
    draw_places(d, c);
    c->inside = draw_integer(d, 1, 6);
    rig_resize(r, least_ring_of(r, c->inside) +
                      (draw_once_in(d, 2) ? 256 * (size_t)draw_scale(d, 1, 1 << 14) : 0));
    r->c.slots = draw_integer(d, 2, 9);
    r->c.workers = draw_integer(d, 1, 4);
    r->c.reader = draw_integer(d, 0, 1) ? READER_PREAD : READER_AUTO;
    c->t = (trouble){ .at = -1,
                      .kind = (trouble_kind)draw_integer(d, TROUBLE_NONE, TROUBLE_INTERRUPTED) };
    c->calls = trouble_calls(&c->t);
    r->c.calls = &c->calls;
    c->runs = draw_integer(d, 1, 3);
    c->before = draw_once_in(d, 3) ? draw_integer(d, 0, rig_uses(r)) : -1;
    (void)snprintf(
        c->text, sizeof c->text,
        "%d tensors, %d chunks, %s, %s; passes %d %d %d; %d inside, ring %zu, %d slots, %d "
        "workers, reader %d, reads %d; %d runs, %d visits before; behind it %d tensors, %s",
        c->m.n, n_pack_chunks(r->p), CODECS[c->codec], ORDERS[c->order], r->schedule[0].passes,
        r->schedule[2].passes, r->schedule[3].passes, c->inside, r->ring_bytes, r->c.slots,
        r->c.workers, r->c.reader, c->t.kind, c->runs, c->before, c->m2.n, CODECS[c->codec2]);
    c->heap = mem_used().now;
}

/* ---- what must hold ---- */

/* Bytes that so many whole runs bring to the device.  Residents of two packs do not stay. */
static uint64_t bytes_to_copy(const course *c)
{
    uint64_t sum = 0;
    for (int p = 0; p < c->r.c.n_passes; p++)
        for (int i = c->r.schedule[p].first; i < c->r.schedule[p].end; i++)
            sum += (uint64_t)rig_chunk(&c->r, i)->bytes *
                   (uint64_t)(c->r.resident[i] ? (c->r.p2 ? c->runs : 1)
                                               : c->runs * c->r.schedule[p].passes);
    return sum;
}

static void expect_nothing_left(draws *d, course *c)
{
    if (c->r.s) {
        stream_close(c->r.s);
        c->r.s = NULL;
    }
    if (order_device_live(c->r.d) != 2)
        fail_case(d, "%d things of the device are left, not the ring and the residents",
                  order_device_live(c->r.d));
    if (mem_used().now != c->heap)
        fail_case(d, "%lld bytes of the heap are left", (long long)(mem_used().now - c->heap));
    rig_close(&c->r);
}

static bool play_course(course *c)
{
    if (c->before >= 0) {
        rig_begin_to_play(&c->r, c->before);
        if (stream_restart(c->r.s) != REFINE_OK)
            return false;
    }
    for (int run = 0; run < c->runs; run++) {
        if (!rig_play(&c->r, c->inside))
            return false;
        if (run < c->runs - 1 && stream_restart(c->r.s) != REFINE_OK)
            return false;
    }
    return true;
}

static void expect_right(draws *d, course *c)
{
    int reads, wrongs;
    const stream_stats s = stream_get_stats(c->r.s);
    order_device_finish(c->r.d, &reads, &wrongs);
    if (wrongs > 0)
        fail_case(d, "%d of %d visits saw other bytes", wrongs, reads);
    if (reads != c->runs * rig_uses(&c->r) + (c->before > 0 ? c->before : 0))
        fail_case(d, "%d visits", reads);
    if (c->before < 0 && s.copied_bytes != bytes_to_copy(c))
        fail_case(d, "%llu bytes were copied, not %llu", (unsigned long long)s.copied_bytes,
                  (unsigned long long)bytes_to_copy(c));
}

Property(any_stream_brings_every_byte_once_and_in_order)
{
    static course c;
    draw_course(d, &c);
    describe_case(d, "%s", c.text);
    rig_open_stream(&c.r);
    if (play_course(&c))
        expect_right(d, &c);
    else
        fail_case(d, "ends with %d: %s", dev_status(c.r.d), dev_why(c.r.d));
    expect_nothing_left(d, &c);
}

/* ---- failures ---- */

typedef enum failure {
    A_READ_FAILS,
    THE_FILE_ENDS,
    A_SUBMISSION_FAILS,
    A_BIT_FLIPS,
    THE_FILE_IS_CUT,
    NO_MEMORY,
    NO_DEVICE_MEMORY,
    THE_DEVICE_FAILS,
    N_FAILURES
} failure;

static const char *const FAILURES[] = { "a read fails",     "the file ends",   "a submission fails",
                                        "a bit flips",      "the file is cut", "no memory",
                                        "no device memory", "the device fails" };

/* One of the chunks that travel: that many behind the first. */
static int any_streamed(const rig *r, int at)
{
    int n = 0;
    for (int p = 0; p < r->c.n_passes; p++)
        n += r->schedule[p].end - r->schedule[p].first;
    at %= n;
    for (int p = 0;; p++) {
        const int of_pass = r->schedule[p].end - r->schedule[p].first;
        if (at < of_pass)
            return r->schedule[p].first + at;
        at -= of_pass;
    }
}

static void cut_file(const rig *r, int chunk)
{
    const char *path = pack_path(r->c.chunks.pack[chunk_list_pack(&r->c.chunks, chunk)]);
    cr_assert_eq(truncate(path, (off_t)rig_chunk(r, chunk)->file_at), 0);
}

/* Makes it fail; `at`: when or where. */
static void bring_about(course *c, failure f, int at)
{
    rig *r = &c->r;
    if (f == A_READ_FAILS || f == THE_FILE_ENDS || f == A_SUBMISSION_FAILS) {
        c->t.kind = f == A_READ_FAILS    ? TROUBLE_FAILS
                    : f == THE_FILE_ENDS ? TROUBLE_ENDS
                                         : TROUBLE_SUBMITS;
        c->t.at = at;
    }
    if (f == A_BIT_FLIPS)
        rig_flip(r, any_streamed(r, at));
    if (f == THE_FILE_IS_CUT)
        cut_file(r, any_streamed(r, at));
    if (f == NO_MEMORY)
        mem_fail_after(at % 40, MEM_FAIL_ONCE);
    if (f == NO_DEVICE_MEMORY)
        order_device_fail_after(r->d, at % 20);
    if (f == THE_DEVICE_FAILS && at % 2)
        dev_fail(r->d, REFINE_EDEVICE, "pulled out");
}

static bool is_expected(failure f, refine_status st)
{
    switch (f) {
    case A_READ_FAILS:
    case THE_FILE_ENDS:
    case A_SUBMISSION_FAILS:
    case THE_FILE_IS_CUT: return st == REFINE_EIO;
    case A_BIT_FLIPS: return st == REFINE_EFORMAT;
    case NO_MEMORY:
    case NO_DEVICE_MEMORY: return st == REFINE_ENOMEM;
    default: return st == REFINE_EDEVICE;
    }
}

/* The device fails while the stream is open, or before. */
static refine_status run_into(course *c, failure f, int at)
{
    rig *r = &c->r;
    const refine_status st = stream_open(&r->s, &r->c, &r->err);
    mem_fail_after(-1, MEM_FAIL_ONCE);
    order_device_fail_after(r->d, -1);
    if (st != REFINE_OK)
        return r->err.text[0] ? st : REFINE_EINVAL;
    if (f == THE_DEVICE_FAILS && at % 2 == 0) {
        rig_begin_to_play(r, at % (rig_uses(r) + 1));
        dev_fail(r->d, REFINE_EDEVICE, "pulled out");
    }
    return play_course(c) ? REFINE_OK : dev_status(r->d);
}

static void expect_failed_for_good(draws *d, course *c, failure f, refine_status st)
{
    if (!is_expected(f, st))
        fail_case(d, "ends with %d: %s%s", st, c->r.err.text, dev_why(c->r.d));
    if (!c->r.s)
        return;
    if (!dev_why(c->r.d)[0])
        fail_case(d, "fails without a word");
    if (stream_restart(c->r.s) != st)
        fail_case(d, "restarts after it has failed");
}

Property(any_failure_of_a_stream_ends_in_one_status)
{
    static course c;
    const failure f = (failure)draw_below(d, N_FAILURES);
    const int at = draw_scale(d, 1, 400) - 1;
    draw_course(d, &c);
    describe_case(d, "%s at %d: %s", FAILURES[f], at, c.text);
    bring_about(&c, f, at);
    const refine_status st = run_into(&c, f, at);
    if (st != REFINE_OK)
        expect_failed_for_good(d, &c, f, st);
    else if (f == A_BIT_FLIPS || f == THE_FILE_IS_CUT || f == THE_DEVICE_FAILS)
        fail_case(d, "does not fail");
    else
        expect_right(d, &c);
    expect_nothing_left(d, &c);
}
