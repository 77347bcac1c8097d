/* tests/tools/test_refine_pack.c -- the packer as a script sees it: exit codes, reproducible
 * packs, nothing left behind by a run that failed. */
#define _XOPEN_SOURCE 700
#include "engine/base/mem.h"
#include "offload/pack.h"
#include "tests/support/checkpoint_fixture.h"
#include "tests/support/temp_file.h"
#include "tools/files/merges.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

TestSuite(tools_refine_pack, .timeout = 100);

#define PUBLISHED "tools/vocabulary/bpe_simple_vocab_16e6.txt.gz"

enum { COMMAND = 1024 };

typedef struct packing_dir {
    char dir[TEMP_NAME], pack[TEMP_NAME + 16], said[TEMP_NAME + 16];
} packing_dir;

static packing_dir open_packing_dir(void)
{
    packing_dir w;
    temp_file(w.dir, ".dir");
    (void)unlink(w.dir);
    char command[COMMAND];
    (void)snprintf(command, sizeof command, "mkdir '%s'", w.dir);
    cr_assert_eq(system(command), 0);
    (void)snprintf(w.pack, sizeof w.pack, "%s/m.pack", w.dir);
    (void)snprintf(w.said, sizeof w.said, "%s/said", w.dir);
    return w;
}

static void close_packing_dir(const packing_dir *w)
{
    char command[COMMAND];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", w->dir);
    cr_assert_eq(system(command), 0);
}

/* Runs refine-pack with `arguments` behind `before`; what it said goes to `said`, and what it
 * prints to `out`. */
