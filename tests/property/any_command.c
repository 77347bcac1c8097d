/* tests/property/any_command.c -- rows of options become words; pictures and packs to go with them.
 */
#define _GNU_SOURCE /* prctl */
#include "tests/property/any_command.h"

#include "tests/support/random.h"
#include "tests/support/tiny_pack.h"
#include "tools/arguments/lowmem_arguments.h"
#include "tools/files/latents_io.h"

#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <png.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- packs ---- */

#define VOCABULARY "tools/vocabulary/bpe_simple_vocab_16e6.txt.gz"

static const char REFINER[] = "synthetic:tiny", BASE[] = "synthetic:tiny-base";

/* Those of one kind give the same images. */
static const struct {
    const char *source, *options;
    int kind;
} PACKS[] = {
    { REFINER, "--weights fp16", 0 },
    { REFINER, "--codec raw --chunk 64K", 0 },
    { REFINER, "--weights int8", 1 },
    { REFINER, "--sampler euler-ancestral", 2 },
    { REFINER, "--spacing trailing", 3 },
    { REFINER, "--prediction v", 4 },
    { REFINER, "--tokenizer " VOCABULARY, 5 },
    { "synthetic:tiny:2", "--weights fp16", 6 },
    { BASE, "--weights fp16", 7 },
    { BASE, "--codec raw --chunk 64K --weights fp16", 7 },
    { BASE, "--weights int8", 8 },
    { BASE, "--spacing trailing", 9 },
};

enum { N_PACKS = sizeof PACKS / sizeof PACKS[0], FIRST_BASE = 8, N_BASES = N_PACKS - FIRST_BASE };

static char packs[N_PACKS][COMMAND_PATH];

/* ---- inputs ---- */

enum { WIDTH = 70, HEIGHT = 67, SAMPLES = 4, LATENT_SIDE = 8 };

typedef enum input_format { IN_PNG, IN_NPY, IN_SAFETENSORS, N_INPUT_FORMATS } input_format;

static const char *const ENDINGS[N_INPUT_FORMATS] = { "png", "npy", "safetensors" };

/* Those of one kind are the same image, as it is seen. */
static const struct {
    int kind;
    input_format format;
    unsigned seed;
    bool opaque, upside_down; /* as it is stored; and if it is turned, by a tag */
    bool tagged;
    const char *name;
} INPUTS[] = {
    { 0, IN_PNG, 1, false, false, false, "a photo" },
    { 0, IN_PNG, 1, false, true, true, "it stored upside down" },
    { 1, IN_PNG, 1, false, false, true, "it upside down" },
    { 2, IN_PNG, 2, false, false, false, "another photo" },
    { 3, IN_PNG, 1, true, false, false, "an opaque one" },
    { 4, IN_NPY, 3, false, false, false, "latents" },
    { 4, IN_SAFETENSORS, 3, false, false, false, "them in another format" },
    { 5, IN_NPY, 4, false, false, false, "other latents" },
};

enum { N_INPUTS = sizeof INPUTS / sizeof INPUTS[0], FIRST_LATENTS = 5 };

