/* tools/refine_lowmem.c -- refine an image, or the base model's latents, within a memory budget.
 *
 * Arguments in, one job through <refine/refine.h>, a PNG (or latents) out.  Results go to
 * stdout, progress and errors to stderr.  Exit: 0 done, 1 failed while running, 2 usage,
 * 3 the budget cannot be met, 4 bad input file.
 */
#define _GNU_SOURCE /* getrandom, getopt_long */
#include "engine/base/mem.h"
#include "engine/base/try.h"
#include "tools/batch/batch.h"
#include "tools/batch/job_input.h"
#include "tools/batch/output.h"
#include "tools/batch/work_list.h"
#include "tools/cli/devices.h"
#include "tools/cli/exit_code.h"
#include "tools/cli/interrupt.h"
#include "tools/cli/numbers.h"
#include "tools/cli/places.h"
#include "tools/cli/progress.h"
#include "tools/cli/sizes.h"
#include "tools/files/merges.h"
#include "tools/files/new_file.h"
#include "tools/report/compare_report.h"
#include "tools/report/result_json.h"
#include "tools/report/trace_json.h"
#include <refine/refine.h>

#include <errno.h>
#include <float.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TOKENS_READ = 77 }; /* of a prompt, start and end included */

static const float SCALING_FACTOR = 0.13025f;

typedef struct lowmem_arguments {
    refine_options o;
    refine_job j;
    const char **inputs; /* owned; as many as -i was given */
    int n_inputs;
    const char *manifest, *output, *output_latents, *tokenizer, *trace, *reference;
    bool plan, json, quiet, seeded;
} lowmem_arguments;

static const char HELP[] =
    "usage: refine-lowmem -m PACK -i INPUT -o OUT.png -p PROMPT [-n NEGATIVE] [options]\n"
    "       refine-lowmem -m PACK -i INPUT -i INPUT... -o DIRECTORY -p PROMPT [options]\n"
    "       refine-lowmem -m PACK -i INPUT -p PROMPT --compare REFERENCE.pack [options]\n"
    "\n"
    "Refines an image with the Stable Diffusion XL refiner, inside a memory budget.\n"
    "\n"
    "  -m, --model PACK         the model, made by refine-pack\n"
    "  -i, --input INPUT        PNG or JPEG, '-' for stdin, or latents (.safetensors, .npy,\n"
    "                           .latent); a directory: all that is in it; may be repeated\n"
    "      --manifest FILE      one JSON object a line: \"input\", and if wanted \"output\",\n"
    "                           \"prompt\", \"negative\", \"seed\"\n"
    "  -o, --output OUT.png     the refined image, '-' for stdout; of several inputs, the\n"
    "                           directory they go to, where existing outputs are skipped.\n"
    "                           No file that the run reads is ever replaced\n"
    "  -p, --prompt TEXT        what the image shows\n"
    "  -n, --negative TEXT      what it should not show\n"
    "      --strength F         how much is changed, 0 to 1 (0.3)\n"
    "      --steps N            steps of the whole schedule; strength of them are run (50)\n"
    "      --denoising-start F  INPUT is partly denoised (base model with denoising_end F): no\n"
    "                           noise is added, strength is not used\n"
    "      --guidance F         weight of the prompt (5.0); none at 1 or below\n"
    "      --seed N             the same seed gives the same image (random)\n"
    "      --rng torch|philox   noise as diffusers draws it on a CPU or on a GPU (torch)\n"
    "      --aesthetic-score F --negative-aesthetic-score F      (6.0, 2.5)\n"
    "      --scheduler euler\n"
    "      --output-latents F   also write the final latents (.safetensors, .npy, .latent)\n"
    "      --tokenizer PATH     merges.txt, vocab.json or bpe_simple_vocab_16e6.txt.gz, if the\n"
    "                           pack has none\n"
    "\n"
    "      --vram SIZE          hard ceiling on device memory (512M, 1.5G); default: what is free\n"
    "      --ram SIZE           hard ceiling on host memory (512M); what is left of it keeps\n"
    "                           weights, where that makes a step faster\n"
    "      --batch N            images that share the passes over the weights, at most\n"
    "                           (as many as make each cheaper, 8 at most)\n"
    "      --device auto|cuda[:N]|cpu\n"
    "                           auto: the first GPU if there is one, else the CPU\n"
    "      --precision auto|f32|fp16|bf16|int8\n"
    "                           auto: fp16 on a GPU; bf16 on a CPU that multiplies it, else f32\n"
    "      --threads N          compute threads (one per core)\n"
    "      --reader auto|io_uring|pread\n"
    "      --limit-disk SIZE --limit-copy SIZE\n"
    "                           bytes a second not to exceed, from disk and to the device\n"
    "\n"
    "TMPDIR names the directory of the scratch file (/var/tmp), which is made (and has no name)\n"
    "only where neither --vram nor --ram holds the VAE's feature maps, and to compare.\n"
    "\n"
    "      --plan               say what the run would take, and stop\n"
    "      --json               the result as JSON on stdout\n"
    "      --quiet              no progress\n"
    "      --list-devices       what --device may name here, and stop\n"
    "      --compare REF.pack   run the job with REF.pack in f32 first, and say how far from it\n"
    "                           latents, layers and image are: what int8 or bf16 cost\n"
    "      --trace FILE.json    a recording of the run, for refine-memprof, Perfetto or\n"
    "                           chrome://tracing\n"
    "      --version --help\n"
    "\n"
    "examples:\n"
    "  refine-lowmem -m refiner.pack -i photo.jpg -o out.png -p \"a castle at dawn\" --vram 2G\n"
    "  refine-lowmem -m refiner.pack -i base.safetensors -o out.png -p \"a castle at dawn\" \\\n"
    "                --denoising-start 0.8 --steps 40\n"
    "  refine-lowmem -m refiner.pack -i holiday/ -o refined/ -p \"a photo\" --vram 4G\n"
    "  refine-lowmem -m refiner.pack -i photo.jpg --plan --vram 512M\n"
    "  refine-lowmem -m int8.pack -i photo.jpg -p \"a photo\" --compare fp16.pack\n";

