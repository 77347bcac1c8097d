/* engine/include/refine/refine.h -- the SDXL refiner under a memory ceiling: the whole public API.
 *
 *     refine_options o = REFINE_OPTIONS_INIT;
 *     o.pack_path  = "refiner.pack";
 *     o.vram_bytes = 2ull << 30;
 *     refine_job j = REFINE_JOB_INIT;
 *     j.prompt = "a photo"; j.width = 1024; j.height = 1024;
 *     j.rgb_in = pixels; j.rgb_out = pixels;
 *
 *     refine_engine *e;
 *     refine_error   err;
 *     if (refine_open(&e, &o, &j, &err) != REFINE_OK)
 *         die("%s", err.text);
 *     refine_run(e, &j, &err);
 *     refine_close(e);
 *
 * Ownership.  The caller closes what it got through a pointer-to-pointer; everything else is
 * borrowed.  Options and jobs are read during the call and not kept, except the options' strings,
 * which must live until refine_close.
 * Threads.  Use an engine from one thread at a time; engines share nothing.
 * Memory.  refine_open takes all of it and refine_run takes none.  An engine may run any number of
 * jobs of the size, steps and flow that it was opened for.
 * Two models.  With options.base_path a base begins what the refiner of pack_path finishes, inside
 * the same ceilings: one arena serves first the one, then the other, and the refiner's first
 * weights are read while the base still computes.
 */
#ifndef REFINE_H
#define REFINE_H

#include <refine/event.h>
#include <refine/status.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define REFINE_API __attribute__((visibility("default")))
#else
#define REFINE_API
#endif

typedef struct refine_engine refine_engine;

/* auto: the fastest precision of the device without visible loss.  f32: the reference.  bf16:
 * 16-bit activations (scaled fp16 in the VAE).  int8: as bf16, or fp16 on a GPU, but the UNet's
 * activations are rounded to int8 wherever the pack's weights are int8. */
typedef enum refine_precision {
    REFINE_PRECISION_AUTO,
    REFINE_F32,
    REFINE_BF16,
    REFINE_FP16,
    REFINE_INT8
} refine_precision;

typedef enum refine_device {
    REFINE_DEVICE_AUTO,
    REFINE_DEVICE_CPU,
    REFINE_DEVICE_REF,
    REFINE_DEVICE_CUDA
} refine_device;

/* How weights are read.  auto: io_uring with O_DIRECT, or pread where it is unavailable. */
typedef enum refine_reader {
    REFINE_READER_AUTO,
    REFINE_READER_URING,
    REFINE_READER_PREAD
} refine_reader;

/* Noise as torch's CPU generator draws it, or as its CUDA generator does (Philox). */
typedef enum refine_rng { REFINE_RNG_TORCH, REFINE_RNG_PHILOX } refine_rng;

/* How "!" in a prompt is read: diffusers' SDXL tokenizer turns it into padding. */
typedef enum refine_flavour { REFINE_TOKENS_DIFFUSERS, REFINE_TOKENS_OPENCLIP } refine_flavour;

/* Rates of a machine, in bytes per second or floating-point operations per second (a multiply-add
 * counts as two).  0: unknown. */
typedef struct refine_rates {
    double disk;   /* stored bytes, bypassing the page cache */
    double decode; /* decoded bytes, all decode threads together */
    double copy;   /* bytes from host to device */
    double linear, conv, attention;
    double memory; /* bytes read and written by norms and other elementwise work */
} refine_rates;

