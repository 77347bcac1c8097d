/* tools/batch/manifest.c -- a table of members, read line by line.
 *
 * Invariant: a line has less than LINE_BYTES_MAX bytes, however long the file makes it.
 */
#define _POSIX_C_SOURCE 200809L /* fileno */
#include "tools/batch/manifest.h"

#include "engine/base/mem.h"
#include "engine/base/try.h"
#include "tools/cli/numbers.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { LINE_BYTES_MAX = 1 << 20, STEPS_MAX = 1000, NAME_SHOWN = 40 };

/* ---- members ---- */

/* False: the value does not suit, or there is one already. */
typedef bool member_reader(work_item *item, size_t at, const json_t *v);

typedef struct manifest_member {
    const char *key;
    member_reader *read;
    size_t at; /* in the item */
    const char *takes;
} manifest_member;

static bool read_text_member(work_item *item, size_t at, const json_t *v)
{
    char **out = (char **)((char *)item + at);
    if (*out || !json_is_string(v))
        return false;
    *out = mem_strdup(json_string_value(v));
    return *out != NULL;
}

/* As JSON results write a seed: what no integer of JSON holds is a string. */
static bool read_seed_member(work_item *item, size_t at, const json_t *v)
{
    uint64_t *seed = (uint64_t *)(void *)((char *)item + at);
    item->seed_from = SEED_GIVEN;
    if (json_is_string(v))
        return numbers_whole(json_string_value(v), 0, UINT64_MAX, seed);
    if (!json_is_integer(v) || json_integer_value(v) < -1)
        return false;
    if (json_integer_value(v) == -1)
        item->seed_from = SEED_DRAWN;
    *seed = (uint64_t)json_integer_value(v);
    return true;
}

static bool read_steps_member(work_item *item, size_t at, const json_t *v)
{
    const json_int_t n = json_integer_value(v);
    *(int *)(void *)((char *)item + at) = (int)n;
    return json_is_integer(v) && n >= 1 && n <= STEPS_MAX;
}

static bool read_real_member(work_item *item, size_t at, const json_t *v)
{
    *(double *)(void *)((char *)item + at) = json_number_value(v);
    return json_is_number(v);
}

static bool read_share_member(work_item *item, size_t at, const json_t *v)
{
    const double share = json_number_value(v);
    return read_real_member(item, at, v) && share >= 0 && share <= 1;
}

static bool read_side_member(work_item *item, size_t at, const json_t *v)
{
    const json_int_t side = json_integer_value(v);
    if (!json_is_integer(v) || side < SIZE_SIDE_MIN || side > SIZE_SIDE_MAX ||
        side % SIZE_UNIT != 0 || (item->sized && item->size.kind != SIZE_SIDES))
        return false;
    item->sized = true;
    item->size.kind = SIZE_SIDES;
    *(int *)(void *)((char *)item + at) = (int)side;
    return true;
}

static bool read_size_member(work_item *item, size_t at, const json_t *v)
{
    if (item->sized || !json_is_string(v))
        return false;
    item->sized = true;
    return size_wish_parse((size_wish *)(void *)((char *)item + at), json_string_value(v));
}

#define MEMBER(key, kind, member, takes)                                                           \
    {                                                                                              \
        key, read_##kind##_member, offsetof(work_item, member), takes                              \
    }
#define SIDE_TAKES "a multiple of 8 from 64 to 16384, and no \"size\""

static const manifest_member MEMBERS[] = {
    MEMBER("input", text, input, "a file's name"),
    MEMBER("output", text, output, "a file's name"),
    MEMBER("prompt", text, prompt, "a text"),
    MEMBER("negative", text, negative, "a text"),
    MEMBER("negative_prompt", text, negative, "a text, and no \"negative\""),
    MEMBER("prompt_2", text, prompt_2, "a text"),
    MEMBER("negative_2", text, negative_2, "a text"),
    MEMBER("seed", seed, seed, "a whole number from 0 up, or -1 for a random one"),
    MEMBER("steps", steps, steps, "a whole number from 1 to 1000"),
    MEMBER("strength", share, strength, "a number from 0 to 1"),
    MEMBER("guidance", real, guidance, "a number"),
    MEMBER("width", side, size.width, SIDE_TAKES),
    MEMBER("height", side, size.height, SIDE_TAKES),
    MEMBER("size", size, size, "a text with " SIZE_WISH_TAKES ", and no \"width\""),
};
enum { N_MEMBERS = sizeof MEMBERS / sizeof MEMBERS[0] };

