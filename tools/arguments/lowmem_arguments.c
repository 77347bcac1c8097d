/* tools/arguments/lowmem_arguments.c -- the options of refine-lowmem, and which go together. */
#include "tools/arguments/lowmem_arguments.h"

#include "engine/base/mem.h"
#include "tools/batch/batch.h"
#include "tools/cli/devices.h"
#include "tools/cli/exit_code.h"
#include "tools/cli/numbers.h"
#include "tools/files/json_values.h"
#include "tools/files/latents_io.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* As the texts below say. */
enum { COUNT_MAX = 100000 };
static_assert(BATCH_MAX == 8 && DEVICES_MAX == 64, "--batch and --device");

/* Each in the order of its enum in <refine/refine.h>. */
static const char *const RNGS[] = { "torch", "philox", NULL };
static const char *const PRECISIONS[] = { "auto", "f32", "bf16", "fp16", "int8", NULL };
static const char *const READERS[] = { "auto", "io_uring", "pread", NULL };
static const char *const FITS[] = { "cover", "contain", "stretch", NULL };
static const char *const DEVICES[] = { "auto", "cpu", "ref", "cuda", NULL };

static const char *const FLOWS[] = { "ensemble", "two-stage", NULL };

#define HANDOFF_MIN 0x1p-52
#define HANDOFF_MAX 0x1.fffffffffffffp-1

enum { TOLD_MAX = 65536 };

static bool append_input(void *arguments, const char *v)
{
    lowmem_arguments *a = arguments;
    a->inputs[a->n_inputs++] = v;
    return true;
}

/* "cuda" is the first GPU, "cuda:N" the one of that number. */
static bool read_device(void *arguments, const char *v)
{
    lowmem_arguments *a = arguments;
    uint64_t index = 0;
    int i = REFINE_DEVICE_CUDA;
    if (strncmp(v, "cuda:", 5) == 0) {
        if (!numbers_whole(v + 5, 0, DEVICES_MAX - 1, &index))
            return false;
    } else {
        for (i = 0; DEVICES[i] && strcmp(v, DEVICES[i]) != 0; i++)
            continue;
        if (!DEVICES[i])
            return false;
    }
    a->o.device = (refine_device)i;
    a->o.device_index = (int)index;
    return true;
}

static bool read_size(void *arguments, const char *v)
{
    return size_wish_parse(&((lowmem_arguments *)arguments)->size, v);
}

/* "white", "black" or "#rrggbb". */
static bool read_background(void *arguments, const char *v)
{
    lowmem_arguments *a = arguments;
    const char *hex = strcmp(v, "white") == 0 ? "#ffffff" : strcmp(v, "black") == 0 ? "#000000" : v;
    if (hex[0] != '#' || strlen(hex) != 7 || strspn(hex + 1, "0123456789abcdefABCDEF") != 6)
        return false;
    const unsigned long rgb = strtoul(hex + 1, NULL, 16);
    for (int c = 0; c < 3; c++)
        a->background[c] = (uint8_t)(rgb >> (16 - 8 * c));
    return true;
}

static bool read_seed(void *arguments, const char *v)
{
    lowmem_arguments *a = arguments;
    a->seeded = strcmp(v, "-1") != 0;
    return !a->seeded || numbers_whole(v, 0, UINT64_MAX, &a->j.seed);
}

/* There is one: it is looked at, and kept nowhere. */
static bool read_scheduler(void *arguments, const char *v)
{
    (void)arguments;
    return strcmp(v, "euler") == 0;
}

/* Sizes and crops that the model is told of: of any image, and not only one that it can make. */
#define TOLD_SIZE_AT(width, height)                                                                \
    OPTION_PAIR_AT(lowmem_arguments, j.width, j.height, 'x', 1, TOLD_MAX),                         \
        .argument = "WxH", .takes = "a size such as 1024x768, each side from 1 to 65536"
#define TOLD_CROP_AT(left, top)                                                                    \
    OPTION_PAIR_AT(lowmem_arguments, j.left, j.top, ',', 0, TOLD_MAX),                             \
        .argument = "X,Y", .takes = "left and top such as 0,128, each from 0 to 65536"

