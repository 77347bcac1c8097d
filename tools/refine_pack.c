/* tools/refine_pack.c -- the command refine-pack: a published checkpoint becomes a pack. */
#define _XOPEN_SOURCE 700
#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/base/try.h"
#include "offload/pack_format.h"
#include "refine_version.h"
#include "tools/cli/exit_code.h"
#include "tools/cli/interrupt.h"
#include "tools/cli/numbers.h"
#include "tools/cli/places.h"
#include "tools/cli/progress.h"
#include "tools/cli/sizes.h"
#include "tools/files/merges.h"
#include "tools/packer/disk_advice.h"
#include "tools/packer/pack_inspect.h"
#include "tools/packer/pack_write.h"
#include "tools/source/checkpoint.h"
#include "tools/source/checkpoint_files.h"
#include "tools/source/synthetic.h"

#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { THREADS_MAX = 256, PATH_BYTES = 4096 };

typedef enum packer_mode { MODE_PACK, MODE_INSPECT, MODE_VERIFY } packer_mode;

typedef struct packer_arguments {
    packer_mode mode;
    const char *input, *output, *tokenizer;
    weights_kind weights;
    size_t chunk_bytes;
    int threads;
    bool raw, force, json, quiet;
} packer_arguments;

static const char USAGE[] =
    "usage: refine-pack SOURCE -o OUT.pack [--weights fp16|int8] [--codec zstd|raw]\n"
    "                   [--tokenizer PATH] [--chunk SIZE] [--threads N] [--force] [--json]\n"
    "       refine-pack --inspect PACK [--json]\n"
    "       refine-pack --verify PACK [--json]\n";

static const char HELP[] =
    "\n"
    "Turns a checkpoint of the SDXL refiner into a pack: its weights in the order a run\n"
    "touches them, in checksummed and compressed chunks, with all that refine-lowmem needs.\n"
    "\n"
    "SOURCE\n"
    "  FILE.safetensors       the single file, sd_xl_refiner_1.0.safetensors\n"
    "  DIRECTORY              the same model as diffusers keeps it (unet/, vae/,\n"
    "                         text_encoder_2/, tokenizer_2/), fp16 or fp32, sharded or not\n"
    "  synthetic:full[:SEED]  random weights in the refiner's shapes, for measuring\n"
    "  synthetic:tiny[:SEED]  random weights in a tiny model's shapes, for testing\n"
    "  synthetic:demo         a tiny model set by hand, whose image survives\n"
    "\n"
    "Options\n"
    "  -o, --output FILE      the pack to write\n"
    "      --weights fp16|int8\n"
    "                         how matrices are stored. int8 (8 bits, a scale for each 64\n"
    "                         weights) takes half the memory, disk and time to read, and\n"
    "                         changes the image a little; default fp16\n"
    "      --codec zstd|raw   compress, or store as it is (larger by about a sixth, read\n"
    "                         with less work); default zstd\n"
    "      --tokenizer PATH   merges.txt, vocab.json, tokenizer.json,\n"
    "                         bpe_simple_vocab_16e6.txt.gz or a directory with one of them.\n"
    "                         Default: the source directory's own; a single file has none\n"
    "      --chunk SIZE       bytes that travel at a time, 64K to 64M; default 4M\n"
    "      --threads N        default: one per core\n"
    "      --force            replace OUT.pack, unless it is a file of SOURCE or --tokenizer\n"
    "      --json             the result as JSON on stdout\n"
    "      --quiet            no progress\n"
    "      --inspect PACK     say what is in a pack\n"
    "      --verify PACK      read all of a pack and compare every checksum\n"
    "      --version, --help\n"
    "\n"
    "Examples\n"
    "  refine-pack sd_xl_refiner_1.0.safetensors --tokenizer merges.txt -o refiner.pack\n"
    "  refine-pack stable-diffusion-xl-refiner-1.0/ -o refiner.pack\n"
    "  refine-pack --verify refiner.pack\n"
    "\n"
    "Exit status: 0 done, 1 failed while running, 2 usage, 4 bad input file.\n";

static int packer_print_error(int code, const char *text)
{
    (void)fprintf(stderr, "refine-pack: %s\n", text);
    return code;
}

/* ---- the command line ---- */

enum {
    OPT_WEIGHTS = 256,
    OPT_CODEC,
    OPT_TOKENIZER,
    OPT_FORCE,
    OPT_JSON,
    OPT_CHUNK,
    OPT_THREADS,
    OPT_QUIET,
    OPT_INSPECT,
    OPT_VERIFY,
    OPT_VERSION
};

