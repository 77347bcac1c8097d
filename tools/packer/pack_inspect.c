/* tools/packer/pack_inspect.c -- the index of a pack in words, and a reading of all the rest. */
#include "tools/packer/pack_inspect.h"

#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"
#include "engine/model/weight_list.h"
#include "kernels/tensor.h"
#include "offload/pack.h"
#include "tools/cli/interrupt.h"
#include "tools/cli/progress.h"
#include "tools/cli/sizes.h"
#include "tools/files/json_values.h"
#include "tools/source/recognise.h"
#include "tools/source/schedule_choices.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const SEGMENT_NAMES[N_SEGMENTS] = {
    "vectors", "text", "once", "vae_encode", "unet", "vae_decode", "tokens",
};
static const char *const TYPE_NAMES[] = { "f32", "fp16", "bf16", "int8" };

/* One segment: its bytes decoded, of these in int8, and as stored. */
typedef struct tally {
    int tensors, n_int8, chunks;
    uint64_t bytes, bytes_int8, stored;
    float least_sqnr; /* INFINITY when none is int8 */
} tally;

static uint64_t tensor_size(const pack_tensor *t)
{
    uint64_t bytes = 0;
    (void)pack_rows_bytes(t, t->rows, &bytes); /* an open pack's can be counted */
    return bytes;
}

static tally count_segment(const pack *p, int seg)
{
    tally t = { .least_sqnr = INFINITY };
    int first, end;
    pack_segment(p, seg, &first, &end);
    for (int i = first; i < end; i++) {
        t.chunks++;
        t.bytes += pack_chunk_at(p, i)->bytes;
        t.stored += pack_chunk_at(p, i)->stored_bytes;
    }
    for (int i = 0; i < n_pack_tensors(p); i++) {
        const pack_tensor *w = pack_tensor_at(p, i);
        if (w->segment != (uint32_t)seg)
            continue;
        t.tensors++;
        if (w->dtype == DT_I8G64) {
            t.n_int8++;
            t.bytes_int8 += tensor_size(w);
            t.least_sqnr = fminf(t.least_sqnr, w->sqnr);
        }
    }
    return t;
}

static json_t *meta_of(const pack *p)
{
    size_t len;
    const char *text = pack_meta(p, &len);
    return json_loadb(text, len, 0, NULL);
}

static const char *meta_member(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "?";
}

/* Of what the pack says; false when it says nothing that can be understood. */
static bool meta_config(model_config *c, const json_t *meta)
{
    char *text = json_dumps(json_object_get(meta, "model"), 0);
    const bool known = text && model_config_parse(c, text, strlen(text), NULL) == REFINE_OK;
    free(text);
    return known;
}

/* ---- for people ---- */

/* "45.2 dB", "" for what is not int8. */
static const char *sqnr_text(char out[SIZES_TEXT], bool int8, float sqnr)
{
    if (!int8)
        return "";
    (void)snprintf(out, SIZES_TEXT, isinf(sqnr) ? "exact" : "%.1f dB", (double)sqnr);
    return out;
}

static void print_segments(FILE *out, const pack *p)
{
    char bytes[SIZES_TEXT], int8[SIZES_TEXT], stored[SIZES_TEXT], sqnr[SIZES_TEXT];
    fprintf(out, "%-12s %8s %8s %10s %10s %10s %11s\n", "segment", "weights", "chunks", "decoded",
            "int8", "stored", "least sqnr");
    for (int s = 0; s < N_SEGMENTS; s++) {
        const tally t = count_segment(p, s);
        fprintf(out, "%-12s %8d %8d %10s %10s %10s %11s\n", SEGMENT_NAMES[s], t.tensors, t.chunks,
                sizes_text(bytes, (double)t.bytes),
                t.n_int8 ? sizes_text(int8, (double)t.bytes_int8) : "",
                sizes_text(stored, (double)t.stored), sqnr_text(sqnr, t.n_int8, t.least_sqnr));
    }
}

