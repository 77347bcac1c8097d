/* engine/include/refine/refine.h -- the SDXL refiner under a memory ceiling.  The whole public API.
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
 * Ownership.  Objects returned through a pointer-to-pointer are the caller's to
 * close; everything else is borrowed.  Options and jobs are read during the call
 * and not kept, except the strings of the options, which must live until close.
 * Threads: one engine, one thread; engines share nothing.
 * All memory is taken in refine_open; refine_run takes none, and may be called
 * again with any job of the same size, steps and flow.
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

/* auto: what the device multiplies fastest without visible loss.  f32 is the
 * reference; bf16 keeps activations in 16 bits (the VAE's in scaled fp16).  int8 is bf16, or fp16
 * on a GPU, whose activations in the UNet are rounded to int8 where the pack's weights are. */
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

/* How weights are read.  auto: io_uring with O_DIRECT, else pread. */
typedef enum refine_reader {
    REFINE_READER_AUTO,
    REFINE_READER_URING,
    REFINE_READER_PREAD
} refine_reader;

/* The noise of torch's CPU generator, or of its CUDA generator (Philox). */
typedef enum refine_rng { REFINE_RNG_TORCH, REFINE_RNG_PHILOX } refine_rng;

/* What "!" in a prompt means: diffusers' SDXL tokenizer makes it padding. */
typedef enum refine_flavour { REFINE_TOKENS_DIFFUSERS, REFINE_TOKENS_OPENCLIP } refine_flavour;

/* What a machine can do, in bytes or floating-point operations (two a multiply-add) a second.
 * 0: not known. */
typedef struct refine_rates {
    double disk;   /* stored bytes, read past the page cache */
    double decode; /* decoded bytes, all decode threads together */
    double copy;   /* host to device */
    double linear, conv, attention;
    double memory; /* bytes that norms and other elementwise work read and write */
} refine_rates;