static const struct option OPTIONS[] = {
    { "output", required_argument, NULL, 'o' },
    { "weights", required_argument, NULL, OPT_WEIGHTS },
    { "codec", required_argument, NULL, OPT_CODEC },
    { "tokenizer", required_argument, NULL, OPT_TOKENIZER },
    { "force", no_argument, NULL, OPT_FORCE },
    { "json", no_argument, NULL, OPT_JSON },
    { "chunk", required_argument, NULL, OPT_CHUNK },
    { "threads", required_argument, NULL, OPT_THREADS },
    { "quiet", no_argument, NULL, OPT_QUIET },
    { "inspect", required_argument, NULL, OPT_INSPECT },
    { "verify", required_argument, NULL, OPT_VERIFY },
    { "version", no_argument, NULL, OPT_VERSION },
    { "help", no_argument, NULL, 'h' },
    { NULL, 0, NULL, 0 },
};

static refine_status option_error(refine_error *err, const char *option, const char *value,
                                  const char *advice)
{
    return refine_fail(err, REFINE_EINVAL, "%s %s: %s", option, value, advice);
}

static refine_status parse_weights(packer_arguments *a, const char *value, refine_error *err)
{
    if (weights_find(value, &a->weights))
        return REFINE_OK;
    return option_error(err, "--weights", value, "unknown; use fp16 or int8");
}

static refine_status parse_codec(packer_arguments *a, const char *value, refine_error *err)
{
    a->raw = strcmp(value, "raw") == 0;
    if (a->raw || strcmp(value, "zstd") == 0)
        return REFINE_OK;
    return option_error(err, "--codec", value, "unknown; use zstd or raw");
}

static refine_status parse_chunk(packer_arguments *a, const char *value, refine_error *err)
{
    uint64_t bytes;
    if (!sizes_parse(value, &bytes) || bytes < PACK_CHUNK_MIN || bytes > PACK_CHUNK_MAX)
        return option_error(err, "--chunk", value, "write a size from 64K to 64M");
    a->chunk_bytes = (size_t)bytes;
    return REFINE_OK;
}

static refine_status parse_threads(packer_arguments *a, const char *value, refine_error *err)
{
    if (!numbers_int(value, 1, THREADS_MAX, &a->threads))
        return option_error(err, "--threads", value, "write a number from 1 to 256");
    return REFINE_OK;
}

static refine_status set_mode(packer_arguments *a, packer_mode m, const char *pack,
                              refine_error *err)
{
    if (a->mode != MODE_PACK)
        return refine_fail(err, REFINE_EINVAL, "one of --inspect and --verify at a time");
    a->mode = m;
    a->input = pack;
    return REFINE_OK;
}

static refine_status parse_option(packer_arguments *a, int option, refine_error *err)
{
    switch (option) {
    case 'o': a->output = optarg; return REFINE_OK;
    case OPT_WEIGHTS: return parse_weights(a, optarg, err);
    case OPT_CODEC: return parse_codec(a, optarg, err);
    case OPT_TOKENIZER: a->tokenizer = optarg; return REFINE_OK;
    case OPT_FORCE: a->force = true; return REFINE_OK;
    case OPT_JSON: a->json = true; return REFINE_OK;
    case OPT_CHUNK: return parse_chunk(a, optarg, err);
    case OPT_THREADS: return parse_threads(a, optarg, err);
    case OPT_QUIET: a->quiet = true; return REFINE_OK;
    case OPT_INSPECT: return set_mode(a, MODE_INSPECT, optarg, err);
    case OPT_VERIFY: return set_mode(a, MODE_VERIFY, optarg, err);
    default: return refine_fail(err, REFINE_EINVAL, "see refine-pack --help");
    }
}

static refine_status packer_check_arguments(packer_arguments *a, int n_rest, char **rest,
                                            refine_error *err)
{
    if (a->mode != MODE_PACK) {
        if (n_rest > 0 || a->output)
            return refine_fail(err, REFINE_EINVAL,
                               "--inspect and --verify take one pack and "
                               "write none");
        return REFINE_OK;
    }
    if (n_rest == 0)
        return refine_fail(err, REFINE_EINVAL, "no SOURCE given; see refine-pack --help");
    if (n_rest > 1)
        return refine_fail(err, REFINE_EINVAL, "%s: one SOURCE at a time", rest[1]);
    if (!a->output || !*a->output)
        return refine_fail(err, REFINE_EINVAL, "no output given; add -o OUT.pack");
    a->input = rest[0];
    return REFINE_OK;
}

