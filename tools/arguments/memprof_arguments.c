/* tools/arguments/memprof_arguments.c -- the options of refine-memprof, and which go together. */
#include "tools/arguments/memprof_arguments.h"

#include "tools/cli/exit_code.h"
#include "tools/cli/numbers.h"
#include "tools/memprof/memprof_cards.h"
#include "tools/memprof/memprof_child.h"

enum { SIDE_READ = 1 << 16 }; /* of an image; the engine knows which it can do */

#define RATE_MIN 1e-6
#define RATE_MAX 1e9

/* In the order of refine_precision. */
static const char *const PRECISIONS[] = { "auto", "f32", "bf16", "fp16", "int8", NULL };

static bool choose_card(void *arguments, const char *v)
{
    memprof_arguments *a = arguments;
    a->wish.card = card_find(v);
    return a->wish.card != NULL;
}

static const option_row ROWS[] = {
    {
        .name = "html",
        .argument = "OUT.html",
        OPTION_TEXT_AT(memprof_arguments, html),
        .group = "The report",
        .help = "the report as a web page, in one file; no file that is read, or that the job "
                "names",
        .man = "also write the report as a web page in one file.",
    },
    {
        .name = "json",
        OPTION_FLAG_AT(memprof_arguments, json),
        .help = "the report as JSON on stdout, instead of text",
        .man = "print the report as JSON, sizes in bytes and times in seconds, instead of text.",
    },
    {
        .name = "trace",
        .argument = "OUT.json",
        OPTION_TEXT_AT(memprof_arguments, trace),
        .group = "Running a job",
        .help = "keep the recording (Perfetto and chrome://tracing show it)",
        .man = "keep the recording, which Perfetto and chrome://tracing show.",
    },
    {
        .name = "from",
        .argument = "TRACE.json",
        OPTION_TEXT_AT(memprof_arguments, from),
        .group = "A recorded run",
        .help = "as written by refine-lowmem --trace",
        .man = "as written by\n.BR \"refine\\-lowmem \\-\\-trace\" .",
    },
    {
        .name = "plan",
        .argument = "PACK",
        OPTION_TEXT_AT(memprof_arguments, o.pack_path),
        .group = "Without running anything",
        .help = "the model, made by refine-pack",
        .man = "the model, made by\n.BR refine\\-pack (1).",
    },
    {
        .name = "size",
        .argument = "WxH",
        OPTION_PAIR_AT(memprof_arguments, j.width, j.height, 'x', 1, SIDE_READ),
        .takes = "a size such as 1024x768, each side from 1 to 65536",
        .help = "the image (1024x1024)",
        .man = "the size of the image. Default 1024x1024.",
    },
    {
        .name = "vram",
        .argument = "SIZE",
        OPTION_SIZE_AT(memprof_arguments, o.vram_bytes),
        .help = "ceiling on device memory (512M, 1.5G)",
    },
    {
        .name = "ram",
        .argument = "SIZE",
        OPTION_SIZE_AT(memprof_arguments, o.ram_bytes),
        .help = "ceiling on host memory",
    },
    {
        .name = "precision",
        OPTION_WORD_AT(memprof_arguments, o.precision, PRECISIONS),
        .help = "what activations are kept in",
    },
    {
        .name = "steps",
        .argument = "N",
        OPTION_INT_AT(memprof_arguments, j.steps, 1, 1000),
        .help = "of the whole schedule (50)",
        .man = "steps of the whole schedule. Default 50.",
    },
    {
        .name = "card",
        .argument = "NAME",
        OPTION_CALLS(choose_card),
        .takes = "1650ti, 2060, 3050-4g, 3050-6g, 4050 or 5050",
        .group = "Predictions",
        .help = "only this one, and plan for it: 1650ti, 2060, 3050-4g, 3050-6g, 4050, 5050",
        .man = "only this card, and plan for it: 1650ti, 2060, 3050-4g, 3050-6g, 4050, 5050.",
    },
    {
        .name = "link",
        .argument = "F",
        OPTION_REAL_AT(memprof_arguments, wish.with.link, RATE_MIN, RATE_MAX),
        .help = "GB/s from host to card (the card's)",
        .man = "GB/s from host to card, instead of the card's own.",
    },
    {
        .name = "disk",
        .argument = "F",
        OPTION_REAL_AT(memprof_arguments, wish.with.disk, RATE_MIN, RATE_MAX),
        .help = "GB/s from disk (3.5)",
        .man = "GB/s from disk. Default 3.5.",
    },
    {
        .name = "tflops",
        .argument = "F",
        OPTION_REAL_AT(memprof_arguments, wish.with.tflops, RATE_MIN, RATE_MAX),
        .help = "TFLOP/s of matrix products that the card really does",
    },
    OPTIONS_HELP,
};

/* What only a plan has. */
static const char *const PLANNED[] = { "size", "vram", "ram", "precision", "steps" };

const options_program MEMPROF_OPTIONS = {
    .name = "refine-memprof",
    .head = "usage: refine-memprof [--html OUT.html] [--trace OUT.json] [--json]\n"
            "                      -- refine-lowmem ARGS...\n"
            "       refine-memprof --from TRACE.json [--html OUT.html] [--json]\n"
            "       refine-memprof --plan PACK [--size WxH] [--vram SIZE] [--card NAME]\n"
            "                      [options]\n"
            "\n"
            "Shows where every byte and every millisecond of a run goes, and predicts other\n"
            "budgets and other cards.\n",
    .rows = ROWS,
    .n_rows = sizeof ROWS / sizeof ROWS[0],
    .tail = "Exit status: what the job exits with if it fails; else 0 done, 1 failed while\n"
            "running, 2 usage, 3 the budget cannot be met, 4 bad input file.\n"
            "\n"
            "Examples:\n"
            "  refine-memprof --html run.html -- refine-lowmem -m refiner.pack -i photo.jpg \\\n"
            "                 -o out.png -p \"a castle at dawn\" --vram 2G\n"
            "  refine-memprof --from run.json --html run.html\n"
            "  refine-memprof --plan refiner.pack --size 768x768 --card 4050 --disk 7\n",
    .in_order = true,
};

/* EXIT_DONE, or the code of what was refused. */
static int memprof_check_arguments(const memprof_arguments *a, const options_parsed *parsed)
{
    const options_program *p = &MEMPROF_OPTIONS;
    const int modes = (a->child != NULL) + (a->from != NULL) + (a->o.pack_path != NULL);
    if (modes != 1)
        return options_report(p, "give one of --from TRACE.json, --plan PACK and -- refine-lowmem "
                                 "ARGS...");
    if (a->trace && !a->child)
        return options_report(p, "--trace records a job: give one behind --");
    for (size_t i = 0; !a->o.pack_path && i < sizeof PLANNED / sizeof PLANNED[0]; i++)
        if (options_has(parsed, PLANNED[i]))
            return options_report(p, "--%s is for --plan", PLANNED[i]);
    if (a->child && child_wants_stdout(a->child))
        return options_report(p, "the report goes to stdout: give the job a file, and no --json");
    if (a->child && a->trace && child_trace(a->child))
        return options_report(p, "--trace is given twice: leave it out behind --");
    return EXIT_DONE;
}

int memprof_arguments_read(memprof_arguments *a, int argc, char **argv)
{
    options_parsed parsed;
    int code = options_parse(&parsed, &MEMPROF_OPTIONS, a, argc, argv, stdout, stderr);
    if (code >= 0)
        return code;
    if (parsed.rest < argc)
        a->child = argv + parsed.rest;
    code = memprof_check_arguments(a, &parsed);
    return code == EXIT_DONE ? -1 : code;
}