static void write_photo(const char *path, int which)
{
    static const png_byte UPSIDE_DOWN[] = { 'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0,
                                            3,   0,   0, 0,  1, 0, 3, 0, 0, 0, 0, 0,    0 };
    png_byte px[WIDTH * HEIGHT * SAMPLES], tag[sizeof UPSIDE_DOWN];
    uint64_t seed = INPUTS[which].seed;
    const int last = WIDTH * HEIGHT - 1;

    for (int i = 0; i <= last; i++)
        for (int c = 0; c < SAMPLES; c++) {
            const png_byte v = (png_byte)(random_bits(&seed) >> 56);
            px[(INPUTS[which].upside_down ? last - i : i) * SAMPLES + c] =
                c == SAMPLES - 1 && (INPUTS[which].opaque || v < 128) ? 255 : v;
        }
    FILE *f = fopen(path, "wb");
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    cr_assert(f && png && info && !setjmp(png_jmpbuf(png)));
    png_init_io(png, f);
    png_set_IHDR(png, info, WIDTH, HEIGHT, 8, PNG_COLOR_TYPE_RGB_ALPHA, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    memcpy(tag, UPSIDE_DOWN, sizeof tag);
    if (INPUTS[which].tagged)
        png_set_eXIf_1(png, info, sizeof tag, tag);
    png_write_info(png, info);
    for (int y = 0; y < HEIGHT; y++)
        png_write_row(png, px + (size_t)y * WIDTH * SAMPLES);
    png_write_end(png, NULL);
    png_destroy_write_struct(&png, &info);
    cr_assert_eq(fclose(f), 0);
}

static void write_latents(const char *path, int which)
{
    float v[LATENT_CHANNELS * LATENT_SIDE * LATENT_SIDE];
    uint64_t seed = INPUTS[which].seed;
    const latents l = { LATENT_SIDE, LATENT_SIDE, v };
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++)
        v[i] = 2 * random_float(&seed);
    cr_assert_eq(latents_save(path, &l, 1, NULL), REFINE_OK);
}

static void format_input_dir(char path[COMMAND_PATH], const char *place, int which)
{
    (void)snprintf(path, COMMAND_PATH, "%.400s/in%d", place, which);
}

static void format_input(char path[COMMAND_PATH], const char *place, int which)
{
    (void)snprintf(path, COMMAND_PATH, "%.400s/in%d/p.%s", place, which,
                   ENDINGS[INPUTS[which].format]);
}

void any_command_inputs(const char *place)
{
    char path[COMMAND_PATH];
    for (int i = 0; i < N_INPUTS; i++) {
        format_input_dir(path, place, i);
        cr_assert_eq(mkdir(path, 0700), 0);
        format_input(path, place, i);
        if (INPUTS[i].format == IN_PNG)
            write_photo(path, i);
        else
            write_latents(path, i);
    }
}

/* ---- rows ---- */

static int row_index(const char *name)
{
    int i = 0;
    while (strcmp(LOWMEM_OPTIONS.rows[i].name, name) != 0) {
        i++;
        cr_assert_lt(i, LOWMEM_OPTIONS.n_rows, "--%s", name);
    }
    return i;
}

__attribute__((format(printf, 3, 4))) static void set_option(any_command *c, const char *name,
                                                             const char *fmt, ...)
{
    const int i = row_index(name);
    va_list args;
    va_start(args, fmt);
    c->given[i] = true;
    (void)vsnprintf(c->value[i], sizeof c->value[i], fmt, args);
    va_end(args);
}

/* ---- values ---- */

static const char *draw_known_word(draws *d, const char *const *words)
{
    int n = 0;
    while (words[n])
        n++;
    return words[draw_below(d, n)];
}

#define WORDS(...)                                                                                 \
    (const char *const[]) { __VA_ARGS__, NULL }

/* What only the option's own function, or the file system, or nobody but a person knows. */
static const struct {
    const char *name;
    const char *const *values;
} KNOWN[] = {
    { "prompt", WORDS("a cat", "", "caf\xc3\xa9", "a\nb", "Negative prompt: x", " a, b: \"c\"") },
    { "negative", WORDS("", "wood", "a\nb") },
    { "prompt-2", WORDS("wood", "") },
    { "negative-2", WORDS("a red cup", "") },
    { "tokenizer", WORDS("docs/sample/demo_merges.txt", VOCABULARY) },
    { "background", WORDS("white", "black", "#ffffff", "#12ab7f") },
    { "size", WORDS("64x64", "input", "64", "72", "0.01MP", "72x64") },
    { "seed", WORDS("7", "-1", "8", "18446744073709551615") },
    { "scheduler", WORDS("euler") },
#ifdef REFINE_CUDA_EMULATED
    { "device", WORDS("cpu", "ref") },
#else
    { "device", WORDS("cpu", "ref", "auto") },
#endif
    { "steps", WORDS("2", "1", "3", "4") },
    { "count", WORDS("1", "2") },
    { "vram", WORDS("1G", "64M", "40M") },
    { "ram", WORDS("1G", "128M", "64M") },
    { "limit-disk", WORDS("4G", "2G") },
    { "limit-copy", WORDS("4G", "2G") },
};

