/* tools/refine_pack.c -- the command refine-pack: a published checkpoint becomes a pack. */
#define _XOPEN_SOURCE 700
#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/base/process_limits.h"
#include "engine/base/try.h"
#include "refine_version.h"
#include "tools/arguments/packer_arguments.h"
#include "tools/cli/exit_code.h"
#include "tools/cli/interrupt.h"
#include "tools/cli/places.h"
#include "tools/cli/program.h"
#include "tools/cli/progress.h"
#include "tools/cli/sizes.h"
#include "tools/files/merges.h"
#include "tools/files/new_file.h"
#include "tools/packer/disk_advice.h"
#include "tools/packer/pack_inspect.h"
#include "tools/packer/pack_write.h"
#include "tools/source/checkpoint.h"
#include "tools/source/checkpoint_files.h"
#include "tools/source/hub_cache.h"
#include "tools/source/recognise.h"
#include "tools/source/synthetic.h"
#include "tools/vocabulary/clip_vocabulary.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static int packer_print_error(int code, const char *text)
{
    (void)fprintf(stderr, "refine-pack: %s\n", text);
    return code;
}

/* ---- packing ---- */

/* Bytes of weights that a processor packs in a second, about: what is said before there is a
 * measured rate. */
static double usual_rate(const packer_arguments *a)
{
    const double each = a->weights == WEIGHTS_INT8 ? 50e6 : 150e6;
    return each * (a->threads > 0 ? a->threads : process_cores(""));
}

typedef struct watcher {
    progress line;
    rate_meter rate;
} watcher;

static void show_progress(void *context, uint64_t done, uint64_t all)
{
    watcher *w = context;
    char a[SIZES_TEXT], b[SIZES_TEXT], c[SIZES_TEXT];

    rate_sample(&w->rate, clock_seconds(), (double)done);
    if (!progress_due(&w->line))
        return;
    progress_show(&w->line, (double)done / (double)all,
                  w->rate.rate > 0 ? (double)(all - done) / w->rate.rate : -1.0, "%s of %s  %s/s",
                  sizes_text(a, (double)done), sizes_text(b, (double)all),
                  sizes_text(c, w->rate.rate));
}

static bool asked_to_stop(void *context)
{
    (void)context;
    return interrupt_pending();
}

