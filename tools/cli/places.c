/* tools/cli/places.c -- names to places, places sorted, neighbours compared. */
#define _XOPEN_SOURCE 700
#include "tools/cli/places.h"

#include "engine/base/mem.h"

#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* As many links in one name as Linux follows. */
enum { LINKS_MAX = 40 };

struct place {
    dev_t dev; /* of the file, or of the directory that `rest` begins in */
    ino_t ino;
    char *rest; /* owned; NULL: the file exists */
    bool directory;
    place_use use;
    const char *role; /* borrowed */
    char *name;       /* owned; NULL: the role says it all */
    int order;        /* in which it was added */
};

/* ---- names ---- */

static bool holds_something(const struct stat *st)
{
    return S_ISREG(st->st_mode) || S_ISDIR(st->st_mode);
}

/* Appends a component of n bytes; false: too long. */
static bool step_down(char path[PATH_MAX], const char *component, size_t n)
{
    const size_t len = strlen(path);
    const bool slash = len > 0 && path[len - 1] != '/';
    if (len + slash + n >= PATH_MAX)
        return false;
    if (slash)
        path[len] = '/';
    memcpy(path + len + slash, component, n);
    path[len + slash + n] = '\0';
    return true;
}

static char *last_component(char *path)
{
    char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Takes the last component off, and its slash unless that is the root's. */
static void drop_last_component(char *path)
{
    char *last = last_component(path);
    *(last > path + 1 ? last - 1 : last) = '\0';
}

/* `path` has no link in it, so that the directory above is the one it is written behind. */
static bool step_up(char path[PATH_MAX])
{
    const char *last = last_component(path);
    if (strcmp(path, "/") == 0)
        return true;
    if (*last == '\0' || strcmp(last, "..") == 0)
        return step_down(path, "..", 2);
    drop_last_component(path);
    return true;
}

/* When `path` is a link: takes it off, and what it says is to be walked before `left`. */
static bool follow_link(char path[PATH_MAX], char left[PATH_MAX], int *links)
{
    char target[PATH_MAX];
    const ssize_t n = readlink(path, target, sizeof target);
    const size_t len = strlen(left);
    if (n <= 0)
        return true;
    if (++*links > LINKS_MAX || (size_t)n + 1 + len >= PATH_MAX)
        return false;
    memmove(left + n + 1, left, len + 1);
    memcpy(left, target, (size_t)n);
    left[n] = '/';
    if (target[0] == '/')
        memcpy(path, "/", 2);
    else
        drop_last_component(path);
    return true;
}

/* The name without links, "." and "..", whether or not there is such a file.  Where a directory
 * is missing, ".." is the one it would be made in.  False: it leads nowhere. */
static bool resolve_path(char path[PATH_MAX], const char *name)
{
    char left[PATH_MAX];
    int links = 0;

    if (strlen(name) >= sizeof left)
        return false;
    memcpy(left, name, strlen(name) + 1);
    memcpy(path, left[0] == '/' ? "/" : "", left[0] == '/' ? 2 : 1);
    while (left[0]) {
        char component[PATH_MAX];
        const size_t n = strcspn(left, "/"), end = n + strspn(left + n, "/");
        memcpy(component, left, n);
        component[n] = '\0';
        memmove(left, left + end, strlen(left + end) + 1);
        if (n == 0 || strcmp(component, ".") == 0)
            continue;
        if (strcmp(component, "..") == 0
                ? !step_up(path)
                : !step_down(path, component, n) || !follow_link(path, left, &links))
            return false;
    }
    return true;
}

/* Of a path without links: what exists of it, and behind that *rest. */
static bool stat_nearest(struct stat *st, const char **rest, const char *path)
{
    char above[PATH_MAX];
    memcpy(above, path, strlen(path) + 1);
    while (stat(above[0] ? above : ".", st) != 0) {
        if (above[0] == '\0' || strcmp(above, "/") == 0)
            return false;
        drop_last_component(above);
    }
    *rest = path + strlen(above);
    *rest += **rest == '/' && above[0];
    return true;
}

/* False: it is no place, or, with p->st, there was no memory. */
static bool locate_place(places *p, place *at, const char *name)
{
    char path[PATH_MAX];
    const char *rest = "";
    struct stat st;

    if (stat(name, &st) != 0 && !(resolve_path(path, name) && stat_nearest(&st, &rest, path)))
        return false;
    if (!holds_something(&st))
        return false;
    at->dev = st.st_dev;
    at->ino = st.st_ino;
    at->directory = *rest == '\0' && S_ISDIR(st.st_mode);
    at->rest = *rest ? mem_strdup(rest) : NULL;
    if (*rest && !at->rest)
        p->st = REFINE_ENOMEM;
    return p->st == REFINE_OK;
}

/* ---- the list ---- */

/* Takes over what `at` owns. */
static void append_place(places *p, place at)
{
    if (p->n == p->room) {
        const int room = p->room ? 2 * p->room : 16;
        place *more = mem_realloc(p->item, (size_t)room * sizeof *more);
        if (!more) {
            p->st = REFINE_ENOMEM;
            mem_free(at.rest);
            mem_free(at.name);
            return;
        }
        p->item = more;
        p->room = room;
    }
    at.order = p->n;
    p->item[p->n++] = at;
}

void places_add(places *p, place_use use, const char *role, const char *name)
{
    place at = { .use = use, .role = role };
    if (p->st != REFINE_OK || !name || !*name || !locate_place(p, &at, name))
        return;
    at.name = mem_strdup(name);
    if (at.name) {
        append_place(p, at);
        return;
    }
    p->st = REFINE_ENOMEM;
    mem_free(at.rest);
}

void places_add_open(places *p, place_use use, const char *role, int fd)
{
    struct stat st;
    if (p->st == REFINE_OK && fstat(fd, &st) == 0 && holds_something(&st))
        append_place(p, (place){ .dev = st.st_dev, .ino = st.st_ino, .use = use, .role = role });
}

void places_free(places *p)
{
    for (int i = 0; i < p->n; i++) {
        mem_free(p->item[i].rest);
        mem_free(p->item[i].name);
    }
    mem_free(p->item);
    *p = (places){ 0 };
}

/* ---- clashes ---- */

static int compare_locations(const place *a, const place *b)
{
    if (a->dev != b->dev)
        return a->dev < b->dev ? -1 : 1;
    if (a->ino != b->ino)
        return a->ino < b->ino ? -1 : 1;
    return strcmp(a->rest ? a->rest : "", b->rest ? b->rest : "");
}

/* In one place: what is written, what is read, and each as it was added. */
static int compare_places(const void *pa, const void *pb)
{
    const place *a = pa, *b = pb;
    const int apart = compare_locations(a, b);
    if (apart != 0)
        return apart;
    if (a->use != b->use)
        return a->use == PLACE_WRITTEN ? -1 : 1;
    return a->order - b->order;
}

static refine_status report_place_conflict(const place *written, const place *other,
                                           refine_error *err)
{
    const char *of[2] = { written->name ? written->name : "", other->name ? other->name : "" };
    const char *space[2] = { of[0][0] ? " " : "", of[1][0] ? " " : "" };
    const char *middle = " would replace ", *end = "; write it elsewhere";

    if (written->directory) {
        middle = " is ";
        end = ", and the next run would take what this one makes for its input; write elsewhere";
    } else if (other->use == PLACE_WRITTEN) {
        middle = " and ";
        end = " are one file; give each its own";
    }
    /* Both names are cut before the advice is. */
    return refine_fail(err, REFINE_EINVAL, "%s%s%.140s%s%s%s%.140s%s", written->role, space[0],
                       of[0], middle, other->role, space[1], of[1], end);
}

refine_status places_check(places *p, refine_error *err)
{
    const place *first = NULL, *with = NULL;

    if (p->st != REFINE_OK)
        return refine_fail(err, p->st, "out of memory");
    if (p->n > 0)
        qsort(p->item, (size_t)p->n, sizeof *p->item, compare_places);
    /* What is read goes before what else is written: it could not be made again. */
    for (int i = 0, end; i < p->n; i = end) {
        const place *at = &p->item[i];
        int other = i + 1;
        for (end = i + 1; end < p->n && compare_locations(at, &p->item[end]) == 0; end++)
            if (p->item[end].use == PLACE_READ && p->item[other].use == PLACE_WRITTEN)
                other = end;
        if (at->use == PLACE_WRITTEN && end > i + 1 && (!first || at->order < first->order)) {
            first = at;
            with = &p->item[other];
        }
    }
    return first ? report_place_conflict(first, with, err) : REFINE_OK;
}