/* Vectors are many, small and all alike: the segment's line is enough. */
static void print_matrices(FILE *out, const pack *p)
{
    char size[SIZES_TEXT], sqnr[SIZES_TEXT];
    fprintf(out, "%-5s %8s %8s  %s\n", "type", "size", "sqnr", "matrix");
    for (int i = 0; i < n_pack_tensors(p); i++) {
        const pack_tensor *t = pack_tensor_at(p, i);
        if (t->segment != SEG_VECTORS)
            fprintf(out, "%-5s %8s %8s  %s\n", TYPE_NAMES[t->dtype],
                    sizes_text(size, (double)tensor_size(t)),
                    sqnr_text(sqnr, t->dtype == DT_I8G64, t->sqnr), pack_tensor_name(p, i));
    }
}

/* ", 2.41 GB"; of a source without files "". */
static const char *source_size(char out[SIZES_TEXT + 2], const json_t *source)
{
    const json_int_t bytes = json_integer_value(json_object_get(source, "bytes"));
    char size[SIZES_TEXT];
    (void)snprintf(out, SIZES_TEXT + 2, ", %s", sizes_text(size, (double)bytes));
    return bytes > 0 ? out : "";
}

/* ", VAE fix.safetensors"; of a checkpoint with its own "". */
static void print_source(FILE *out, const pack *p, const json_t *source)
{
    const char *vae = json_string_value(json_object_get(source, "vae"));
    char from[SIZES_TEXT + 2];
    fprintf(out, "source     %s (%s%s%s%s), hash %016" PRIx64 "\n", meta_member(source, "name"),
            meta_member(source, "layout"), source_size(from, source), vae ? ", VAE " : "",
            vae ? vae : "", pack_super(p)->source_hash);
}

static void print_pack_text(FILE *out, const pack *p, const json_t *meta)
{
    const pack_superblock *s = pack_super(p);
    char size[SIZES_TEXT], schedule[SCHEDULE_TEXT];
    model_config c;
    const bool known = meta_config(&c, meta);
    size_t merges;
    fprintf(out, "%s: pack version %" PRIu32 ", %s\n", pack_path(p), s->version,
            sizes_text(size, (double)s->file_bytes));
    print_source(out, p, json_object_get(meta, "source"));
    fprintf(out, "model      %s\n", known ? recognise_config(&c) : "?");
    fprintf(out, "sampler    %s\n", known ? schedule_print(schedule, &c.schedule) : "?");
    fprintf(out, "weights    %s in %" PRIu32 " tensors, codec %s\n", meta_member(meta, "weights"),
            s->n_tensors, meta_member(meta, "codec"));
    fprintf(out, "tokenizer  %s\n", pack_merges(p, &merges) ? "inside" : "none: give --tokenizer");
    (void)fputc('\n', out);
    print_segments(out, p);
    (void)fputc('\n', out);
    print_matrices(out, p);
}

/* ---- for scripts ---- */

/* null: not int8, or exact. */
static json_t *sqnr_value(bool int8, float sqnr)
{
    return int8 && !isinf(sqnr) ? json_real((double)sqnr) : json_null();
}

static json_t *tensors_array(const pack *p)
{
    json_t *list = json_array();
    for (int i = 0; i < n_pack_tensors(p); i++) {
        const pack_tensor *t = pack_tensor_at(p, i);
        const json_int_t dims[4] = { t->rows, t->kh, t->kw, t->c_in };
        (void)json_array_append_new(
            list,
            json_pack("{s:s, s:s, s:s, s:[I,I,I,I], s:I, s:o, s:i, s:i}", "name",
                      pack_tensor_name(p, i), "segment",
                      t->segment < N_SEGMENTS ? SEGMENT_NAMES[t->segment] : "?", "type",
                      TYPE_NAMES[t->dtype], "shape", dims[0], dims[1], dims[2], dims[3], "bytes",
                      (json_int_t)tensor_size(t), "sqnr", sqnr_value(t->dtype == DT_I8G64, t->sqnr),
                      "first_chunk", (int)t->first_chunk, "chunks", (int)t->n_chunks));
    }
    return list;
}