typedef struct refine_options {
    size_t struct_bytes; /* set by INIT; lets the struct grow */
    const char *pack_path;
    const char *merges; /* tokenizer text, "a b" per line; NULL: the pack's own */
    size_t merges_len;
    uint64_t vram_bytes;   /* ceiling on device memory; 0: free memory less a margin */
    uint64_t ram_bytes;    /* ceiling on host memory; 0: 512 MiB */
    uint64_t caller_bytes; /* of it, what the caller will take itself beyond what it has now */
    refine_device device;
    int device_index; /* of the CUDA device: which GPU */
    refine_precision precision;
    refine_reader reader;
    int threads;           /* compute threads; 0: one per core */
    int images;            /* images of one run, which share every pass over the weights; 0: 1 */
    const char *spill_dir; /* of the scratch file, should one be needed; NULL: /var/tmp */
    double disk_limit, copy_limit; /* bytes a second not to exceed; 0: none */
    refine_rates rates;            /* assumed instead of probed, those that are not 0 */
    bool trace;                    /* record what refine_trace tells */
    bool guards; /* zones beside what lies in memory, looked at during a run: to find our bugs */
    /* Choices the plan makes itself when 0.  The image does not depend on them. */
    uint64_t ring_bytes;
    uint64_t resident_bytes; /* weights kept on the device; UINT64_MAX: none */
    uint64_t cached_bytes;   /* weights kept in host memory; UINT64_MAX: none */
    int decode_threads;
    int band_rows; /* of the VAE; a multiple of 8 */
    int per_pass;  /* UNet inputs that go through the weights together: with guidance there
                      are two for each image */
    int together;  /* chunks of a matrix that a GPU multiplies in one launch, at most */
    int spill;     /* the VAE's tensors: 1 on the device, 2 in host memory or the scratch file */
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

/* Told at every phase, and within a phase as it advances. */
typedef struct refine_progress {
    refine_phase phase;
    int step, steps;     /* UNet steps finished, and in all */
    double done;         /* share of the phase (or of the step) that is done, 0..1 */
    double elapsed, eta; /* seconds; eta: until the run is over; < 0: rates are not known */
    double disk_rate;    /* bytes a second, lately */
    double stall_share;  /* of compute time spent waiting for weights, so far */
} refine_progress;

/* A piece of what one layer gives for one input, for inspection.  The whole of it is
 * [h][w][c]; `count` values of it, from `first` on, are here, and the rest comes before or
 * after in order.  "latents" are told after every step. */
typedef struct refine_layer_output {
    const char *name; /* "unet.mid_block.resnets.0", "vae.moments", "latents" */
    refine_phase phase;
    int step;        /* of the UNet's, from 0; 0 in other phases */
    int batch_index; /* the image; for the UNet and the text: with guidance 2 * image (negative
                 prompt) and 2 * image + 1 */
    int h, w, c;
    size_t first, count;
    const float *value; /* during the call */
} refine_layer_output;

/* One image.  Exactly one of rgb_in, latents_in is given, and at least one of
 * rgb_out, latents_out.  Pixels are width * height * 3 bytes; latents are floats
 * [4][height/8][width/8], scaled (times 0.13025), as diffusers' output_type
 * "latent" gives them.  Outputs may be the inputs. */
typedef struct refine_job {
    size_t struct_bytes;
    const char *prompt, *negative; /* UTF-8; NULL is "" */
    int width, height;             /* pixels, multiples of 8 */
    const uint8_t *rgb_in;
    const float *latents_in;
    uint8_t *rgb_out;
    float *latents_out;
    int steps;              /* of the whole schedule: 50 */
    double strength;        /* 0..1: the share of it that is run; 0.3 */
    double denoising_start; /* in (0,1): input is partly denoised, strength and noise
                                           are not used; 0: off */
    float guidance;         /* 5.0; no guidance at <= 1 */
    float aesthetic_score, negative_aesthetic_score; /* 6.0, 2.5 */
    uint64_t seed;
    refine_rng rng;
    refine_flavour flavour;
    /* Return non-zero to stop: refine_run then returns REFINE_ECANCELLED. */
    int (*progress)(void *context, const refine_progress *p);
    void *progress_context;
    /* Called with every layer output, spilled VAE tensors excepted; NULL: off.  Non-zero stops, as
     * above.  The engine must be opened with a job that has it. */
    int (*layer_output)(void *context, const refine_layer_output *s);
    void *layer_output_context;
} refine_job;

#define REFINE_JOB_INIT                                                                            \
    {                                                                                              \
        .struct_bytes = sizeof(refine_job), .width = 1024, .height = 1024, .steps = 50,            \
        .strength = 0.3, .guidance = 5.0f, .aesthetic_score = 6.0f,                                \
        .negative_aesthetic_score = 2.5f                                                           \
    }

/* Bytes.  Planned figures are exact for the device and upper bounds for the host. */
typedef struct refine_memory {
    uint64_t device_planned, device_peak, device_limit; /* device_overhead included */
    uint64_t device_overhead; /* a GPU's context and code: taken before anything is planned */
    uint64_t host_planned, host_peak, host_limit; /* host_peak: the heap and staging in use */
    uint64_t rss_planned, rss_peak;               /* of the whole process, as the system sees it */
    uint64_t ring, resident, activations, workspace, vectors, staging;
    uint64_t prompt; /* of the activations: embeddings, keys and values of the prompts */
    uint64_t cached; /* weights in host memory; */
    uint64_t spill_host, spill_file;         /* the VAE's tensors there and in the scratch file */
    uint64_t smallest_device, smallest_host; /* ceilings that would still do */
} refine_memory;

/* What a run will be, or was.  Seconds and bytes; zero where not yet known. */
typedef struct refine_report {
    size_t struct_bytes;
    refine_memory memory;
    const char *device, *device_model, *precision, *reader; /* static or the engine's */
    int width, height, steps_run, decode_threads, threads;
    double total, open, text, vae_encode, unet, vae_decode;
    double first_step, step_median;
    const double *step; /* steps_run of them, the engine's */
    uint64_t disk_bytes, disk_bytes_per_step, copy_bytes_per_step;
    double disk_rate, copy_rate;                 /* bytes a second while busy */
    double stall_disk, stall_decode, stall_copy; /* seconds compute waited for each */
    double predicted_step, predicted_unet;       /* before the run; 0: no prediction */
    double predicted_stall;                      /* share of predicted_step */
    double replayed_step;  /* predicted from what the first step measured; 0: not yet */
    refine_rates rates;    /* that the prediction assumed */
    refine_rates measured; /* by the run */
    const char
        *mispredicted_rate; /* "linear", "conv", "attention", "memory" (norms and other elementwise
                               work), "disk", "decoding" or "copying": to blame when steps took
                               10 % more or less than predicted; or "" */
    int images, per_pass, passes_per_step, band_rows;
    int together;         /* chunks of a matrix multiplied in one launch */
    uint64_t source_hash; /* of the packed weights */
    const char *source_name;
    int tokens, negative_tokens; /* of the prompts before truncation to 77 */
    char note[256];              /* something the user should know, or "" */
    /* Seconds of whole phases, before the run; 0: no prediction, or no such phase.  total: all of
     * them, with the steps, of which the first also brings the weights that stay. */
    double predicted_text, predicted_encode, predicted_decode, predicted_total;
    /* The step that took most times its prediction: how many; where more than 1.5, what made it so,
     * by the words of mispredicted_rate, else ""; and how many times as slow as probed that was.
     * 0: not known. */
    double slow_step;
    const char *slow_part;
    double slow_part_by;
} refine_report;

#define REFINE_REPORT_INIT                                                                         \
    {                                                                                              \
        .struct_bytes = sizeof(refine_report)                                                      \
    }

/* What refine_open would take, without taking it.  REFINE_EBUDGET if the ceilings
 * cannot be met; `out` then holds the smallest plan there is. */
REFINE_API refine_status refine_plan(refine_report *out, const refine_options *o,
                                     const refine_job *j, refine_error *err);

REFINE_API refine_status refine_open(refine_engine **out, const refine_options *o,
                                     const refine_job *j, refine_error *err);
/* A result that is not finite ends the run (REFINE_EDEVICE).  What a run that failed left in its
 * outputs is of no use, and neither is the engine but to be closed. */
REFINE_API refine_status refine_run(refine_engine *e, const refine_job *j, refine_error *err);
/* As many jobs as the options announced images, in lock step: all of one shape, each with its
 * own prompt, input and output.  The callbacks are the first job's.  Each result is
 * independent of the rest of the batch. */
REFINE_API refine_status refine_run_many(refine_engine *e, const refine_job *j, int n,
                                         refine_error *err);
REFINE_API void refine_get_report(const refine_engine *e, refine_report *out);
REFINE_API void refine_close(refine_engine *e); /* NULL is fine */

/* One weight chunk of the pack, as the plan treats it. */
typedef enum refine_tier { REFINE_TIER_DISK, REFINE_TIER_HOST, REFINE_TIER_DEVICE } refine_tier;
typedef struct refine_chunk {
    const char *name; /* of its tensor; the engine's */
    refine_phase phase;
    refine_tier tier;
    uint64_t bytes, stored_bytes;
    double flops;   /* of one use, what lies between it and the next chunk included */
    double seconds; /* predicted, of a use */
} refine_chunk;

REFINE_API int refine_chunks(const refine_engine *e);
REFINE_API refine_status refine_get_chunk(const refine_engine *e, int i, refine_chunk *out);

/* The events of the last run, if the options asked for them; the engine's until the next.
 * *lost of them found no room. */
REFINE_API const refine_event *refine_trace(const refine_engine *e, size_t *n, size_t *lost);

/* How many UNet steps a job will run; 0 when its strength is too small for any. */
REFINE_API int refine_steps_to_run(const refine_job *j);

REFINE_API const char *refine_version(void);

#ifdef __cplusplus
}
#endif
#endif
