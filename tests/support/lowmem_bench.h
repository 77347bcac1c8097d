/* tests/support/lowmem_bench.h -- refine-lowmem run as by a script, in a directory of its own. */
#ifndef TEST_LOWMEM_BENCH_H
#define TEST_LOWMEM_BENCH_H

#include "tests/support/load_image.h"
#include "tests/support/temp_file.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { BENCH_PATH = 512 };

/* A directory of our own with a pack and an image in it; everything is made there. */
typedef struct lowmem_bench {
    char dir[TEMP_NAME], pack[TEMP_NAME], picture[BENCH_PATH];
} lowmem_bench;

/* What a finished program left behind. */
typedef struct lowmem_outcome {
    int code;        /* 128 + signal when one ended it */
    char *out, *err; /* zero-terminated; owned */
    size_t out_len;
} lowmem_outcome;

/* A program that fails: its words, its code, and what its one line says. */
typedef struct refusal {
    int code;
    const char *words, *says;
} refusal;

/* A run of three steps, for words to be added. */
#define UNSEEDED "-m @ -i @in.png -p cat --steps 10 --threads 1 "
#define JOB      UNSEEDED "--seed 7 "

lowmem_bench lowmem_bench_open(void);
/* Removes what is left; how many files there were beside the image. */
int lowmem_bench_close(lowmem_bench *b);

/* dir/name, in one of a few buffers that are used in turn. */
const char *bench_path(const lowmem_bench *b, const char *name);

/* Starts the program on `words`, split at single spaces; "@x" is the bench's x, "@" its pack.
 * `input`: the file that standard input comes from; NULL: nothing. */
pid_t start_refine_lowmem(const lowmem_bench *b, const char *words, const char *input);
lowmem_outcome wait_refine_lowmem(const lowmem_bench *b, pid_t pid);
/* Both, without input. */
lowmem_outcome run_refine_lowmem(const lowmem_bench *b, const char *words);
void outcome_free(lowmem_outcome *o);

void expect_lowmem_success(const lowmem_bench *b, const char *words);
void expect_lowmem_refusal(const lowmem_bench *b, const refusal *r);

/* A file, zero-terminated, to be freed with free(). */
char *read_terminated_text(const char *name, size_t *len);
bool is_bench_file_equal(const lowmem_bench *b, const char *one, const char *other);
/* The image's bytes; the text chunks differ where options do. */
bool same_picture(const lowmem_bench *b, const char *one, const char *other);
/* The value of a text chunk, to be freed; NULL: there is none. */
char *png_text_of(const char *name, const char *key);

#endif
