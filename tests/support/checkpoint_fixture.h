/* tests/support/checkpoint_fixture.h -- the tiny models as published checkpoints are laid out.
 *
 * Weights come from synthetic:tiny and synthetic:tiny-base; names are made here by rules of
 * their own (the reverse of the packer's), so that a mistake in one shows in the other.
 */
#ifndef CHECKPOINT_FIXTURE_H
#define CHECKPOINT_FIXTURE_H

/* One safetensors file with sgm's names, fp16, its data at an odd address; `extra` adds the
 * tensors that loaders must ignore. */
void fixture_single_file(const char *path, int extra);

/* A diffusers directory.  f32: matrices and vectors in float32, the UNet in `shards` files
 * with an index; else fp16 under variant names in one file each. */
void fixture_directory(const char *dir, int f32, int shards);

/* The same of the base, with the end of CLIP ViT-L and the tensors that nobody needs.  f32: in
 * float32, the directory's UNet in two shards.  mark: an empty tensor of this name, or NULL.
 * bare: text_encoder/ without "text_model.", as newer transformers write it. */
void fixture_base_file(const char *path, int f32, const char *mark);
void fixture_base_directory(const char *dir, int f32, int bare);

/* A VAE alone in sgm's names, with the weights of synthetic:tiny:7. */
void fixture_vae_file(const char *path);

#endif