/* ---- a line ---- */

typedef struct text_line {
    const char *p;
    size_t len;
} text_line;

typedef struct manifest_source {
    const char *name;   /* what errors call it */
    const char *beside; /* relative paths are resolved beside it; "": as they are */
} manifest_source;

typedef struct manifest_line {
    const manifest_source *from;
    int number;
    work_item *item;
} manifest_line;

/* So that no message moves a terminal's cursor. */
static void show_as_ascii(char *text)
{
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < ' ' || (unsigned char)*p >= 0x7f)
            *p = '?';
}

static refine_status refuse_key(const manifest_line *m, const char *key, refine_error *err)
{
    char known[256] = "", shown[NAME_SHOWN + 1];
    size_t n = 0;
    for (int i = 0; i < N_MEMBERS; i++)
        n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", MEMBERS[i].key);
    (void)snprintf(shown, sizeof shown, "%s", key);
    show_as_ascii(shown);
    return refine_fail(err, REFINE_EFORMAT, "%s: line %d: \"%s\" is unknown; there are %s",
                       m->from->name, m->number, shown, known);
}

/* Writers that know no way to leave a member out make it null. */
static refine_status read_member(const manifest_line *m, const char *key, const json_t *v,
                                 refine_error *err)
{
    for (int i = 0; i < N_MEMBERS; i++) {
        const manifest_member *row = &MEMBERS[i];
        if (strcmp(row->key, key) != 0)
            continue;
        return json_is_null(v) || row->read(m->item, row->at, v)
                   ? REFINE_OK
                   : refine_fail(err, REFINE_EFORMAT, "%s: line %d: \"%s\": give %s", m->from->name,
                                 m->number, key, row->takes);
    }
    return refuse_key(m, key, err);
}

static refine_status read_line_members(const manifest_line *m, json_t *o, refine_error *err)
{
    const char *key;
    json_t *v;
    json_object_foreach(o, key, v) TRY(read_member(m, key, v, err));
    if (m->item->sized && m->item->size.kind == SIZE_SIDES &&
        !(m->item->size.width && m->item->size.height))
        return refine_fail(err, REFINE_EFORMAT,
                           "%s: line %d: of \"width\" and \"height\", give both", m->from->name,
                           m->number);
    return REFINE_OK;
}

/* Replaces a name by the path from the manifest's directory. */
static bool from_directory(char **name, const char *manifest)
{
    const char *slash = strrchr(manifest, '/');
    const size_t dir_len = slash ? (size_t)(slash - manifest) + (slash == manifest) : 0;
    if (!*name)
        return true;
    char *path = work_list_join(manifest, dir_len, *name);
    mem_free(*name);
    *name = path;
    return path != NULL;
}

/* What is a file for the parser is a line here. */
static refine_status refuse_json_line(const manifest_line *m, const json_error_t *e,
                                      refine_error *err)
{
    static const char END[] = "end of file";
    char shown[JSON_ERROR_TEXT_LENGTH + 16];
    const char *end = strstr(e->text, END);
    if (json_error_code(e) == json_error_invalid_utf8)
        return refine_fail(err, REFINE_EFORMAT,
                           "%s: line %d is not UTF-8; convert the file, with iconv or an editor",
                           m->from->name, m->number);
    (void)snprintf(shown, sizeof shown, "%.*s%s%s",
                   end ? (int)(end - e->text) : (int)strlen(e->text), e->text,
                   end ? "end of the line" : "", end ? end + sizeof END - 1 : "");
    show_as_ascii(shown);
    return refine_fail(err, REFINE_EFORMAT, "%s: line %d, column %d: %s; a line is one JSON object",
                       m->from->name, m->number, e->column, shown);
}

