/* engine/base/control_group.c -- from /proc to the group's directory, and up from there.
 *
 *     /proc/self/cgroup      0::/a/b                  version 2; "4:memory:/a/b" is version 1
 *     /proc/self/mountinfo   ... ROOT POINT ... - cgroup2 ...
 *     the group              POINT, and /a/b without ROOT; above POINT there is nothing
 */
#define _POSIX_C_SOURCE 200809L /* strtok_r */
#include "engine/base/control_group.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { GROUP_LINE = 8192, MOUNT_FIELDS = 64 };

typedef struct control_group {
    char dir[PATH_MAX];
    size_t top; /* length of the mount point */
} control_group;

/* ---- files ---- */

static FILE *open_below(const char *dir, const char *name)
{
    char path[PATH_MAX];
    const int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    return n >= 0 && n < PATH_MAX ? fopen(path, "re") : NULL;
}

/* The next line without its end; one that is too long is passed over. */
static bool next_line(FILE *f, char line[GROUP_LINE])
{
    while (fgets(line, GROUP_LINE, f)) {
        const size_t n = strlen(line);
        if (n > 0 && line[n - 1] == '\n') {
            line[n - 1] = '\0';
            return true;
        }
        if (n + 1 < GROUP_LINE)
            return n > 0;
        for (int c = 0; c != '\n' && c != EOF;)
            c = fgetc(f);
    }
    return false;
}

/* False: there is no such file, or "max" in it. */
static bool read_group_number(const char *dir, const char *name, uint64_t *v)
{
    FILE *f = open_below(dir, name);
    const bool found = f && fscanf(f, "%" SCNu64, v) == 1;
    if (f)
        (void)fclose(f);
    return found;
}

/* Of a file of lines "key number"; 0: none. */
static uint64_t read_group_stat(const char *dir, const char *key)
{
    char line[GROUP_LINE];
    uint64_t v = 0;
    const size_t n = strlen(key);
    FILE *f = open_below(dir, "memory.stat");
    while (f && next_line(f, line))
        if (strncmp(line, key, n) == 0 && sscanf(line + n, " %" SCNu64, &v) == 1)
            break;
    if (f)
        (void)fclose(f);
    return v;
}

/* ---- where the group is ---- */

/* Is the word one of a list with commas? */
static bool is_listed(const char *list, const char *word)
{
    const size_t n = strlen(word);
    for (const char *p = list; p; p = strchr(p, ',')) {
        p += *p == ',';
        if (strncmp(p, word, n) == 0 && (p[n] == ',' || p[n] == '\0'))
            return true;
    }
    return false;
}

/* Spaces and the like are written as \040. */
static void decode_mount_name(char *s)
{
    char *out = s;
    while (*s) {
        unsigned code;
        if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && sscanf(s + 1, "%3o", &code) == 1) {
            *out++ = (char)code;
            s += 4;
        } else {
            *out++ = *s++;
        }
    }
    *out = '\0';
}

/* The path of a line of /proc/self/cgroup, if it is of this controller; NULL: of version 2. */
static const char *group_of_line(char *line, const char *controller)
{
    char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;
    if (!path)
        return NULL;
    *path++ = '\0';
    return (controller ? is_listed(list + 1, controller) : list[1] == '\0') ? path : NULL;
}

static bool find_group_path(char path[GROUP_LINE], const char *root, const char *controller)
{
    char line[GROUP_LINE];
    bool found = false;
    FILE *f = open_below(root, "proc/self/cgroup");
    while (f && !found && next_line(f, line)) {
        const char *at = group_of_line(line, controller);
        found = at;
        if (at)
            memcpy(path, at, strlen(at) + 1);
    }
    if (f)
        (void)fclose(f);
    return found;
}

/* Fields of a line of mountinfo: 3 is what of the file system is mounted, 4 is where, and behind
 * "-" are its type, its device and its own options. */
static bool is_group_mount(char *line, const char *controller, char **mounted, char **point)
{
    char *field[MOUNT_FIELDS], *rest = NULL;
    int n = 0, dash = 0;
    for (char *p = strtok_r(line, " ", &rest); p && n < MOUNT_FIELDS;
         p = strtok_r(NULL, " ", &rest)) {
        if (!dash && n > 4 && strcmp(p, "-") == 0)
            dash = n;
        field[n++] = p;
    }
    if (!dash || dash + 3 >= n)
        return false;
    *mounted = field[3];
    *point = field[4];
    decode_mount_name(*mounted);
    decode_mount_name(*point);
    return controller
               ? strcmp(field[dash + 1], "cgroup") == 0 && is_listed(field[dash + 3], controller)
               : strcmp(field[dash + 1], "cgroup2") == 0;
}

