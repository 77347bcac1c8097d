/* tests/bench/bench_step.c -- one job on a real pack: seconds per step, peaks, stalls.
 *
 *     bench_step [--cuda] [--json] [--link GB_A_SECOND] [--cold] [--save FILE | --against FILE]
 *                PACK SIZE f32|bf16|fp16|int8|auto resident|streamed|cached|planned
 *                [STEPS [VRAM_MIB [RAM_MIB [PIXELS]]]]
 *
 * Prints one line.  `resident` and `planned` keep what fits of the UNet's weights on the device,
 * `streamed` none, `cached` none either but all in host memory.  PIXELS 0 leaves out the VAE
 * (latents in and out).  --link is a limit on copies, --cold drops the pack from the page cache.
 * A budget that is refused is an answer too: with --json it is the line, and no failure.
 * --save writes the latents down, --against says how far these are from those written down, in
 * decibels: 10 log10(sum of theirs^2 / sum of the difference^2).
 * docs/speed.md says how its figures were made: interleaved calls, medians.  Of the CPU it says too
 * which part of the peak a step reaches (tests/bench/peak.h), the loops being run after the job.
 *
 * On a GPU `measured` is what the driver says was taken while the engine lived, to be set beside
 * `planned`.  `digest` is of what came out (FNV-1a): every budget must give the same.  Latents that
 * are not finite are counted, and a failure.
 */
#define _GNU_SOURCE /* getopt_long */
#include "engine/model/finite.h"
#include "tests/bench/peak.h"
#include "tests/support/card_memory.h"
#include "tests/support/json_line.h"
#include <refine/refine.h>

#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct step_arguments {
    bool cuda, json, cold;
    double link;
    const char *pack, *precision, *mode, *save, *against;
    int size, steps;
    uint64_t vram, ram;
    bool with_vae;
} step_arguments;

typedef struct output {
    uint8_t *rgb;
    float *latents;
    size_t pixels; /* bytes */
} output;

static uint64_t parse_u64_argument(int argc, char **argv, int i, uint64_t otherwise)
{
    return argc > i ? strtoull(argv[i], NULL, 10) : otherwise;
}

/* ---- what is printed ---- */

static double bytes_in_mib(uint64_t bytes) { return (double)bytes / 1048576.0; }

/* Floating-point operations of each phase (of a step of denoising), and the most a second: of the
 * step's kind, and of the others', which is f32. */
typedef struct arithmetic {
    double of[REFINE_FINISHED], peak, peak_f32;
} arithmetic;

static arithmetic arithmetic_of(const refine_engine *e, const refine_report *r, bool cuda)
{
    arithmetic a = { 0 };
    for (int i = 0; i < refine_chunks(e); i++) {
        refine_chunk c;
        if (refine_get_chunk(e, i, &c) == REFINE_OK && c.phase < REFINE_FINISHED)
            a.of[c.phase] += c.flops;
    }
    a.of[REFINE_DENOISING] *= r->passes_per_step;
    if (!cuda) {
        a.peak_f32 = peak_rate(PEAK_F32, r->threads, 0.1);
        a.peak = peak_rate(strcmp(r->precision, "int8") == 0   ? PEAK_INT8
                           : strcmp(r->precision, "bf16") == 0 ? PEAK_BF16
                                                               : PEAK_F32,
                           r->threads, 0.1);
    }
    return a;
}

/* How many times as long a phase took as its products at the peak would. */
static void print_share(const char *phase, double seconds, double flops, double peak)
{
    if (flops > 0 && seconds > 0)
        printf(", %s %.2f", phase, seconds * peak / flops);
}

