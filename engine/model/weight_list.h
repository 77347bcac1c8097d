/* engine/model/weight_list.h -- the weights of a model, in the order in which a run uses them.
 *
 * The packer writes tensors in this order and the engine uses them in it; one
 * list serves both.  A test compares it with the order the plan device records.
 *
 * An entry is what the pack stores.  It is made of one or more tensors of the
 * checkpoint, named as diffusers names them behind a component prefix
 * ("unet.", "vae.", "text."):
 *
 *   COPY       one source, as it is.  Convolutions go from [out][in][kh][kw] to
 *              [out][kh][kw][in]; 1x1 convolutions and linears are the same thing.
 *   STACK      sources one below the other (q, k, v of one attention).
 *   INTERLEAVE one source of 2C rows: first half are values, second half gates;
 *              stored value, gate, value, gate... (GEGLU), its bias likewise.
 */
#ifndef REFINE_WEIGHT_LIST_H
#define REFINE_WEIGHT_LIST_H

#include "engine/model/model_config.h"

#include <stdint.h>

/* When a weight is needed.  Segments lie in the pack in this order. */
typedef enum segment {
    SEG_VECTORS, /* norms, biases, position table: always on the device, F32 */
    SEG_TEXT,    /* text encoder, once per prompt */
    SEG_ONCE,    /* embeddings and cross-attention K/V of the UNet, once per image */
    SEG_VAE_ENCODE,
    SEG_UNET, /* every step */
    SEG_VAE_DECODE,
    SEG_TOKENS, /* token table, read by row, never on the device whole */
    N_SEGMENTS
} segment;

typedef enum weight_op { WEIGHT_COPY, WEIGHT_STACK, WEIGHT_INTERLEAVE } weight_op;

enum { WEIGHT_NAME = 96, WEIGHT_SOURCES = 3 };

typedef struct weight_entry {
    char name[WEIGHT_NAME]; /* "unet.mid_block.attentions.0.norm.weight" */
    segment seg;
    weight_op op;
    int rows, kh, kw, c_in; /* vectors: (1,1,1,n) */
    int n_sources;
    char source[WEIGHT_SOURCES][WEIGHT_NAME];
} weight_entry;

typedef struct weight_list {
    model_config config;
    weight_entry *entry; /* owned */
    int n, cap;
} weight_list;

/* `c` must have passed model_config_check.  REFINE_ENOMEM is the only failure. */
refine_status weight_list_build(weight_list *out, const model_config *c);
void weight_list_free(weight_list *l);                        /* a zeroed layout is fine */
int weight_list_find(const weight_list *l, const char *name); /* -1: no such entry */

/* First and one-past-last entry of a segment. */
void weight_list_segment(const weight_list *l, segment s, int *first, int *end);

static inline uint64_t weight_elements(const weight_entry *e)
{
    return (uint64_t)e->rows * (uint64_t)e->kh * (uint64_t)e->kw * (uint64_t)e->c_in;
}

#endif