/* What is below the mount: a group that is elsewhere, as seen from inside a container, shows as the
 * mount itself. */
static const char *path_below(const char *path, const char *mounted)
{
    const size_t n = strcmp(mounted, "/") == 0 ? 0 : strlen(mounted);
    const bool below = strncmp(path, mounted, n) == 0 && (path[n] == '/' || path[n] == '\0');
    if (!below || strstr(path, "/..") || strcmp(path + n, "/") == 0)
        return "";
    return path + n;
}

static bool find_group(control_group *g, const char *root, const char *controller)
{
    char line[GROUP_LINE], path[GROUP_LINE], *mounted, *point;
    bool found = false;
    if (!find_group_path(path, root, controller))
        return false;
    FILE *f = open_below(root, "proc/self/mountinfo");
    while (f && !found && next_line(f, line)) {
        if (!is_group_mount(line, controller, &mounted, &point))
            continue;
        g->top = strlen(root) + strlen(point);
        const int n = snprintf(g->dir, sizeof g->dir, "%s%s%s", root, point,
                               path_below(path, mounted));
        found = n >= 0 && n < PATH_MAX;
    }
    if (f)
        (void)fclose(f);
    return found;
}

static bool go_to_parent_group(control_group *g)
{
    if (strlen(g->dir) <= g->top)
        return false;
    char *slash = strrchr(g->dir + g->top, '/');
    if (!slash)
        return false;
    *slash = '\0';
    return true;
}

/* ---- memory ---- */

typedef struct memory_files {
    const char *controller, *limits[2], *usage, *file_lists[2];
} memory_files;

static const memory_files MEMORY_V1 = { "memory",
                                        { "memory.limit_in_bytes", NULL },
                                        "memory.usage_in_bytes",
                                        { "total_inactive_file", "total_active_file" } };
static const memory_files MEMORY_V2 = {
    NULL, { "memory.max", "memory.high" }, "memory.current", { "inactive_file", "active_file" }
};

static uint64_t subtract_to_zero(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

static uint64_t group_room(const char *dir, const memory_files *files)
{
    uint64_t limit = UINT64_MAX, used = 0;
    for (int i = 0; i < 2 && files->limits[i]; i++) {
        uint64_t v;
        if (read_group_number(dir, files->limits[i], &v) && v < limit)
            limit = v;
    }
    if (limit == UINT64_MAX)
        return limit;
    if (read_group_number(dir, files->usage, &used))
        for (int i = 0; i < 2; i++)
            used = subtract_to_zero(used, read_group_stat(dir, files->file_lists[i]));
    return subtract_to_zero(limit, used);
}

static uint64_t least_room(const char *root, const memory_files *files)
{
    control_group g;
    uint64_t least = UINT64_MAX;
    if (!find_group(&g, root, files->controller))
        return least;
    do {
        const uint64_t room = group_room(g.dir, files);
        least = room < least ? room : least;
    } while (go_to_parent_group(&g));
    return least;
}

uint64_t control_group_memory(const char *root)
{
    const uint64_t v1 = least_room(root, &MEMORY_V1), v2 = least_room(root, &MEMORY_V2);
    return v1 < v2 ? v1 : v2;
}

/* ---- processors ---- */

static double group_cpus(const char *dir)
{
    uint64_t quota, period;
    FILE *f = open_below(dir, "cpu.max");
    const bool v2 = f && fscanf(f, "%" SCNu64 " %" SCNu64, &quota, &period) == 2;
    if (f)
        (void)fclose(f);
    if (!v2) {
        int64_t signed_quota = -1;
        f = open_below(dir, "cpu.cfs_quota_us");
        const bool v1 = f && fscanf(f, "%" SCNd64, &signed_quota) == 1 && signed_quota > 0;
        if (f)
            (void)fclose(f);
        if (!v1 || !read_group_number(dir, "cpu.cfs_period_us", &period))
            return INFINITY;
        quota = (uint64_t)signed_quota;
    }
    return quota > 0 && period > 0 ? (double)quota / (double)period : INFINITY;
}

static double least_cpus(const char *root, const char *controller)
{
    control_group g;
    double least = INFINITY;
    if (!find_group(&g, root, controller))
        return least;
    do
        least = fmin(least, group_cpus(g.dir));
    while (go_to_parent_group(&g));
    return least;
}

double control_group_cpus(const char *root)
{
    return fmin(least_cpus(root, "cpu"), least_cpus(root, NULL));
}