enum {
    OPT_STRENGTH = 256,
    OPT_STEPS,
    OPT_GUIDANCE,
    OPT_SEED,
    OPT_RNG,
    OPT_SCORE,
    OPT_NEGATIVE_SCORE,
    OPT_START,
    OPT_SCHEDULER,
    OPT_LATENTS,
    OPT_VRAM,
    OPT_RAM,
    OPT_DEVICE,
    OPT_PRECISION,
    OPT_PLAN,
    OPT_JSON,
    OPT_QUIET,
    OPT_VERSION,
    OPT_LIST,
    OPT_TOKENIZER,
    OPT_THREADS,
    OPT_READER,
    OPT_TRACE,
    OPT_MANIFEST,
    OPT_BATCH,
    OPT_LIMIT_DISK,
    OPT_LIMIT_COPY,
    OPT_COMPARE
};

static const struct option OPTIONS[] = {
    { "model", required_argument, NULL, 'm' },
    { "input", required_argument, NULL, 'i' },
    { "output", required_argument, NULL, 'o' },
    { "prompt", required_argument, NULL, 'p' },
    { "negative", required_argument, NULL, 'n' },
    { "strength", required_argument, NULL, OPT_STRENGTH },
    { "steps", required_argument, NULL, OPT_STEPS },
    { "guidance", required_argument, NULL, OPT_GUIDANCE },
    { "seed", required_argument, NULL, OPT_SEED },
    { "rng", required_argument, NULL, OPT_RNG },
    { "aesthetic-score", required_argument, NULL, OPT_SCORE },
    { "negative-aesthetic-score", required_argument, NULL, OPT_NEGATIVE_SCORE },
    { "denoising-start", required_argument, NULL, OPT_START },
    { "scheduler", required_argument, NULL, OPT_SCHEDULER },
    { "output-latents", required_argument, NULL, OPT_LATENTS },
    { "tokenizer", required_argument, NULL, OPT_TOKENIZER },
    { "vram", required_argument, NULL, OPT_VRAM },
    { "ram", required_argument, NULL, OPT_RAM },
    { "device", required_argument, NULL, OPT_DEVICE },
    { "precision", required_argument, NULL, OPT_PRECISION },
    { "threads", required_argument, NULL, OPT_THREADS },
    { "reader", required_argument, NULL, OPT_READER },
    { "plan", no_argument, NULL, OPT_PLAN },
    { "json", no_argument, NULL, OPT_JSON },
    { "quiet", no_argument, NULL, OPT_QUIET },
    { "trace", required_argument, NULL, OPT_TRACE },
    { "manifest", required_argument, NULL, OPT_MANIFEST },
    { "batch", required_argument, NULL, OPT_BATCH },
    { "limit-disk", required_argument, NULL, OPT_LIMIT_DISK },
    { "limit-copy", required_argument, NULL, OPT_LIMIT_COPY },
    { "compare", required_argument, NULL, OPT_COMPARE },
    { "version", no_argument, NULL, OPT_VERSION },
    { "list-devices", no_argument, NULL, OPT_LIST },
    { "help", no_argument, NULL, 'h' },
    { NULL, 0, NULL, 0 },
};

