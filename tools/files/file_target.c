/* tools/files/file_target.c -- links followed by hand, since the file need not be there. */
#define _GNU_SOURCE /* AT_EACCESS */
#include "tools/files/file_target.h"

#include "engine/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

/* As many links in one name as Linux follows. */
enum { LINKS_MAX = 40 };

const char *file_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

bool file_directory(char *out, size_t size, const char *path)
{
    const size_t n = (size_t)(file_base(path) - path);
    const int len = n > 1   ? snprintf(out, size, "%.*s", (int)n - 1, path)
                    : n > 0 ? snprintf(out, size, "/")
                            : snprintf(out, size, ".");
    return len >= 0 && (size_t)len < size;
}

/* Links there lead to open files; their text is not always a name, and never theirs for long. */
static bool is_in_procfs(const char *path)
{
    char dir[PATH_MAX];
    struct statfs fs;
    return file_directory(dir, sizeof dir, path) && statfs(dir, &fs) == 0 &&
           fs.f_type == PROC_SUPER_MAGIC;
}

/* Replaces a link by what it says, seen from its directory. */
static bool replace_by_target(char path[PATH_MAX], const char *link_text)
{
    char joined[PATH_MAX];
    const int above = link_text[0] == '/' ? 0 : (int)(file_base(path) - path);
    const int n = snprintf(joined, sizeof joined, "%.*s%s", above, path, link_text);
    if (n < 0 || n >= PATH_MAX) {
        errno = ENAMETOOLONG;
        return false;
    }
    memcpy(path, joined, (size_t)n + 1);
    return true;
}

static bool follow_last_links(char path[PATH_MAX], bool *open_already)
{
    for (int i = 0; i <= LINKS_MAX; i++) {
        char text[PATH_MAX];
        const ssize_t n = readlink(path, text, sizeof text - 1);
        if (n < 0)
            return true;
        *open_already = is_in_procfs(path);
        if (*open_already)
            return true;
        text[n] = '\0';
        if (!replace_by_target(path, text))
            return false;
    }
    errno = ELOOP;
    return false;
}

static bool check_writable(const file_target *t, const char *path)
{
    if (!*file_base(path) || (t->exists && S_ISDIR(t->st.st_mode))) {
        errno = EISDIR;
        return false;
    }
    return !t->exists || faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) == 0;
}

bool file_target_find(file_target *t, const char *name)
{
    char path[PATH_MAX];
    bool open_already = false;

    *t = (file_target){ 0 };
    if (snprintf(path, sizeof path, "%s", name) >= PATH_MAX) {
        errno = ENAMETOOLONG;
        return false;
    }
    t->exists = stat(path, &t->st) == 0;
    if ((!t->exists && errno != ENOENT) || !follow_last_links(path, &open_already) ||
        !check_writable(t, path))
        return false;
    t->as_it_is = open_already || (t->exists && !S_ISREG(t->st.st_mode));
    t->path = mem_strdup(t->as_it_is ? name : path);
    if (!t->path)
        errno = ENOMEM;
    return t->path;
}

void file_target_free(file_target *t)
{
    mem_free(t->path);
    *t = (file_target){ 0 };
}