/* Returns an exit code, or -1 to go on. */
static int packer_parse_arguments(packer_arguments *a, int argc, char **argv)
{
    refine_error err = { 0 };
    int option;

    while ((option = getopt_long(argc, argv, "o:h", OPTIONS, NULL)) != -1) {
        if (option == 'h') {
            (void)printf("%s%s", USAGE, HELP);
            return EXIT_DONE;
        }
        if (option == OPT_VERSION) {
            (void)printf("refine-pack %s\n", REFINE_VERSION);
            return EXIT_DONE;
        }
        if (parse_option(a, option, &err) != REFINE_OK)
            return packer_print_error(EXIT_USAGE, err.text);
    }
    if (packer_check_arguments(a, argc - optind, argv + optind, &err) != REFINE_OK)
        return packer_print_error(EXIT_USAGE, err.text);
    return -1;
}

/* ---- packing ---- */

/* Bytes of weights that a processor packs in a second, about: what is said before there is a
 * measured rate. */
static double usual_rate(const packer_arguments *a)
{
    const double each = a->weights == WEIGHTS_INT8 ? 50e6 : 150e6;
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return each * (a->threads > 0 ? a->threads : cores < 1 ? 1.0 : (double)cores);
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

/* The directory of the source that holds its tokenizer, or NULL. */
static const char *own_tokenizer(const char *source, char path[PATH_BYTES])
{
    static const char *const DIRS[] = { "tokenizer_2", "tokenizer" };
    for (size_t i = 0; i < 2; i++)
        if (snprintf(path, PATH_BYTES, "%s/%s", source, DIRS[i]) < PATH_BYTES &&
            is_source_directory(path))
            return path;
    return NULL;
}

static refine_status packer_load_tokenizer(const packer_arguments *a, char **text, size_t *len,
                                           refine_error *err)
{
    char path[PATH_BYTES];
    const char *from = a->tokenizer;

    if (!from && !synthetic_named(a->input))
        from = own_tokenizer(a->input, path);
    if (from)
        return merges_load(from, text, len, err);
    (void)fprintf(stderr,
                  "refine-pack: note: no tokenizer in %s; give one with --tokenizer "
                  "PATH here, or to refine-lowmem on every run\n",
                  a->input);
    return REFINE_OK;
}

static refine_status open_source(weight_source **out, const char *input, refine_error *err)
{
    return synthetic_named(input) ? synthetic_open(out, input, err)
                                  : checkpoint_open(out, input, err);
}

/* A raw pack is not advised: there is nothing to decode, and whoever asked for it knows. */
static bool measure_disk(const packer_arguments *a, disk_advice *disk)
{
    return !a->raw && disk_advice_measure(disk, a->output);
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
        "{s:s, s:s, s:{s:s, s:s, s:I}, s:s, s:s, s:i, s:s, s:b, s:I, s:I, s:i, s:i, s:i, s:f, s:I, "
        "s:o}",
        "version", REFINE_VERSION, "output", a->output, "source", "name", s->name, "layout",
        s->kind, "bytes", (json_int_t)s->bytes, "source_hash", hash, "weights",
        weights_name(a->weights), "int8_matrices", w->n_int8, "codec", a->raw ? "raw" : "zstd",
        "tokenizer", tokenizer, "file_bytes", (json_int_t)w->file_bytes, "weight_bytes",
        (json_int_t)w->weight_bytes, "tensors", w->n_tensors, "chunks", w->n_chunks, "threads",
        w->threads, "seconds", seconds, "rss_peak", (json_int_t)usage.ru_maxrss * 1024, "disk",
        disk ? disk_object(disk) : json_null());
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
                                   .raw = a->raw,
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
        st = open_source(&s, a->input, &err);
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
    interrupt_release();
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
    interrupt_release();
    return exit_code(st, true);
}

int main(int argc, char **argv)
{
    packer_arguments a = { 0 };
    const int code = packer_parse_arguments(&a, argc, argv);

    if (code >= 0)
        return code;
    /* A file that grows too large is then an error of write, not the end of the process. */
    (void)signal(SIGXFSZ, SIG_IGN);
    return a.mode == MODE_PACK ? run_pack(&a) : run_reading(&a);
}