static int lowmem_print_error(const refine_error *err, int code)
{
    fprintf(stderr, "refine-lowmem: %s\n", err->text);
    return code;
}

/* ---- arguments ---- */

static bool parse_finite(const char *s, double *out)
{
    return numbers_real(s, -DBL_MAX, DBL_MAX, out);
}

static bool number_float(const char *s, float *out)
{
    double v;
    if (!parse_finite(s, &v))
        return false;
    *out = (float)v;
    return true;
}

/* The index of `s` in a NULL-ended list; false when it is not there. */
static bool find_choice(const char *s, const char *const list[], int *out)
{
    for (int i = 0; list[i]; i++)
        if (strcmp(s, list[i]) == 0) {
            *out = i;
            return true;
        }
    return false;
}

/* "cuda" is the first GPU, "cuda:N" the one of that number. */
static bool set_device(lowmem_arguments *a, const char *v)
{
    static const char *const DEVICES[] = { "auto", "cpu", "ref", "cuda", NULL };
    uint64_t index = 0;
    int i = REFINE_DEVICE_CUDA;
    if (strncmp(v, "cuda:", 5) == 0 ? !numbers_whole(v + 5, 0, DEVICES_MAX - 1, &index)
                                    : !find_choice(v, DEVICES, &i))
        return false;
    a->o.device = (refine_device)i;
    a->o.device_index = (int)index;
    return true;
}

static bool set_choice(lowmem_arguments *a, int option, const char *v)
{
    static const char *const RNGS[] = { "torch", "philox", NULL };
    static const char *const PRECISIONS[] = { "auto", "f32", "bf16", "fp16", "int8", NULL };
    static const char *const READERS[] = { "auto", "io_uring", "pread", NULL };
    static const char *const SCHEDULERS[] = { "euler", NULL };
    int i;
    switch (option) {
    case OPT_RNG: return find_choice(v, RNGS, &i) ? a->j.rng = (refine_rng)i, true : false;
    case OPT_DEVICE: return set_device(a, v);
    case OPT_PRECISION:
        return find_choice(v, PRECISIONS, &i) ? a->o.precision = (refine_precision)i, true : false;
    case OPT_READER:
        return find_choice(v, READERS, &i) ? a->o.reader = (refine_reader)i, true : false;
    default: return find_choice(v, SCHEDULERS, &i);
    }
}

static bool set_seed(lowmem_arguments *a, const char *v)
{
    a->seeded = true;
    return numbers_whole(v, 0, UINT64_MAX, &a->j.seed);
}

static bool set_limit(const char *v, double *out)
{
    uint64_t bytes;
    if (!sizes_parse(v, &bytes) || bytes == 0)
        return false;
    *out = (double)bytes;
    return true;
}