static void print_step_line(const refine_report *r, const char *mode, arithmetic a)
{
    const double stall = r->stall_disk + r->stall_decode + r->stall_copy;
    printf("%-8s %4dx%-4d %-4s step %.3f first %.3f unet %.2f encode %.2f text %.2f decode %.2f "
           "open %.2f | rss %.1f planned %.1f arena %.1f host %.1f MiB | disk %.2f GB/s, %.2f GB "
           "a step, stalled %.2f s (disk %.2f decode %.2f copy %.2f) %s",
           mode, r->width, r->height, r->precision, r->step_median, r->first_step, r->unet,
           r->vae_encode, r->text, r->vae_decode, r->open, bytes_in_mib(r->memory.rss_peak),
           bytes_in_mib(r->memory.rss_planned), bytes_in_mib(r->memory.device_planned),
           bytes_in_mib(r->memory.host_planned), r->disk_rate / 1e9,
           (double)r->disk_bytes_per_step / 1e9, stall, r->stall_disk, r->stall_decode,
           r->stall_copy, r->reader);
    if (a.peak > 0) {
        const double step = a.of[REFINE_DENOISING] / r->step_median;
        printf(" | %.0f GFLOP/s, %.3f of %.0f", 1e-9 * step, step / a.peak, 1e-9 * a.peak);
        print_share("encode", r->vae_encode, a.of[REFINE_ENCODING], a.peak_f32);
        print_share("text", r->text, a.of[REFINE_TEXT], a.peak_f32);
        print_share("decode", r->vae_decode, a.of[REFINE_DECODING], a.peak_f32);
    }
    printf("\n");
}

static void begin_json(const step_arguments *a)
{
    printf("{\"stage\":\"step\",\"size\":%d,\"vae\":%s,\"link_limit\":%g,\"vram_mib\":%llu,"
           "\"ram_mib\":%llu",
           a->size, a->with_vae ? "true" : "false", a->link, (unsigned long long)a->vram,
           (unsigned long long)a->ram);
    json_text(stdout, "mode", a->mode);
    json_text(stdout, "pack", a->pack);
}

static void print_memory_members(const refine_memory *m, uint64_t measured)
{
    json_number(stdout, "overhead_mib", bytes_in_mib(m->device_overhead));
    json_number(stdout, "planned_mib", bytes_in_mib(m->device_planned));
    json_number(stdout, "measured_mib", bytes_in_mib(measured));
    json_number(stdout, "resident_mib", bytes_in_mib(m->resident));
    json_number(stdout, "host_planned_mib", bytes_in_mib(m->host_planned));
    json_number(stdout, "host_peak_mib", bytes_in_mib(m->host_peak));
    json_number(stdout, "rss_planned_mib", bytes_in_mib(m->rss_planned));
    json_number(stdout, "rss_peak_mib", bytes_in_mib(m->rss_peak));
}

static void print_step_json(const step_arguments *a, const refine_report *r, uint64_t measured,
                            arithmetic w, uint64_t digest, double db, size_t not_finite)
{
    begin_json(a);
    json_text(stdout, "device", r->device_model);
    json_text(stdout, "precision", r->precision);
    json_text(stdout, "reader", r->reader);
    json_text(stdout, "note", r->note);
    json_number(stdout, "steps", r->steps_run);
    json_number(stdout, "step_s", r->step_median);
    json_number(stdout, "first_step_s", r->first_step);
    json_number(stdout, "predicted_s", r->predicted_step);
    json_number(stdout, "open_s", r->open);
    json_number(stdout, "text_s", r->text);
    json_number(stdout, "encode_s", r->vae_encode);
    json_number(stdout, "decode_s", r->vae_decode);
    json_number(stdout, "copy_bytes_per_step", (double)r->copy_bytes_per_step);
    json_number(stdout, "disk_bytes_per_step", (double)r->disk_bytes_per_step);
    json_number(stdout, "copy_gbps", 1e-9 * r->copy_rate);
    json_number(stdout, "disk_gbps", 1e-9 * r->disk_rate);
    json_number(stdout, "stall_disk_s", r->stall_disk);
    json_number(stdout, "stall_decode_s", r->stall_decode);
    json_number(stdout, "stall_copy_s", r->stall_copy);
    json_number(stdout, "per_pass", r->per_pass);
    json_number(stdout, "step_gflop", 1e-9 * w.of[REFINE_DENOISING]);
    if (w.peak > 0)
        json_number(stdout, "peak_gflops", 1e-9 * w.peak);
    print_memory_members(&r->memory, measured);
    if (a->against)
        json_number(stdout, "against_db", db);
    json_number(stdout, "not_finite", (double)not_finite);
    printf(",\"digest\":\"%016llx\"}\n", (unsigned long long)digest);
}

