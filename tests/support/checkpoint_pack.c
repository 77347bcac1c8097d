/* tests/support/checkpoint_pack.c -- checkpoints made into packs, and packs compared. */
#define _POSIX_C_SOURCE 200809L
#include "tests/support/checkpoint_pack.h"

#include "offload/pack.h"
#include "tools/packer/pack_write.h"
#include "tools/source/checkpoint.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void write_source_pack(weight_source *s, const char *path)
{
    const pack_write_options o = { .path = path, .replace = true, .raw = true };
    pack_written w;
    refine_error err = { 0 };
    cr_assert_eq(pack_write(&w, s, &o, &err), REFINE_OK, "%s", err.text);
    s->close(s);
}

void pack_checkpoint_vae(const char *from, const char *vae, const char *path)
{
    weight_source *s;
    refine_error err = { 0 };
    cr_assert_eq(checkpoint_open(&s, from, &(checkpoint_choices){ .vae = vae }, &err), REFINE_OK,
                 "%s", err.text);
    write_source_pack(s, path);
}

void pack_checkpoint(const char *from, const char *path) { pack_checkpoint_vae(from, NULL, path); }

/* Chunk by chunk, and by the hash over all weights. */
void same_weights(const char *a, const char *b)
{
    pack *pa, *pb;
    cr_assert_eq(pack_open(&pa, a, NULL), REFINE_OK);
    cr_assert_eq(pack_open(&pb, b, NULL), REFINE_OK);
    cr_assert_eq(pack_super(pa)->source_hash, pack_super(pb)->source_hash);
    cr_assert_eq(pack_super(pa)->n_frames, pack_super(pb)->n_frames);
    for (int i = 0; i < (int)pack_super(pa)->n_frames; i++)
        cr_assert_eq(pack_frame_at(pa, i)->hash, pack_frame_at(pb, i)->hash, "frame %d", i);
    pack_close(pa);
    pack_close(pb);
}

void remove_checkpoint_tree(const char *dir)
{
    char command[600];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    cr_assert_eq(system(command), 0);
}

void temp_directory(char name[TEMP_NAME])
{
    temp_file(name, ".dir");
    (void)unlink(name);
}

void expect_vae_refused(const char *path, const char *vae, const char *because)
{
    weight_source *s;
    refine_error err = { 0 };
    cr_assert_eq(checkpoint_open(&s, path, &(checkpoint_choices){ .vae = vae }, &err),
                 REFINE_EFORMAT, "%s", because);
    cr_assert_not_null(strstr(err.text, because), "'%s' in: %s", because, err.text);
}

void expect_checkpoint_refused(const char *path, const char *because)
{
    expect_vae_refused(path, NULL, because);
}

void name_vae_file(char path[400], const char *dir)
{
    (void)snprintf(path, 400, "%s/vae/diffusion_pytorch_model.fp16.safetensors", dir);
}
