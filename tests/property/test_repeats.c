/* tests/property/test_repeats.c -- what refine-lowmem counts as there already is what it would
 * make; what it did not make it leaves.
 *
 * A command makes an image.  Others, which differ from it in a thing or two, are then to make the
 * same file.  Where one says that it is there already, it makes it elsewhere too, and the two have
 * the same pixels (soundness).  Where no image depends on what differs, it must say so (economy).
 * Either way nothing is written.
 */
#define _XOPEN_SOURCE 700
#include "tests/property/any_command.h"
#include "tests/property/property.h"
#include "tests/support/load_image.h"
#include "tests/support/temp_place.h"
#include "tools/cli/exit_code.h"

#include <sys/stat.h>
#include <unistd.h>

enum { SAID = 512, TEXT = 900 };

TestSuite(property, .init = any_command_prepare);

typedef struct repeat {
    temp_place place;
    char out[COMMAND_PATH], fresh[COMMAND_PATH];
    any_command first;
    struct stat made[COMMAND_NAMES]; /* st_ino 0: no such file */
} repeat;

static void remove_place(const char *dir)
{
    char command[COMMAND_PATH + 16];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    cr_assert_eq(system(command), 0);
}

static void note_outputs(struct stat made[COMMAND_NAMES], const repeat *r, const any_command *c)
{
    char path[COMMAND_PATH];
    memset(made, 0, COMMAND_NAMES * sizeof *made);
    for (int i = 0; i < COMMAND_NAMES; i++) {
        command_output(path, r->out, c, i);
        if (stat(path, &made[i]) != 0)
            made[i].st_ino = 0;
    }
}

static bool is_untouched(const repeat *r)
{
    struct stat now[COMMAND_NAMES];
    bool same = true;
    note_outputs(now, r, &r->first);
    for (int i = 0; i < COMMAND_NAMES; i++)
        same = same && now[i].st_ino == r->made[i].st_ino && now[i].st_size == r->made[i].st_size &&
               now[i].st_mtim.tv_sec == r->made[i].st_mtim.tv_sec &&
               now[i].st_mtim.tv_nsec == r->made[i].st_mtim.tv_nsec;
    return same;
}

static void make_out_dir(char path[COMMAND_PATH], const repeat *r, const char *name)
{
    (void)snprintf(path, COMMAND_PATH, "%s/%s", r->place.dir, name);
    cr_assert_eq(mkdir(path, 0700), 0);
}

/* False: the command is refused, and there is nothing to be tried. */
static bool open_repeat(draws *d, repeat *r)
{
    char text[TEXT];
    draw_command(d, &r->first);
    command_format(text, sizeof text, &r->first);
    describe_case(d, "%s", text);
    r->place = temp_place_make("");
    make_out_dir(r->out, r, "out");
    make_out_dir(r->fresh, r, "fresh");
    any_command_inputs(r->place.dir);
    const int code = command_run(&r->first, r->place.dir, r->out, false);
    note_outputs(r->made, r, &r->first);
    return code == 0;
}

/* Both there, of the same pixels. */
static bool are_pixels_equal(const char *one, const char *other)
{
    image a = { 0 }, b = { 0 };
    const bool same = image_load(&a, one, NULL) == REFINE_OK &&
                      image_load(&b, other, NULL) == REFINE_OK && a.width == b.width &&
                      a.height == b.height &&
                      memcmp(a.rgb, b.rgb, (size_t)a.width * (size_t)a.height * 3) == 0;
    image_free(&a);
    image_free(&b);
    return same;
}

/* What the command makes where there is nothing, with the seed that the file has. */
static void compare_with_fresh(draws *d, const repeat *r, any_command c, const char *what)
{
    char there[COMMAND_PATH], fresh[COMMAND_PATH];
    if (!command_has_seed(&c))
        command_take_seed(&c, &r->first);
    if (command_run(&c, r->place.dir, r->fresh, false) != 0)
        fail_case(d, "with%s it is there already, and is not made elsewhere", what);
    for (int i = 0; i < COMMAND_NAMES; i++) {
        command_output(there, r->out, &c, i);
        command_output(fresh, r->fresh, &c, i);
        if (access(fresh, F_OK) == 0 && !are_pixels_equal(there, fresh))
            fail_case(d, "with%s it is there already, and elsewhere another is made", what);
        (void)unlink(fresh);
    }
}

