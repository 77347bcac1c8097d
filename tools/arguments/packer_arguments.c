/* tools/arguments/packer_arguments.c -- the options of refine-pack, and which go together. */
#include "tools/arguments/packer_arguments.h"

#include "offload/pack_format.h"
#include "tools/cli/exit_code.h"

/* In the order of packer_codec. */
static const char *const CODECS[] = { "zstd", "raw", NULL };

static bool set_mode(packer_arguments *a, packer_mode m, const char *pack)
{
    a->mode = m;
    a->input = pack;
    a->n_packs++;
    return true;
}

static bool set_inspect(void *a, const char *pack) { return set_mode(a, MODE_INSPECT, pack); }
static bool set_verify(void *a, const char *pack) { return set_mode(a, MODE_VERIFY, pack); }

static const option_row ROWS[] = {
    {
        .name = "output",
        .letter = 'o',
        .argument = "OUT.pack",
        OPTION_TEXT_AT(packer_arguments, output),
        .group = "Making a pack",
        .help = "the pack to write",
        .man = "the file to write. It appears under this name only when it is complete.",
    },
    {
        .name = "weights",
        OPTION_WORD_AT(packer_arguments, weights, weights_names),
        .help = "how matrices are stored. int8 (8 bits, a scale for each 64 weights) takes half "
                "the memory, disk and time to read, and changes the image a little; default fp16",
        .man = "what matrices are stored as.\n.B int8\n"
               "is 8 bits with a scale for each 64 weights: about half the memory, disk and time "
               "to read, for a\nsmall change of the image.\n"
               "A few matrices, of which little is gained or much depends, stay in 16 bits;\n"
               ".B \\-\\-inspect\n"
               "shows which, and of the others the signal-to-noise ratio that is left. Default: "
               "fp16.",
    },
    {
        .name = "codec",
        OPTION_WORD_AT(packer_arguments, codec, CODECS),
        .help = "compress, or store as it is (larger by about a sixth, read with less work); "
                "default zstd",
        .man = "how chunks are stored. Either way the weights are the same to the bit.\n"
               "After packing with zstd, a few reads of the new file and a little decoding show "
               "whether it streams\nfaster from this disk than a raw pack would, which one line "
               "says. Default: zstd.",
    },
    {
        .name = "tokenizer",
        .argument = "PATH",
        OPTION_TEXT_AT(packer_arguments, tokenizer),
        .help = "merges.txt, vocab.json, tokenizer.json, bpe_simple_vocab_16e6.txt.gz or a "
                "directory with one of them. Default: the source directory's own, else CLIP's, "
                "which is built in",
        .man = "another list of byte-pair merges for the pack: merges.txt, vocab.json, "
               "tokenizer.json,\nbpe_simple_vocab_16e6.txt[.gz] or a directory with one of them.\n"
               "Default: what a diffusers directory carries, and else CLIP's vocabulary, which "
               "is built in\nand which all published models have.",
    },
    {
        .name = "vae",
        .argument = "PATH",
        OPTION_TEXT_AT(packer_arguments, vae),
        .help = "another VAE than SOURCE's: a file in either layout's names, a checkpoint, or a "
                "diffusers directory",
        .man = "a VAE that takes the place of the one in\n.IR SOURCE ,\n"
               "such as one made for fp16: a .safetensors file with the names of either layout (of "
               "a whole\ncheckpoint only the VAE is taken), or a diffusers directory. It has to "
               "have the shapes of SDXL's.",
    },
    {
        .name = "variant",
        .argument = "NAME",
        OPTION_TEXT_AT(packer_arguments, variant),
        .help = "of a directory's weights, such as fp16 or non_ema, where it has them. Default: "
                "those of no variant, else the only variant",
        .man = "which of the variants in a diffusers directory to read, such as\n.BR fp16 ,\n"
               "in those of its parts that have it.\n"
               "Default: the weights of no variant, as diffusers does, and where there are none "
               "the only variant.\nThe fp16 variant of weights in fp32 is half the reading.",
    },
    {
        .name = "sampler",
        OPTION_WORD_AT(packer_arguments, schedule.sampler, SAMPLER_WORDS),
        .help = "that the model is meant for. Default: what a directory's scheduler_config.json "
                "says, and euler of a single file, which does not say",
        .man = "the sampler that the model is meant for. Default: what\n.I "
               "scheduler_config.json\nof a directory says, which is refused if it is neither of "
               "these two;\nof a single file, which does not say, euler.\n"
               "SDXL Turbo in a single file is\n"
               ".BR \"\\-\\-sampler euler-ancestral \\-\\-spacing trailing\" ,\n"
               "SDXL Lightning\n.BR \"\\-\\-sampler euler \\-\\-spacing trailing\" .",
    },
    {
        .name = "spacing",
        OPTION_WORD_AT(packer_arguments, schedule.spacing, SPACING_WORDS),
        .help = "which timesteps are taken. Default: likewise, and leading",
        .man = "which of the training's timesteps are taken. Default: likewise, and leading of a "
               "single file.",
    },
    {
        .name = "prediction",
        OPTION_WORD_AT(packer_arguments, schedule.prediction, PREDICTION_WORDS),
        .help = "what the UNet predicts. Default: likewise, and epsilon, unless the file says v",
        .man = "what the UNet predicts: the noise, or v. Default: likewise, and epsilon of a "
               "single file\nthat does not say v.",
    },
    {
        .name = "chunk",
        .argument = "SIZE",
        OPTION_SIZE_FROM(packer_arguments, chunk_bytes, PACK_CHUNK_MIN, PACK_CHUNK_MAX),
        .help = "bytes that travel at a time, 64K to 64M; default 4M",
    },
    {
        .name = "threads",
        .argument = "N",
        OPTION_INT_AT(packer_arguments, threads, 1, 256),
        .help = "default: one per core it may use",
        .man = "threads that pack; one per core it may use unless given. The pack does not depend\n"
               "on it.",
    },
    {
        .name = "force",
        OPTION_FLAG_AT(packer_arguments, force),
        .help = "replace OUT.pack, unless it is a file of SOURCE, --vae or --tokenizer",
        .man = "overwrite\n.I OUT.pack\nif it exists. Never a file of\n.IR SOURCE ,\n"
               "which in a directory is all that is no pack, or one that\n.B \\-\\-vae\nor\n"
               ".B \\-\\-tokenizer\nnames: that is refused, through links too.",
    },
    {
        .name = "inspect",
        .argument = "PACK",
        OPTION_CALLS(set_inspect),
        .group = "Reading a pack",
        .help = "say what is in a pack",
        .man = "print what the pack holds: source, segments, and of each matrix its type, size "
               "and, in int8,\nsignal-to-noise ratio (sqnr).",
    },
    {
        .name = "verify",
        .argument = "PACK",
        OPTION_CALLS(set_verify),
        .help = "read all of a pack and compare every checksum",
    },
    {
        .name = "json",
        OPTION_FLAG_AT(packer_arguments, json),
        .group = "Reporting",
        .help = "the result as JSON on stdout",
        .man = "print the result as a JSON object on standard output.",
    },
    {
        .name = "quiet",
        OPTION_FLAG_AT(packer_arguments, quiet),
        .help = "no progress",
    },
    OPTIONS_HELP,
};