/* False: the value does not suit the option. */
static bool lowmem_set_option(lowmem_arguments *a, int option, const char *v)
{
    switch (option) {
    case 'm': a->o.pack_path = v; return true;
    case 'i': a->inputs[a->n_inputs++] = v; return true;
    case 'o': a->output = v; return true;
    case 'p': a->j.prompt = v; return true;
    case 'n': a->j.negative = v; return true;
    case OPT_LATENTS: a->output_latents = v; return true;
    case OPT_TOKENIZER: a->tokenizer = v; return true;
    case OPT_TRACE: a->trace = v; return a->o.trace = true;
    case OPT_COMPARE: a->reference = v; return true;
    case OPT_MANIFEST: a->manifest = v; return true;
    case OPT_BATCH: return numbers_int(v, 1, BATCH_MAX, &a->o.images);
    case OPT_LIMIT_DISK: return set_limit(v, &a->o.disk_limit);
    case OPT_LIMIT_COPY: return set_limit(v, &a->o.copy_limit);
    case OPT_PLAN: return a->plan = true;
    case OPT_JSON: return a->json = true;
    case OPT_QUIET: return a->quiet = true;
    case OPT_STRENGTH: return parse_finite(v, &a->j.strength);
    case OPT_START: return parse_finite(v, &a->j.denoising_start);
    case OPT_GUIDANCE: return number_float(v, &a->j.guidance);
    case OPT_SCORE: return number_float(v, &a->j.aesthetic_score);
    case OPT_NEGATIVE_SCORE: return number_float(v, &a->j.negative_aesthetic_score);
    case OPT_STEPS: return numbers_int(v, 0, 1000, &a->j.steps);
    case OPT_THREADS: return numbers_int(v, 0, 256, &a->o.threads);
    case OPT_SEED: return set_seed(a, v);
    case OPT_VRAM: return sizes_parse(v, &a->o.vram_bytes);
    case OPT_RAM: return sizes_parse(v, &a->o.ram_bytes);
    default: return set_choice(a, option, v);
    }
}

static int lowmem_usage_error(const char *fmt, const char *what)
{
    fputs("refine-lowmem: ", stderr);
    fprintf(stderr, fmt, what);
    fputs("; see refine-lowmem --help\n", stderr);
    return EXIT_USAGE;
}

static const char *lowmem_option_name(int option)
{
    int i = 0;
    while (OPTIONS[i].name && OPTIONS[i].val != option)
        i++;
    return OPTIONS[i].name;
}

static int lowmem_check_arguments(const lowmem_arguments *a)
{
    if (!a->o.pack_path)
        return lowmem_usage_error("no model: give -m %s", "PACK");
    if (a->n_inputs == 0 && !a->manifest)
        return lowmem_usage_error("no input: give -i %s", "INPUT");
    if (!a->plan && !a->output && !a->output_latents && !a->manifest && !a->reference)
        return lowmem_usage_error("no output: give -o %s", "OUT.png");
    if (!a->plan && !a->j.prompt && !a->manifest)
        return lowmem_usage_error("no prompt: give -p %s", "TEXT");
    if (a->json && a->output && strcmp(a->output, "-") == 0)
        return lowmem_usage_error("--json and %s both want stdout", "-o -");
    if (a->reference && a->output && strcmp(a->output, "-") == 0)
        return lowmem_usage_error("--compare and %s both want stdout", "-o -");
    if (a->reference && a->plan)
        return lowmem_usage_error("--compare runs the job: leave out %s", "--plan");
    if (a->output_latents && !latents_writable(a->output_latents))
        return lowmem_usage_error("the name '%s' does not end in .safetensors, .npy or .latent",
                                  a->output_latents);
    return EXIT_DONE;
}

/* -1: go on; else the exit code. */
static int lowmem_parse_arguments(lowmem_arguments *a, int argc, char **argv)
{
    int option, index = -1;
    while ((option = getopt_long(argc, argv, "m:i:o:p:n:h", OPTIONS, &index)) != -1) {
        if (option == 'h') {
            fputs(HELP, stdout);
            return EXIT_DONE;
        }
        if (option == OPT_VERSION) {
            printf("refine-lowmem %s\n", refine_version());
            return EXIT_DONE;
        }
        if (option == OPT_LIST)
            return devices_print(stdout, stderr);
        if (option == '?')
            return EXIT_USAGE;
        if (!lowmem_set_option(a, option, optarg)) {
            char what[128];
            snprintf(what, sizeof what, "'%.80s' is no value for --%s", optarg,
                     lowmem_option_name(option));
            return lowmem_usage_error("%s", what);
        }
    }
    if (optind < argc)
        return lowmem_usage_error("what is '%s' for?", argv[optind]);
    const int code = lowmem_check_arguments(a);
    return code == EXIT_DONE ? -1 : code;
}

/* ---- progress ---- */

typedef struct display {
    progress bar;
    bool reference; /* it is the reference's run */
} display;