static void ask_for_another(draws *d, const repeat *r)
{
    any_command c = r->first;
    char what[SAID] = "";
    for (int n = draw_once_in(d, 4) ? 2 : 1; n > 0; n--)
        draw_command_change(d, &c, what, sizeof what);
    const int code = command_run(&c, r->place.dir, r->out, true);
    if (!is_untouched(r))
        fail_case(d, "with%s and no memory it is written", what);
    if (code != EXIT_DONE && code != EXIT_USAGE && command_is_repeated(&r->first, &c))
        fail_case(d, "with%s it is not there already", what);
    if (code == EXIT_DONE && !command_is_same(&r->first, &c))
        compare_with_fresh(d, r, c, what);
}

CostlyProperty(any_image_that_is_there_already_is_what_would_be_made)
{
    enum { OTHERS = 8 };
    static repeat r;
    if (open_repeat(d, &r))
        for (int n = draw_integer(d, 1, OTHERS); n > 0 && !is_wrong(d); n--)
            ask_for_another(d, &r);
    remove_place(r.place.dir);
}

/* ---- a whole file ---- */

typedef struct file_bytes {
    unsigned char *p;
    size_t n;
} file_bytes;

static file_bytes read_file_bytes(const char *path)
{
    file_bytes b;
    b.p = temp_read(path, &b.n);
    return b;
}

static bool has_file_bytes(const char *path, const file_bytes *want)
{
    file_bytes b = { 0 };
    if (access(path, F_OK) == 0)
        b = read_file_bytes(path);
    const bool same = b.p && b.n == want->n && memcmp(b.p, want->p, b.n) == 0;
    free(b.p);
    return same;
}

/* Cuts it off, or changes a byte; a JPEG cannot tell that. */
static void draw_damage(draws *d, file_bytes *b, bool changes, char *said, size_t size)
{
    const int at = draw_below(d, (int)b->n);
    if (changes && draw_once_in(d, 2)) {
        b->p[at] ^= (unsigned char)draw_integer(d, 1, 255);
        (void)snprintf(said, size, ", byte %d of %zu changed", at, b->n);
    } else {
        (void)snprintf(said, size, ", %d of %zu bytes", at, b->n);
        b->n = (size_t)at;
    }
}

static void ask_for_damaged(draws *d, const repeat *r, const char *path, const char *whole)
{
    char what[SAID];
    file_bytes b = read_file_bytes(path);
    draw_damage(d, &b, !r->first.jpeg, what, sizeof what);
    temp_write(path, b.p, b.n);
    free(b.p);
    if (command_run(&r->first, r->place.dir, r->out, true) == 0 && !are_pixels_equal(path, whole))
        fail_case(d, "it is there already%s", what);
}

/* However much of it there is, it is this program's own. */
static void make_again(draws *d, const repeat *r, const char *path, const char *whole)
{
    file_bytes b = read_file_bytes(whole);
    const int kept = draw_below(d, (int)b.n);
    temp_write(path, b.p, (size_t)kept);
    const int code = command_run(&r->first, r->place.dir, r->out, false);
    if (code != 0 || !has_file_bytes(path, &b))
        fail_case(d, "%d of %zu bytes: it is not made again, exit status %d", kept, b.n, code);
    free(b.p);
}

Property(any_image_that_is_not_whole_is_made_again)
{
    enum { DAMAGES = 6 };
    static repeat r;
    char path[COMMAND_PATH], whole[COMMAND_PATH];
    if (open_repeat(d, &r) && r.made[0].st_ino) {
        command_output(path, r.out, &r.first, 0);
        command_output(whole, r.fresh, &r.first, 0);
        file_bytes b = read_file_bytes(path);
        temp_write(whole, b.p, b.n);
        for (int n = draw_integer(d, 0, DAMAGES); n > 0 && !is_wrong(d); n--) {
            ask_for_damaged(d, &r, path, whole);
            temp_write(path, b.p, b.n);
        }
        free(b.p);
        make_again(d, &r, path, whole);
    }
    remove_place(r.place.dir);
}

