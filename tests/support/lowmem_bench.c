/* tests/support/lowmem_bench.c -- a script's view of refine-lowmem: its exit code, its two streams,
 * its files. */
#define _XOPEN_SOURCE 700
#include "tests/support/lowmem_bench.h"

#include "tests/support/tiny_pack.h"
#include "tools/image/image_io.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ARGS_MAX = 48, W = 101, H = 67 };

const char *bench_path(const lowmem_bench *b, const char *name)
{
    static char buffers[8][BENCH_PATH];
    static int turn;
    char *p = buffers[turn++ % 8];
    (void)snprintf(p, BENCH_PATH, "%s/%s", b->dir, name);
    return p;
}

lowmem_bench lowmem_bench_open(void)
{
    static uint8_t rgb[W * H * 3];
    const char *tmp = getenv("TMPDIR");
    lowmem_bench b;
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++)
            for (int c = 0; c < 3; c++)
                rgb[(y * W + x) * 3 + c] = (uint8_t)(x * 2 + y * (c + 1));
    (void)snprintf(b.dir, sizeof b.dir, "%s/refine-lowmem-XXXXXX", tmp ? tmp : "/tmp");
    cr_assert_not_null(mkdtemp(b.dir));
    tiny_pack(b.pack, sizeof b.pack, "");
    (void)snprintf(b.picture, sizeof b.picture, "%s/in.png", b.dir);
    cr_assert_eq(image_save(b.picture, &(image){ W, H, rgb }, NULL, 0, NULL), REFINE_OK);
    return b;
}

int lowmem_bench_close(lowmem_bench *b)
{
    DIR *d = opendir(b->dir);
    int n = 0;
    for (struct dirent *e = readdir(d); e; e = readdir(d))
        if (e->d_name[0] != '.') {
            n += strcmp(e->d_name, "in.png") != 0 && strcmp(e->d_name, "stdout") != 0 &&
                 strcmp(e->d_name, "stderr") != 0;
            (void)unlink(bench_path(b, e->d_name));
        }
    (void)closedir(d);
    (void)rmdir(b->dir);
    (void)unlink(b->pack);
    return n;
}

pid_t start_refine_lowmem(const lowmem_bench *b, const char *words, const char *input)
{
    char text[1024], program[BENCH_PATH], paths[ARGS_MAX][BENCH_PATH], *argv[ARGS_MAX];
    const char *bin = getenv("REFINE_BIN");
    int n = 0;

    (void)snprintf(program, sizeof program, "%s/refine-lowmem", bin ? bin : "build/release/bin");
    (void)snprintf(text, sizeof text, "%s", words);
    argv[n++] = program;
    for (char *p = text, *space; *p; p = space ? space + 1 : p + strlen(p)) {
        space = strchr(p, ' ');
        if (space)
            *space = 0;
        cr_assert_lt(n, ARGS_MAX - 1);
        argv[n] = p;
        if (p[0] == '@') {
            (void)snprintf(paths[n], BENCH_PATH, "%s", p[1] ? bench_path(b, p + 1) : b->pack);
            argv[n] = paths[n];
        }
        n++;
    }
    argv[n] = NULL;
    const int fds[3] = { open(input ? input : "/dev/null", O_RDONLY),
                         open(bench_path(b, "stdout"), O_WRONLY | O_CREAT | O_TRUNC, 0600),
                         open(bench_path(b, "stderr"), O_WRONLY | O_CREAT | O_TRUNC, 0600) };
    const pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < 3; i++)
            (void)dup2(fds[i], i);
        (void)execv(program, argv);
        _exit(127);
    }
    for (int i = 0; i < 3; i++)
        (void)close(fds[i]);
    cr_assert_gt(pid, 0);
    return pid;
}

char *read_terminated_text(const char *name, size_t *len)
{
    unsigned char *p = temp_read(name, len);
    char *text = calloc(*len + 1, 1);
    memcpy(text, p, *len);
    free(p);
    return text;
}

lowmem_outcome wait_refine_lowmem(const lowmem_bench *b, pid_t pid)
{
    lowmem_outcome o;
    int status;
    size_t n;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    o.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    o.out = read_terminated_text(bench_path(b, "stdout"), &o.out_len);
    o.err = read_terminated_text(bench_path(b, "stderr"), &n);
    return o;
}

lowmem_outcome run_refine_lowmem(const lowmem_bench *b, const char *words)
{
    return wait_refine_lowmem(b, start_refine_lowmem(b, words, NULL));
}

void outcome_free(lowmem_outcome *o)
{
    free(o->out);
    free(o->err);
}

void expect_lowmem_success(const lowmem_bench *b, const char *words)
{
    lowmem_outcome o = run_refine_lowmem(b, words);
    cr_assert_eq(o.code, 0, "%s: %d: %s", words, o.code, o.err);
    outcome_free(&o);
}

bool is_bench_file_equal(const lowmem_bench *b, const char *one, const char *other)
{
    size_t n, m;
    unsigned char *p = temp_read(bench_path(b, one), &n), *q = temp_read(bench_path(b, other), &m);
    const bool same = n == m && memcmp(p, q, n) == 0;
    free(p);
    free(q);
    return same;
}

bool same_picture(const lowmem_bench *b, const char *one, const char *other)
{
    image p, q;
    cr_assert_eq(image_load(&p, bench_path(b, one), NULL), REFINE_OK);
    cr_assert_eq(image_load(&q, bench_path(b, other), NULL), REFINE_OK);
    const bool same = p.width == q.width && p.height == q.height &&
                      memcmp(p.rgb, q.rgb, (size_t)(p.width * p.height * 3)) == 0;
    image_free(&p);
    image_free(&q);
    return same;
}

char *png_text_of(const char *name, const char *key)
{
    FILE *f = fopen(name, "rb");
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_textp text;
    char *value = NULL;
    int n;
    png_init_io(png, f);
    png_read_info(png, info);
    png_get_text(png, info, &text, &n);
    for (int i = 0; i < n; i++)
        if (strcmp(text[i].key, key) == 0)
            value = strdup(text[i].text);
    png_destroy_read_struct(&png, &info, NULL);
    (void)fclose(f);
    return value;
}

void expect_lowmem_refusal(const lowmem_bench *b, const refusal *r)
{
    lowmem_outcome o = run_refine_lowmem(b, r->words);
    cr_assert_eq(o.code, r->code, "%s: %d: %s", r->words, o.code, o.err);
    cr_assert_str_eq(o.out, "", "%s: %s", r->words, o.out);
    const char *line = strchr(o.err, '\n');
    cr_assert(line && line[1] == 0, "%s: not one line: %s", r->words, o.err);
    cr_assert_not_null(strstr(o.err, "refine-lowmem: "), "%s: %s", r->words, o.err);
    cr_assert_not_null(strstr(o.err, r->says), "%s: %s", r->words, o.err);
    outcome_free(&o);
}
