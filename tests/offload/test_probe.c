/* tests/offload/test_probe.c -- rates are measured or 0, and nothing is left behind. */
#define _GNU_SOURCE
#include "offload/probe.h"

#include "engine/base/mem.h"
#include "offload/reader.h"
#include "tests/support/pack_fixture.h"

#include <criterion/criterion.h>
#include <unistd.h>

enum { UNET = 4, READERS = 3 };

static const double LEAST = 1e6, MOST = 1e13; /* bytes a second */

/* Some requests' worth, in chunks of several frames. */
static const fixture_tensor TENSORS[] = {
    { "a", UNET, DT_F16, 512, 1, 1, 512, 0 },
    { "b", UNET, DT_F16, 1024, 1, 1, 1024, 256 },
    { "c", UNET, DT_F16, 512, 1, 1, 2048, 0 },
};

typedef struct probe_rig {
    pack_fixture f;
    pack *p;
    dev *d;
    int first, end;
} probe_rig;

/* Its threads run, and have given back what starting them took. */
static void settle_probe_device(dev *d)
{
    dev_event *e = dev_event_open(d);
    dev_record(d, e, DEV_COPY);
    dev_sync(d, e);
    dev_event_close(d, e);
}

static void open_probe_rig(probe_rig *r, fixture_codec codec, bool cpu)
{
    const dev_options o = { .compute = DT_F32, .threads = 1 };
    refine_error err = { 0 };
    *r = (probe_rig){ 0 };
    pack_fixture_make(&r->f, TENSORS, sizeof TENSORS / sizeof TENSORS[0], codec, NULL);
    pack_fixture_write(&r->f);
    cr_assert_eq(pack_open(&r->p, r->f.path, &err), REFINE_OK, "%s", err.text);
    r->d = cpu ? dev_open_cpu(&o, &err) : dev_open_ref(&o, &err);
    cr_assert_not_null(r->d, "%s", err.text);
    settle_probe_device(r->d);
    pack_segment(r->p, UNET, &r->first, &r->end);
}

static void close_probe_rig(probe_rig *r)
{
    dev_close(r->d);
    pack_close(r->p);
    pack_fixture_free(&r->f);
}

static probe_rates probe_rig_rates(probe_rig *r, reader_kind kind)
{
    return probe_transfers(r->d, r->p, r->first, r->end, kind, PROBE_REQUEST);
}

static const size_t REQUESTS[] = { PROBE_REQUEST, PROBE_SMALL_REQUEST };

static bool is_plausible_rate(double rate) { return rate >= LEAST && rate <= MOST; }

/* io_uring, asked for by name, may not be allowed here. */
static bool has_uring(probe_rig *r)
{
    reader *rd = NULL;
    static char buffer[4096] __attribute__((aligned(4096)));
    const char *const path = r->f.path;
    const reader_config c = {
        .paths = &path, .n_files = 1, .buffer = buffer, .buffer_bytes = sizeof buffer, .depth = 1
    };
    const bool has = reader_open(&rd, READER_URING, &c, NULL, NULL) == REFINE_OK;
    if (has)
        rd->close(rd);
    return has;
}

Test(offload_probe, rates_are_positive_and_plausible)
{
    for (int codec = FIXTURE_RAW; codec <= FIXTURE_MIXED; codec++)
        for (int cpu = 0; cpu < 2; cpu++) {
            probe_rig r;
            open_probe_rig(&r, (fixture_codec)codec, cpu);
            for (int kind = 0; kind < READERS; kind++) {
                const probe_rates p = probe_rig_rates(&r, kind);
                const bool reads = kind != READER_URING || has_uring(&r);
                cr_assert(is_plausible_rate(p.copy), "%g", p.copy);
                cr_assert(reads ? is_plausible_rate(p.disk) : p.disk == 0, "%g", p.disk);
                cr_assert(reads ? is_plausible_rate(p.decode) : p.decode == 0, "%g", p.decode);
                cr_assert_eq(dev_status(r.d), REFINE_OK);
            }
            close_probe_rig(&r);
        }
}

Test(offload_probe, a_small_probe_measures_them_too)
{
    for (int codec = FIXTURE_RAW; codec <= FIXTURE_MIXED; codec++) {
        probe_rig r;
        open_probe_rig(&r, (fixture_codec)codec, true);
        const probe_rates p = probe_transfers(r.d, r.p, r.first, r.end, 0, PROBE_SMALL_REQUEST);
        cr_assert(is_plausible_rate(p.disk) && is_plausible_rate(p.decode) &&
                      is_plausible_rate(p.copy),
                  "%g %g %g", p.disk, p.decode, p.copy);
        close_probe_rig(&r);
    }
}

