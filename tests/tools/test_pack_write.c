/* tests/tools/test_pack_write.c -- what went in comes out, or an error and no file. */
#define _GNU_SOURCE /* unshare */
#include "tools/pack_write.h"

#include "engine/base/mem.h"
#include "offload/pack.h"
#include "tests/support/temp_place.h"
#include "tools/pack_gather.h"
#include "tools/synthetic.h"

#include <criterion/criterion.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

TestSuite(tools_pack_write, .timeout = 100);

static weight_source *tiny(void)
{
    weight_source *s;
    cr_assert_eq(synthetic_open(&s, "synthetic:tiny", NULL), REFINE_OK);
    return s;
}

/* Every chunk of the pack against what the source gives for it. */
static void same_as_source(const char *path, const weight_source *s)
{
    pack *p;
    refine_error err = { 0 };
    cr_assert_eq(pack_open(&p, path, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(n_pack_tensors(p), s->list.n);
    for (int i = 0; i < n_pack_chunks(p); i++) {
        const pack_chunk *c = pack_chunk_at(p, i);
        char *got = malloc(c->bytes), *want = calloc(1, c->bytes), *scratch = malloc(c->bytes);
        cr_assert_eq(pack_read_chunk(p, i, got, &err), REFINE_OK, "%s", err.text);
        if (c->segment == PACK_SEGMENT_VECTORS)
            for (int t = (int)c->tensor; t < n_pack_tensors(p); t++) {
                const pack_tensor *v = pack_tensor_at(p, t);
                if (v->segment == PACK_SEGMENT_VECTORS && v->first_chunk == (uint32_t)i)
                    cr_assert_eq(
                        pack_gather(s, t, 0, (int)v->c_in, DT_F32, want + v->at, scratch, &err),
                        REFINE_OK);
            }
        else
            cr_assert_eq(pack_gather(s, (int)c->tensor, (int)c->row0, (int)c->rows, DT_F16, want,
                                     scratch, &err),
                         REFINE_OK);
        cr_assert_arr_eq(got, want, c->bytes, "chunk %d", i);
        free(got);
        free(want);
        free(scratch);
    }
    pack_close(p);
}

Test(tools_pack_write, every_weight_comes_back_whatever_codec_chunks_and_threads)
{
    static const struct {
        bool raw;
        size_t chunk;
        int threads;
    } WAYS[] = { { false, 0, 0 }, { true, 0, 3 }, { false, 64 << 10, 2 }, { true, 64 << 20, 1 } };
    uint64_t hash[4];
    weight_source *s = tiny();

    for (size_t i = 0; i < 4; i++) {
        const temp_place p = temp_place_make("m.pack");
        const pack_write_options o = { .path = p.path,
                                       .raw = WAYS[i].raw,
                                       .chunk_bytes = WAYS[i].chunk,
                                       .threads = WAYS[i].threads };
        pack_written w;
        struct stat st;
        refine_error err = { 0 };
        cr_assert_eq(pack_write(&w, s, &o, &err), REFINE_OK, "%s", err.text);
        same_as_source(p.path, s);
        cr_assert_eq(stat(p.path, &st), 0);
        cr_assert_eq((uint64_t)st.st_size, w.file_bytes);
        cr_assert_eq(temp_files_in(p.dir), 1);
        hash[i] = w.source_hash;
        (void)unlink(p.path);
        (void)rmdir(p.dir);
    }
    for (int i = 1; i < 4; i++)
        cr_assert_eq(hash[i], hash[0]);
    s->close(s);
    cr_assert_eq(mem_used().now, 0u);
}

Test(tools_pack_write, other_weights_have_another_hash)
{
    const temp_place p = temp_place_make("m.pack");
    const pack_write_options o = { .path = p.path, .replace = true, .raw = true };
    pack_written a, b;
    weight_source *s = tiny();
    cr_assert_eq(pack_write(&a, s, &o, NULL), REFINE_OK);
    s->close(s);
    cr_assert_eq(synthetic_open(&s, "synthetic:tiny:1", NULL), REFINE_OK);
    cr_assert_eq(pack_write(&b, s, &o, NULL), REFINE_OK);
    s->close(s);
    cr_assert_neq(a.source_hash, b.source_hash);
    (void)unlink(p.path);
    (void)rmdir(p.dir);
}

Test(tools_pack_write, merges_come_back_as_they_were)
{
    static const char MERGES[] = "i n\nt h\n\xc4\xa0 x</w>\n";
    const temp_place p = temp_place_make("m.pack");
    const pack_write_options o = {
        .path = p.path, .raw = true, .merges = MERGES, .merges_len = sizeof MERGES - 1
    };
    pack_written w;
    pack *k;
    size_t len;
    weight_source *s = tiny();
    cr_assert_eq(pack_write(&w, s, &o, NULL), REFINE_OK);
    cr_assert_eq(pack_open(&k, p.path, NULL), REFINE_OK);
    cr_assert_str_eq(pack_merges(k, &len), MERGES);
    cr_assert_eq(len, sizeof MERGES - 1);
    pack_close(k);
    s->close(s);
    (void)unlink(p.path);
    (void)rmdir(p.dir);
}

/* ---- failures ---- */

/* synthetic:tiny, failing at the n-th read. */
typedef struct faulty {
    weight_source source;
    const weight_source *inner;
    _Atomic int *left;
} faulty;

static refine_status faulty_read(const weight_source *s, int entry, int part, uint64_t first,
                                 size_t n, dtype to, void *dst, refine_error *err)
{
    const faulty *f = (const faulty *)s;
    if (atomic_fetch_sub(f->left, 1) == 0)
        return refine_fail(err, REFINE_EIO, "the disk is on fire");
    return f->inner->read(f->inner, entry, part, first, n, to, dst, err);
}

static void no_expectations(const weight_source *s, int entry, int part, uint64_t first, size_t n)
{
    (void)s, (void)entry, (void)part, (void)first, (void)n;
}

Test(tools_pack_write, an_error_of_the_source_at_any_moment_leaves_nothing)
{
    weight_source *s = tiny();
    const temp_place p = temp_place_make("m.pack");
    for (int threads = 1; threads <= 3; threads++)
        for (int at = 0; at < 900; at += at < 10 ? 3 : 220) {
            _Atomic int left = at;
            const faulty f = { { .name = "x",
                                 .kind = "y",
                                 .list = s->list,
                                 .read = faulty_read,
                                 .expect = no_expectations },
                               s,
                               &left };
            const pack_write_options o = { .path = p.path, .raw = true, .threads = threads };
            pack_written w;
            refine_error err = { 0 };
            cr_assert_eq(pack_write(&w, &f.source, &o, &err), REFINE_EIO);
            cr_assert_str_eq(err.text, "the disk is on fire");
            cr_assert_eq(temp_files_in(p.dir), 0);
        }
    (void)rmdir(p.dir);
    s->close(s);
    cr_assert_eq(mem_used().now, 0u);
}

typedef struct stopper {
    int left;
    uint64_t done, all;
} stopper;

static void note_progress(void *context, uint64_t done, uint64_t all)
{
    stopper *s = context;
    cr_assert_gt(done, s->done);
    s->done = done;
    s->all = all;
}

static bool stop_soon(void *context) { return ((stopper *)context)->left-- == 0; }

Test(tools_pack_write, stops_when_asked_and_leaves_nothing)
{
    weight_source *s = tiny();
    const temp_place p = temp_place_make("m.pack");
    for (int at = 0; at < 200; at += 60) {
        stopper stop = { .left = at };
        const pack_write_options o = { .path = p.path,
                                       .raw = true,
                                       .threads = 2,
                                       .progress = note_progress,
                                       .stop = stop_soon,
                                       .context = &stop };
        pack_written w;
        refine_error err = { 0 };
        cr_assert_eq(pack_write(&w, s, &o, &err), REFINE_ECANCELLED);
        cr_assert_not_null(strstr(err.text, "interrupted"), "%s", err.text);
        cr_assert_eq(temp_files_in(p.dir), 0);
    }
    (void)rmdir(p.dir);
    s->close(s);
}

Test(tools_pack_write, progress_ends_at_all_bytes)
{
    weight_source *s = tiny();
    const temp_place p = temp_place_make("m.pack");
    stopper seen = { .left = -1 };
    const pack_write_options o = {
        .path = p.path, .raw = true, .progress = note_progress, .context = &seen
    };
    pack_written w;
    cr_assert_eq(pack_write(&w, s, &o, NULL), REFINE_OK);
    cr_assert_eq(seen.done, seen.all);
    cr_assert_eq(seen.all, w.weight_bytes);
    (void)unlink(p.path);
    (void)rmdir(p.dir);
    s->close(s);
}

/* A file system of its own, as large as that; skips the test where that is not allowed. */
static void small_disk(const char *dir, const char *options)
{
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", dir, "tmpfs", 0, options) != 0) {
        printf("SKIP no right to mount a file system\n");
        (void)rmdir(dir);
        cr_skip_test("no right to mount a file system");
    }
}

Test(tools_pack_write, a_disk_that_is_too_small_is_refused_before_anything_is_written)
{
    const temp_place p = temp_place_make("m.pack");
    small_disk(p.dir, "size=8m");
    weight_source *s = tiny();
    const pack_write_options o = { .path = p.path };
    pack_written w;
    refine_error err = { 0 };
    cr_assert_eq(pack_write(&w, s, &o, &err), REFINE_EIO);
    cr_assert_not_null(strstr(err.text, "needs up to"), "%s", err.text);
    cr_assert_eq(temp_files_in(p.dir), 0);
    s->close(s);
    (void)umount(p.dir);
    (void)rmdir(p.dir);
}

Test(tools_pack_write, a_disk_that_fills_up_is_an_error_and_leaves_nothing)
{
    const temp_place p = temp_place_make("m.pack");
    small_disk(p.dir, "size=18m"); /* more than half of 26, less than it will be */
    weight_source *s = tiny();
    const pack_write_options o = { .path = p.path, .threads = 2 };
    pack_written w;
    refine_error err = { 0 };
    cr_assert_eq(pack_write(&w, s, &o, &err), REFINE_EIO);
    cr_assert_not_null(strstr(err.text, "disk is full"), "%s", err.text);
    cr_assert_eq(temp_files_in(p.dir), 0);
    s->close(s);
    (void)umount(p.dir);
    (void)rmdir(p.dir);
}

Test(tools_pack_write, survives_the_failure_of_any_allocation)
{
    static const char MERGES[] = "i n\nt h\n";
    weight_source *s = tiny();
    const uint64_t before = mem_used().now;
    const temp_place p = temp_place_make("m.pack");
    const pack_write_options o = {
        .path = p.path, .raw = true, .threads = 1, .merges = MERGES, .merges_len = sizeof MERGES - 1
    };
    pack_written w;
    long k = 0;

    for (;; k++) {
        refine_error err = { 0 };
        mem_fail_after(k, MEM_FAIL_ONCE);
        const refine_status st = pack_write(&w, s, &o, &err);
        mem_fail_after(-1, MEM_FAIL_ONCE);
        if (st == REFINE_OK && temp_files_in(p.dir) == 1 && w.file_bytes > 0)
            break;
        cr_assert_eq(st, REFINE_ENOMEM, "allocation %ld: %s", k, err.text);
        cr_assert_eq(temp_files_in(p.dir), 0, "allocation %ld", k);
        cr_assert_eq(mem_used().now, before, "allocation %ld", k);
    }
    cr_assert_geq(k, 15);
    (void)unlink(p.path);
    (void)rmdir(p.dir);
    s->close(s);
}

Test(tools_pack_write, does_with_fewer_threads_when_memory_is_short)
{
    /* One of the failures hits a worker that is not the first. */
    weight_source *s = tiny();
    const temp_place p = temp_place_make("m.pack");
    const pack_write_options o = { .path = p.path, .raw = true, .threads = 4 };
    pack_written w;
    int fewer = 0;
    for (long k = 10; k < 80 && !fewer; k++) {
        mem_fail_after(k, MEM_FAIL_ONCE);
        const refine_status st = pack_write(&w, s, &o, NULL);
        mem_fail_after(-1, MEM_FAIL_ONCE);
        fewer = st == REFINE_OK && w.threads > 0 && w.threads < 4;
        (void)unlink(p.path);
    }
    cr_assert(fewer);
    (void)rmdir(p.dir);
    s->close(s);
}
