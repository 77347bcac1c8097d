/* engine/model/weight_list.h -- the weights of a model, in the order in which a run uses them.
 *
 * The packer writes tensors in this order and the engine uses them in it; one
 * list serves both.  A test compares it with the order the plan device records.
 *
 * Every block of the model declares its weights to a builder, in the order its forward function
 * uses them, and keeps the references to them (resnet.c, transformer.c, unet.c, vae.c,
 * text_encoder.c).  The end of the walk sorts the list by segment, stably; a reference is the
 * number of the declaration, and weight_index says where the sort put it.
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

/* A declared weight, counted from 1: zeroed it is absent.  A type of its own, since it is no
 * index of an entry nor of a tensor. */
typedef struct wref {
    int declared;
} wref;

static inline bool weight_present(wref w) { return w.declared != 0; }

/* A weight matrix or the gain of a norm, and its bias, which may be absent. */
typedef struct affine_ref {
    wref weight, bias;
} affine_ref;

typedef struct weight_list {
    model_config config;
    weight_entry *entry; /* owned */
    int *index;          /* owned; where the sort put each declaration */
    int n, cap;
} weight_list;

/* The whole model's: the walk of engine/model/model.c, whose references are thrown away.
 * `c` must have passed model_config_check.  REFINE_ENOMEM is the only failure. */
refine_status weight_list_build(weight_list *out, const model_config *c);
void weight_list_free(weight_list *l);                        /* a zeroed list is fine */
int weight_list_find(const weight_list *l, const char *name); /* -1: no such entry */

/* First and one-past-last entry of a segment. */
void weight_list_segment(const weight_list *l, segment s, int *first, int *end);

/* Its entry, which is its tensor in the pack; w: present. */
int weight_index(const weight_list *l, wref w);

/* ---- declaring ---- */

/* A growing list and the first failure, so that a walk reads as a list: after a failure
 * declarations do nothing and return absent references. */
typedef struct weight_builder {
    weight_list *l;
    refine_status st;
} weight_builder;

/* `c` must have passed model_config_check; the list keeps a copy. */
weight_builder weight_list_begin(weight_list *out, const model_config *c);
/* REFINE_ENOMEM is the only failure; the list is then empty. */
refine_status weight_list_end(weight_builder *b);

/* Module `name` below `at`: "at.name.weight" and, but for vectors and matrices, "at.name.bias".
 * Vectors, norms and biases belong to SEG_VECTORS, the rest to `seg`. */
wref declare_vector(weight_builder *b, const char *at, const char *name, int n);
affine_ref declare_norm(weight_builder *b, const char *at, const char *name, int c);
affine_ref declare_matrix(weight_builder *b, segment seg, const char *at, const char *name,
                          int rows, int c_in);
affine_ref declare_linear(weight_builder *b, segment seg, const char *at, const char *name,
                          int rows, int c_in);
affine_ref declare_conv(weight_builder *b, segment seg, const char *at, const char *name, int rows,
                        int k, int c_in);
/* WEIGHT_INTERLEAVE: a linear of `rows` rows, values and gates together. */
affine_ref declare_gated(weight_builder *b, segment seg, const char *at, const char *name, int rows,
                         int c_in);
/* WEIGHT_STACK: `n` linears of `rows` rows each, with a bias or without. */
affine_ref declare_stack(weight_builder *b, segment seg, const char *at, const char *name,
                         const char *const sources[], int n, bool bias, int rows, int c_in);

/* The path of a module, for `at`.  Names are ours, only depths come from a file: it fits. */
void format_path(char out[WEIGHT_NAME], const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static inline uint64_t weight_elements(const weight_entry *e)
{
    return (uint64_t)e->rows * (uint64_t)e->kh * (uint64_t)e->kw * (uint64_t)e->c_in;
}

#endif
