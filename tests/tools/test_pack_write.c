/* tests/tools/test_pack_write.c -- what went in comes out, or an error and no file. */
#define _GNU_SOURCE /* unshare */
#include "tools/packer/pack_write.h"

#include "engine/base/mem.h"
#include "offload/pack.h"
#include "quant/f16.h"
#include "quant/int8.h"
#include "tests/support/temp_place.h"
#include "tools/packer/pack_gather.h"
#include "tools/source/synthetic.h"

#include <criterion/criterion.h>
#include <math.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

TestSuite(tools_pack_write, .timeout = 100);

static weight_source *open_tiny_source(void)
{
    weight_source *s;
    cr_assert_eq(synthetic_open(&s, "synthetic:tiny", NULL), REFINE_OK);
    return s;
}

/* Rows as gathered, in int8, tile by tile. */
static void to_int8(char *out, const uint16_t *rows, const pack_tensor *t, uint32_t n)
{
    const int tile = t->kh * t->kw > 1 ? 64 : 128, taps = (int)(t->kh * t->kw);
    const size_t row = (size_t)taps * t->c_in;
    float *wide = malloc(row * (size_t)tile * sizeof *wide);
    i8_error lost = { 0 };
    for (int done = 0; done < (int)n; done += tile) {
        const int some = (int)n - done < tile ? (int)n - done : tile;
        f16_decode(wide, rows + (size_t)done * row, (size_t)some * row);
        i8_encode_tile_plain(out, wide, some, taps, (int)t->c_in, I8_MIN, &lost);
        out += i8_bytes(some, taps, (int)t->c_in);
    }
    free(wide);
}

static void want_matrix(char *want, const weight_source *s, const pack_tensor *t,
                        const pack_chunk *c)
{
    const size_t bytes = (size_t)c->rows * t->kh * t->kw * t->c_in * 2;
    char *rows = malloc(bytes), *scratch = malloc(bytes);
    cr_assert_eq(
        pack_gather(s, (int)c->tensor, (int)c->row0, (int)c->rows, DT_F16, rows, scratch, NULL),
        REFINE_OK);
    if (t->dtype == DT_I8G64)
        to_int8(want, (const uint16_t *)(const void *)rows, t, c->rows);
    else
        memcpy(want, rows, bytes);
    free(rows);
    free(scratch);
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
            want_matrix(want, s, pack_tensor_at(p, (int)c->tensor), c);
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
        weights_kind weights;
    } WAYS[] = {
        { false, 0, 0, WEIGHTS_FP16 },        { true, 0, 3, WEIGHTS_FP16 },
        { false, 64 << 10, 2, WEIGHTS_FP16 }, { true, 64 << 20, 1, WEIGHTS_FP16 },
        { false, 0, 0, WEIGHTS_INT8 },        { true, 64 << 10, 3, WEIGHTS_INT8 },
    };
    enum { N_WAYS = sizeof WAYS / sizeof WAYS[0] };
    uint64_t hash[N_WAYS];
    weight_source *s = open_tiny_source();

    for (size_t i = 0; i < N_WAYS; i++) {
        const temp_place p = temp_place_make("m.pack");
        const pack_write_options o = { .path = p.path,
                                       .raw = WAYS[i].raw,
                                       .chunk_bytes = WAYS[i].chunk,
                                       .threads = WAYS[i].threads,
                                       .weights = WAYS[i].weights };
        pack_written w;
        struct stat st;
        refine_error err = { 0 };
        cr_assert_eq(pack_write(&w, s, &o, &err), REFINE_OK, "%s", err.text);
        same_as_source(p.path, s);
        cr_assert_eq(stat(p.path, &st), 0);
        cr_assert_eq((uint64_t)st.st_size, w.file_bytes);
        cr_assert_eq(temp_files_in(p.dir), 1);
        cr_assert_eq(w.n_int8 > 0, WAYS[i].weights == WEIGHTS_INT8);
        hash[i] = w.source_hash;
        (void)unlink(p.path);
        (void)rmdir(p.dir);
    }
    for (int i = 1; i < N_WAYS; i++)
        cr_assert_eq(hash[i], hash[0]);
    s->close(s);
    cr_assert_eq(mem_used().now, 0u);
}