static int report_failure(const step_arguments *a, const refine_error *err)
{
    if (a->json && err->status == REFINE_EBUDGET) {
        begin_json(a);
        json_text(stdout, "refused", err->text);
        printf("}\n");
        return 0;
    }
    fprintf(stderr, "bench_step: %s\n", err->text);
    return 1;
}

static uint64_t hash_output_bytes(const void *data, size_t bytes)
{
    const unsigned char *p = data;
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < bytes; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

/* ---- latents on disk ---- */

static bool write_floats(const char *path, const float *v, size_t n)
{
    FILE *f = fopen(path, "wb");
    if (!f)
        return false;
    const bool written = fwrite(v, sizeof *v, n, f) == n;
    return fclose(f) == 0 && written;
}

static bool read_floats(const char *path, float *v, size_t n)
{
    FILE *f = fopen(path, "rb");
    const bool done = f && fread(v, sizeof *v, n, f) == n && getc(f) == EOF;
    if (f)
        (void)fclose(f);
    return done;
}

/* 1000: the same.  NAN: one of both is not finite.  False: there is nothing to set them beside. */
static bool compare_floats_file(double *db, const char *path, const float *v, size_t n)
{
    float *other = malloc(n * sizeof *other);
    double signal = 0, error = 0;
    const bool done = other && read_floats(path, other, n);
    for (size_t i = 0; done && i < n; i++) {
        signal += (double)other[i] * (double)other[i];
        error += ((double)other[i] - (double)v[i]) * ((double)other[i] - (double)v[i]);
    }
    free(other);
    *db = error == 0 ? 1000 : 10 * log10(signal / error);
    return done;
}

/* What --save and --against ask for. */
static bool keep_latents(const step_arguments *a, const output *out, double *db)
{
    const size_t n = out->pixels / 48;
    if (a->save && !write_floats(a->save, out->latents, n)) {
        fprintf(stderr, "bench_step: %s cannot be written\n", a->save);
        return false;
    }
    if (a->against && !compare_floats_file(db, a->against, out->latents, n)) {
        fprintf(stderr, "bench_step: %s does not hold %zu floats\n", a->against, n);
        return false;
    }
    return true;
}

/* ---- the job ---- */

static refine_precision parse_step_precision(const char *word)
{
    return strcmp(word, "bf16") == 0   ? REFINE_BF16
           : strcmp(word, "fp16") == 0 ? REFINE_FP16
           : strcmp(word, "int8") == 0 ? REFINE_INT8
           : strcmp(word, "auto") == 0 ? REFINE_PRECISION_AUTO
                                       : REFINE_F32;
}

static refine_options options_of(const step_arguments *a)
{
    const bool cached = strcmp(a->mode, "cached") == 0;
    refine_options o = REFINE_OPTIONS_INIT;
    o.pack_path = a->pack;
    o.device = a->cuda ? REFINE_DEVICE_CUDA : REFINE_DEVICE_CPU;
    o.precision = parse_step_precision(a->precision);
    o.resident_bytes = cached || strcmp(a->mode, "streamed") == 0 ? UINT64_MAX : 0;
    o.cached_bytes = cached ? UINT64_MAX - 1 : 0;
    o.copy_limit = 1e9 * a->link;
    o.vram_bytes = a->vram << 20;
    o.ram_bytes = a->ram << 20;
    return o;
}

static refine_job make_step_job(const step_arguments *a, const output *out)
{
    refine_job j = REFINE_JOB_INIT;
    j.prompt = "a cup of coffee";
    j.width = j.height = a->size;
    j.steps = 100;
    j.strength = (double)a->steps / 100.0 + 0.001;
    if (a->with_vae)
        j.rgb_in = j.rgb_out = out->rgb;
    else
        j.latents_in = j.latents_out = out->latents;
    return j;
}

static bool take_output(output *out, int size)
{
    out->pixels = (size_t)size * (size_t)size * 3;
    out->rgb = malloc(out->pixels);
    out->latents = calloc(out->pixels / 48, sizeof *out->latents);
    for (size_t i = 0; out->rgb && i < out->pixels; i++)
        out->rgb[i] = (uint8_t)(i * 2654435761u >> 13);
    return out->rgb && out->latents;
}

static void drop_from_page_cache(const char *path)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    (void)close(fd);
}