static const char *phase_name(const display *d, refine_phase phase)
{
    static const char *const NAMES[][2] = {
        { "opening", "reference: opening" },
        { "encoding image", "reference: encoding image" },
        { "reading prompt", "reference: reading prompt" },
        { "refining", "reference: refining" },
        { "decoding image", "reference: decoding image" },
        { "finished", "reference: finished" },
    };
    return NAMES[phase][d->reference];
}

static int on_run_progress(void *context, const refine_progress *p)
{
    display *d = context;
    if (interrupt_pending())
        return 1;
    if (p->phase == REFINE_FINISHED) {
        progress_clear(&d->bar);
        return 0;
    }
    d->bar.what = phase_name(d, p->phase);
    if (!progress_due(&d->bar))
        return 0;
    if (p->phase == REFINE_DENOISING)
        progress_show(&d->bar, (p->step + p->done) / p->steps, p->eta,
                      "step %d of %d, disk %.2f GB/s, stalled %.1f %%", p->step + 1, p->steps,
                      p->disk_rate / 1e9, 100.0 * p->stall_share);
    else
        progress_show(&d->bar, p->done, p->eta, "disk %.2f GB/s", p->disk_rate / 1e9);
    return 0;
}

/* ---- the job ---- */

/* A run may take an hour: that its results cannot be written must be known before. */
static refine_status try_outputs(const lowmem_arguments *a, refine_error *err)
{
    const char *const paths[] = { a->output, a->output_latents, a->trace };
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        new_file f;
        if (!paths[i] || strcmp(paths[i], "-") == 0)
            continue;
        TRY(new_file_open(&f, paths[i], true, err));
        new_file_abandon(&f);
    }
    return REFINE_OK;
}

static const char *output_of(const lowmem_arguments *a)
{
    if (a->output || a->output_latents)
        return a->output ? a->output : a->output_latents;
    return "";
}

static run_record record_of(const lowmem_arguments *a)
{
    return (run_record){ .output = output_of(a),
                         .pack = a->o.pack_path,
                         .input = a->inputs[0],
                         .prompt = a->j.prompt,
                         .negative = a->j.negative,
                         .job = &a->j };
}

static refine_status save_outputs(const lowmem_arguments *a, const refine_engine *e,
                                  const job_input *in, const refine_report *r, refine_error *err)
{
    const run_record record = record_of(a);
    refine_status st = REFINE_OK;
    if (a->output)
        st = output_save(a->output, &in->out, &a->j, r, err);
    if (st == REFINE_OK && a->output_latents)
        st = latents_save(a->output_latents, &in->l, SCALING_FACTOR, err);
    if (st == REFINE_OK && a->trace)
        st = trace_json_save(a->trace, e, &record, err);
    return st;
}

static refine_status print_comparable_json(const lowmem_arguments *a, const refine_report *r,
                                           const compare *c, refine_error *err)
{
    const run_record record = record_of(a);
    json_t *o = result_object(r, &record);
    if (c && json_object_set_new(o, "comparison", compare_json(c, r)) != 0) {
        json_decref(o);
        o = NULL;
    }
    return result_write(stdout, o, err);
}

/* c: NULL, nothing was compared. */
static int show_result(const lowmem_arguments *a, const refine_report *r, const compare *c,
                       refine_error *err)
{
    refine_status st = REFINE_OK;
    if (a->json)
        st = print_comparable_json(a, r, c, err);
    else if (c) /* peaks would be those of both runs */
        st = compare_print(stdout, c, a->o.pack_path, r, err);
    else if (!a->quiet)
        result_print_run(stderr, r);
    return st == REFINE_OK ? EXIT_DONE : lowmem_print_error(err, EXIT_FAILED);
}

static void print_warnings(const lowmem_arguments *a, const refine_report *r)
{
    if (a->quiet)
        return;
    if (r->note[0])
        fprintf(stderr, "refine-lowmem: %s\n", r->note);
    result_print_slow(stderr, r);
    const struct {
        const char *name;
        int tokens;
    } prompts[] = {
        { "prompt", r->tokens },
        { "negative prompt", r->negative_tokens },
    };
    for (int i = 0; i < 2; i++)
        if (prompts[i].tokens > TOKENS_READ)
            fprintf(stderr, "refine-lowmem: the %s has %d tokens; what is beyond %d was cut\n",
                    prompts[i].name, prompts[i].tokens, TOKENS_READ);
}