static const char *const *known_values(const char *name)
{
    for (size_t i = 0; i < sizeof KNOWN / sizeof KNOWN[0]; i++)
        if (strcmp(KNOWN[i].name, name) == 0)
            return KNOWN[i].values;
    return NULL;
}

/* Said by the command itself; or of one image alone, or of none. */
static bool is_row_apart(const option_row *r)
{
    static const char *const APART[] = { "model",          "base", "input",   "manifest", "output",
                                         "output-latents", "plan", "compare", "trace" };
    for (size_t i = 0; i < sizeof APART / sizeof APART[0]; i++)
        if (strcmp(APART[i], r->name) == 0)
            return true;
    return r->kind >= OPTION_STOP;
}

/* By so little that a few digits do not show it. */
static double draw_neighbour(draws *d, double v)
{
    const double away = ldexp(v, -draw_integer(d, 19, 30));
    return draw_once_in(d, 2) ? v + away : v - away;
}

static double draw_real_value(draws *d, const option_row *r)
{
    const bool share = r->kind == OPTION_REAL && r->least >= 0 && r->most <= 1;
    const double v = share ? 0.1 * draw_integer(d, 0, 10) : draw_integer(d, 0, 20) / 2.0;
    return draw_once_in(d, 4) ? draw_neighbour(d, v) : v;
}

/* Whether values of its kind will do. */
static bool is_row_drawn(const option_row *r)
{
    return known_values(r->name) || r->kind == OPTION_FLAG || r->kind == OPTION_WORD ||
           r->kind == OPTION_INT || r->kind == OPTION_WHOLE || r->kind == OPTION_PAIR ||
           r->kind == OPTION_REAL || r->kind == OPTION_FLOAT;
}

void any_command_prepare(void)
{
    for (int i = 0; i < LOWMEM_OPTIONS.n_rows; i++)
        cr_assert(is_row_apart(&LOWMEM_OPTIONS.rows[i]) || is_row_drawn(&LOWMEM_OPTIONS.rows[i]),
                  "--%s: say in KNOWN what it takes", LOWMEM_OPTIONS.rows[i].name);
    for (int i = 0; i < N_PACKS; i++)
        kept_pack_of(packs[i], sizeof packs[i], PACKS[i].source, PACKS[i].options);
}

static void draw_row_value(draws *d, char out[COMMAND_VALUE], const option_row *r)
{
    enum { NEAR = 3, FAR = 200 };
    const char *const *known = known_values(r->name);
    const uint64_t most = r->high - r->low;
    if (known) {
        (void)snprintf(out, COMMAND_VALUE, "%s", draw_known_word(d, known));
        return;
    }
    switch (r->kind) {
    case OPTION_FLAG: out[0] = '\0'; break;
    case OPTION_WORD: (void)snprintf(out, COMMAND_VALUE, "%s", draw_known_word(d, r->words)); break;
    case OPTION_INT:
    case OPTION_WHOLE:
        (void)snprintf(out, COMMAND_VALUE, "%llu",
                       (unsigned long long)r->low +
                           (unsigned long long)draw_integer(d, 0, most < NEAR ? (int)most : NEAR));
        break;
    case OPTION_PAIR:
        (void)snprintf(out, COMMAND_VALUE, "%d%c%d", (int)r->low + draw_integer(d, 0, FAR),
                       r->between, (int)r->low + draw_integer(d, 0, FAR));
        break;
    case OPTION_REAL:
    case OPTION_FLOAT: (void)snprintf(out, COMMAND_VALUE, "%.17g", draw_real_value(d, r)); break;
    default: break;
    }
}