static int run_step_bench(const step_arguments *a, const output *out)
{
    const refine_options o = options_of(a);
    const refine_job j = make_step_job(a, out);
    refine_report r = REFINE_REPORT_INIT;
    refine_error err = { 0 };
    refine_engine *e;
    size_t before = 0, after = 0;
    double db = 0;

    if (a->cuda && !card_memory_used(&before, false))
        before = 0;
    if (refine_open(&e, &o, &j, &err) != REFINE_OK)
        return report_failure(a, &err);
    if (refine_run(e, &j, &err) != REFINE_OK) {
        refine_close(e);
        return report_failure(a, &err);
    }
    if (a->cuda && !card_memory_used(&after, true))
        after = before;
    refine_get_report(e, &r);
    const uint64_t digest = a->with_vae
                                ? hash_output_bytes(out->rgb, out->pixels)
                                : hash_output_bytes(out->latents, out->pixels / 48 * sizeof(float));
    const size_t bad = a->with_vae ? 0 : finite_bad(out->latents, out->pixels / 48);
    const bool kept = keep_latents(a, out, &db);
    const arithmetic w = arithmetic_of(e, &r, a->cuda);
    if (kept && a->json)
        print_step_json(a, &r, after > before ? after - before : 0, w, digest, db, bad);
    else if (kept)
        print_step_line(&r, a->mode, w);
    if (bad > 0)
        fprintf(stderr, "bench_step: %zu latents are not finite\n", bad);
    refine_close(e);
    return !kept || bad > 0;
}

static bool parse_step_arguments(step_arguments *a, int argc, char **argv)
{
    static const struct option LONG[] = { { "cuda", no_argument, NULL, 'c' },
                                          { "json", no_argument, NULL, 'j' },
                                          { "link", required_argument, NULL, 'l' },
                                          { "cold", no_argument, NULL, 'd' },
                                          { "save", required_argument, NULL, 's' },
                                          { "against", required_argument, NULL, 'a' },
                                          { NULL, 0, NULL, 0 } };
    int c;
    while ((c = getopt_long(argc, argv, "", LONG, NULL)) != -1) {
        if (c == '?')
            return false;
        a->cuda |= c == 'c';
        a->json |= c == 'j';
        a->cold |= c == 'd';
        a->link = c == 'l' ? strtod(optarg, NULL) : a->link;
        a->save = c == 's' ? optarg : a->save;
        a->against = c == 'a' ? optarg : a->against;
    }
    argc -= optind;
    argv += optind;
    if (argc < 4)
        return false;
    a->pack = argv[0];
    a->size = (int)strtol(argv[1], NULL, 10);
    a->precision = argv[2];
    a->mode = argv[3];
    a->steps = (int)parse_u64_argument(argc, argv, 4, 3);
    a->vram = parse_u64_argument(argc, argv, 5, 0);
    a->ram = parse_u64_argument(argc, argv, 6, 192);
    a->with_vae = parse_u64_argument(argc, argv, 7, 1) != 0;
    return true;
}

int main(int argc, char **argv)
{
    step_arguments a = { 0 };
    output out;

    (void)setvbuf(stdout, NULL, _IOLBF, 0); /* or the line is lost when this is ended */
    if (!parse_step_arguments(&a, argc, argv)) {
        fprintf(stderr, "usage: bench_step [--cuda] [--json] [--link GB_A_SECOND] [--cold] "
                        "[--save FILE | --against FILE] PACK SIZE "
                        "f32|bf16|fp16|int8|auto resident|streamed|cached|planned "
                        "[STEPS [VRAM_MIB [RAM_MIB [PIXELS]]]]\n");
        return 2;
    }
    if (a.cold)
        drop_from_page_cache(a.pack);
    const int status = take_output(&out, a.size) ? run_step_bench(&a, &out) : 1;
    free(out.rgb);
    free(out.latents);
    return status;
}
