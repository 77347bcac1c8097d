/* tools/source/checkpoint_files.c -- lists a directory and those in it. */
#define _XOPEN_SOURCE 700
#include "tools/source/checkpoint_files.h"

#include "offload/pack_format.h"
#include "tools/source/hub_cache.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH_BYTES = 4096, DEPTH = 2 };

static bool is_subdirectory(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool is_pack(const char *path)
{
    static const char MAGIC[] = PACK_MAGIC;
    char head[sizeof MAGIC - 1];
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode)) /* a pipe would be waited for */
        return false;
    FILE *f = fopen(path, "rbe");
    const bool is = f && fread(head, sizeof head, 1, f) == 1 &&
                    memcmp(head, MAGIC, sizeof head) == 0;
    if (f)
        (void)fclose(f);
    return is;
}

static void add_directory_files(places *p, const char *role, const char *path, int depth)
{
    DIR *d = opendir(path);
    if (!d)
        return;
    for (const struct dirent *e; (e = readdir(d));) {
        char inner[PATH_BYTES];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            snprintf(inner, sizeof inner, "%s/%s", path, e->d_name) >= PATH_BYTES)
            continue;
        if (!is_subdirectory(inner)) {
            if (!is_pack(inner))
                places_add(p, PLACE_READ, role, inner);
        } else if (depth > 1) {
            add_directory_files(p, role, inner, depth - 1);
        }
    }
    (void)closedir(d);
}

void checkpoint_files(places *p, const char *role, const char *path)
{
    char found[HUB_PATH];
    if (hub_find_snapshot(found, path, NULL) != REFINE_OK)
        return; /* nothing will be read */
    if (is_subdirectory(found))
        add_directory_files(p, role, found, DEPTH);
    else
        places_add(p, PLACE_READ, role, found);
}