/* ---- files of others ---- */

typedef enum foreign_kind { NOTES, PHOTO, TOLD_PHOTO, TOLD_JPEG, N_FOREIGN_KINDS } foreign_kind;

/* As other programs write them, with what they say of it. */
static void write_foreign(const char *path, foreign_kind kind)
{
    static const image_text TOLD[] = { { "parameters", "a cat\nSteps: 2, Seed: 7" },
                                       { "prompt", "a cat" },
                                       { "Software", "another" },
                                       { "steps", "2" },
                                       { "seed", "7" } };
    static uint8_t rgb[64 * 64 * 3];
    const image im = { 64, 64, rgb };
    for (size_t i = 0; i < sizeof rgb; i++)
        rgb[i] = (uint8_t)(i * i);
    if (kind == NOTES)
        temp_write(path, "notes", 5);
    else
        cr_assert_eq(image_save(path, &im, TOLD,
                                kind == PHOTO ? 0 : (int)(sizeof TOLD / sizeof TOLD[0]), NULL),
                     REFINE_OK);
}

static bool has_mark(const file_bytes *b, const char *mark, size_t n)
{
    bool has = false;
    for (size_t i = 0; i + n <= b->n; i++)
        has = has || memcmp(b->p + i, mark, n) == 0;
    return has;
}

/* Nothing, or the start of an image up to its pixels, is nobody's. */
static bool is_somebodys(const file_bytes *b)
{
    if (b->n >= 8 && memcmp(b->p, "\x89PNG\r\n\x1a\n", 8) == 0)
        return has_mark(b, "IDAT", 4);
    if (b->n >= 3 && memcmp(b->p, "\xff\xd8\xff", 3) == 0)
        return has_mark(b, "\xff\xda", 2);
    return b->n > 0;
}

/* What a phone appends. */
static void append_film(file_bytes *b)
{
    static const char FILM[] = "\0\0\0\x18"
                               "ftypmp42";
    b->p = realloc(b->p, b->n + sizeof FILM);
    cr_assert_not_null(b->p);
    memcpy(b->p + b->n, FILM, sizeof FILM);
    b->n += sizeof FILM;
}

/* The file, or a link to it of either kind. */
static void lay_foreign(const char *path, const char *file, int link_kind)
{
    cr_assert_eq(link_kind == 0   ? rename(file, path)
                 : link_kind == 1 ? symlink(file, path)
                                  : link(file, path),
                 0);
}

Property(any_file_that_another_program_made_stays)
{
    static const char *const KINDS[] = { "notes", "a PNG", "a PNG with texts", "a JPEG" },
                             *const LINKS[] = { "", ", by a link", ", by a hard link" };
    static repeat r;
    char command[TEXT], damage[64] = "", file[COMMAND_PATH], path[COMMAND_PATH];
    draw_command(d, &r.first);
    const foreign_kind kind = (foreign_kind)draw_below(d, N_FOREIGN_KINDS);
    const bool film = draw_once_in(d, 3);
    const int link_kind = draw_below(d, 3);
    r.place = temp_place_make("");
    make_out_dir(r.out, &r, "out");
    any_command_inputs(r.place.dir);
    (void)snprintf(file, sizeof file, "%s/a.%s", r.place.dir, kind == TOLD_JPEG ? "jpg" : "png");
    command_output(path, r.out, &r.first, 0);
    write_foreign(file, kind);
    file_bytes b = read_file_bytes(file);
    if (film)
        append_film(&b);
    if (draw_once_in(d, 2))
        draw_damage(d, &b, true, damage, sizeof damage);
    temp_write(file, b.p, b.n);
    lay_foreign(path, file, link_kind);
    command_format(command, sizeof command, &r.first);
    describe_case(d, "%s%s%s%s, and %s", KINDS[kind], film ? " with a film" : "", damage,
                  LINKS[link_kind], command);
    const int code = command_run(&r.first, r.place.dir, r.out, false);
    if (is_somebodys(&b) && !has_file_bytes(path, &b))
        fail_case(d, "it is replaced, exit status %d", code);
    free(b.p);
    remove_place(r.place.dir);
}
