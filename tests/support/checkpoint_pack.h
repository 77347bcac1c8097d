/* tests/support/checkpoint_pack.h -- checkpoints made into packs, and packs compared.
 *
 * What fails, fails the test.
 */
#ifndef CHECKPOINT_PACK_H
#define CHECKPOINT_PACK_H

#include "tests/support/temp_file.h"
#include "tools/source/weight_source.h"

/* Packs all of it, and closes it. */
void write_source_pack(weight_source *s, const char *path);
/* vae: a VAE of its own, or NULL. */
void pack_checkpoint_vae(const char *from, const char *vae, const char *path);
void pack_checkpoint(const char *from, const char *path);

/* Chunk by chunk, and by the hash over all weights. */
void same_weights(const char *a, const char *b);

/* `because` is part of the reason. */
void expect_vae_refused(const char *path, const char *vae, const char *because);
void expect_checkpoint_refused(const char *path, const char *because);

/* Where a diffusers directory has its VAE. */
void name_vae_file(char path[400], const char *dir);

/* The name of a directory that is not there yet. */
void temp_directory(char name[TEMP_NAME]);
void remove_checkpoint_tree(const char *dir);

#endif