/* A row that is drawn: as a rule one that the image may depend on. */
static int draw_row(draws *d)
{
    const bool spares = draw_once_in(d, 4);
    int rows[OPTIONS_MAX], n = 0;
    for (int i = 0; i < LOWMEM_OPTIONS.n_rows; i++)
        if (!is_row_apart(&LOWMEM_OPTIONS.rows[i]) && LOWMEM_OPTIONS.rows[i].spares_image == spares)
            rows[n++] = i;
    return rows[draw_below(d, n)];
}

static void draw_option(draws *d, any_command *c)
{
    const int i = draw_row(d);
    c->given[i] = true;
    draw_row_value(d, c->value[i], &LOWMEM_OPTIONS.rows[i]);
}

/* ---- commands ---- */

/* Of REFINE_ISA. */
static const char *const ISAS[] = { "", "avx2", "base" };

enum { N_ISAS = sizeof ISAS / sizeof ISAS[0] };

typedef enum command_flow {
    OF_PHOTO,
    OF_TEXT,
    OF_LATENTS,
    OF_PHOTO_BY_BASE,
    ENSEMBLE_OF_TEXT,
    ENSEMBLE_OF_PHOTO,
    TWO_STAGES,
    N_COMMAND_FLOWS
} command_flow;

/* A step or two are run. */
static void draw_part_of_schedule(draws *d, any_command *c)
{
    const int steps = draw_integer(d, 1, 3), run = draw_integer(d, 1, steps < 2 ? steps : 2);
    set_option(c, "steps", "%d", steps);
    if (INPUTS[c->input].format != IN_PNG && draw_once_in(d, 2))
        set_option(c, "denoising-start", "%.17g", 1 - (double)run / steps);
    else
        set_option(c, "strength", "%.17g", (double)run / steps);
}

static void draw_two_models(draws *d, any_command *c, command_flow flow)
{
    const int steps = draw_integer(d, 2, 3);
    c->base = FIRST_BASE + draw_below(d, N_BASES);
    set_option(c, "steps", "%d", flow == ENSEMBLE_OF_PHOTO ? 4 : steps);
    if (flow == ENSEMBLE_OF_PHOTO)
        set_option(c, "strength", "0.5");
    if (flow == TWO_STAGES) {
        set_option(c, "flow", "two-stage");
        set_option(c, "strength", "0.5");
        if (draw_once_in(d, 2))
            set_option(c, "via-pixels", "%s", "");
    } else {
        set_option(c, "handoff", flow == ENSEMBLE_OF_PHOTO ? "0.75" : "0.5");
    }
}

static void draw_flow(draws *d, any_command *c)
{
    const command_flow flow = (command_flow)draw_below(d, N_COMMAND_FLOWS);
    const bool by_base = flow == OF_TEXT || flow == OF_PHOTO_BY_BASE;
    c->model = by_base ? FIRST_BASE + draw_below(d, N_BASES) : draw_below(d, FIRST_BASE);
    if (flow == OF_LATENTS)
        c->input = FIRST_LATENTS + draw_below(d, N_INPUTS - FIRST_LATENTS);
    else if (flow == OF_PHOTO || flow == OF_PHOTO_BY_BASE || flow == ENSEMBLE_OF_PHOTO)
        c->input = draw_below(d, FIRST_LATENTS);
    if (flow >= ENSEMBLE_OF_TEXT)
        draw_two_models(d, c, flow);
    else if (c->input >= 0)
        draw_part_of_schedule(d, c);
    else
        set_option(c, "steps", "%d", draw_integer(d, 1, 2));
    if (c->input < 0)
        set_option(c, "size", "64x64");
}

void draw_command(draws *d, any_command *c)
{
    enum { MORE = 4 };
    *c = (any_command){ .base = -1, .input = -1 };
    set_option(c, "device", "cpu");
    set_option(c, "threads", "1");
    set_option(c, "prompt", "a cat");
    set_option(c, "seed", "7");
    draw_flow(d, c);
    c->by_list = c->input < 0 || draw_once_in(d, 2);
    c->misled = c->by_list && draw_once_in(d, 4);
    c->jpeg = c->by_list && draw_once_in(d, 4);
    for (int n = draw_integer(d, 0, MORE); n > 0; n--)
        draw_option(d, c);
    if (!command_has_seed(c))
        set_option(c, "seed", "7");
    if (c->input < 0 && strcmp(c->value[row_index("size")], "input") == 0)
        set_option(c, "size", "64x64"); /* or it would be as large as the models are made for */
}