static int list_devices(void) { return devices_print(stdout, stderr); }

static const option_row ROWS[] = {
    {
        .name = "model",
        .letter = 'm',
        .argument = "PACK",
        OPTION_TEXT_AT(lowmem_arguments, o.pack_path),
        .group = "Input and output",
        .help = "the model, made by refine-pack",
        .man = "the model, made by\n.BR refine\\-pack (1).",
    },
    {
        .name = "base",
        .argument = "BASE.pack",
        OPTION_TEXT_AT(lowmem_arguments, o.base_path),
        .help = "a base model that makes the first part of an image from the prompt; PACK, a "
                "refiner, finishes it",
        .man = "a base model that makes the first part of an image from the prompt, up to\n"
               ".BR \\-\\-handoff .\n.I PACK\nis a refiner and finishes it. One after the other "
               "they keep the same ceilings.",
    },
    {
        .name = "input",
        .letter = 'i',
        .argument = "INPUT",
        OPTION_CALLS(append_input),
        .help = "PNG, JPEG or latents (.safetensors, .npy, .npz, .latent; of several in a file "
                "FILE[0], FILE[1], ...), '-' for stdin; a directory: all that is in it; may be "
                "repeated. Without it a base model makes an image from the prompt alone",
        .man = "PNG, JPEG or latents (.safetensors, .npy, .npz, .latent),\n.B \\-\n"
               "for standard input; a directory: all that is in it. A pipe will do. May be "
               "repeated.\nOf a file with several latents one is\n.IR FILE [ K ],\ncounted "
               "from 0.\nLatents are scaled, as diffusers hands them on: times 0.13025, the VAE's "
               "factor; only\nthose of ComfyUI (.latent) are not.\nWithout it a "
               "base model makes an image from the prompt alone.",
    },
    {
        .name = "background",
        .argument = "COLOUR",
        OPTION_CALLS(read_background),
        .takes = "#rrggbb, white or black",
        .help = "what an image is laid on where it is transparent: #rrggbb, white or black (white)",
        .man = "what an image is laid on where it is transparent:\n.BR #rrggbb ,\n.B white\nor\n"
               ".BR black .\nDefault white.",
    },
    {
        .name = "manifest",
        .argument = "FILE",
        OPTION_TEXT_AT(lowmem_arguments, manifest),
        .help =
            "one JSON object a line ('-': of stdin), each an image: \"input\", \"output\", "
            "\"prompt\", \"negative\", \"seed\", \"steps\", \"strength\", \"guidance\", \"size\"",
        .man = "one JSON object a line, each an image:\n"
               ".BR input \", \" output \", \" prompt \", \" negative\n(or\n"
               ".BR negative_prompt \"), \" prompt_2 \", \" negative_2 \", \" seed \", \" steps ,\n"
               ".BR strength \", \" guidance ,\n"
               "and\n.B size\n(a text as of\n.BR \\-\\-size )\nor\n"
               ".BR width \" and \" height .\n"
               "What a line leaves out, or has as\n.BR null ,\nis as on the command line; without\n"
               ".B input\nthe image is made from text alone. Relative paths are resolved "
               "against\nthe manifest's directory; those of a pipe, and of\n.BR \\- ,\n"
               "which is standard input, as they are. An unknown member is refused.",
    },
    {
        .name = "output",
        .letter = 'o',
        .argument = "OUT.png",
        OPTION_TEXT_AT(lowmem_arguments, output),
        .help = "the refined image, a JPEG where the name ends in .jpg, else a PNG; '-' for "
                "stdout; of several inputs, the directory they go to: what is there already, of "
                "the same input and parameters, is skipped, and what another program made is left "
                "alone. No file that the run reads is ever replaced",
    },
    {
        .name = "output-latents",
        .argument = "FILE",
        OPTION_TEXT_AT(lowmem_arguments, output_latents),
        .help = "also write the final latents (.safetensors, .npy, .latent)",
    },
    {
        .name = "tokenizer",
        .argument = "PATH",
        OPTION_TEXT_AT(lowmem_arguments, tokenizer),
        .help = "merges.txt, vocab.json or bpe_simple_vocab_16e6.txt.gz, if the pack has none",
        .man = "merges.txt, vocab.json, tokenizer.json, bpe_simple_vocab_16e6.txt[.gz] or a "
               "directory with one of\nthem, where the pack carries no tokenizer.",
    },
    {
        .name = "prompt",
        .letter = 'p',
        .argument = "TEXT",
        OPTION_TEXT_AT(lowmem_arguments, j.prompt),
        .group = "The image",
        .help = "what the image shows",
    },
    {
        .name = "negative",
        .letter = 'n',
        .argument = "TEXT",
        OPTION_TEXT_AT(lowmem_arguments, j.negative),
        .help = "what it should not show",
        .man = "what it should not show. Where it is left out, a base model is given zeros, as it "
               "was trained; an\nempty text is read as any other.",
    },
    {
        .name = "prompt-2",
        .argument = "TEXT",
        OPTION_TEXT_AT(lowmem_arguments, j.prompt_2),
        .help = "for the larger text encoder alone (as the prompt)",
        .man = "a prompt for OpenCLIP bigG alone, the larger of a base model's two text encoders. "
               "Default: the prompt.",
    },
    {
        .name = "negative-2",
        .argument = "TEXT",
        OPTION_TEXT_AT(lowmem_arguments, j.negative_2),
        .help = "likewise, for what the image should not show",
        .man = "likewise, of what the image should not show.",
    },
    {
        .name = "clip-skip",
        .argument = "K",
        OPTION_INT_AT(lowmem_arguments, j.clip_skip, 0, 128),
        .help = "take the prompt K layers earlier from the text encoders (0)",
        .man = "take the prompt K layers earlier than usual from every text encoder, below the "
               "number of its layers; the\nnegative prompt and the pooled one stay as they are. "
               "Some models were trained so. Default 0.",
    },
    {
        .name = "size",
        .argument = "WxH|SIDE|1MP|input",
        OPTION_CALLS(read_size),
        .takes = SIZE_WISH_TAKES,
        .help = "of the image: its sides, its longer side, or its area (1MP is 1024x1024); an "
                "input is resized (input: only to multiples of 8; from text 1024x1024)",
        .man = "the size of the image:\n"
               ".I WxH\n"
               "are its sides, multiples of 8 from 64 to 16384;\n"
               ".I SIDE\n"
               "is its longer side, and\n"
               ".I 1MP\n"
               "its area, of 1024 x 1024 pixels: then the shape is that of the input, or square. "
               "An input is\nresized as\n"
               ".B \\-\\-fit\n"
               "says (Lanczos). Default: input, its own size brought down to multiples of 8; of an "
               "image from text\nalone 1024x1024. Latents are never resized.",
    },
    {
        .name = "fit",
        OPTION_WORD_AT(lowmem_arguments, size.fit, FITS),
        .help = "an input of another shape than --size: cut in the middle, wholly inside, or "
                "stretched (cover)",
        .man =
            "what becomes of an input whose shape is not that of\n"
            ".BR \\-\\-size .\n"
            "cover: it fills the size, and what juts out is cut off on both sides; contain: it is "
            "wholly inside, and\nthe image is smaller in one direction; stretch: its shape is "
            "changed. Default cover.",
    },
    {
        .name = "strength",
        .argument = "F",
        OPTION_REAL_AT(lowmem_arguments, j.strength, 0, 1),
        .help = "how much is changed, above 0 to 1 (0.3)",
        .man = "the share of the schedule that is run. 0 runs no step, and is refused, as is all "
               "that comes to\nless than one step. 1 runs every step, and still begins from the "
               "input with noise added, of which a trace\nof its colours and shapes remains. "
               "Default 0.3.\n"
               "The refiner was trained on the last fifth of the noise; above 0.5 it degrades.",
    },
    {
        .name = "steps",
        .argument = "N",
        OPTION_INT_AT(lowmem_arguments, j.steps, 1, 1000),
        .help = "steps of the whole schedule; strength of them are run (50)",
        .man = "steps of the whole schedule. Default 50.",
    },
    {
        .name = "denoising-start",
        .argument = "F",
        OPTION_REAL_AT(lowmem_arguments, j.denoising_start, 0, 0x1.fffffffffffffp-1),
        .takes = "a number from 0 to less than 1",
        .help =
            "INPUT is partly denoised (base model with denoising_end F): no noise is added; not "
            "with --strength",
        .man = ".I INPUT\n"
               "is partly denoised already, up to this share of the schedule; no noise is added.\n"
               "Give the value that the base model was stopped at.",
    },
    {
        .name = "denoising-end",
        .argument = "F",
        OPTION_REAL_AT(lowmem_arguments, j.denoising_end, 0, 0x1.fffffffffffffp-1),
        .takes = "a number from 0 to less than 1",
        .help = "stop there and leave partly denoised latents, for --output-latents and a refiner "
                "with --denoising-start F",
        .man = "stop at this share of the schedule and leave partly denoised latents, for\n"
               ".B \\-\\-output\\-latents\nand a refiner that goes on with\n"
               ".B \\-\\-denoising\\-start\nof the same value.",
    },
    {
        .name = "handoff",
        .argument = "F",
        OPTION_REAL_AT(lowmem_arguments, j.handoff, HANDOFF_MIN, HANDOFF_MAX),
        .takes = "a number above 0 and below 1",
        .help = "where the refiner takes over from --base (0.8)",
        .man = "the share of the schedule after which the refiner takes over from\n"
               ".BR \\-\\-base .\nDefault 0.8.",
    },
    {
        .name = "flow",
        .argument = "KIND",
        OPTION_WORD_AT(lowmem_arguments, flow, FLOWS),
        .help = "with --base: ensemble (the refiner takes over at --handoff) or two-stage (the "
                "base makes a whole image, which the refiner refines at --strength) (ensemble)",
        .man = "with\n.BR \\-\\-base :\n"
               ".B ensemble\n(the refiner takes over from the base at\n.BR \\-\\-handoff )\nor\n"
               ".B two\\-stage\n(the base makes a whole image from the prompt, which the refiner "
               "then refines at\n.BR \\-\\-strength ).\nDefault ensemble.",
    },
    {
        .name = "via-pixels",
        OPTION_FLAG_AT(lowmem_arguments, j.via_pixels),
        .help = "with --flow two-stage: decode and encode the image in between",
        .man =
            "with\n.BR \\-\\-flow\\ two\\-stage :\nthe image is decoded and encoded in between, as "
            "it would be by way of a file; else its latents go on as they are.",
    },
    {
        .name = "guidance",
        .argument = "F",
        OPTION_FLOAT_AT(lowmem_arguments, j.guidance),
        .help = "weight of the prompt (5.0); none at 1 or below",
        .man = "classifier-free guidance; none at 1 or below. Default 5.0.",
    },
    {
        .name = "seed",
        .argument = "N",
        OPTION_CALLS(read_seed),
        .takes = "a number from 0 to 18446744073709551615, or -1 for a random one",
        .help = "the same seed gives the same image (-1: random)",
        .man = "the seed of the noise. The same seed gives the same image; without it, or with -1, "
               "one is drawn\nand printed.",
    },
    {
        .name = "count",
        .argument = "N",
        OPTION_INT_AT(lowmem_arguments, count, 1, COUNT_MAX),
        .help = "N images of the prompt, or of each input, with --seed and the seeds after it; "
                "-o is a directory (1)",
        .man = "so many images of the prompt, or of each input, with the seeds\n"
               ".BR \\-\\-seed ,\n"
               "the next one, and so on; without it each has a random one.\n.B \\-o\n"
               "names a directory: images from text are 0001.png, 0002.png, ..., those of an input "
               "have its name and -1,\n-2, ... Default 1.",
    },
    {
        .name = "rng",
        OPTION_WORD_AT(lowmem_arguments, j.rng, RNGS),
        .help = "noise as diffusers draws it on a CPU or on a GPU (torch)",
        .man = "whose noise: that of torch's CPU generator or that of its CUDA generator. Default "
               "torch.",
    },
    {
        .name = "aesthetic-score",
        .argument = "F",
        OPTION_FLOAT_AT(lowmem_arguments, j.aesthetic_score),
        .help = "score the model is conditioned on, for the prompt (6.0)",
        .man = "the score that the model is conditioned on, for the prompt. Default 6.0.",
    },
    {
        .name = "negative-aesthetic-score",
        .argument = "F",
        OPTION_FLOAT_AT(lowmem_arguments, j.negative_aesthetic_score),
        .help = "the same for the negative prompt (2.5)",
        .man = "the same for the negative prompt. Default 2.5.",
    },
    {
        .name = "original-size",
        TOLD_SIZE_AT(original_width, original_height),
        .help = "size the model is told the image had before it was cropped (its own)",
        .man = "the size that the model is told the image had before it was scaled and cropped: a "
               "small one gives the\nblur of small images. Default: its own.",
    },
    {
        .name = "crop",
        TOLD_CROP_AT(crop_left, crop_top),
        .help = "where the model is told it was cropped, from left and top (0,0)",
        .man = "how much the model is told was cropped away at left and top: above 0 the subject "
               "moves out of the image.\nNothing is cropped. Default 0,0.",
    },
    {
        .name = "target-size",
        TOLD_SIZE_AT(target_width, target_height),
        .help = "size a base model is told to aim at (the image's own)",
        .man = "the size that a base model is told to aim at; a refiner knows none. Default: the "
               "image's own.",
    },
    {
        .name = "negative-original-size",
        TOLD_SIZE_AT(negative_original_width, negative_original_height),
        .help = "the same three for the negative prompt; from text a base takes them only where "
                "both sizes are given (the prompt's)",
        .man = "as\n.BR \\-\\-original\\-size ,\nfor the negative prompt. These three keep the "
               "rules of diffusers' pipelines: a base that makes an image from text\ntakes them "
               "only where both negative sizes are given, and one that is given an image takes the "
               "crop of the prompt.\nWhat is not given or not taken is the prompt's.",
    },
    {
        .name = "negative-crop",
        TOLD_CROP_AT(negative_crop_left, negative_crop_top),
        .help = "likewise, of a refiner or from text (0,0)",
        .man = "as\n.BR \\-\\-crop ,\nfor the negative prompt of a refiner or of an image from "
               "text. Default 0,0, whatever\n.B \\-\\-crop\nis.",
    },
    {
        .name = "negative-target-size",
        TOLD_SIZE_AT(negative_target_width, negative_target_height),
        .help = "likewise",
        .man = "as\n.BR \\-\\-target\\-size ,\nfor the negative prompt.",
    },
    {
        .name = "scheduler",
        .argument = "euler",
        OPTION_CALLS(read_scheduler),
        .spares_image = true,
        .help = "the sampler",
        .man = "the sampler.",
    },
    {
        .name = "vram",
        .argument = "SIZE",
        OPTION_SIZE_AT(lowmem_arguments, o.vram_bytes),
        .group = "The budget",
        .spares_image = true,
        .help = "hard ceiling on device memory (512M, 1.5G); default: what may be had",
        .man =
            "hard ceiling on device memory: 512M, 1.5G. Default: what is free, less a margin; on\n"
            "a CPU what control groups and ulimit leave of it. \\-\\-plan says what decided.\n"
            "On a GPU it counts all that the program takes of it, CUDA's own context included.",
    },
    {
        .name = "ram",
        .argument = "SIZE",
        OPTION_SIZE_AT(lowmem_arguments, o.ram_bytes),
        .spares_image = true,
        .help = "hard ceiling on host memory (512M); what is left of it keeps weights, where that "
                "makes a step faster",
        .man =
            "hard ceiling on host memory. Default 512M, or less where there is less. What is left\n"
            "of it keeps weights, where that makes a step faster.",
    },
    {
        .name = "batch",
        .argument = "N",
        OPTION_INT_AT(lowmem_arguments, o.images, 1, BATCH_MAX),
        .spares_image = true,
        .help = "images that share the passes over the weights, at most (as many as make each "
                "cheaper, 8 at most)",
        .man = "images in lock step, at most. Without it, as many as make each of them cheaper by "
               "prediction, 8\nat most.",
    },
    {
        .name = "device",
        .argument = "auto|cuda[:N]|cpu",
        OPTION_CALLS(read_device),
        .takes = "auto, cpu, cuda or cuda:N with N from 0 to 63",
        .help = "auto: the first GPU if there is one, else the CPU",
        .man = "where to compute. auto: the first NVIDIA GPU (GTX 16, RTX 20 or later) if there is "
               "one that can be\nused, else the CPU, with a line that says why. N counts from 0 "
               "as\n.B \\-\\-list\\-devices\ndoes.",
    },
    {
        .name = "precision",
        OPTION_WORD_AT(lowmem_arguments, o.precision, PRECISIONS),
        .help = "auto: fp16 on a GPU; bf16 on a CPU that multiplies it, else f32",
        .man = "what activations are kept and multiplied in. auto: fp16 on a GPU, bf16\n"
               "on a processor with instructions for it, else f32. A GPU computes in fp16 or f32, "
               "a CPU in any but fp16;\neither takes packs of int8 weights. int8: fp16 on a GPU, "
               "which needs tensor cores, and bf16 on a CPU, but the\nUNet rounds to int8 what "
               "meets the int8 weights of a pack made with\n"
               ".BR \"refine\\-pack \\-\\-weights int8\" .\n"
               "The image depends on it.",
    },
    {
        .name = "threads",
        .argument = "N",
        OPTION_INT_AT(lowmem_arguments, o.threads, 0, 256),
        .spares_image = true,
        .help = "compute threads (0: one per core it may use)",
        .man = "compute threads; one per core it may use, by affinity and control groups, unless\n"
               "given, or 0. The image does not depend on it.",
    },
    {
        .name = "reader",
        OPTION_WORD_AT(lowmem_arguments, o.reader, READERS),
        .spares_image = true,
        .help = "auto: io_uring, or pread where that is refused",
        .man = "how weights are read. auto: io_uring, or pread where that is refused.",
    },
    {
        .name = "limit-disk",
        .argument = "SIZE",
        OPTION_RATE_AT(lowmem_arguments, o.disk_limit),
        .spares_image = true,
        .help = "bytes a second not to exceed, from disk",
    },
    {
        .name = "limit-copy",
        .argument = "SIZE",
        OPTION_RATE_AT(lowmem_arguments, o.copy_limit),
        .spares_image = true,
        .help = "bytes a second not to exceed, to the device",
    },
    {
        .name = "plan",
        OPTION_FLAG_AT(lowmem_arguments, plan),
        .group = "Reporting",
        .help = "say what the run would take, and stop",
        .man = "print the plan and exit; the input is read, and nothing else allocated.",
    },
    {
        .name = "json",
        OPTION_FLAG_AT(lowmem_arguments, json),
        .spares_image = true,
        .help = "the result as JSON on stdout",
        .man = "the result as a JSON object on standard output, sizes in bytes and times in "
               "seconds; of several images one each, with\n.B there_already\nor\n.B error\nwhere "
               "none was made. With\n.BR \\-\\-plan ,\nits planned and predicted members. "
               "See\n.BR \"PREDICTED AND TAKEN\" .",
    },
    {
        .name = "quiet",
        OPTION_FLAG_AT(lowmem_arguments, quiet),
        .spares_image = true,
        .help = "no progress",
    },
    {
        .name = "list-devices",
        .kind = OPTION_STOP,
        .stop = list_devices,
        .help = "what --device may name here, and stop",
        .man = "what\n.B \\-\\-device\nmay name here, and stop.",
    },
    {
        .name = "compare",
        .argument = "REF.pack",
        OPTION_TEXT_AT(lowmem_arguments, reference),
        .help = "run the job with REF.pack in f32 first, and say how far from it latents, layers "
                "and image are: what int8 or bf16 cost",
        .man =
            "run the job (one input) twice, first with the pack\n.I REF.pack\nin f32, then "
            "with\n.I PACK\nin the precision asked for, and print on standard output how far the "
            "second is from the first. See\n.BR COMPARING .\n.B \\-o\nmay be left out.",
    },
    {
        .name = "trace",
        .argument = "FILE.json",
        OPTION_TEXT_AT(lowmem_arguments, trace),
        .help = "a recording of the run, for refine-memprof, Perfetto or chrome://tracing",
        .man = "a recording of the run: what every weight and the compute did when, and the memory "
               "of each owner, for\n.BR refine\\-memprof (1),\nPerfetto or chrome://tracing.",
    },
    OPTIONS_HELP,
};

