/* tools/refine_memprof.c -- where every byte and millisecond of a run goes, and what another
 * budget or another card would make of it.
 *
 * Runs a job, reads the trace of one, or plans one; then reports.  Exit: what the job exits with;
 * else 0 done, 1 failed, 2 usage, 3 the budget cannot be met, 4 bad input file.
 */
#define _GNU_SOURCE /* getopt_long */
#include "tools/cli/exit_code.h"
#include "tools/cli/numbers.h"
#include "tools/cli/places.h"
#include "tools/cli/sizes.h"
#include "tools/files/new_file.h"
#include "tools/memprof/memprof_child.h"
#include "tools/memprof/memprof_html.h"
#include "tools/memprof/memprof_json.h"
#include "tools/memprof/memprof_text.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct memprof_arguments {
    const char *html, *trace, *from;
    bool json;
    int planned; /* an option that only a plan has; 0: none was given */
    memprof_wish wish;
    refine_options o;
    refine_job j;
    char **child; /* NULL: no job is run */
} memprof_arguments;

static const char HELP[] =
    "usage: refine-memprof [--html OUT.html] [--trace OUT.json] [--json] -- refine-lowmem ARGS...\n"
    "       refine-memprof --from TRACE.json [--html OUT.html] [--json]\n"
    "       refine-memprof --plan PACK [--size WxH] [--vram SIZE] [--card NAME] [options]\n"
    "\n"
    "Shows where every byte and every millisecond of a run goes, and predicts other budgets and\n"
    "other cards.\n"
    "\n"
    "      --html OUT.html      the report as a web page, in one file; no file that is read, or\n"
    "                           that the job names\n"
    "      --json               the report as JSON on stdout, instead of text\n"
    "\n"
    "Running a job:\n"
    "      --trace OUT.json     keep the recording (Perfetto and chrome://tracing show it)\n"
    "A recorded run:\n"
    "      --from TRACE.json    as written by refine-lowmem --trace\n"
    "Without running anything:\n"
    "      --plan PACK          the model, made by refine-pack\n"
    "      --size WxH           the image (1024x1024)\n"
    "      --vram SIZE --ram SIZE  ceilings (512M, 1.5G)\n"
    "      --precision auto|f32|bf16|fp16|int8\n"
    "      --steps N            of the whole schedule (50)\n"
    "\n"
    "Predictions:\n"
    "      --card NAME          only this one, and plan for it: 1650ti, 2060, 3050-4g, 3050-6g,\n"
    "                           4050, 5050\n"
    "      --link F --disk F    GB/s from host to card, and from disk (the card's; 3.5)\n"
    "      --tflops F           TFLOP/s of matrix products that the card really does\n"
    "      --version --help\n"
    "\n"
    "examples:\n"
    "  refine-memprof --html run.html -- refine-lowmem -m refiner.pack -i photo.jpg -o out.png \\\n"
    "                 -p \"a castle at dawn\" --vram 2G\n"
    "  refine-memprof --from run.json --html run.html\n"
    "  refine-memprof --plan refiner.pack --size 768x768 --card 4050 --disk 7\n";

enum {
    OPT_HTML = 256,
    OPT_TRACE,
    OPT_JSON,
    OPT_FROM,
    OPT_PLAN,
    OPT_SIZE,
    OPT_VRAM,
    OPT_RAM,
    OPT_PRECISION,
    OPT_STEPS,
    OPT_CARD,
    OPT_LINK,
    OPT_DISK,
    OPT_TFLOPS,
    OPT_VERSION
};

static const struct option OPTIONS[] = {
    { "html", required_argument, NULL, OPT_HTML },
    { "trace", required_argument, NULL, OPT_TRACE },
    { "json", no_argument, NULL, OPT_JSON },
    { "from", required_argument, NULL, OPT_FROM },
    { "plan", required_argument, NULL, OPT_PLAN },
    { "size", required_argument, NULL, OPT_SIZE },
    { "vram", required_argument, NULL, OPT_VRAM },
    { "ram", required_argument, NULL, OPT_RAM },
    { "precision", required_argument, NULL, OPT_PRECISION },
    { "steps", required_argument, NULL, OPT_STEPS },
    { "card", required_argument, NULL, OPT_CARD },
    { "link", required_argument, NULL, OPT_LINK },
    { "disk", required_argument, NULL, OPT_DISK },
    { "tflops", required_argument, NULL, OPT_TFLOPS },
    { "version", no_argument, NULL, OPT_VERSION },
    { "help", no_argument, NULL, 'h' },
    { NULL, 0, NULL, 0 },
};

static int memprof_print_error(const refine_error *err, int code)
{
    (void)fprintf(stderr, "refine-memprof: %s\n", err->text);
    return code;
}

/* ---- arguments ---- */

static bool parse_rate(const char *s, double *out) { return numbers_real(s, 1e-6, 1e9, out); }

static bool set_size(memprof_arguments *a, const char *v)
{
    return numbers_pair(v, 1 << 16, &a->j.width, &a->j.height);
}