typedef struct refine_options {
    size_t struct_bytes; /* set by REFINE_OPTIONS_INIT; lets the struct grow */
    const char *pack_path; /* a refiner's, or a base's, which then is all there is */
    const char *base_path; /* of a base that begins what a refiner finishes; NULL: none */
    const char *merges; /* tokenizer text, "a b" per line; NULL: the pack's own */
    size_t merges_len;
    uint64_t vram_bytes;   /* ceiling on device memory; 0: what may be had, less a margin */
    uint64_t ram_bytes;    /* ceiling on host memory; 0: 512 MiB, if they may be had */
    uint64_t caller_bytes; /* part of ram_bytes that the caller itself will still allocate */
    refine_device device;
    int device_index; /* which GPU, for the CUDA device */
    refine_precision precision;
    refine_reader reader;
    int threads;           /* compute threads; 0: one per core that may be used */
    int images;            /* images per run; they share every pass over the weights; 0: 1 */
    const char *spill_dir; /* directory of the scratch file, if one is needed; NULL: /var/tmp */
    double disk_limit, copy_limit; /* ceilings in bytes per second; 0: none */
    refine_rates rates;            /* where not 0, assumed instead of probed */
    bool trace;                    /* record events for refine_trace */
    bool guards; /* check zones between the parts of the arena during a run: finds our bugs */
    /* Tuning.  0: the plan chooses.  None of these changes the image, and any of them may change
     * in a later version. */
    uint64_t ring_bytes;
    uint64_t resident_bytes; /* weights resident on the device; UINT64_MAX: none */
    uint64_t cached_bytes;   /* weights cached in host memory; UINT64_MAX: none */
    int decode_threads;
    int band_rows; /* of the VAE; a multiple of 8 */
    int per_pass;  /* UNet batch elements per pass over the weights; with guidance each
                      image has two */
    int together;  /* most chunks of a matrix that a GPU multiplies in one launch */
    int spill; /* the VAE's feature maps: 1 on the device, 2 in host memory or the scratch file */
} refine_options;

#define REFINE_OPTIONS_INIT                                                                        \
    {                                                                                              \
        .struct_bytes = sizeof(refine_options)                                                     \
    }

typedef enum refine_phase {
    REFINE_OPENING,
    REFINE_ENCODING,
    REFINE_TEXT,
    REFINE_DENOISING,
    REFINE_DECODING,
    REFINE_FINISHED
} refine_phase;

/* Reported when a phase begins and as it advances. */
typedef struct refine_progress {
    refine_phase phase;
    int step, steps;     /* UNet steps finished, and in all, of both models */
    bool of_base;        /* it is the base that runs, before a refiner */
    double done;         /* fraction of the phase (of the step, while denoising), 0..1 */
    double elapsed, eta; /* seconds; eta: until the run ends; < 0: unknown */
    double disk_rate;    /* bytes per second, recently */
    double stall_share;  /* fraction of compute time spent waiting for weights so far */
} refine_progress;

/* A part of the output of one layer for one batch element.  The whole output is [h][w][c]; this is
 * `count` of its values from `first` on; the other parts come before and after it, in order.
 * "latents" are reported after every step. */
typedef struct refine_layer_output {
    const char *name; /* "unet.mid_block.resnets.0", "vae.moments", "latents" */
    refine_phase phase;
    bool of_base;    /* as in refine_progress */
    int step;        /* of this model's UNet, from 0; 0 in other phases */
    int batch_index; /* the image; in the UNet and the text encoder with guidance 2 * image
                        (negative prompt) and 2 * image + 1 (prompt) */
    int h, w, c;
    size_t first, count;
    const float *value; /* valid during the call */
} refine_layer_output;

/* One image.  Give at most one of rgb_in and latents_in (a base makes an image of neither, from
 * text alone), and at least one of rgb_out and latents_out.  Pixels are width * height * 3 bytes;
 * latents are floats [4][height/8][width/8], scaled (times 0.13025), as diffusers' output_type
 * "latent" gives them.  An output may be its own input. */
