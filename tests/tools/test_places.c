/* tests/tools/test_places.c -- two names are one place when writing to both would be writing to
 * one file: by hand, and of random trees of links against opening the names and looking. */
#define _XOPEN_SOURCE 700
#include "tools/cli/places.h"

#include "engine/base/mem.h"
#include "tests/support/temp_place.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

TestSuite(tools_places, .timeout = 100);

enum { NAME = 512 };

/* ---- a directory to be in ---- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static void remove_places_tree(const char *dir)
{
    cr_assert_eq(nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

/* Names are then as short as a user's. */
static temp_place open_places_dir(void)
{
    const temp_place p = temp_place_make("unused");
    cr_assert_eq(chdir(p.dir), 0);
    return p;
}

static void close_places_dir(const temp_place *p)
{
    cr_assert_eq(chdir("/"), 0);
    remove_places_tree(p->dir);
    cr_assert_eq(mem_used().now, 0u);
}

static void make_named_file(const char *name) { temp_write(name, name, strlen(name)); }

/* ---- by hand ---- */

/* Of one file that is read and one that is written. */
static refine_status check_place_pair(const char *read, const char *written, refine_error *err)
{
    places p = { 0 };
    places_add(&p, PLACE_READ, "the original", read);
    places_add(&p, PLACE_WRITTEN, "the copy", written);
    const refine_status st = places_check(&p, err);
    places_free(&p);
    return st;
}

static void expect_places_clash(const char *read, const char *written)
{
    refine_error err = { 0 };
    char says[2 * NAME];
    cr_assert_eq(check_place_pair(read, written, &err), REFINE_EINVAL, "%s and %s", read, written);
    (void)snprintf(says, sizeof says, "the copy %s would replace the original %s; ", written, read);
    cr_assert_eq(strncmp(err.text, says, strlen(says)), 0, "%s", err.text);
}