/* ---- changes ---- */

__attribute__((format(printf, 3, 4))) static void append_text(char *out, size_t size,
                                                              const char *fmt, ...)
{
    const size_t n = strlen(out);
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(out + n, size - n, fmt, args);
    va_end(args);
}

static void append_option(char *out, size_t size, const any_command *c, int i)
{
    const option_row *r = &LOWMEM_OPTIONS.rows[i];
    if (!c->given[i])
        append_text(out, size, " no --%s", r->name);
    else if (r->kind == OPTION_FLAG)
        append_text(out, size, " --%s", r->name);
    else
        append_text(out, size, " --%s '%s'", r->name, c->value[i]);
}

/* One that is given, as it then counts for something; or -1. */
static int draw_given_row(draws *d, const any_command *c, bool real)
{
    int rows[OPTIONS_MAX], n = 0;
    for (int i = 0; i < LOWMEM_OPTIONS.n_rows; i++)
        if (c->given[i] && (!real || LOWMEM_OPTIONS.rows[i].kind == OPTION_REAL ||
                            LOWMEM_OPTIONS.rows[i].kind == OPTION_FLOAT))
            rows[n++] = i;
    return n > 0 ? rows[draw_below(d, n)] : -1;
}

static void draw_option_change(draws *d, any_command *c, char *said, size_t size)
{
    const int given = draw_once_in(d, 2) ? draw_given_row(d, c, false) : -1;
    const int i = given >= 0 ? given : draw_row(d);
    c->given[i] = !(c->given[i] && draw_once_in(d, 3));
    if (c->given[i])
        draw_row_value(d, c->value[i], &LOWMEM_OPTIONS.rows[i]);
    append_option(said, size, c, i);
}

/* One of the real numbers that are given, by little. */
static void draw_small_change(draws *d, any_command *c, char *said, size_t size)
{
    const int i = draw_given_row(d, c, true);
    if (i < 0)
        return;
    (void)snprintf(c->value[i], sizeof c->value[i], "%.17g",
                   draw_neighbour(d, strtod(c->value[i], NULL)));
    append_option(said, size, c, i);
}

void draw_command_change(draws *d, any_command *c, char *said, size_t size)
{
    enum { CHANGES = 15 };
    switch (draw_below(d, CHANGES)) {
    case 0:
        c->model = draw_below(d, N_PACKS);
        append_text(said, size, " -m '%s %s'", PACKS[c->model].source, PACKS[c->model].options);
        break;
    case 1:
        c->base = draw_below(d, N_BASES + 1) - 1;
        c->base += c->base >= 0 ? FIRST_BASE : 0;
        append_text(said, size, c->base < 0 ? " no --base" : " --base '%s %s'",
                    c->base < 0 ? "" : PACKS[c->base].source,
                    c->base < 0 ? "" : PACKS[c->base].options);
        break;
    case 2:
        c->input = draw_below(d, N_INPUTS);
        append_text(said, size, " -i '%s'", INPUTS[c->input].name);
        break;
    case 3:
        c->by_list = c->jpeg || c->input < 0 || !c->by_list;
        c->misled = c->by_list && draw_once_in(d, 2);
        append_text(said, size,
                    c->misled    ? " a list, and other words on the command line"
                    : c->by_list ? " a list"
                                 : " no list");
        break;
    case 4:
    case 5: draw_small_change(d, c, said, size); break;
    case 6:
        c->isa = draw_below(d, N_ISAS);
        append_text(said, size, " REFINE_ISA=%s", ISAS[c->isa]);
        break;
    default: draw_option_change(d, c, said, size);
    }
}