typedef struct refine_job {
    size_t struct_bytes;
    const char *prompt;   /* UTF-8; NULL is "" */
    const char *negative; /* NULL: zeros where the model wants them (the base), else "" */
    /* For OpenCLIP bigG alone, where the model has two text encoders; NULL or "": as the others. */
    const char *prompt_2, *negative_2;
    int width, height; /* pixels, multiples of 8 */
    const uint8_t *rgb_in;
    const float *latents_in;
    uint8_t *rgb_out;
    float *latents_out;
    int steps;              /* of the whole schedule */
    double strength;        /* 0..1: the fraction of the schedule that is run */
    double denoising_start; /* in (0,1): the input is partly denoised latents; no noise is
                               added and strength is ignored; 0: off */
    double denoising_end;   /* in (0,1): stop there and leave partly denoised latents; 0: off */
    /* With a base: in (0,1), the refiner takes over its latents so far into the schedule (an
     * ensemble of experts).  0: the base goes through all of it, from text, and the refiner through
     * the last `strength` of it again, with noise that goes on where the base's ended (two stages);
     * from the base's latents, or by way of rgb_out, which then must be there. */
    double handoff;
    bool via_pixels;
    float guidance;         /* <= 1: off, and the negative prompt is not used */
    /* So many layers before the one that it is usually taken from, the prompt leaves every text
     * encoder; the negative prompt and the pooled one are as ever.  Below the number of layers. */
    int clip_skip;
    float aesthetic_score, negative_aesthetic_score;
    /* Micro-conditioning, in pixels: sizes of 0 are the image's own. */
    int original_width, original_height, crop_left, crop_top, target_width, target_height;
    /* The negative prompt's; sizes of 0: not given.  As diffusers' pipelines have it, a base takes
     * them from text only where both sizes are given, and from an image takes the prompt's crop;
     * what is not taken is the prompt's.  A refiner takes size and crop, and knows no target. */
    int negative_original_width, negative_original_height;
    int negative_crop_left, negative_crop_top;
    int negative_target_width, negative_target_height;
    uint64_t seed;
    refine_rng rng;
    refine_flavour flavour;
    /* Return non-zero to stop: refine_run then returns REFINE_ECANCELLED. */
    int (*progress)(void *context, const refine_progress *p);
    void *progress_context;
    /* Called with every layer output, except the VAE's spilled feature maps; NULL: off.  Return
     * non-zero to stop, as above.  An engine is opened for it: by a job that has it. */
    int (*layer_output)(void *context, const refine_layer_output *s);
    void *layer_output_context;
} refine_job;

#define REFINE_JOB_INIT                                                                            \
    {                                                                                              \
        .struct_bytes = sizeof(refine_job), .width = 1024, .height = 1024, .steps = 50,            \
        .strength = 0.3, .handoff = 0.8, .guidance = 5.0f, .aesthetic_score = 6.0f,                \
        .negative_aesthetic_score = 2.5f                                                           \
    }

/* Bytes.  What is planned is exact for the device and an upper bound for the host. */
typedef struct refine_memory {
    uint64_t device_planned, device_peak, device_limit; /* device_overhead included */
    uint64_t device_overhead; /* a GPU's context and code, taken before anything else */
    uint64_t host_planned, host_peak, host_limit; /* host_peak: heap and staging */
    uint64_t rss_planned, rss_peak; /* of the whole process, as the system counts it */
    uint64_t ring, resident, activations, workspace, vectors, staging;
    uint64_t prompt; /* part of activations: the prompts' embeddings, keys and values */
    uint64_t cached; /* weights in host memory */
    uint64_t spill_host, spill_file;         /* the VAE's feature maps: in memory, in the file */
    uint64_t smallest_device, smallest_host; /* the lowest ceilings that work, each with the other
                                                as it is */
    /* What set the limits, such as "as asked for", "free memory" or "control group"; static. */
    const char *device_limit_by, *host_limit_by;
} refine_memory;

enum { REFINE_UNUSED_TEXT = 192 };

/* A run as planned, or as it was.  Seconds and bytes; zero: not yet known.  Where a base ran before
 * a refiner, memory, open, total, predicted_total, disk_bytes, stalls, tokens and note are of both,
 * all else of the refiner alone; *base is of the base alone. */
