/* tools/files/latents_io.h -- latents in and out, in the formats other programs use.
 *
 *     .safetensors   one tensor [1,4,h,w] or [4,h,w], or the one named "latents"; of [n,4,h,w]
 *                    the k-th is FILE[k], from 0
 *     .npy           the same shapes, little-endian float32 or float16
 *     .npz           one such array, not compressed, as np.savez writes it; read only
 *     .latent        ComfyUI's: safetensors with "latent_tensor", not yet scaled
 *
 * Told apart by their content when reading, by the name's ending when writing.  Here
 * latents are always scaled (times the VAE's factor), as diffusers hands them over.
 */
#ifndef REFINE_LATENTS_IO_H
#define REFINE_LATENTS_IO_H

#include "engine/model/model_config.h"

#include <stdbool.h>
#include <stddef.h>

enum { LATENTS_MAX_SIDE = 2048, LATENTS_PATH = 4096 };

typedef struct latents {
    int h, w;
    float *v; /* [4][h][w]; owned */
} latents;

/* Whether the file begins as one of the formats does (not an image).  False also when it
 * cannot be read. */
bool latents_recognise(const char *path);

/* The file that is read by this name: of FILE[k] FILE.  Returns out. */
const char *latents_file(char out[LATENTS_PATH], const char *path);

/* REFINE_EFORMAT: damaged, of another shape, not finite; the text says which. */
refine_status latents_load(latents *out, const char *path, float scaling_factor, refine_error *err);
void latents_free(latents *l); /* a zeroed one is fine */

/* Whether the name ends as one of the formats does. */
bool latents_writable(const char *path);

/* Complete or not at all.  REFINE_EINVAL: the name does not say the format. */
refine_status latents_save(const char *path, const latents *l, float scaling_factor,
                           refine_error *err);

#endif