Test(offload_probe, it_takes_no_more_than_it_said_and_gives_it_back)
{
    for (int i = 0; i < 4; i++) {
        const size_t request = REQUESTS[i / 2];
        const size_t said = probe_host_memory(request) + probe_device_memory(request);
        probe_rig r;
        open_probe_rig(&r, FIXTURE_MIXED, false);
        /* As much as ever was: from here on the peak is the probe's. */
        void *ballast = mem_alloc((size_t)(mem_used().peak - mem_used().now) + 1);
        const mem_usage before = mem_used();
        (void)probe_transfers(r.d, r.p, r.first, r.end, i % 2 * 2, request);
        const mem_usage after = mem_used();
        cr_assert_eq(after.now, before.now);
        cr_assert_leq(after.peak - before.now, said, "%zu, said %zu",
                      (size_t)(after.peak - before.now), said);
        cr_assert_geq(after.peak - before.now, said / 2);
        mem_free(ballast);
        close_probe_rig(&r);
    }
}

Test(offload_probe, without_chunks_nothing_is_measured)
{
    probe_rig r;
    open_probe_rig(&r, FIXTURE_RAW, false);
    const probe_rates p = probe_transfers(r.d, r.p, r.first, r.first, 2, PROBE_REQUEST);
    cr_assert(p.disk == 0 && p.decode == 0 && p.copy == 0);
    close_probe_rig(&r);
}

Test(offload_probe, a_pack_that_is_cut_short_leaves_zeros)
{
    for (int kind = 0; kind < READERS; kind += 2) {
        probe_rig r;
        open_probe_rig(&r, FIXTURE_RAW, false);
        const uint64_t before = mem_used().now;
        cr_assert_eq(truncate(r.f.path, (off_t)pack_chunk_at(r.p, r.first)->file_at + 1000), 0);
        const probe_rates p = probe_rig_rates(&r, kind);
        cr_assert_eq(p.disk, 0);
        cr_assert_eq(p.decode, 0);
        cr_assert(is_plausible_rate(p.copy), "the link is none of the file's business");
        cr_assert_eq(mem_used().now, before);
        close_probe_rig(&r);
    }
}

Test(offload_probe, a_pack_that_is_gone_leaves_zeros)
{
    for (int kind = 0; kind < READERS; kind++) {
        probe_rig r;
        open_probe_rig(&r, FIXTURE_RAW, false);
        (void)unlink(r.f.path);
        const probe_rates p = probe_rig_rates(&r, kind);
        cr_assert(p.disk == 0 && p.decode == 0);
        close_probe_rig(&r);
    }
}

/* Reading goes on behind the damage; decoding meets it. */
Test(offload_probe, damaged_chunks_leave_no_rate_of_decoding)
{
    probe_rig r;
    open_probe_rig(&r, FIXTURE_ZSTD, false);
    for (int i = r.first; i < r.end; i++)
        r.f.file[pack_chunk_at(r.p, i)->file_at + 77] ^= 0x40;
    pack_fixture_write(&r.f);
    const probe_rates p = probe_rig_rates(&r, 2);
    cr_assert_eq(p.decode, 0);
    cr_assert(is_plausible_rate(p.disk));
    close_probe_rig(&r);
}

/* Wherever the file ends, what could be read before has a rate and what could not has none. */
Test(offload_probe, a_pack_that_ends_anywhere_is_survived)
{
    for (int kind = 0; kind < READERS; kind += 2)
        for (int part = 1; part < 12; part++) {
            probe_rig r;
            open_probe_rig(&r, FIXTURE_MIXED, false);
            const uint64_t before = mem_used().now;
            const pack_chunk *first = pack_chunk_at(r.p, r.first);
            const uint64_t data = r.f.bytes - first->file_at;
            cr_assert_eq(truncate(r.f.path, (off_t)(first->file_at + data * part / 12)), 0);
            const probe_rates p = probe_rig_rates(&r, kind);
            cr_assert(p.disk == 0 || is_plausible_rate(p.disk));
            cr_assert(p.decode == 0 || is_plausible_rate(p.decode));
            cr_assert_eq(mem_used().now, before);
            close_probe_rig(&r);
        }
}

Test(offload_probe, each_failing_allocation_leaves_zeros_and_nothing_behind)
{
    for (int kind = 0; kind < READERS; kind += 2) {
        probe_rig r;
        open_probe_rig(&r, FIXTURE_MIXED, false);
        const uint64_t before = mem_used().now;
        int incomplete = 0;
        for (long k = 0;; k++) {
            mem_fail_after(k, MEM_FAIL_ONCE);
            const probe_rates p = probe_rig_rates(&r, kind);
            const bool is_whole = mem_fail_after(-1, MEM_FAIL_ONCE); /* the fault was not reached */
            cr_assert_eq(mem_used().now, before, "allocation %ld", k);
            cr_assert(p.disk == 0 || is_plausible_rate(p.disk));
            cr_assert(p.decode == 0 || is_plausible_rate(p.decode));
            cr_assert(p.copy == 0 || is_plausible_rate(p.copy));
            cr_assert_eq(dev_status(r.d), REFINE_OK, "%s", dev_why(r.d));
            incomplete += p.disk == 0 || p.decode == 0 || p.copy == 0;
            if (is_whole)
                break;
        }
        cr_assert_geq(incomplete, 4, "only %d", incomplete);
        close_probe_rig(&r);
    }
}