/* c: what the result is compared with, or NULL. */
static int run_and_save(lowmem_arguments *a, job_input *in, compare *c, display *d)
{
    refine_engine *e;
    refine_error err = { 0 };
    refine_report r = REFINE_REPORT_INIT;

    refine_status st = refine_open(&e, &a->o, &a->j, &err);
    if (st != REFINE_OK)
        return lowmem_print_error(&err, exit_code(st, true));
    if (!a->seeded && !a->quiet)
        fprintf(stderr, "seed %llu\n", (unsigned long long)a->j.seed);
    st = refine_run(e, &a->j, &err);
    if (c)
        st = compare_why(c, st, &err);
    progress_clear(&d->bar);
    int code = exit_code(st, false);
    if (st == REFINE_OK) {
        refine_get_report(e, &r);
        print_warnings(a, &r);
        if (c)
            compare_finish(c, in->out.rgb);
        st = save_outputs(a, e, in, &r, &err);
        code = st == REFINE_OK ? EXIT_DONE : EXIT_FAILED;
    }
    if (st != REFINE_OK)
        (void)lowmem_print_error(&err, code);
    else
        code = show_result(a, &r, c, &err);
    refine_close(e);
    return code;
}

/* Whether both runs can be had; the first may take an hour. */
static refine_status plan_comparison(lowmem_arguments *a, compare *c, refine_error *err)
{
    refine_report r = REFINE_REPORT_INIT;
    compare_attach(c, &a->j);
    TRY(compare_plan(c, err));
    TRY(refine_plan(&r, &a->o, &a->j, err));
    if (!compare_same_source(c, &r) && !a->quiet)
        fprintf(stderr,
                "refine-lowmem: warning: %s and %s were made from different weights; what differs "
                "is not the effect of how they are stored alone\n",
                a->o.pack_path, a->reference);
    return REFINE_OK;
}

static int run_reference(lowmem_arguments *a, compare **c, display *d)
{
    refine_error err = { 0 };
    bool reading = true;
    refine_status st = compare_open(c, a->reference, &a->o, &a->j, &err);
    if (st != REFINE_OK)
        return lowmem_print_error(&err, exit_code(st, false));
    st = plan_comparison(a, *c, &err);
    if (st == REFINE_OK) {
        reading = false;
        d->reference = true;
        st = compare_record(*c, &err);
        d->reference = false;
        progress_clear(&d->bar);
    }
    return st == REFINE_OK ? EXIT_DONE : lowmem_print_error(&err, exit_code(st, reading));
}

static int run_one(lowmem_arguments *a, job_input *in)
{
    refine_error err = { 0 };
    compare *c = NULL;
    display d = { 0 };

    interrupt_hold();
    const refine_status st = try_outputs(a, &err);
    if (st != REFINE_OK)
        return lowmem_print_error(&err, exit_code(st, false));
    progress_open(&d.bar, stderr, "opening", a->quiet);
    a->j.progress = on_run_progress;
    a->j.progress_context = &d;
    int code = a->reference ? run_reference(a, &c, &d) : EXIT_DONE;
    if (code == EXIT_DONE)
        code = run_and_save(a, in, c, &d);
    compare_close(c);
    return code;
}

static int plan_one(const lowmem_arguments *a)
{
    refine_error err = { 0 };
    refine_report r = REFINE_REPORT_INIT;
    const refine_status st = refine_plan(&r, &a->o, &a->j, &err);
    const run_record record = { .pack = a->o.pack_path,
                                .input = a->inputs[0],
                                .prompt = a->j.prompt,
                                .negative = a->j.negative,
                                .job = &a->j };
    if (st != REFINE_OK)
        return lowmem_print_error(&err, exit_code(st, true));
    if (!a->json)
        result_print_plan(stdout, &r);
    else if (result_print_json(stdout, &r, &record, &err) != REFINE_OK)
        return lowmem_print_error(&err, EXIT_FAILED);
    return EXIT_DONE;
}