static bool set_precision(memprof_arguments *a, const char *v)
{
    static const char *const WORDS[] = { "auto", "f32", "bf16", "fp16", "int8" };
    for (int i = 0; i < 5; i++)
        if (strcmp(v, WORDS[i]) == 0) {
            a->o.precision = (refine_precision)i;
            return true;
        }
    return false;
}

static bool choose_card(memprof_arguments *a, const char *v)
{
    a->wish.card = card_find(v);
    return a->wish.card != NULL;
}

/* False: the value does not suit the option. */
static bool memprof_set_option(memprof_arguments *a, int option, const char *v)
{
    switch (option) {
    case OPT_HTML: a->html = v; return true;
    case OPT_TRACE: a->trace = v; return true;
    case OPT_JSON: return a->json = true;
    case OPT_FROM: a->from = v; return true;
    case OPT_PLAN: a->o.pack_path = v; return true;
    case OPT_SIZE: return set_size(a, v);
    case OPT_VRAM: return sizes_parse(v, &a->o.vram_bytes);
    case OPT_RAM: return sizes_parse(v, &a->o.ram_bytes);
    case OPT_PRECISION: return set_precision(a, v);
    case OPT_STEPS: return numbers_int(v, 1, 1000, &a->j.steps);
    case OPT_CARD: return choose_card(a, v);
    case OPT_LINK: return parse_rate(v, &a->wish.with.link);
    case OPT_DISK: return parse_rate(v, &a->wish.with.disk);
    default: return parse_rate(v, &a->wish.with.tflops);
    }
}

static int memprof_usage_error(const char *fmt, const char *what)
{
    (void)fputs("refine-memprof: ", stderr);
    (void)fprintf(stderr, fmt, what);
    (void)fputs("; see refine-memprof --help\n", stderr);
    return EXIT_USAGE;
}

static const char *memprof_option_name(int option)
{
    int i = 0;
    while (OPTIONS[i].name && OPTIONS[i].val != option)
        i++;
    return OPTIONS[i].name;
}

static int memprof_check_arguments(const memprof_arguments *a)
{
    const int modes = (a->child != NULL) + (a->from != NULL) + (a->o.pack_path != NULL);
    if (modes != 1)
        return memprof_usage_error("give one of --from TRACE.json, --plan PACK and %s",
                                   "-- refine-lowmem ARGS...");
    if (a->trace && !a->child)
        return memprof_usage_error("--trace records a job: give one behind %s", "--");
    if (a->planned && !a->o.pack_path)
        return memprof_usage_error("--%s is for --plan", memprof_option_name(a->planned));
    if (a->child && child_wants_stdout(a->child))
        return memprof_usage_error("the report goes to stdout: give the job a file, and no %s",
                                   "--json");
    if (a->child && a->trace && child_trace(a->child))
        return memprof_usage_error("--trace is given twice: leave it out behind %s", "--");
    return EXIT_DONE;
}

/* -1: go on; else the exit code. */
static int memprof_parse_arguments(memprof_arguments *a, int argc, char **argv)
{
    int option;
    while ((option = getopt_long(argc, argv, "+h", OPTIONS, NULL)) != -1) {
        if (option == 'h') {
            (void)fputs(HELP, stdout);
            return EXIT_DONE;
        }
        if (option == OPT_VERSION) {
            (void)printf("refine-memprof %s\n", refine_version());
            return EXIT_DONE;
        }
        if (option == '?')
            return EXIT_USAGE;
        if (!memprof_set_option(a, option, optarg)) {
            char what[128];
            (void)snprintf(what, sizeof what, "'%.80s' is no value for --%s", optarg,
                           memprof_option_name(option));
            return memprof_usage_error("%s", what);
        }
        if (option >= OPT_SIZE && option <= OPT_STEPS)
            a->planned = option;
    }
    if (optind < argc)
        a->child = argv + optind;
    const int code = memprof_check_arguments(a);
    return code == EXIT_DONE ? -1 : code;
}

/* ---- reporting ---- */

static int report_memprof(const memprof_arguments *a, const memprof *m)
{
    refine_error err = { 0 };
    refine_status st = a->json ? memprof_print_json(stdout, m, &err)
                               : memprof_print(stdout, m, &err);
    if (st == REFINE_OK && a->html)
        st = memprof_save_html(a->html, m, &err);
    return st == REFINE_OK ? EXIT_DONE : memprof_print_error(&err, exit_code(st, false));
}

static int report_trace(const memprof_arguments *a, const char *path)
{
    recording t;
    memprof m;
    refine_error err = { 0 };
    refine_status st = trace_read(&t, path, &err);
    if (st != REFINE_OK)
        return memprof_print_error(&err, exit_code(st, true));
    st = memprof_of_run(&m, &t, &a->wish, &err);
    const int code = st == REFINE_OK ? report_memprof(a, &m)
                                     : memprof_print_error(&err, exit_code(st, false));
    memprof_free(&m);
    trace_free(&t);
    return code;
}