static int run_refine_pack_to(const char *out, const char *said, const char *before,
                              const char *arguments)
{
    const char *bin = getenv("REFINE_BIN");
    char command[4 * COMMAND];
    (void)snprintf(command, sizeof command, "%s '%s/refine-pack' %s 2>'%s' >%s", before,
                   bin ? bin : "build/release/bin", arguments, said, out);
    const int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int run_refine_pack(const packing_dir *w, const char *before, const char *arguments)
{
    return run_refine_pack_to("&2", w->said, before, arguments);
}

static int pack_tiny(const packing_dir *w, const char *before, const char *options)
{
    char arguments[COMMAND];
    (void)snprintf(arguments, sizeof arguments, "synthetic:tiny -o '%s' %s", w->pack, options);
    return run_refine_pack(w, before, arguments);
}

static int read_mode(const packing_dir *w, const char *mode)
{
    char arguments[COMMAND];
    (void)snprintf(arguments, sizeof arguments, "%s '%s'", mode, w->pack);
    return run_refine_pack(w, "", arguments);
}

static bool has_printed(const packing_dir *w, const char *words)
{
    size_t len;
    unsigned char *text = temp_read(w->said, &len);
    text[len] = 0;
    const bool found = strstr((const char *)text, words) != NULL;
    free(text);
    return found;
}

/* Files in the directory beside what was said. */
static int files_left(const packing_dir *w)
{
    char command[COMMAND];
    int n = -1;
    (void)snprintf(command, sizeof command, "ls -A '%s' | grep -vc '^said$'", w->dir);
    FILE *f = popen(command, "r");
    cr_assert_eq(fscanf(f, "%d", &n), 1);
    (void)pclose(f);
    return n;
}

Test(tools_refine_pack, the_same_source_gives_the_same_bytes_whatever_the_threads)
{
    static const char *const WAYS[][2] = {
        { "--threads 1", "--threads 5 --force" },
        { "--weights int8 --threads 1 --force", "--weights int8 --threads 5 --force" },
    };
    const packing_dir w = open_packing_dir();
    for (int i = 0; i < 2; i++) {
        size_t n1, n2;
        cr_assert_eq(pack_tiny(&w, "", WAYS[i][0]), 0);
        unsigned char *one = temp_read(w.pack, &n1);
        cr_assert_eq(pack_tiny(&w, "", WAYS[i][1]), 0);
        unsigned char *five = temp_read(w.pack, &n2);
        cr_assert_eq(n1, n2);
        cr_assert_eq(memcmp(one, five, n1), 0);
        free(one);
        free(five);
    }
    close_packing_dir(&w);
}

Test(tools_refine_pack, inspects_and_verifies)
{
    const packing_dir w = open_packing_dir();
    cr_assert_eq(pack_tiny(&w, "", ""), 0);
    cr_assert_eq(read_mode(&w, "--inspect"), 0);
    cr_assert(has_printed(&w, "synthetic:tiny"));
    cr_assert(has_printed(&w, "vae_decode"));
    cr_assert_eq(read_mode(&w, "--json --inspect"), 0);
    cr_assert(has_printed(&w, "\"unet.mid_block.resnets.0.conv1.weight\""));
    cr_assert_eq(read_mode(&w, "--verify"), 0);
    cr_assert(has_printed(&w, "as they were written"));
    close_packing_dir(&w);
}

/* Its own directory's, else CLIP's: no pack is without one. */
Test(tools_refine_pack, every_pack_carries_a_tokenizer)
{
    const packing_dir w = open_packing_dir();
    char arguments[COMMAND], command[COMMAND], *published;
    size_t len, packed;
    pack *p;
    cr_assert_eq(merges_load(PUBLISHED, &published, &len, NULL), REFINE_OK);
    cr_assert_eq(pack_tiny(&w, "", ""), 0);
    cr_assert_eq(pack_open(&p, w.pack, NULL), REFINE_OK);
    cr_assert_eq(memcmp(pack_merges(p, &packed), published, len), 0);
    cr_assert_eq(packed, len);
    pack_close(p);

    (void)snprintf(arguments, sizeof arguments, "%s/d", w.dir);
    fixture_directory(arguments, 0, 1);
    (void)snprintf(command, sizeof command,
                   "mkdir '%s/d/tokenizer' && cp docs/sample/demo_merges.txt "
                   "'%s/d/tokenizer/merges.txt'",
                   w.dir, w.dir);
    cr_assert_eq(system(command), 0);
    (void)snprintf(arguments, sizeof arguments, "--force -o '%s' '%s/d'", w.pack, w.dir);
    cr_assert_eq(run_refine_pack(&w, "", arguments), 0);
    cr_assert_eq(pack_open(&p, w.pack, NULL), REFINE_OK);
    cr_assert_not_null(pack_merges(p, &packed));
    cr_assert_lt(packed, len);
    pack_close(p);
    mem_free(published);
    close_packing_dir(&w);
}

Test(tools_refine_pack, int8_packs_say_what_they_hold_and_whose_weights)
{
    const packing_dir w = open_packing_dir();
    cr_assert_eq(pack_tiny(&w, "", "--json --codec raw"), 0);
    cr_assert(has_printed(&w, "\"weights\": \"fp16\""));
    cr_assert(has_printed(&w, "\"disk\": null"));
    cr_assert(has_printed(&w, "9f88ed75b221852d"));
    cr_assert_eq(pack_tiny(&w, "", "--force --weights int8 --json"), 0);
    cr_assert(has_printed(&w, "\"weights\": \"int8\""));
    cr_assert(has_printed(&w, "\"zstd_gain\": "));
    cr_assert(has_printed(&w, "9f88ed75b221852d"), "another source_hash");
    cr_assert_eq(pack_tiny(&w, "", "--force --weights int8"), 0);
    cr_assert(has_printed(&w, "int8: "));
    cr_assert(has_printed(&w, " dB or better"));
    cr_assert(has_printed(&w, "zstd: this disk reads "));
    cr_assert_eq(read_mode(&w, "--inspect"), 0);
    cr_assert(has_printed(&w, "weights    int8"));
    cr_assert(has_printed(&w, " dB  unet.mid_block.resnets.0.conv1.weight\n"));
    cr_assert(has_printed(&w, "fp16   2.30 kB           unet.conv_in.weight\n"));
    cr_assert_eq(read_mode(&w, "--json --inspect"), 0);
    cr_assert(has_printed(&w, "\"type\": \"int8\""));
    cr_assert(has_printed(&w, "\"sqnr\": 4"));
    cr_assert(has_printed(&w, "\"sqnr\": null"));
    cr_assert(has_printed(&w, "\"source_hash\": \"9f88ed75b221852d\""));
    cr_assert_eq(read_mode(&w, "--verify"), 0);
    close_packing_dir(&w);
}

Test(tools_refine_pack, says_which_model_it_packs_and_what_a_pack_holds)
{
    const packing_dir w = open_packing_dir();
    char arguments[COMMAND];
    cr_assert_eq(pack_tiny(&w, "", "--json"), 0);
    cr_assert(has_printed(&w, "refine-pack: synthetic:tiny: sdxl-refiner (synthetic)\n"));
    cr_assert(has_printed(&w, "\"model\": \"sdxl-refiner\""));
    cr_assert_eq(read_mode(&w, "--inspect"), 0);
    cr_assert(has_printed(&w, "model      sdxl-refiner\n"));
    cr_assert(has_printed(&w, "sampler    euler, leading steps, predicts epsilon\n"));
    (void)snprintf(arguments, sizeof arguments,
                   "synthetic:tiny-base --force --quiet --weights int8 --json -o '%s'", w.pack);
    cr_assert_eq(run_refine_pack(&w, "", arguments), 0);
    cr_assert_not(has_printed(&w, "(synthetic)"));
    cr_assert(has_printed(&w, "\"model\": \"sdxl-base\""));
    cr_assert_eq(read_mode(&w, "--json --inspect"), 0);
    cr_assert(has_printed(&w, "\"model\": \"sdxl-base\""));
    cr_assert(has_printed(&w, "\"text_l.text_model.embeddings.token_embedding.weight\""));
    cr_assert_eq(read_mode(&w, "--verify"), 0);
    close_packing_dir(&w);
}

Test(tools_refine_pack, says_what_it_found_in_a_checkpoint)
{
    const packing_dir w = open_packing_dir();
    char path[COMMAND], arguments[COMMAND];
    (void)snprintf(path, sizeof path, "%s/one.safetensors", w.dir);
    fixture_base_file(path, 1, NULL);
    (void)snprintf(path, sizeof path, "%s/vae.safetensors", w.dir);
    fixture_vae_file(path);
    (void)snprintf(arguments, sizeof arguments, "'%s/one.safetensors' -o '%s'", w.dir, w.pack);
    cr_assert_eq(run_refine_pack(&w, "", arguments), 0);
    cr_assert(has_printed(&w, "refine-pack: one.safetensors: sdxl-base (single-file, F32)\n"
                              "refine-pack: VAE: its own (F32)\n"
                              "refine-pack: sampler: euler, leading steps, predicts epsilon; a "
                              "single file does not say: see --sampler and --spacing\n"));
    (void)snprintf(arguments, sizeof arguments,
                   "'%s/one.safetensors' -o '%s' --force --json --sampler euler-ancestral "
                   "--spacing trailing --vae '%s/vae.safetensors'",
                   w.dir, w.pack, w.dir);
    cr_assert_eq(run_refine_pack(&w, "", arguments), 0);
    cr_assert(has_printed(&w, "refine-pack: VAE: vae.safetensors (F16)\n"
                              "refine-pack: sampler: euler-ancestral, trailing steps, predicts "
                              "epsilon\n"));
    cr_assert(has_printed(&w, "\"types\": \"F32\""));
    cr_assert(has_printed(&w, "\"spacing\": \"trailing\""));
    cr_assert_eq(read_mode(&w, "--inspect"), 0);
    cr_assert(has_printed(&w, "sampler    euler-ancestral, trailing steps, predicts epsilon\n"));
    cr_assert_eq(read_mode(&w, "--json --inspect"), 0);
    cr_assert(has_printed(&w, "\"sampler\": \"euler-ancestral\""));
    close_packing_dir(&w);
}

Test(tools_refine_pack, verify_finds_a_flipped_bit_in_any_chunk)
{
    const packing_dir w = open_packing_dir();
    pack *p;
    size_t len;
    cr_assert_eq(pack_tiny(&w, "", "--chunk 1M"), 0);
    cr_assert_eq(pack_open(&p, w.pack, NULL), REFINE_OK);
    unsigned char *bytes = temp_read(w.pack, &len);
    const int n = n_pack_chunks(p);
    for (int i = 0; i < n; i += i < 3 || i > n - 4 ? 1 : n / 9) {
        const pack_chunk *c = pack_chunk_at(p, i);
        const size_t at = c->file_at + c->stored_bytes / 2;
        bytes[at] ^= 4;
        temp_write(w.pack, bytes, len);
        cr_assert_eq(read_mode(&w, "--quiet --verify"), 4, "chunk %d", i);
        cr_assert(has_printed(&w, "damaged"));
        bytes[at] ^= 4;
    }
    free(bytes);
    pack_close(p);
    close_packing_dir(&w);
}

Test(tools_refine_pack, tells_usage_from_bad_input)
{
    const packing_dir w = open_packing_dir();
    cr_assert_eq(run_refine_pack(&w, "", ""), 2);
    cr_assert_eq(run_refine_pack(&w, "", "synthetic:tiny"), 2);
    cr_assert_eq(pack_tiny(&w, "", "--weights int4"), 2);
    cr_assert_eq(pack_tiny(&w, "", "--codec lz4"), 2);
    cr_assert_eq(pack_tiny(&w, "", "--chunk 1"), 2);
    cr_assert_eq(run_refine_pack(&w, "", "--help"), 0);
    cr_assert_eq(run_refine_pack(&w, "", "--verify no/such/file.pack"), 4);
    cr_assert_eq(run_refine_pack(&w, "", "README.md -o x.pack"), 4);
    cr_assert_eq(files_left(&w), 0);
    close_packing_dir(&w);
}

Test(tools_refine_pack, replaces_a_pack_only_when_told)
{
    const packing_dir w = open_packing_dir();
    temp_write(w.pack, "mine", 4);
    cr_assert_neq(pack_tiny(&w, "", ""), 0);
    size_t len;
    unsigned char *kept = temp_read(w.pack, &len);
    cr_assert_eq(len, 4u);
    free(kept);
    cr_assert_eq(pack_tiny(&w, "", "--force"), 0);
    cr_assert_eq(read_mode(&w, "--verify"), 0);
    close_packing_dir(&w);
}

/* With --force, to `output` in the directory, from `source` in it. */
static int pack_into(const packing_dir *w, const char *source, const char *output,
                     const char *options)
{
    char arguments[3 * COMMAND];
    (void)snprintf(arguments, sizeof arguments, "'%s/%s' --force -o '%s/%s' %s", w->dir, source,
                   w->dir, output, options);
    return run_refine_pack(w, "", arguments);
}

/* The original, under whatever name, is what it was. */
static void expect_source_kept(const packing_dir *w, const char *source, const char *output,
                               const char *role)
{
    char path[COMMAND], options[COMMAND];
    size_t before, after;
    (void)snprintf(path, sizeof path, "%s/%s", w->dir, output);
    (void)snprintf(options, sizeof options,
                   "--tokenizer '%s/merges.txt' --vae '%s/vae.safetensors'", w->dir, w->dir);
    unsigned char *was = temp_read(path, &before);
    cr_expect_eq(pack_into(w, source, output, options), 2, "%s to %s", source, output);
    cr_expect(has_printed(w, "refine-pack: the pack (-o) ") && has_printed(w, role), "%s to %s",
              source, output);
    size_t len;
    unsigned char *text = temp_read(w->said, &len);
    cr_expect_eq(memchr(text, '\n', len), text + len - 1, "one line");
    unsigned char *is = temp_read(path, &after);
    cr_expect(before == after && memcmp(was, is, after) == 0, "%s was replaced", output);
    free(text);
    free(was);
    free(is);
}

Test(tools_refine_pack, never_replaces_what_it_packs)
{
    static const char *const OF_DIRECTORY[] = {
        "d/model_index.json",
        "d/unet/config.json",
        "d/unet/diffusion_pytorch_model.safetensors.index.json",
        "d/unet/diffusion_pytorch_model-00002-of-00002.safetensors",
        "d/vae/../unet/diffusion_pytorch_model-00001-of-00002.safetensors",
        "d/text_encoder_2/model.safetensors",
        "d/scheduler/scheduler_config.json",
        "link/vae/diffusion_pytorch_model.safetensors",
        "blob",
    };
    const packing_dir w = open_packing_dir();
    char command[2 * COMMAND], path[COMMAND];
    (void)snprintf(path, sizeof path, "%s/one.safetensors", w.dir);
    fixture_single_file(path, 0);
    (void)snprintf(path, sizeof path, "%s/vae.safetensors", w.dir);
    fixture_vae_file(path);
    (void)snprintf(path, sizeof path, "%s/d", w.dir);
    fixture_directory(path, 1, 2);
    (void)snprintf(command, sizeof command,
                   "cp docs/sample/demo_merges.txt '%s/merges.txt' && cd '%s' && "
                   "ln -s one.safetensors soft && ln one.safetensors hard && ln -s d link && "
                   "mv d/vae/config.json blob && ln -s ../../blob d/vae/config.json",
                   w.dir, w.dir);
    cr_assert_eq(system(command), 0);
    expect_source_kept(&w, "one.safetensors", "one.safetensors", " would replace the source ");
    expect_source_kept(&w, "one.safetensors", "d/../one.safetensors", " would replace the source ");
    expect_source_kept(&w, "one.safetensors", "hard", " would replace the source ");
    expect_source_kept(&w, "one.safetensors", "soft", " would replace the source ");
    expect_source_kept(&w, "soft", "one.safetensors", " would replace the source ");
    expect_source_kept(&w, "one.safetensors", "merges.txt",
                       " would replace the tokenizer (--tokenizer) ");
    expect_source_kept(&w, "d", "vae.safetensors", " would replace the VAE (--vae) ");
    for (size_t i = 0; i < sizeof OF_DIRECTORY / sizeof OF_DIRECTORY[0]; i++)
        expect_source_kept(&w, "d", OF_DIRECTORY[i], " would replace the source ");

    /* A pack that was put beside its source is no part of it. */
    cr_assert_eq(pack_into(&w, "d", "d/m.pack", ""), 0);
    cr_assert_eq(pack_into(&w, "d", "d/m.pack", ""), 0);

    (void)snprintf(command, sizeof command, "--json --vae '%s/vae.safetensors'", w.dir);
    cr_assert_eq(pack_into(&w, "d", "d/m.pack", command), 0);
    cr_assert(has_printed(&w, "\"vae\": \"vae.safetensors\""));
    (void)snprintf(command, sizeof command, "--inspect '%s/d/m.pack'", w.dir);
    cr_assert_eq(run_refine_pack(&w, "", command), 0);
    cr_assert(has_printed(&w, ", VAE vae.safetensors), hash "));
    cr_assert_eq(pack_tiny(&w, "", "--vae x"), 2);
    cr_assert(has_printed(&w, "leave out --vae"));
    close_packing_dir(&w);
}

Test(tools_refine_pack, a_file_that_cannot_grow_leaves_nothing)
{
    const packing_dir w = open_packing_dir();
    cr_assert_eq(pack_tiny(&w, "ulimit -f 4000; ", ""), 1);
    cr_assert(has_printed(&w, "refine-pack: "));
    cr_assert_eq(files_left(&w), 0);
    close_packing_dir(&w);
}

Test(tools_refine_pack, an_interruption_leaves_nothing)
{
    for (int tenths = 0; tenths < 4; tenths++) {
        const packing_dir w = open_packing_dir();
        const char *bin = getenv("REFINE_BIN");
        char program[COMMAND];
        (void)snprintf(program, sizeof program, "%s/refine-pack", bin ? bin : "build/release/bin");
        const pid_t child = fork();
        cr_assert_geq(child, 0);
        if (child == 0) {
            cr_assert_not_null(freopen(w.said, "w", stderr));
            (void)execl(program, program, "synthetic:full", "-o", w.pack, "--quiet", (char *)NULL);
            _exit(127);
        }
        const struct timespec wait = { 0, 50000000 + tenths * 100000000L };
        (void)nanosleep(&wait, NULL);
        cr_assert_eq(kill(child, SIGINT), 0);
        int status;
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
        cr_assert_eq(files_left(&w), 0, "after %d ms", 50 + 100 * tenths);
        close_packing_dir(&w);
    }
}

Test(tools_refine_pack, says_that_standard_output_is_full)
{
    const packing_dir w = open_packing_dir();
    cr_assert_eq(pack_tiny(&w, "", "--quiet"), 0);
    const char *const words[] = { "--help",
                                  "--version",
                                  "--inspect @",
                                  "--inspect @ --json",
                                  "--verify @ --quiet",
                                  "synthetic:tiny -o @ --force --json" };
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        const char *at = strchr(words[i], '@');
        char arguments[COMMAND];
        (void)snprintf(arguments, sizeof arguments, "%.*s%s%s",
                       at ? (int)(at - words[i]) : (int)strlen(words[i]), words[i],
                       at ? w.pack : "", at ? at + 1 : "");
        cr_assert_eq(run_refine_pack_to("/dev/full", w.said, "", arguments), 1, "%s", words[i]);
        cr_assert(has_printed(&w, "refine-pack: standard output: "), "%s", words[i]);
    }
    close_packing_dir(&w);
}