static void expect_places_apart(const char *read, const char *written)
{
    refine_error err = { 0 };
    cr_assert_eq(check_place_pair(read, written, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(check_place_pair(written, read, &err), REFINE_OK, "%s", err.text);
}

Test(tools_places, a_file_is_one_under_every_name)
{
    const temp_place p = open_places_dir();
    char whole[NAME];
    (void)snprintf(whole, sizeof whole, "%s/a", p.dir);
    make_named_file("a");
    make_named_file("b");
    cr_assert(mkdir("d", 0700) == 0 && link("a", "d/hard") == 0 && symlink("../a", "d/soft") == 0 &&
              symlink("d", "e") == 0 && symlink("d/soft", "far") == 0);
    expect_places_clash("a", "a");
    expect_places_clash("a", "./a");
    expect_places_clash("a", ".//d/../a");
    expect_places_clash("a", whole);
    expect_places_clash(whole, "d/hard");
    expect_places_clash("d/soft", "a");
    expect_places_clash("far", "e/hard");
    expect_places_clash("e/../a", "far");
    expect_places_apart("a", "b");
    expect_places_apart("a", "d/a");
    expect_places_apart("far", "e/soft2");
    close_places_dir(&p);
}

Test(tools_places, a_file_that_is_not_yet_is_where_it_would_be)
{
    const temp_place p = open_places_dir();
    char whole[NAME];
    (void)snprintf(whole, sizeof whole, "%s/new", p.dir);
    cr_assert(mkdir("d", 0700) == 0 && symlink("d", "e") == 0 && symlink("../new", "d/up") == 0 &&
              symlink("d/up", "chain") == 0 && symlink(whole, "absolute") == 0 &&
              symlink("a", "b") == 0 && symlink("b", "a") == 0);
    expect_places_clash("new", "./new");
    expect_places_clash("new", whole);
    expect_places_clash("d/new", "e/new");
    expect_places_clash("new", "e/up");
    expect_places_clash("chain", "absolute");
    expect_places_clash("d/../new", "e/../chain");
    expect_places_apart("new", "d/new");
    expect_places_apart("new", "newer");
    expect_places_apart("a", "a"); /* a link to itself leads nowhere */
    cr_assert(mkdir("d/in", 0700) == 0 && chdir("d/in") == 0);
    expect_places_clash("../../new", whole);
    expect_places_clash("../.././d/in/../up", whole);
    expect_places_apart("../../new", "new");
    close_places_dir(&p);
}

/* refine-lowmem makes the directory of its images. */
Test(tools_places, a_directory_that_is_not_yet_is_too)
{
    const temp_place p = open_places_dir();
    make_named_file("a");
    expect_places_clash("new/x", "./new/./x");
    expect_places_clash("new/../a", "a");
    expect_places_clash("new/deep/../x", "new/x");
    expect_places_apart("new/x", "x");
    expect_places_apart("new/x", "new/deep/x");
    close_places_dir(&p);
}

Test(tools_places, what_holds_nothing_is_nowhere)
{
    const temp_place p = open_places_dir();
    int ends[2];
    cr_assert(mkfifo("fifo", 0600) == 0 && symlink("/dev/null", "null") == 0 && pipe(ends) == 0);
    expect_places_apart("/dev/null", "/dev/null");
    expect_places_apart("/dev/null", "null");
    expect_places_apart("fifo", "fifo");
    expect_places_apart("", "");
    expect_places_apart(NULL, NULL);
    places all = { 0 };
    places_add_open(&all, PLACE_READ, "one end", ends[0]);
    places_add_open(&all, PLACE_WRITTEN, "the other", ends[1]);
    places_add_open(&all, PLACE_WRITTEN, "a closed one", -1);
    cr_assert_eq(places_check(&all, NULL), REFINE_OK);
    cr_assert_eq(all.n, 0);
    places_free(&all);
    close_places_dir(&p);
}

Test(tools_places, a_redirection_is_the_file)
{
    const temp_place p = open_places_dir();
    places all = { 0 };
    refine_error err = { 0 };
    make_named_file("a");
    const int fd = open("a", O_RDONLY);
    places_add_open(&all, PLACE_READ, "standard input", fd);
    places_add(&all, PLACE_WRITTEN, "the copy", "./a");
    cr_assert_eq(places_check(&all, &err), REFINE_EINVAL);
    cr_assert_eq(strncmp(err.text, "the copy ./a would replace standard input; ", 43), 0, "%s",
                 err.text);
    places_free(&all);
    (void)close(fd);
    close_places_dir(&p);
}

Test(tools_places, names_the_first_that_clash)
{
    const temp_place p = open_places_dir();
    places all = { 0 };
    refine_error err = { 0 };
    make_named_file("a");
    make_named_file("b");
    places_add(&all, PLACE_READ, "r0", "a");
    places_add(&all, PLACE_READ, "r1", "b");
    places_add(&all, PLACE_READ, "r2", "./b");
    places_add(&all, PLACE_WRITTEN, "w3", "c");
    places_add(&all, PLACE_WRITTEN, "w4", "d");
    cr_assert_eq(places_check(&all, &err), REFINE_OK, "%s", err.text);
    places_add(&all, PLACE_WRITTEN, "w5", "./d");
    cr_assert_eq(places_check(&all, &err), REFINE_EINVAL);
    cr_assert_str_eq(err.text, "w4 d and w5 ./d are one file; give each its own");
    places_free(&all);

    places_add(&all, PLACE_WRITTEN, "w0", "b");
    places_add(&all, PLACE_WRITTEN, "w1", "b");
    places_add(&all, PLACE_READ, "r2", "a");
    places_add(&all, PLACE_WRITTEN, "w3", "a");
    places_add(&all, PLACE_READ, "r4", "./b");
    cr_assert_eq(places_check(&all, &err), REFINE_EINVAL);
    cr_assert_str_eq(err.text, "w0 b would replace r4 ./b; write it elsewhere");
    places_free(&all);
    close_places_dir(&p);
}

Test(tools_places, says_why_a_directory_is_not_both)
{
    const temp_place p = open_places_dir();
    refine_error err = { 0 };
    cr_assert_eq(check_place_pair(".", p.dir, &err), REFINE_EINVAL);
    cr_assert_not_null(strstr(err.text, "next run"), "%s", err.text);
    cr_assert_eq(mkdir("d", 0700), 0);
    cr_assert_eq(check_place_pair(".", "d", &err), REFINE_OK);
    close_places_dir(&p);
}

Test(tools_places, long_names_leave_room_for_the_advice)
{
    const temp_place p = open_places_dir();
    static char name[8192];
    refine_error err = { 0 };
    memset(name, 'x', 250);
    cr_assert_eq(check_place_pair(name, name, &err), REFINE_EINVAL);
    cr_assert_not_null(strstr(err.text, "; write it elsewhere"), "%s", err.text);
    memset(name, 'x', sizeof name - 1); /* which no file can have */
    cr_assert_eq(check_place_pair(name, name, &err), REFINE_OK);
    close_places_dir(&p);
}

/* ---- many ---- */

/* Two of all that are compared would take hours. */
Test(tools_places, takes_as_many_as_a_batch_has)
{
    enum { MANY = 50000 };
    const temp_place p = open_places_dir();
    places all = { 0 };
    refine_error err = { 0 };
    for (int i = 0; i < MANY; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "in%d", i);
        places_add(&all, PLACE_READ, "the input", name);
        (void)snprintf(name, sizeof name, "out%d", i);
        places_add(&all, PLACE_WRITTEN, "the image", name);
    }
    cr_assert_eq(places_check(&all, &err), REFINE_OK, "%s", err.text);
    places_add(&all, PLACE_WRITTEN, "the trace", "./in33333");
    cr_assert_eq(places_check(&all, &err), REFINE_EINVAL);
    cr_assert_not_null(strstr(err.text, "the trace ./in33333 would replace the input in33333"),
                       "%s", err.text);
    places_free(&all);
    close_places_dir(&p);
}

/* ---- random trees against opening the files ---- */

enum { THINGS = 5, NAMES = 4, TREES = 200 };

static uint32_t state = 1;

static int draw_index_below(int n)
{
    state = state * 1664525u + 1013904223u;
    return (int)((state >> 8) % (uint32_t)n);
}

/* s0 to s2 are links to others of these. */
static const char *const DIRS[] = { ".", "d0", "d1", "d0/d2", "s0", "d0/s1", "d1/s2" };
enum { REAL_DIRS = 4, ALL_DIRS = 7 };

/* A way to a file of `dir`, straight or not, from a directory that is `depth` below the root. */
static void draw_name(char name[NAME], const char *root, int depth)
{
    static const char *const UP[] = { "./", "../", "../../" };
    static const char *const DETOURS[] = { "", "", ".//", "d0/../", "s0/../", "d0/s1/../" };
    char from[TEMP_NAME + 1];
    (void)snprintf(from, sizeof from, "%s/", root);
    (void)snprintf(name, NAME, "%s%s%s/f%d", draw_index_below(2) ? from : UP[depth],
                   DETOURS[draw_index_below(6)], DIRS[draw_index_below(ALL_DIRS)],
                   draw_index_below(THINGS));
}

/* Files, hard links, links to files, to links, to directories and to nothing. */
static void draw_tree(const char *root)
{
    static const int DEPTH[] = { 0, 1, 1, 2 };
    char name[NAME], target[NAME];
    cr_assert(mkdir("d0", 0700) == 0 && mkdir("d1", 0700) == 0 && mkdir("d0/d2", 0700) == 0);
    for (int i = REAL_DIRS; i < ALL_DIRS; i++) {
        (void)snprintf(target, sizeof target, "%s/%s", root, DIRS[draw_index_below(ALL_DIRS)]);
        cr_assert_eq(symlink(target, DIRS[i]), 0);
    }
    for (int i = 0; i < REAL_DIRS; i++)
        for (int j = 0; j < THINGS; j++) {
            (void)snprintf(name, sizeof name, "%s/f%d", DIRS[i], j);
            draw_name(target, root, DEPTH[i]);
            switch (draw_index_below(6)) {
            case 0: make_named_file(name); break;
            case 1: (void)!link("f0", name); break;
            case 2: break;
            default: cr_assert_eq(symlink(target, name), 0);
            }
        }
}

/* Opens it as a program would that writes there; what that made goes, and is named in `made`. */
static bool file_of(struct stat *st, char made[NAME], const char *name)
{
    const bool there = stat(name, st) == 0;
    const int fd = open(name, O_WRONLY | O_CREAT, 0600);
    made[0] = '\0';
    if (fd < 0)
        return false;
    char *path = realpath(name, NULL);
    cr_assert_eq(fstat(fd, st), 0);
    if (!there)
        (void)snprintf(made, NAME, "%s", path);
    free(path);
    (void)close(fd);
    return true;
}

static bool can_be_written(const char *name)
{
    struct stat st;
    char made[NAME];
    const bool can = file_of(&st, made, name);
    if (made[0])
        (void)unlink(made);
    return can;
}

static bool same_when_opened(const char *a, const char *b)
{
    struct stat at, bt;
    char made[2][NAME];
    cr_assert(file_of(&at, made[0], a) && file_of(&bt, made[1], b));
    for (int i = 0; i < 2; i++)
        if (made[i][0])
            (void)unlink(made[i]);
    return at.st_dev == bt.st_dev && at.st_ino == bt.st_ino;
}

/* Whether the i-th and j-th of the names clash, the naive way. */
static bool names_clash(char name[NAMES][NAME], const bool *written, int i, int j)
{
    return i != j && (written[i] || written[j]) && same_when_opened(name[i], name[j]);
}

static bool any_clash(char name[NAMES][NAME], const bool *written)
{
    for (int i = 0; i < NAMES; i++)
        for (int j = 0; j < i; j++)
            if (names_clash(name, written, i, j))
                return true;
    return false;
}

static bool check_names(char name[NAMES][NAME], const bool *written)
{
    static const char *const ROLES[NAMES] = { "<0>", "<1>", "<2>", "<3>" };
    const bool expected = any_clash(name, written);
    refine_error err = { 0 };
    places p = { 0 };
    for (int i = 0; i < NAMES; i++)
        places_add(&p, written[i] ? PLACE_WRITTEN : PLACE_READ, ROLES[i], name[i]);
    const refine_status st = places_check(&p, &err);
    places_free(&p);
    cr_assert_eq(st, expected ? REFINE_EINVAL : REFINE_OK, "%s, %s, %s, %s: %s", name[0], name[1],
                 name[2], name[3], err.text);
    if (expected) {
        const int i = err.text[1] - '0', j = strchr(err.text + 1, '<')[1] - '0';
        cr_assert(written[i] && names_clash(name, written, i, j), "%s", err.text);
    }
    return expected;
}

Test(tools_places, agrees_with_opening_the_files)
{
    int found = 0;
    for (int tree = 0; tree < TREES; tree++) {
        const temp_place p = open_places_dir();
        char name[NAMES][NAME];
        bool written[NAMES];
        draw_tree(p.dir);
        for (int i = 0; i < NAMES; i++) {
            written[i] = draw_index_below(2);
            do
                draw_name(name[i], p.dir, 0);
            while (!can_be_written(name[i]));
        }
        found += check_names(name, written);
        close_places_dir(&p);
    }
    cr_assert(found > TREES / 5 && found < TREES * 4 / 5, "%d of %d say little", found, TREES);
}

/* ---- memory ---- */

Test(tools_places, survives_the_failure_of_any_allocation)
{
    const temp_place p = open_places_dir();
    refine_status st = REFINE_ENOMEM;
    make_named_file("a");
    long k = 0;
    for (; st != REFINE_OK; k++) {
        places all = { 0 };
        refine_error err = { 0 };
        mem_fail_after(k, MEM_FAIL_ONCE);
        for (int i = 0; i < 20; i++) {
            places_add(&all, PLACE_READ, "the input", "a");
            places_add(&all, PLACE_READ, "the input", "new");
        }
        mem_fail_after(-1, MEM_FAIL_ONCE);
        st = places_check(&all, &err);
        cr_assert(st == REFINE_OK ||
                  (st == REFINE_ENOMEM && strcmp(err.text, "out of memory") == 0));
        places_free(&all);
        cr_assert_eq(mem_used().now, 0u);
    }
    cr_assert_eq(k, 20 * 3 + 3 + 1);
    close_places_dir(&p);
}