/* What the user says about rates also holds for the plan itself. */
static void apply_rates(memprof_arguments *a)
{
    const card_override *w = &a->wish.with;
    const uint64_t given = a->o.vram_bytes;
    if (a->wish.card)
        card_apply(&a->o, a->wish.card, w);
    if (given)
        a->o.vram_bytes = given;
    if (w->disk > 0)
        a->o.rates.disk = w->disk * 1e9;
    if (w->link > 0)
        a->o.rates.copy = w->link * 1e9;
    if (w->tflops > 0)
        a->o.rates.linear = a->o.rates.conv = a->o.rates.attention = w->tflops * 1e12;
}

static int report_plan(memprof_arguments *a)
{
    memprof m;
    refine_error err = { 0 };
    apply_rates(a);
    const refine_status st = memprof_of_plan(&m, &a->o, &a->j, &a->wish, &err);
    const int code = st == REFINE_OK ? report_memprof(a, &m)
                                     : memprof_print_error(&err, exit_code(st, true));
    memprof_free(&m);
    return code;
}

/* ---- a job ---- */

static refine_status make_temporary_path(char path[PATH_MAX], refine_error *err)
{
    const char *dir = getenv("TMPDIR");
    (void)snprintf(path, PATH_MAX, "%s/refine-memprof-XXXXXX", dir && *dir ? dir : "/tmp");
    const int fd = mkstemp(path);
    if (fd < 0)
        return refine_fail(err, REFINE_EIO, "%s: cannot be made: %s; set TMPDIR", path,
                           strerror(errno));
    (void)close(fd);
    return REFINE_OK;
}

/* Which file a name stands for.  A recording appears under its name when it is complete, as a
 * new file. */
static bool is_same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static int run_and_report(const memprof_arguments *a, const char *path)
{
    int code;
    refine_error err = { 0 };
    struct stat before = { 0 }, after = { 0 };
    (void)stat(path, &before);
    const refine_status st = child_run(&code, a->child, path, &err);
    if (st != REFINE_OK)
        return memprof_print_error(&err, exit_code(st, true));
    if (code != EXIT_DONE)
        return code;
    if (stat(path, &after) != 0 || is_same_file(&before, &after)) {
        (void)refine_fail(&err, REFINE_EINVAL,
                          "the job recorded nothing; for a plan there is refine-memprof --plan");
        return memprof_print_error(&err, EXIT_USAGE);
    }
    return report_trace(a, path);
}

static int profile_job(const memprof_arguments *a)
{
    char path[PATH_MAX];
    refine_error err = { 0 };
    const char *named = a->trace ? a->trace : child_trace(a->child);
    if (named)
        return run_and_report(a, named);
    if (make_temporary_path(path, &err) != REFINE_OK)
        return memprof_print_error(&err, EXIT_FAILED);
    const int code = run_and_report(a, path);
    (void)unlink(path);
    return code;
}

/* Any word of the job's may name a file of its: "-i FILE", "-iFILE", "--input=FILE". */
static void add_job(places *p, char *const argv[])
{
    static const char ROLE[] = "the job's file";
    for (int i = 1; argv[i]; i++) {
        const char *equals = strchr(argv[i], '=');
        places_add(p, PLACE_READ, ROLE, argv[i]);
        if (argv[i][0] == '-' && argv[i][1])
            places_add(p, PLACE_READ, ROLE, equals ? equals + 1 : argv[i] + 2);
    }
}

/* The report and the recording replace nothing that this program or the job reads or makes. */
static refine_status memprof_check_places(const memprof_arguments *a, refine_error *err)
{
    places p = { 0 };
    places_add(&p, PLACE_READ, "the recording (--from)", a->from);
    places_add(&p, PLACE_READ, "the model (--plan)", a->o.pack_path);
    if (a->child)
        add_job(&p, a->child);
    places_add(&p, PLACE_WRITTEN, "the report (--html)", a->html);
    places_add(&p, PLACE_WRITTEN, "the recording (--trace)", a->trace);
    places_add_open(&p, PLACE_WRITTEN, "standard output", STDOUT_FILENO);
    const refine_status st = places_check(&p, err);
    places_free(&p);
    return st;
}

/* A run may take an hour: that its report cannot be written must be known before. */
static int try_output(const memprof_arguments *a)
{
    new_file f;
    refine_error err = { 0 };
    refine_status st = memprof_check_places(a, &err);
    if (st == REFINE_OK && a->html) {
        st = new_file_open(&f, a->html, true, &err);
        if (st == REFINE_OK)
            new_file_abandon(&f);
    }
    return st == REFINE_OK ? EXIT_DONE : memprof_print_error(&err, exit_code(st, false));
}

int main(int argc, char **argv)
{
    memprof_arguments a = { .o = REFINE_OPTIONS_INIT, .j = REFINE_JOB_INIT };
    int code = memprof_parse_arguments(&a, argc, argv);
    if (code >= 0)
        return code;
    code = try_output(&a);
    if (code != EXIT_DONE)
        return code;
    if (a.child)
        return profile_job(&a);
    return a.from ? report_trace(&a, a.from) : report_plan(&a);
}