static json_t *segments_object(const pack *p)
{
    json_t *o = json_object();
    for (int s = 0; s < N_SEGMENTS; s++) {
        const tally t = count_segment(p, s);
        (void)json_object_set_new(
            o, SEGMENT_NAMES[s],
            json_pack("{s:i, s:i, s:i, s:I, s:I, s:I, s:o}", "tensors", t.tensors, "int8", t.n_int8,
                      "chunks", t.chunks, "bytes", (json_int_t)t.bytes, "int8_bytes",
                      (json_int_t)t.bytes_int8, "stored_bytes", (json_int_t)t.stored, "least_sqnr",
                      sqnr_value(t.n_int8, t.least_sqnr)));
    }
    return o;
}

static refine_status print_pack_json(FILE *out, const pack *p, const json_t *meta,
                                     refine_error *err)
{
    const pack_superblock *s = pack_super(p);
    char hash[17];
    size_t merges;
    model_config c;
    const bool known = meta_config(&c, meta);
    (void)snprintf(hash, sizeof hash, "%016" PRIx64, s->source_hash);
    json_t *copy = json_deep_copy(meta);
    json_t *o = json_pack("{s:s, s:i, s:I, s:s, s:s?, s:o, s:b, s:o, s:o, s:o}", "pack",
                          pack_path(p), "version", (int)s->version, "bytes",
                          (json_int_t)s->file_bytes, "source_hash", hash, "model",
                          known ? recognise_config(&c) : NULL, "schedule",
                          known ? schedule_object(&c.schedule) : json_null(), "tokenizer",
                          pack_merges(p, &merges) != NULL, "meta", copy ? copy : json_null(),
                          "segments", segments_object(p), "tensors", tensors_array(p));
    return print_json_object(out, o, 0, err);
}

refine_status pack_inspect(FILE *out, const char *path, bool json, refine_error *err)
{
    pack *p;
    refine_status st = REFINE_OK;
    TRY(pack_open(&p, path, err));
    json_t *meta = meta_of(p);
    if (json)
        st = print_pack_json(out, p, meta, err);
    else
        print_pack_text(out, p, meta);
    json_decref(meta);
    pack_close(p);
    return st;
}

/* ---- reading it all ---- */

static refine_status verify_chunks(const pack *p, void *room, progress *line, refine_error *err)
{
    const double start = clock_seconds();
    const uint64_t all = pack_super(p)->file_bytes;
    uint64_t done = 0;
    for (int i = 0; i < n_pack_chunks(p); i++) {
        TRY(pack_read_chunk(p, i, room, err));
        if (interrupt_pending())
            return refine_fail(err, REFINE_ECANCELLED, "interrupted");
        done += num_align(pack_chunk_at(p, i)->stored_bytes, PACK_ALIGN);
        if (progress_due(line)) {
            const double rate = (double)done / (clock_seconds() - start + 1e-9);
            progress_show(line, (double)done / (double)all, (double)(all - done) / rate,
                          "%.2f GB/s", rate / 1e9);
        }
    }
    return REFINE_OK;
}

static size_t largest_chunk(const pack *p)
{
    size_t most = 1;
    for (int i = 0; i < n_pack_chunks(p); i++)
        most = num_max(most, pack_chunk_at(p, i)->bytes);
    return most;
}

static refine_status verify_open_pack(const pack *p, bool quiet, refine_error *err)
{
    progress line;
    void *room = mem_alloc(largest_chunk(p));
    if (!room)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    progress_open(&line, stderr, "verifying", quiet);
    const refine_status st = verify_chunks(p, room, &line, err);
    progress_clear(&line);
    mem_free(room);
    return st;
}

refine_status pack_verify(FILE *out, const char *path, bool json, bool quiet, refine_error *err)
{
    pack *p;
    TRY(pack_open(&p, path, err));
    const int chunks = n_pack_chunks(p);
    refine_status st = verify_open_pack(p, quiet, err);
    pack_close(p);
    TRY(st);
    if (json)
        return print_json_object(
            out, json_pack("{s:s, s:b, s:i}", "pack", path, "intact", 1, "chunks", chunks), 0, err);
    fprintf(out, "%s: all %d chunks are as they were written\n", path, chunks);
    return REFINE_OK;
}
