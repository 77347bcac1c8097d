/* tests/support/checkpoint_fixture.h -- the tiny model as published checkpoints are laid out.
 *
 * Weights come from synthetic:tiny; names are made here by rules of their own (the
 * reverse of the packer's), so that a mistake in one shows in the other.
 */
#ifndef CHECKPOINT_FIXTURE_H
#define CHECKPOINT_FIXTURE_H

/* One safetensors file with sgm's names, fp16, its data at an odd address; `extra` adds the
 * tensors that loaders must ignore. */
void fixture_single_file(const char *path, int extra);

/* A diffusers directory.  f32: matrices and vectors in float32, the UNet in `shards` files
 * with an index; else fp16 under variant names in one file each. */
void fixture_directory(const char *dir, int f32, int shards);

#endif