static bool is_option_repeated(const any_command *first, const any_command *second, int i)
{
    const option_row *r = &LOWMEM_OPTIONS.rows[i];
    if (r->spares_image || (strcmp(r->name, "seed") == 0 && !command_has_seed(second)))
        return true;
    return first->given[i] == second->given[i] &&
           (!first->given[i] || strcmp(first->value[i], second->value[i]) == 0);
}

static int kind_of_pack(int which) { return which < 0 ? -1 : PACKS[which].kind; }
static int kind_of_input(int which) { return which < 0 ? -1 : INPUTS[which].kind; }

bool command_is_repeated(const any_command *first, const any_command *second)
{
    bool same = kind_of_pack(first->model) == kind_of_pack(second->model) &&
                kind_of_pack(first->base) == kind_of_pack(second->base) &&
                kind_of_input(first->input) == kind_of_input(second->input) &&
                first->jpeg == second->jpeg && first->isa == second->isa;
    for (int i = 0; i < LOWMEM_OPTIONS.n_rows; i++)
        same = same && is_option_repeated(first, second, i);
    return same;
}

bool command_is_same(const any_command *first, const any_command *second)
{
    bool same = first->model == second->model && first->base == second->base &&
                first->input == second->input && first->by_list == second->by_list &&
                first->misled == second->misled && first->jpeg == second->jpeg &&
                first->isa == second->isa;
    for (int i = 0; i < LOWMEM_OPTIONS.n_rows; i++)
        same = same && first->given[i] == second->given[i] &&
               (!first->given[i] || strcmp(first->value[i], second->value[i]) == 0);
    return same;
}

bool command_has_seed(const any_command *c)
{
    const int i = row_index("seed");
    return c->given[i] && strcmp(c->value[i], "-1") != 0;
}

void command_take_seed(any_command *c, const any_command *from)
{
    set_option(c, "seed", "%s", from->value[row_index("seed")]);
}

/* ---- as text ---- */

void command_format(char *out, size_t size, const any_command *c)
{
    (void)snprintf(out, size, "-m '%s %s'", PACKS[c->model].source, PACKS[c->model].options);
    if (c->base >= 0)
        append_text(out, size, " --base '%s %s'", PACKS[c->base].source, PACKS[c->base].options);
    if (c->input >= 0)
        append_text(out, size, " -i '%s'", INPUTS[c->input].name);
    append_text(out, size, " -o %s", c->jpeg ? "p.jpg" : "p.png");
    for (int i = 0; i < LOWMEM_OPTIONS.n_rows; i++)
        if (c->given[i])
            append_option(out, size, c, i);
    append_text(out, size, "%s%s", c->by_list ? " by a list" : "",
                c->misled ? " and other words on the command line" : "");
}

void command_output(char path[COMMAND_PATH], const char *out, const any_command *c, int which)
{
    static const char *const NAMES[COMMAND_NAMES] = { "p", "p-1", "p-2" };
    (void)snprintf(path, COMMAND_PATH, "%.400s/%s.%s", out, NAMES[which], c->jpeg ? "jpg" : "png");
}

/* ---- as words ---- */

enum { WORDS_MAX = 96 };

typedef struct command_words {
    char word[WORDS_MAX][COMMAND_PATH];
    int n;
} command_words;

__attribute__((format(printf, 2, 3))) static void add_word(command_words *w, const char *fmt, ...)
{
    va_list args;
    cr_assert_lt(w->n, WORDS_MAX);
    va_start(args, fmt);
    (void)vsnprintf(w->word[w->n++], COMMAND_PATH, fmt, args);
    va_end(args);
}

static void add_option_words(command_words *w, const char *name, const char *value)
{
    add_word(w, "--%s", name);
    if (LOWMEM_OPTIONS.rows[row_index(name)].kind != OPTION_FLAG)
        add_word(w, "%s", value);
}

/* A member of a manifest, and what it is called there. */
static const struct {
    const char *option, *member;
    bool text;
    const char *other; /* what the command line may say that counts for nothing then */
} MEMBERS[] = {
    { "prompt", "prompt", true, "a dog" },
    { "negative", "negative", true, "a dog" },
    { "prompt-2", "prompt_2", true, "a dog" },
    { "negative-2", "negative_2", true, "a dog" },
    { "size", "size", true, "96x96" },
    { "steps", "steps", false, "5" },
    { "strength", "strength", false, "0.9" },
    { "guidance", "guidance", false, "3" },
    { "seed", "seed", false, "4" },
};