static bool is_source_directory(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* A source that holds a tokenizer knows best; CLIP's is the one that all published models have. */
static refine_status packer_load_tokenizer(const packer_arguments *a, char **text, size_t *len,
                                           refine_error *err)
{
    char source[HUB_PATH], file[MERGES_PATH], beside[MERGES_PATH];

    if (a->tokenizer)
        return merges_load(a->tokenizer, text, len, err);
    TRY(hub_find_snapshot(source, a->input, err));
    if (is_source_directory(source) && merges_files(file, beside, source))
        return merges_load(file, text, len, err);
    return merges_unpack(clip_vocabulary, clip_vocabulary_bytes, text, len, err);
}

/* What was found, before hours of packing are spent on it. */
static void print_found(const packer_arguments *a, const weight_source *s)
{
    const bool quoted = s->title != NULL;
    char schedule[SCHEDULE_TEXT];

    (void)fprintf(stderr, "refine-pack: %s: %s%s%s%s (%s%s%s)\n", s->name,
                  recognise_config(&s->list.config), quoted ? " \"" : "", quoted ? s->title : "",
                  quoted ? "\"" : "", s->kind, s->types ? ", " : "", s->types ? s->types : "");
    if (s->vae_types)
        (void)fprintf(stderr, "refine-pack: VAE: %s (%s)\n", s->vae ? s->vae : "its own",
                      s->vae_types);
    (void)fprintf(stderr, "refine-pack: sampler: %s%s\n",
                  schedule_print(schedule, &s->list.config.schedule),
                  strcmp(s->kind, "single-file") == 0 && !a->schedule.sampler
                      ? "; a single file does not say: see --sampler and --spacing"
                      : "");
}

static refine_status open_source(weight_source **out, const packer_arguments *a, refine_error *err)
{
    const checkpoint_choices choices = { .vae = a->vae,
                                         .variant = a->variant,
                                         .schedule = a->schedule };

    if (!synthetic_named(a->input)) {
        TRY(checkpoint_open(out, a->input, &choices, err));
    } else if (a->vae || a->variant) {
        return refine_fail(err, REFINE_EINVAL, "%s: is made up: leave out --vae and --variant",
                           a->input);
    } else {
        TRY(synthetic_open(out, a->input, err));
        schedule_choices_apply(&(*out)->list.config.schedule, &a->schedule);
    }
    if (!a->quiet)
        print_found(a, *out);
    return REFINE_OK;
}

/* A raw pack is not advised: there is nothing to decode, and whoever asked for it knows. */
static bool measure_disk(const packer_arguments *a, disk_advice *disk)
{
    return a->codec != PACKER_RAW && disk_advice_measure(disk, a->output);
}

static json_t *disk_object(const disk_advice *d)
{
    return json_pack("{s:f, s:f, s:i, s:f, s:f}", "read", d->read, "decode", d->decode,
                     "decode_threads", DISK_ADVICE_DECODERS, "zstd_ratio", d->ratio, "zstd_gain",
                     d->gain);
}

static void packer_print_text(const packer_arguments *a, const pack_written *w, double seconds,
                              const disk_advice *disk)
{
    char file[SIZES_TEXT], weights[SIZES_TEXT], rate[SIZES_TEXT], advice[DISK_ADVICE_TEXT];

    (void)printf("%s: %s from %s of weights (%.2f x), %d tensors in %d chunks, %.1f s, %s/s, "
                 "source %016" PRIx64 "\n",
                 a->output, sizes_text(file, (double)w->file_bytes),
                 sizes_text(weights, (double)w->weight_bytes),
                 (double)w->weight_bytes / (double)w->file_bytes, w->n_tensors, w->n_chunks,
                 seconds, sizes_text(rate, (double)w->weight_bytes / seconds), w->source_hash);
    if (w->n_int8 > 0)
        (void)printf("int8: %d matrices, signal over noise %.1f dB or better\n", w->n_int8,
                     w->least_sqnr);
    if (disk)
        (void)printf("%s\n", disk_advice_text(advice, disk));
}

static void packer_print_json(const packer_arguments *a, const weight_source *s,
                              const pack_written *w, bool tokenizer, double seconds,
                              const disk_advice *disk)
{
    struct rusage usage = { 0 };
    char hash[24];

    (void)getrusage(RUSAGE_SELF, &usage);
    (void)snprintf(hash, sizeof hash, "%016" PRIx64, w->source_hash);
    json_t *root = json_pack(
        "{s:s, s:s, s:{s:s, s:s, s:I, s:s*, s:s*, s:s*, s:s*}, s:s, s:o, s:s, s:s, s:i, s:s, s:b, "
        "s:I, s:I, s:i, s:i, s:i, s:f, s:I, s:o}",
        "version", REFINE_VERSION, "output", a->output, "source", "name", s->name, "layout",
        s->kind, "bytes", (json_int_t)s->bytes, "vae", s->vae, "title", s->title, "types", s->types,
        "vae_types", s->vae_types, "model", recognise_config(&s->list.config), "schedule",
        schedule_object(&s->list.config.schedule), "source_hash", hash, "weights",
        weights_name(a->weights), "int8_matrices", w->n_int8, "codec",
        a->codec == PACKER_RAW ? "raw" : "zstd", "tokenizer", tokenizer, "file_bytes",
        (json_int_t)w->file_bytes, "weight_bytes", (json_int_t)w->weight_bytes, "tensors",
        w->n_tensors, "chunks", w->n_chunks, "threads", w->threads, "seconds", seconds, "rss_peak",
        (json_int_t)usage.ru_maxrss * 1024, "disk", disk ? disk_object(disk) : json_null());
    (void)json_dumpf(root, stdout, JSON_INDENT(2));
    (void)putchar('\n');
    json_decref(root);
}

static void print_result(const packer_arguments *a, const weight_source *s, const pack_written *w,
                         bool tokenizer, double seconds)
{
    disk_advice measured;
    const disk_advice *disk = measure_disk(a, &measured) ? &measured : NULL;

    if (a->json)
        packer_print_json(a, s, w, tokenizer, seconds, disk);
    else
        packer_print_text(a, w, seconds, disk);
}

static refine_status write_pack_of_source(const packer_arguments *a, const weight_source *s,
                                          const char *merges, size_t merges_len, refine_error *err)
{
    watcher w = { 0 };
    pack_written written;
    const double began = clock_seconds();

    progress_open(&w.line, stderr, "packing", a->quiet);
    rate_guess(&w.rate, began, usual_rate(a));
    const pack_write_options o = { .path = a->output,
                                   .replace = a->force,
                                   .weights = a->weights,
                                   .raw = a->codec == PACKER_RAW,
                                   .chunk_bytes = a->chunk_bytes,
                                   .threads = a->threads,
                                   .merges = merges,
                                   .merges_len = merges_len,
                                   .progress = show_progress,
                                   .stop = asked_to_stop,
                                   .context = &w };
    const refine_status st = pack_write(&written, s, &o, err);
    progress_clear(&w.line);
    if (st == REFINE_OK)
        print_result(a, s, &written, merges != NULL, clock_seconds() - began);
    return st;
}

/* Nothing that the pack is made from is replaced by it, --force or not. */
static refine_status packer_check_places(const packer_arguments *a, refine_error *err)
{
    static const char ROLE[] = "the tokenizer (--tokenizer)";
    char file[MERGES_PATH], beside[MERGES_PATH];
    places p = { 0 };

    if (!synthetic_named(a->input))
        checkpoint_files(&p, "the source", a->input);
    if (a->vae)
        checkpoint_files(&p, "the VAE (--vae)", a->vae);
    if (a->tokenizer && merges_files(file, beside, a->tokenizer)) {
        places_add(&p, PLACE_READ, ROLE, file);
        places_add(&p, PLACE_READ, ROLE, beside);
    }
    places_add(&p, PLACE_WRITTEN, "the pack (-o)", a->output);
    places_add_open(&p, PLACE_WRITTEN, "standard output", STDOUT_FILENO);
    const refine_status st = places_check(&p, err);
    places_free(&p);
    return st;
}

/* Packing may take an hour: that its result cannot be written must be known before.  *reading: it
 * was no input that could not be. */
static refine_status try_pack(const packer_arguments *a, bool *reading, refine_error *err)
{
    const refine_status st = new_file_try(a->output, a->force ? NEW_FILE_REPLACE : NEW_FILE_ONLY,
                                          err);
    *reading = st == REFINE_OK;
    return st;
}

static int run_pack(const packer_arguments *a)
{
    weight_source *s = NULL;
    refine_error err = { 0 };
    char *merges = NULL;
    size_t merges_len = 0;
    bool opening = true;

    interrupt_hold();
    refine_status st = packer_check_places(a, &err);
    if (st == REFINE_OK)
        st = try_pack(a, &opening, &err);
    if (st == REFINE_OK)
        st = open_source(&s, a, &err);
    if (st == REFINE_OK)
        st = packer_load_tokenizer(a, &merges, &merges_len, &err);
    if (st == REFINE_OK) {
        opening = false;
        st = write_pack_of_source(a, s, merges, merges_len, &err);
    }
    mem_free(merges);
    if (s)
        s->close(s);
    if (st != REFINE_OK)
        (void)packer_print_error(0, err.text);
    return exit_code(st, opening);
}

/* --inspect and --verify. */
static int run_reading(const packer_arguments *a)
{
    refine_error err = { 0 };
    interrupt_hold();
    const refine_status st = a->mode == MODE_INSPECT
                                 ? pack_inspect(stdout, a->input, a->json, &err)
                                 : pack_verify(stdout, a->input, a->json, a->quiet, &err);
    if (st != REFINE_OK)
        (void)packer_print_error(0, err.text);
    return exit_code(st, true);
}

static int run_packer(int argc, char **argv)
{
    packer_arguments a = { 0 };
    const int code = packer_arguments_read(&a, argc, argv);
    if (code >= 0)
        return code;
    return a.mode == MODE_PACK ? run_pack(&a) : run_reading(&a);
}

int main(int argc, char **argv)
{
    if (!program_begin("refine-pack"))
        return EXIT_FAILED;
    return program_end("refine-pack", run_packer(argc, argv));
}