static refine_status lowmem_load_tokenizer(lowmem_arguments *a, char **merges, refine_error *err)
{
    *merges = NULL;
    if (!a->tokenizer)
        return REFINE_OK;
    const refine_status st = merges_load(a->tokenizer, merges, &a->o.merges_len, err);
    a->o.merges = *merges;
    return st;
}

/* ---- files that are read and written ---- */

static void add_read(places *p, const char *role, const char *name)
{
    if (name && strcmp(name, "-") == 0)
        places_add_open(p, PLACE_READ, "standard input", STDIN_FILENO);
    else
        places_add(p, PLACE_READ, role, name);
}

static void add_written(places *p, const char *role, const char *name)
{
    if (name && strcmp(name, "-") != 0) /* standard output is added whatever goes there */
        places_add(p, PLACE_WRITTEN, role, name);
}

static void add_tokenizer(places *p, const char *tokenizer)
{
    static const char ROLE[] = "the tokenizer (--tokenizer)";
    char file[MERGES_PATH], beside[MERGES_PATH];
    if (!tokenizer || !merges_files(file, beside, tokenizer))
        return;
    places_add(p, PLACE_READ, ROLE, file);
    places_add(p, PLACE_READ, ROLE, beside);
}

/* Of a directory its files, and itself: were it the output's too, the next run would find there
 * what this one made. */
static void add_inputs(places *p, const lowmem_arguments *a, const work_list *l)
{
    for (int i = 0; i < a->n_inputs; i++)
        add_read(p, "the input (-i)", a->inputs[i]);
    for (int i = 0; i < l->n; i++)
        add_read(p, "the input", l->item[i].input);
}

/* No original is replaced, and no result by another. */
static refine_status lowmem_check_places(const lowmem_arguments *a, const work_list *l,
                                         refine_error *err)
{
    places p = { 0 };
    places_add(&p, PLACE_READ, "the model (-m)", a->o.pack_path);
    places_add(&p, PLACE_READ, "the reference (--compare)", a->reference);
    places_add(&p, PLACE_READ, "the manifest (--manifest)", a->manifest);
    add_tokenizer(&p, a->tokenizer);
    add_inputs(&p, a, l);
    if (l->several)
        places_add(&p, PLACE_WRITTEN, "the directory (-o)", a->output);
    else
        add_written(&p, "the image (-o)", a->output);
    for (int i = 0; i < l->n; i++)
        add_written(&p, "the image", l->item[i].output);
    add_written(&p, "the latents (--output-latents)", a->output_latents);
    add_written(&p, "the trace (--trace)", a->trace);
    places_add_open(&p, PLACE_WRITTEN, "standard output", STDOUT_FILENO);
    const refine_status st = places_check(&p, err);
    places_free(&p);
    return st;
}

/* ---- several images ---- */

static void on_finished(void *context, const refine_report *r, const refine_job *jobs,
                        const work_item *const *items, int n)
{
    const lowmem_arguments *a = context;
    refine_error err = { 0 };

    progress_clear(&((display *)a->j.progress_context)->bar);
    if (!a->json && !a->quiet)
        result_print_run(stderr, r);
    if (!a->quiet)
        result_print_slow(stderr, r);
    for (int i = 0; i < n; i++) {
        const run_record record = { .output = items[i]->output,
                                    .pack = a->o.pack_path,
                                    .input = items[i]->input,
                                    .prompt = jobs[i].prompt,
                                    .negative = jobs[i].negative,
                                    .job = &jobs[i] };
        if (a->json && result_print_json(stdout, r, &record, &err) != REFINE_OK)
            (void)lowmem_print_error(&err, EXIT_FAILED);
        else if (!a->quiet && !a->json)
            fprintf(stderr, "%s\n", items[i]->output);
    }
}

static void on_skipped(void *context, const work_item *item, refine_status st,
                       const refine_error *err)
{
    const lowmem_arguments *a = context;
    progress_clear(&((display *)a->j.progress_context)->bar);
    if (st != REFINE_OK)
        fprintf(stderr, "refine-lowmem: %s\n", err->text);
    else if (!a->quiet)
        fprintf(stderr, "%s is there already\n", item->output);
}

static refine_status make_directory(const char *path, refine_error *err)
{
    struct stat st;
    if (!path || (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) || mkdir(path, 0777) == 0)
        return REFINE_OK;
    return refine_fail(err, REFINE_EINVAL, "%s: several images need a directory: %s", path,
                       strerror(errno));
}