const options_program PACKER_OPTIONS = {
    .name = "refine-pack",
    .head = "usage: refine-pack SOURCE -o OUT.pack [--weights fp16|int8] [--codec zstd|raw]\n"
            "                   [--tokenizer PATH] [--vae PATH] [--variant NAME]\n"
            "                   [--sampler S] [--spacing S] [--prediction P]\n"
            "                   [--chunk SIZE] [--threads N] [--force] [--json]\n"
            "       refine-pack --inspect PACK [--json]\n"
            "       refine-pack --verify PACK [--json]\n"
            "\n"
            "Turns a checkpoint of the SDXL base or refiner, or of a model of the same shapes\n"
            "(a fine-tune, Turbo, Lightning), into a pack: its weights in the order a run\n"
            "touches them, in checksummed and compressed chunks, with all that refine-lowmem\n"
            "needs.\n"
            "\n"
            "SOURCE:\n"
            "  FILE.safetensors         the single file, such as sd_xl_base_1.0.safetensors\n"
            "  DIRECTORY                the same model as diffusers keeps it (unet/, vae/,\n"
            "                           text_encoder_2/, tokenizer_2/, of a base also\n"
            "                           text_encoder/), fp16 or fp32, sharded or not; or the\n"
            "                           hub's models--OWNER--NAME with that in it\n"
            "  synthetic:full[:SEED]    random weights in the refiner's shapes, for measuring\n"
            "  synthetic:base[:SEED]    the same in the base's shapes\n"
            "  synthetic:tiny[:SEED]    random weights in a tiny refiner's, for testing\n"
            "  synthetic:tiny-base[:SEED]\n"
            "                           the same in a tiny base's\n"
            "  synthetic:demo           a tiny refiner set by hand, whose image survives\n"
            "  synthetic:demo-base      likewise a base, which makes clouds of colour\n",
    .rows = ROWS,
    .n_rows = sizeof ROWS / sizeof ROWS[0],
    .tail = "Exit status: 0 done, 1 failed while running, 2 usage, 4 bad input file.\n"
            "\n"
            "Examples:\n"
            "  refine-pack sd_xl_refiner_1.0.safetensors -o refiner.pack\n"
            "  refine-pack stable-diffusion-xl-refiner-1.0/ -o refiner.pack\n"
            "  refine-pack sd_xl_turbo_1.0_fp16.safetensors -o turbo.pack \\\n"
            "              --sampler euler-ancestral --spacing trailing\n"
            "  refine-pack sdxl_lightning_4step.safetensors -o lightning.pack \\\n"
            "              --sampler euler --spacing trailing\n"
            "  refine-pack --verify refiner.pack\n",
};

/* EXIT_DONE, or the code of what was refused.  rest: the words that are no options. */
static int packer_check_arguments(packer_arguments *a, int n_rest, char **rest)
{
    const options_program *p = &PACKER_OPTIONS;
    if (a->n_packs > 1)
        return options_report(p, "one of --inspect and --verify at a time");
    if (a->mode != MODE_PACK) {
        if (n_rest > 0 || a->output)
            return options_report(p, "--inspect and --verify take one pack and write none");
        return EXIT_DONE;
    }
    if (n_rest == 0)
        return options_report(p, "no SOURCE given");
    if (n_rest > 1)
        return options_report(p, "%s: one SOURCE at a time", rest[1]);
    if (!a->output || !*a->output)
        return options_report(p, "no output given: add -o OUT.pack");
    a->input = rest[0];
    return EXIT_DONE;
}

int packer_arguments_read(packer_arguments *a, int argc, char **argv)
{
    options_parsed parsed;
    int code = options_parse(&parsed, &PACKER_OPTIONS, a, argc, argv, stdout, stderr);
    if (code >= 0)
        return code;
    code = packer_check_arguments(a, argc - parsed.rest, argv + parsed.rest);
    return code == EXIT_DONE ? -1 : code;
}