enum { N_MEMBERS = sizeof MEMBERS / sizeof MEMBERS[0] };

/* Which of MEMBERS; -1: none. */
static int find_member(const char *option)
{
    for (int i = 0; i < N_MEMBERS; i++)
        if (strcmp(MEMBERS[i].option, option) == 0)
            return i;
    return -1;
}

static json_t *member_value(int member, const char *value)
{
    const bool large = strlen(value) > 18; /* no integer of JSON holds it */
    const bool seed = strcmp(MEMBERS[member].member, "seed") == 0;
    if (MEMBERS[member].text || (seed && large))
        return json_string(value);
    return json_loads(value, JSON_DECODE_ANY, NULL);
}

static void write_list(const any_command *c, const char *place, const char *out, const char *path)
{
    char name[COMMAND_PATH];
    json_t *line = json_object();
    command_output(name, out, c, 0);
    (void)json_object_set_new(line, "output", json_string(name));
    format_input(name, place, c->input < 0 ? 0 : c->input);
    if (c->input >= 0)
        (void)json_object_set_new(line, "input", json_string(name));
    for (int i = 0; i < N_MEMBERS; i++) {
        const int row = row_index(MEMBERS[i].option);
        if (c->given[row])
            (void)json_object_set_new(line, MEMBERS[i].member, member_value(i, c->value[row]));
    }
    cr_assert_eq(json_dump_file(line, path, JSON_COMPACT | JSON_REAL_PRECISION(17)), 0);
    json_decref(line);
}

static void add_given_words(command_words *w, const any_command *c)
{
    for (int i = 0; i < LOWMEM_OPTIONS.n_rows; i++) {
        const char *name = LOWMEM_OPTIONS.rows[i].name;
        const int member = c->by_list ? find_member(name) : -1;
        if (c->given[i] && member < 0)
            add_option_words(w, name, c->value[i]);
        else if (c->given[i] && c->misled)
            add_option_words(w, name, MEMBERS[member].other);
    }
}

static void list_words(command_words *w, const any_command *c, const char *place, const char *out)
{
    const char *bin = getenv("REFINE_BIN");
    char path[COMMAND_PATH];
    w->n = 0;
    add_word(w, "%s/refine-lowmem", bin ? bin : "build/release/bin");
    add_option_words(w, "model", packs[c->model]);
    if (c->base >= 0)
        add_option_words(w, "base", packs[c->base]);
    add_given_words(w, c);
    if (c->by_list) {
        (void)snprintf(path, sizeof path, "%.400s/list", place);
        write_list(c, place, out, path);
        add_option_words(w, "manifest", path);
    } else {
        format_input_dir(path, place, c->input);
        add_option_words(w, "input", path);
        add_option_words(w, "output", out);
    }
}

_Noreturn static void exec_command(const command_words *w, const any_command *c, const char *said)
{
    const char *args[WORDS_MAX + 1];
    const int fd = open(said, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    for (int i = 0; i < w->n; i++)
        args[i] = w->word[i];
    args[w->n] = NULL;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)dup2(fd, STDOUT_FILENO);
    (void)dup2(fd, STDERR_FILENO);
    if (c->isa)
        (void)setenv("REFINE_ISA", ISAS[c->isa], 1);
    execv(args[0], (char *const *)(uintptr_t)args);
    _exit(99);
}

int command_run(const any_command *c, const char *place, const char *out, bool asks)
{
    static command_words w;
    char said[COMMAND_PATH];
    int status;
    list_words(&w, c, place, out);
    if (asks)
        add_option_words(&w, "vram", "1M");
    (void)snprintf(said, sizeof said, "%.400s/said", place);
    const pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0)
        exec_command(&w, c, said);
    cr_assert_eq(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