const options_program LOWMEM_OPTIONS = {
    .name = "refine-lowmem",
    .head = "usage: refine-lowmem -m PACK -i INPUT -o OUT.png -p PROMPT [-n NEGATIVE]\n"
            "                     [options]\n"
            "       refine-lowmem -m BASE.pack -o OUT.png -p PROMPT [options]\n"
            "       refine-lowmem --base BASE.pack -m REFINER.pack -o OUT.png -p PROMPT\n"
            "                     [options]\n"
            "       refine-lowmem -m PACK -i INPUT -i INPUT... -o DIRECTORY -p PROMPT\n"
            "                     [options]\n"
            "       refine-lowmem -m PACK -i INPUT -p PROMPT --compare REF.pack [options]\n"
            "\n"
            "Refines an image with the Stable Diffusion XL refiner, or makes one with the\n"
            "base model, inside a memory budget.\n",
    .rows = ROWS,
    .n_rows = sizeof ROWS / sizeof ROWS[0],
    .tail = "TMPDIR names the directory of the scratch file (/var/tmp), which is made (and\n"
            "has no name) only where neither --vram nor --ram holds the VAE's feature maps,\n"
            "and to compare.\n"
            "\n"
            "Exit status: 0 done, 1 failed while running, 2 usage, 3 the budget cannot be\n"
            "met, 4 bad input file.\n"
            "\n"
            "Examples:\n"
            "  refine-lowmem -m refiner.pack -i photo.jpg -o out.png -p \"a castle at dawn\" \\\n"
            "                --vram 2G\n"
            "  refine-lowmem -m refiner.pack -i base.safetensors -o out.png \\\n"
            "                -p \"a castle at dawn\" --denoising-start 0.8 --steps 40\n"
            "  refine-lowmem --base base.pack -m refiner.pack -o out.png -p \"a castle\" \\\n"
            "                --size 1024x1024 --vram 2G\n"
            "  refine-lowmem -m refiner.pack -i holiday/ -o refined/ -p \"a photo\" --vram 4G\n"
            "  refine-lowmem -m refiner.pack -i photo.jpg --plan --vram 512M\n"
            "  refine-lowmem -m int8.pack -i photo.jpg -p \"a photo\" --compare fp16.pack\n",
};

