/* tests/bench/bench_step.c -- one job on a real pack: seconds per step, peaks, stalls.
 *
 *     bench_step PACK SIZE f32|bf16|int8 resident|streamed [STEPS [VRAM_MIB [RAM_MIB [PIXELS]]]]
 *
 * Prints one line.  `resident` keeps every UNet weight on the device, `streamed` none.
 * PIXELS 0 leaves out the VAE (latents in and out).  docs/speed.md says how its figures
 * were made: interleaved calls, medians.
 */
#include "engine/refine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t argument(int argc, char **argv, int i, uint64_t otherwise)
{
    return argc > i ? strtoull(argv[i], NULL, 10) : otherwise;
}

static int fail(const refine_error *err)
{
    fprintf(stderr, "bench_step: %s\n", err->text);
    return 1;
}

static void print(const refine_report *r, const char *mode, double rss_mib)
{
    const double stall = r->stall_disk + r->stall_decode + r->stall_copy;
    printf("%-8s %4dx%-4d %-4s step %.3f first %.3f unet %.2f encode %.2f text %.2f decode %.2f "
           "open %.2f | rss %.1f planned %.1f arena %.1f host %.1f MiB | disk %.2f GB/s, %.2f GB "
           "a step, stalled %.2f s (disk %.2f decode %.2f copy %.2f) %s\n",
           mode, r->width, r->height, r->precision, r->step_median, r->first_step, r->unet,
           r->vae_encode, r->text, r->vae_decode, r->open, rss_mib,
           (double)r->memory.rss_planned / 1048576.0, (double)r->memory.device_planned / 1048576.0,
           (double)r->memory.host_planned / 1048576.0, r->disk_rate / 1e9,
           (double)r->disk_bytes_per_step / 1e9, stall, r->stall_disk, r->stall_decode,
           r->stall_copy, r->reader);
}

static refine_precision precision_of(const char *word)
{
    return strcmp(word, "bf16") == 0   ? REFINE_BF16
           : strcmp(word, "int8") == 0 ? REFINE_INT8
                                       : REFINE_F32;
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: bench_step PACK SIZE f32|bf16|int8 resident|streamed [STEPS "
                        "[VRAM_MIB [RAM_MIB [PIXELS]]]]\n");
        return 2;
    }
    const int size = (int)strtol(argv[2], NULL, 10);
    const size_t pixels = (size_t)size * (size_t)size * 3;
    const bool with_vae = argument(argc, argv, 8, 1) != 0;
    uint8_t *rgb = malloc(pixels);
    float *latents = calloc(pixels / 48, sizeof *latents);
    if (!rgb || !latents)
        return 1;
    for (size_t i = 0; i < pixels; i++)
        rgb[i] = (uint8_t)(i * 2654435761u >> 13);

    refine_options o = REFINE_OPTIONS_INIT;
    o.pack_path = argv[1];
    o.precision = precision_of(argv[3]);
    o.resident_bytes = strcmp(argv[4], "resident") == 0 ? 0 : UINT64_MAX;
    o.vram_bytes = argument(argc, argv, 6, 0) << 20;
    o.ram_bytes = argument(argc, argv, 7, 192) << 20;
    refine_job j = REFINE_JOB_INIT;
    j.prompt = "a cup of coffee";
    j.width = j.height = size;
    j.steps = 100;
    j.strength = (double)argument(argc, argv, 5, 3) / 100.0 + 0.001;
    if (with_vae)
        j.rgb_in = j.rgb_out = rgb;
    else
        j.latents_in = j.latents_out = latents;

    refine_engine *e;
    refine_error err = { 0 };
    refine_report r = REFINE_REPORT_INIT;
    if (refine_open(&e, &o, &j, &err) != REFINE_OK)
        return fail(&err);
    if (refine_run(e, &j, &err) != REFINE_OK)
        return fail(&err);
    refine_get_report(e, &r);
    print(&r, argv[4], (double)r.memory.rss_peak / 1048576.0);
    refine_close(e);
    free(rgb);
    free(latents);
    return 0;
}
