/* tests/support/tiny_pack.c -- runs refine-pack, once for each kind of pack. */
#define _GNU_SOURCE /* mkstemp */
#include "tests/support/tiny_pack.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOKENIZER "docs/sample/demo_merges.txt"

enum { PATH = 512 };

static const char *programs_dir(void)
{
    const char *bin = getenv("REFINE_BIN");
    return bin ? bin : "build/release/bin";
}

/* Where this kind of pack is kept: options spelled so that a file may be called so. */
static void kept_name(char *path, const char *source, const char *options)
{
    (void)snprintf(path, PATH, "%s/../packs", programs_dir());
    (void)mkdir(path, 0777); /* it may be there */
    char *name = path + strlen(path);
    (void)snprintf(name, PATH - (size_t)(name - path), "/%s %s.pack", source, options);
    for (char *p = name + 1; *p; p++)
        if (!isalnum((unsigned char)*p) && *p != '.')
            *p = '-';
}

static bool is_newer(const struct stat *a, const char *than)
{
    struct stat b;
    if (stat(than, &b) != 0)
        return false;
    return a->st_mtim.tv_sec != b.st_mtim.tv_sec ? a->st_mtim.tv_sec > b.st_mtim.tv_sec
                                                 : a->st_mtim.tv_nsec > b.st_mtim.tv_nsec;
}

static bool is_kept(const char *pack)
{
    char program[PATH];
    struct stat s;
    (void)snprintf(program, sizeof program, "%s/refine-pack", programs_dir());
    return stat(pack, &s) == 0 && is_newer(&s, program) && is_newer(&s, TOKENIZER);
}

/* Other tests may make the same one now: whoever is last replaces it with equal bytes. */
static void make_kept_pack(const char *kept, const char *source, const char *options)
{
    char command[3 * PATH], fresh[PATH + 8];
    (void)snprintf(fresh, sizeof fresh, "%s.XXXXXX", kept);
    const int fd = mkstemp(fresh);
    cr_assert_geq(fd, 0, "%s", fresh);
    (void)close(fd);
    (void)snprintf(command, sizeof command,
                   "'%s/refine-pack' %s --force --tokenizer " TOKENIZER " -o '%s' %s "
                   ">/dev/null 2>&1",
                   programs_dir(), source, fresh, options);
    const int status = system(command);
    if (status != 0 || rename(fresh, kept) != 0)
        (void)unlink(fresh);
    cr_assert_eq(status, 0, "%s", command);
}

static void copy_file_to(int to, const char *from)
{
    const int fd = open(from, O_RDONLY | O_CLOEXEC);
    cr_assert_geq(fd, 0, "%s", from);
    ssize_t n;
    do
        n = sendfile(to, fd, NULL, 1u << 30);
    while (n > 0);
    cr_assert_eq(n, 0, "cannot copy %s", from);
    (void)close(fd);
}

/* Where it is now, made anew if need be. */
static void ensure_kept_pack(char *kept, const char *source, const char *options)
{
    kept_name(kept, source, options);
    if (!is_kept(kept))
        make_kept_pack(kept, source, options);
}

void kept_pack_of(char *path, size_t size, const char *source, const char *options)
{
    char kept[PATH];
    ensure_kept_pack(kept, source, options);
    cr_assert_lt(strlen(kept), size);
    memcpy(path, kept, strlen(kept) + 1);
}

void kept_pack(char *path, size_t size, const char *options)
{
    kept_pack_of(path, size, "synthetic:tiny", options);
}

void made_pack(char *path, size_t size, const char *source, const char *options)
{
    const char *tmp = getenv("TMPDIR");
    char kept[PATH];

    ensure_kept_pack(kept, source, options);
    (void)snprintf(path, size, "%s/refine-tiny-XXXXXX", tmp ? tmp : "/tmp");
    const int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    copy_file_to(fd, kept);
    (void)close(fd);
}

void tiny_pack(char *path, size_t size, const char *options)
{
    made_pack(path, size, "synthetic:tiny", options);
}