/* Texts go into PNG and JSON, which are UTF-8, and to a tokenizer that reads nothing else. */
static int check_texts(const lowmem_arguments *a)
{
    const struct {
        const char *option, *text;
    } texts[] = {
        { "--prompt", a->j.prompt },
        { "--negative", a->j.negative },
        { "--prompt-2", a->j.prompt_2 },
        { "--negative-2", a->j.negative_2 },
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (texts[i].text && !is_utf8_text(texts[i].text))
            return options_report(&LOWMEM_OPTIONS,
                                  "%s: the text is not UTF-8; set a UTF-8 locale, or convert it "
                                  "with iconv",
                                  texts[i].option);
    return EXIT_DONE;
}

static bool reads_stdin(const lowmem_arguments *a)
{
    for (int i = 0; i < a->n_inputs; i++)
        if (strcmp(a->inputs[i], "-") == 0)
            return true;
    return false;
}

/* EXIT_DONE, or the code of what was refused. */
static int lowmem_check_arguments(const lowmem_arguments *a)
{
    const options_program *p = &LOWMEM_OPTIONS;
    const bool to_stdout = a->output && strcmp(a->output, "-") == 0;
    if (!a->o.pack_path)
        return options_report(p, "no model: give -m PACK");
    const bool two_stage = a->flow == FLOW_TWO_STAGE;
    if (a->o.base_path && (a->j.denoising_start > 0 || a->j.denoising_end > 0))
        return options_report(p, "--base and -m divide the schedule by --handoff");
    if (a->o.base_path && a->reference)
        return options_report(p, "--compare is for one model: leave out --base");
    if (two_stage && !a->o.base_path)
        return options_report(p, "--flow two-stage goes through two models: give --base BASE.pack");
    if (two_stage && a->n_inputs > 0)
        return options_report(p, "--flow two-stage begins with text: leave out -i INPUT");
    if (a->j.via_pixels && !two_stage)
        return options_report(p, "--via-pixels is for --flow two-stage");
    if (!a->plan && !a->output && !a->output_latents && !a->manifest && !a->reference)
        return options_report(p, "no output: give -o OUT.png");
    if (!a->plan && !a->j.prompt && !a->manifest)
        return options_report(p, "no prompt: give -p TEXT");
    if (a->manifest && strcmp(a->manifest, "-") == 0 && reads_stdin(a))
        return options_report(p, "--manifest - and -i - both want stdin");
    if (a->json && to_stdout)
        return options_report(p, "--json and -o - both want stdout");
    if (a->reference && to_stdout)
        return options_report(p, "--compare and -o - both want stdout");
    if (a->reference && a->plan)
        return options_report(p, "--compare runs the job: leave out --plan");
    if (a->output_latents && !latents_writable(a->output_latents))
        return options_report(p, "the name '%s' does not end in .safetensors, .npy or .latent",
                              a->output_latents);
    return check_texts(a);
}

/* There was room for as many as there are words.  What a plan says of memory must not depend on how
 * many words a command has: it is handed back as --ram, in two more. */
static bool fit_inputs(lowmem_arguments *a)
{
    const size_t n = a->n_inputs > 0 ? (size_t)a->n_inputs : 1;
    const char **fit = mem_realloc((void *)a->inputs, n * sizeof *fit);
    a->inputs = fit ? fit : a->inputs;
    return fit != NULL;
}

int lowmem_arguments_read(lowmem_arguments *a, int argc, char **argv)
{
    options_parsed parsed;
    a->inputs = mem_alloc((size_t)argc * sizeof *a->inputs);
    a->notes = json_array();
    a->told = json_array();
    if (!a->inputs || !a->notes || !a->told)
        return EXIT_FAILED;
    int code = options_parse(&parsed, &LOWMEM_OPTIONS, a, argc, argv, stdout, stderr);
    if (code >= 0)
        return code;
    if (!fit_inputs(a))
        return EXIT_FAILED;
    if (parsed.rest < argc)
        return options_report(&LOWMEM_OPTIONS, "what is '%s' for?", argv[parsed.rest]);
    a->o.trace = a->trace != NULL;
    if (a->flow == FLOW_TWO_STAGE && options_has(&parsed, "handoff"))
        return options_report(&LOWMEM_OPTIONS, "--handoff is for --flow ensemble");
    if (!a->o.base_path && options_has(&parsed, "flow"))
        return options_report(&LOWMEM_OPTIONS, "--flow is between two models: give --base "
                                               "BASE.pack");
    if (a->n_inputs == 0 && !a->manifest && a->flow != FLOW_TWO_STAGE &&
        options_has(&parsed, "strength"))
        return options_report(&LOWMEM_OPTIONS, "--strength is of an input or a second stage: give "
                                               "-i INPUT, or leave it out");
    if (a->j.denoising_start > 0 && options_has(&parsed, "strength"))
        return options_report(&LOWMEM_OPTIONS, "--denoising-start says where it begins, and "
                                               "--strength does too: leave one out");
    if (!a->o.base_path && options_has(&parsed, "handoff"))
        return options_report(&LOWMEM_OPTIONS, "--handoff is between two models: give --base "
                                               "BASE.pack");
    if (a->size.kind == SIZE_OWN && !a->manifest && options_has(&parsed, "fit"))
        return options_report(&LOWMEM_OPTIONS, "--fit is for a size: give --size WxH");
    if (a->flow == FLOW_TWO_STAGE)
        a->j.handoff = 0;
    code = lowmem_check_arguments(a);
    return code == EXIT_DONE ? -1 : code;
}

void lowmem_arguments_free(lowmem_arguments *a)
{
    mem_free((void *)a->inputs);
    json_decref(a->notes);
    json_decref(a->told);
}