typedef struct refine_report {
    size_t struct_bytes;
    refine_memory memory;
    const char *device, *device_model, *precision, *reader; /* static or the engine's */
    int width, height, steps_run, decode_threads, threads;
    double total, open, text, vae_encode, unet, vae_decode;
    double first_step, step_median;
    const double *step; /* steps_run seconds; the engine's */
    uint64_t disk_bytes, disk_bytes_per_step, copy_bytes_per_step;
    double disk_rate, copy_rate;                 /* bytes per second while busy */
    double stall_disk, stall_decode, stall_copy; /* seconds that compute waited for each */
    double predicted_step, predicted_unet;       /* before the run; 0: none */
    double predicted_stall;                      /* fraction of predicted_step */
    double replayed_step;  /* predicted again from what the first step measured; 0: not yet */
    refine_rates rates;    /* assumed by the prediction */
    refine_rates measured; /* by the run */
    const char
        *mispredicted_rate; /* "linear", "conv", "attention", "memory" (norms and other elementwise
                               work), "disk", "decoding" or "copying": to blame when steps took
                               10 % more or less than predicted; or "" */
    int images, per_pass, passes_per_step, band_rows;
    int together;         /* chunks of a matrix multiplied in one launch */
    uint64_t source_hash; /* of the packed weights */
    const char *source_name;
    int tokens, negative_tokens; /* of the first image's prompts, before truncation to 77 */
    char note[512];              /* for the user, or "" */
    /* Seconds of whole phases, before the run; 0: no prediction, or no such phase.  total: all of
     * them, with the steps, of which the first also brings the weights that stay. */
    double predicted_text, predicted_encode, predicted_decode, predicted_total;
    /* The step that took most times its prediction: how many; where more than 1.5, what made it so,
     * by the words of mispredicted_rate, else ""; and how many times as slow as probed that was.
     * 0: not known. */
    double slow_step;
    const char *slow_part;
    double slow_part_by;
    struct refine_report *base; /* the caller's, filled in too, or NULL: not wanted; afterwards NULL
                                   where there is no base */
    const char *sampler; /* the model's: "euler", "euler ancestral" */
    uint64_t model_hash; /* of all in the pack that results depend on: its weights as they are
                            stored, its schedule, its tokenizer; and of the options' tokenizer */
    uint64_t device_hash; /* of all in the device that they depend on beside the precision: its
                             kind; of a GPU its model too */
    char unused[REFINE_UNUSED_TEXT]; /* what the first image's job gives and no model of the run
                                        uses, in words: "prompt 2, target size"; or "" */
} refine_report;

#define REFINE_REPORT_INIT                                                                         \
    {                                                                                              \
        .struct_bytes = sizeof(refine_report)                                                      \
    }

/* `out` begins as REFINE_REPORT_INIT has it, here and in refine_get_report.
 * Plans a run without taking memory for it.  REFINE_EBUDGET: the ceilings cannot be met; `out`
 * then holds the smallest plan there is. */
REFINE_API refine_status refine_plan(refine_report *out, const refine_options *o,
                                     const refine_job *j, refine_error *err);

REFINE_API refine_status refine_open(refine_engine **out, const refine_options *o,
                                     const refine_job *j, refine_error *err);
/* A result that is not finite ends the run (REFINE_EDEVICE).  After a failure the outputs are
 * undefined, and the engine can only be closed. */
REFINE_API refine_status refine_run(refine_engine *e, const refine_job *j, refine_error *err);
/* Runs `n` jobs in lock step; n is the options' `images`.  They have one shape, and each its own
 * prompts, input and output.  The first job's callbacks are called.  Each result is independent of
 * the rest of the batch. */
REFINE_API refine_status refine_run_many(refine_engine *e, const refine_job *j, int n,
                                         refine_error *err);
REFINE_API void refine_get_report(const refine_engine *e, refine_report *out);
/* Of image 0, 1, ... of the last run, as the report has those of the first. */
REFINE_API void refine_get_tokens(const refine_engine *e, int image, int *tokens,
                                  int *negative_tokens);
REFINE_API void refine_get_unused(const refine_engine *e, int image, char out[REFINE_UNUSED_TEXT]);
REFINE_API void refine_close(refine_engine *e); /* NULL is fine */

/* One chunk of weights, as planned.  A base's come before the refiner's. */
typedef enum refine_tier { REFINE_TIER_DISK, REFINE_TIER_HOST, REFINE_TIER_DEVICE } refine_tier;
typedef struct refine_chunk {
    const char *name; /* of its tensor; the engine's */
    bool of_base;     /* before a refiner */
    refine_phase phase;
    refine_tier tier;
    uint64_t bytes, stored_bytes;
    double flops;   /* of one use, including the work up to the next chunk's use */
    double seconds; /* predicted, of one use */
} refine_chunk;

REFINE_API int refine_chunks(const refine_engine *e);
REFINE_API refine_status refine_get_chunk(const refine_engine *e, int i, refine_chunk *out);

/* Events of the last run, if the options asked for them; valid until the next run.  *lost: events
 * that found no room. */
REFINE_API const refine_event *refine_trace(const refine_engine *e, size_t *n, size_t *lost);

/* UNet steps that a job will run; 0: its strength is too small for any. */
REFINE_API int refine_steps_to_run(const refine_job *j);

REFINE_API const char *refine_version(void);

#ifdef __cplusplus
}
#endif
#endif
