/* tests/fuzz/standalone_driver.c -- run a fuzz target over files, without libFuzzer.
 *
 *     fuzz_pack DIRECTORY|FILE...
 *
 * Every regular file under the arguments is one input, in an exactly sized heap
 * block so that AddressSanitizer sees the first byte read past it; so is the
 * empty input, and each input cut short at 16 lengths.  Exits 77 (skipped) when
 * no file was found.
 */
#define _XOPEN_SOURCE 700

#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CUTS = 16, OPEN_FILES_MAX = 16 };

static int n_files; /* nftw() passes no context */

/* The copy has no slack behind it, whatever malloc() rounded the original to. */
static int run_exact(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);

    if (!copy)
        return -1;
    if (size)
        memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
    return 0;
}

static int run_cut(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < CUTS; i++)
        if (run_exact(data, size / CUTS * i) != 0)
            return -1;
    return run_exact(data, size);
}

static int run_file(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)where;
    if (type != FTW_F)
        return 0;

    const size_t size = (size_t)st->st_size;
    uint8_t *data = malloc(size + 1);
    FILE *f = fopen(path, "rb");
    int result = -1;

    if (data && f && fread(data, 1, size, f) == size)
        result = run_cut(data, size);
    if (result == 0)
        n_files++;
    else
        fprintf(stderr, "%s: could not be read\n", path);
    if (f)
        fclose(f);
    free(data);
    return result;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (nftw(argv[i], run_file, OPEN_FILES_MAX, FTW_PHYS) != 0) {
            fprintf(stderr, "%s: could not be walked\n", argv[i]);
            return 1;
        }
    if (n_files == 0) {
        printf("SKIP no input files\n");
        return 77;
    }
    printf("%d files\n", n_files);
    return 0;
}