static int run_list(lowmem_arguments *a, const work_list *l)
{
    display d = { 0 };
    refine_error err = { 0 };
    batch_result sum;

    progress_open(&d.bar, stderr, "opening", a->quiet);
    a->j.progress = on_run_progress;
    a->j.progress_context = &d;
    const batch_options b = { .o = a->o,
                              .j = a->j,
                              .seeded = a->seeded,
                              .scaling_factor = SCALING_FACTOR,
                              .finished = on_finished,
                              .skipped = on_skipped,
                              .context = a };
    const refine_status st = batch_run(&b, l, &sum, &err);
    progress_clear(&d.bar);
    if (!a->quiet && l->n > 1)
        fprintf(stderr, "%d made, %d there already, %d failed, of %d\n", sum.made, sum.there,
                sum.failed, l->n);
    if (st != REFINE_OK)
        return lowmem_print_error(&err, exit_code(st, sum.made == 0));
    return sum.failed > 0 ? EXIT_INPUT : EXIT_DONE;
}

static int refine_several(lowmem_arguments *a, work_list *l)
{
    refine_error err = { 0 };
    if (a->output_latents || a->trace || a->plan || a->reference)
        return lowmem_usage_error("%s is for one input", a->plan        ? "--plan"
                                                         : a->trace     ? "--trace"
                                                         : a->reference ? "--compare"
                                                                        : "--output-latents");
    interrupt_hold();
    refine_status st = work_list_name_outputs(l, a->output, &err);
    if (st == REFINE_OK)
        st = lowmem_check_places(a, l, &err);
    if (st == REFINE_OK)
        st = make_directory(a->output, &err);
    return st == REFINE_OK ? run_list(a, l) : lowmem_print_error(&err, exit_code(st, true));
}

/* ---- one image ---- */

static int refine_one(lowmem_arguments *a, const work_list *l)
{
    job_input in = { 0 };
    refine_error err = { 0 };
    if (!a->seeded)
        a->j.seed = batch_draw_seed();
    refine_status st = lowmem_check_places(a, l, &err);
    if (st == REFINE_OK)
        st = job_input_load(&in, &a->j, l->item[0].input, a->plan || a->output || a->reference,
                            a->output_latents != NULL, SCALING_FACTOR, &err);
    a->o.caller_bytes = job_input_later(&in) + (a->reference ? COMPARE_LATER : 0);
    const int code = st != REFINE_OK ? lowmem_print_error(&err, exit_code(st, true))
                     : a->plan       ? plan_one(a)
                                     : run_one(a, &in);
    job_input_free(&in);
    return code;
}

static refine_status list_work(const lowmem_arguments *a, work_list *l, refine_error *err)
{
    for (int i = 0; i < a->n_inputs; i++)
        TRY(work_list_add(l, a->inputs[i], err));
    return a->manifest ? work_list_add_manifest(l, a->manifest, err) : REFINE_OK;
}

static int refine_inputs(lowmem_arguments *a)
{
    work_list l = { 0 };
    char *merges = NULL;
    refine_error err = { 0 };
    int code;

    refine_status st = lowmem_load_tokenizer(a, &merges, &err);
    if (st == REFINE_OK)
        st = list_work(a, &l, &err);
    if (st != REFINE_OK)
        code = lowmem_print_error(&err, exit_code(st, true));
    else
        code = l.several ? refine_several(a, &l) : refine_one(a, &l);
    work_list_free(&l);
    mem_free(merges);
    return code;
}

int main(int argc, char **argv)
{
    lowmem_arguments a = { .o = REFINE_OPTIONS_INIT, .j = REFINE_JOB_INIT };

    const char *scratch = getenv("TMPDIR"), *guards = getenv("REFINE_GUARDS");
    a.o.spill_dir = scratch && *scratch ? scratch : NULL;
    a.o.guards = guards && *guards;
    a.inputs = mem_alloc((size_t)argc * sizeof *a.inputs);
    if (!a.inputs)
        return EXIT_FAILED;
    int code = lowmem_parse_arguments(&a, argc, argv);
    if (code < 0)
        code = refine_inputs(&a);
    mem_free((void *)a.inputs);
    return code;
}
