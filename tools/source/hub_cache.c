/* tools/source/hub_cache.c -- follows the reference, as far as it leads. */
#define _XOPEN_SOURCE 700
#include "tools/source/hub_cache.h"

#include "engine/base/try.h"

#include <dirent.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { COMMIT = 100 };

static bool is_directory_at(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

/* The first word of refs/main, if it is one that can be a name. */
static bool read_reference(char out[COMMIT], const char *path)
{
    char file[HUB_PATH];
    if (snprintf(file, sizeof file, "%s/refs/main", path) >= HUB_PATH)
        return false;
    FILE *f = fopen(file, "rbe");
    if (!f)
        return false;
    const size_t n = fread(out, 1, COMMIT - 1, f);
    (void)fclose(f);
    out[n] = 0;
    out[strcspn(out, " \t\r\n")] = 0;
    return out[0] && out[0] != '.' && !strchr(out, '/');
}

/* Snapshots in the directory; *name: the first by name. */
static int count_snapshots(char name[NAME_MAX + 1], const char *dir)
{
    char inner[HUB_PATH];
    int count = 0;
    DIR *d = opendir(dir);
    if (!d)
        return 0;
    for (const struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.' &&
            snprintf(inner, sizeof inner, "%s/%s", dir, e->d_name) < HUB_PATH &&
            is_directory_at(inner) && (count++ == 0 || strcmp(e->d_name, name) < 0))
            (void)snprintf(name, NAME_MAX + 1, "%s", e->d_name);
    (void)closedir(d);
    return count;
}

static refine_status copy_path(char out[HUB_PATH], const char *dir, const char *name,
                               refine_error *err)
{
    if (snprintf(out, HUB_PATH, "%s%s%s", dir, name[0] ? "/" : "", name) >= HUB_PATH)
        return refine_fail(err, REFINE_EFORMAT, "%s: its path is too long", dir);
    return REFINE_OK;
}

refine_status hub_find_snapshot(char out[HUB_PATH], const char *path, refine_error *err)
{
    char dir[HUB_PATH], commit[COMMIT], name[NAME_MAX + 1] = "";

    if (snprintf(dir, sizeof dir, "%s/snapshots", path) >= HUB_PATH || !is_directory_at(dir))
        return copy_path(out, path, "", err);
    if (read_reference(commit, path)) {
        TRY(copy_path(out, dir, commit, err));
        if (is_directory_at(out))
            return REFINE_OK;
    }
    switch (count_snapshots(name, dir)) {
    case 0:
        return refine_fail(err, REFINE_EFORMAT,
                           "%s: holds no snapshot: the download is not finished", dir);
    case 1: return copy_path(out, dir, name, err);
    default:
        return refine_fail(err, REFINE_EFORMAT,
                           "%s: holds several snapshots: give one of them, such as %s/%s", path,
                           dir, name);
    }
}