/* Row `row` of a chunk of int8 tiles. */
static void decode_row(float *out, const char *tiles, int rows, int row, const pack_tensor *t)
{
    const int taps = (int)(t->kh * t->kw), channels = (int)t->c_in, of = taps > 1 ? 64 : 128;
    const int begin = row / of * of, in_tile = rows - begin < of ? rows - begin : of;
    const char *tile = tiles + i8_bytes(begin, taps, channels);
    for (int slab = 0; slab < taps * i8_slabs(channels); slab++) {
        const int tap = slab / i8_slabs(channels), c = slab % i8_slabs(channels) * I8_GROUP;
        const int n = channels - c < I8_GROUP ? channels - c : I8_GROUP;
        float v[I8_GROUP];
        i8_decode_group(v, i8_group(tile, in_tile, row - begin, slab),
                        i8_scales(tile, in_tile, slab)[row - begin]);
        memcpy(out + tap * channels + c, v, (size_t)n * sizeof *v);
    }
}

/* Of one matrix, from its decoded chunks and the source. */
static double measure_matrix_sqnr(const pack *p, const weight_source *s, int matrix)
{
    const pack_tensor *t = pack_tensor_at(p, matrix);
    const size_t k = (size_t)t->kh * t->kw * t->c_in, n = k * t->rows;
    uint16_t *rows = malloc(2 * n * sizeof *rows);
    float *got = malloc(k * sizeof *got);
    i8_error lost = { 0 };

    cr_assert_eq(pack_gather(s, matrix, 0, (int)t->rows, DT_F16, rows, rows + n, NULL), REFINE_OK);
    for (uint32_t i = 0; i < t->n_chunks; i++) {
        const pack_chunk *c = pack_chunk_at(p, (int)(t->first_chunk + i));
        char *tiles = malloc(c->bytes);
        cr_assert_eq(pack_read_chunk(p, (int)(t->first_chunk + i), tiles, NULL), REFINE_OK);
        for (uint32_t r = 0; r < c->rows; r++) {
            decode_row(got, tiles, (int)c->rows, (int)r, t);
            for (size_t j = 0; j < k; j++) {
                const double w = (double)f16_to_f32(rows[(c->row0 + r) * k + j]);
                lost.signal += w * w;
                lost.noise += (w - (double)got[j]) * (w - (double)got[j]);
            }
        }
        free(tiles);
    }
    free(rows);
    free(got);
    return i8_sqnr(lost);
}

Test(tools_pack_write, says_of_every_int8_matrix_what_it_lost)
{
    const temp_place where = temp_place_make("m.pack");
    const pack_write_options o = { .path = where.path,
                                   .raw = true,
                                   .chunk_bytes = 64 << 10, /* several a matrix */
                                   .weights = WEIGHTS_INT8 };
    double least = INFINITY;
    int n_int8 = 0;
    pack_written w;
    pack *p;
    weight_source *s = open_tiny_source();
    cr_assert_eq(pack_write(&w, s, &o, NULL), REFINE_OK);
    cr_assert_eq(pack_open(&p, where.path, NULL), REFINE_OK);
    for (int i = 0; i < n_pack_tensors(p); i++) {
        const pack_tensor *t = pack_tensor_at(p, i);
        if (t->dtype != DT_I8G64)
            continue;
        n_int8++;
        cr_assert_float_eq((double)t->sqnr, measure_matrix_sqnr(p, s, i), 1e-3, "%s",
                           pack_tensor_name(p, i));
        least = (double)t->sqnr < least ? (double)t->sqnr : least;
    }
    cr_assert_eq(n_int8, w.n_int8);
    cr_assert_float_eq(least, w.least_sqnr, 1e-3);
    pack_close(p);
    s->close(s);
    (void)unlink(where.path);
    (void)rmdir(where.dir);
}

Test(tools_pack_write, other_weights_have_another_hash)
{
    const temp_place p = temp_place_make("m.pack");
    const pack_write_options o = { .path = p.path, .replace = true, .raw = true };
    pack_written a, b;
    weight_source *s = open_tiny_source();
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
    weight_source *s = open_tiny_source();
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
    weight_source *s = open_tiny_source();
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
    weight_source *s = open_tiny_source();
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
    weight_source *s = open_tiny_source();
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
    weight_source *s = open_tiny_source();
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
    weight_source *s = open_tiny_source();
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
    weight_source *s = open_tiny_source();
    const uint64_t before = mem_used().now;
    const temp_place p = temp_place_make("m.pack");
    const pack_write_options o = { .path = p.path,
                                   .raw = true,
                                   .threads = 1,
                                   .weights = WEIGHTS_INT8,
                                   .merges = MERGES,
                                   .merges_len = sizeof MERGES - 1 };
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
    cr_assert_geq(k, 17);
    (void)unlink(p.path);
    (void)rmdir(p.dir);
    s->close(s);
}

Test(tools_pack_write, does_with_fewer_threads_when_memory_is_short)
{
    /* One of the failures hits a worker that is not the first. */
    weight_source *s = open_tiny_source();
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