static refine_status parse_line(json_t **out, const manifest_line *m, text_line text,
                                refine_error *err)
{
    json_error_t e;
    *out = json_loadb(text.p, text.len, JSON_REJECT_DUPLICATES, &e);
    if (!*out)
        return refuse_json_line(m, &e, err);
    if (json_is_object(*out))
        return REFINE_OK;
    json_decref(*out);
    *out = NULL;
    return refine_fail(err, REFINE_EFORMAT, "%s: line %d is no JSON object", m->from->name,
                       m->number);
}

static refine_status add_line(work_list *l, const manifest_source *from, text_line text, int number,
                              refine_error *err)
{
    manifest_line m = { .from = from, .number = number };
    json_t *o;
    TRY(parse_line(&o, &m, text, err));
    refine_status st = work_list_append(l, &m.item, err);
    if (st == REFINE_OK) {
        m.item->line = number;
        st = read_line_members(&m, o, err);
    }
    json_decref(o);
    TRY(st);
    if (!from_directory(&m.item->input, from->beside) ||
        !from_directory(&m.item->output, from->beside))
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    return REFINE_OK;
}

/* ---- lines ---- */

/* Reads the next into `text`, without its end; one of LINE_BYTES_MAX is too long.  False: there is
 * none. */
static bool read_line(FILE *f, char *text, text_line *line)
{
    size_t n = 0;
    int c;
    while ((c = getc(f)) != EOF && c != '\n' && n < LINE_BYTES_MAX)
        text[n++] = (char)c;
    *line = (text_line){ text, n };
    if (n > 0 && n < LINE_BYTES_MAX && text[n - 1] == '\r')
        line->len--;
    return n > 0 || c == '\n';
}

static bool is_blank(text_line l)
{
    for (size_t i = 0; i < l.len; i++)
        if (l.p[i] != ' ' && l.p[i] != '\t' && l.p[i] != '\r')
            return false;
    return true;
}

/* Editors put one before the first line. */
static text_line skip_byte_order_mark(text_line l)
{
    const bool marked = l.len >= 3 && memcmp(l.p, "\xef\xbb\xbf", 3) == 0;
    return marked ? (text_line){ l.p + 3, l.len - 3 } : l;
}

static refine_status read_lines(work_list *l, const manifest_source *from, FILE *f, char *text,
                                refine_error *err)
{
    text_line line;
    for (int number = 1; read_line(f, text, &line); number++) {
        if (line.len == LINE_BYTES_MAX)
            return refine_fail(err, REFINE_EFORMAT, "%s: line %d is too long", from->name, number);
        if (number == 1)
            line = skip_byte_order_mark(line);
        if (!is_blank(line))
            TRY(add_line(l, from, line, number, err));
    }
    return ferror(f)
               ? refine_fail(err, REFINE_EIO, "%s: cannot be read: %s", from->name, strerror(errno))
               : REFINE_OK;
}

const char *manifest_name(const char *path)
{
    return strcmp(path, "-") == 0 ? "standard input" : path;
}

/* Not what only goes by a name there: a pipe, or a file that is open already. */
static bool lies_in_its_directory(FILE *f, const char *path)
{
    struct stat st;
    return fstat(fileno(f), &st) == 0 && S_ISREG(st.st_mode) && strncmp(path, "/dev/", 5) != 0 &&
           strncmp(path, "/proc/", 6) != 0;
}

refine_status manifest_read(work_list *l, const char *path, refine_error *err)
{
    const int first = l->n;
    const bool is_stdin = strcmp(path, "-") == 0;
    FILE *f = is_stdin ? stdin : fopen(path, "re");

    l->several = true;
    if (!f)
        return refine_fail(err, REFINE_EIO, "%s: cannot be opened: %s", path, strerror(errno));
    const manifest_source from = { .name = manifest_name(path),
                                   .beside = !is_stdin && lies_in_its_directory(f, path) ? path
                                                                                         : "" };
    char *text = mem_alloc(LINE_BYTES_MAX);
    refine_status st = text ? read_lines(l, &from, f, text, err)
                            : refine_fail(err, REFINE_ENOMEM, "out of memory");
    if (st == REFINE_OK && l->n == first)
        st = refine_fail(err, REFINE_EFORMAT, "%s: names no image", from.name);
    mem_free(text);
    if (!is_stdin)
        (void)fclose(f);
    return st;
}
