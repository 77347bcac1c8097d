/* engine/model/weight_list.c -- a list of weights that grows as blocks declare them. */
#include "engine/model/weight_list.h"

#include "engine/base/mem.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- declaring ---- */

void format_path(char out[WEIGHT_NAME], const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(out, WEIGHT_NAME, fmt, ap);
    va_end(ap);
    assert(n > 0 && n < WEIGHT_NAME);
    (void)n;
}

/* Room for one more entry. */
static bool grow_list(weight_builder *b)
{
    weight_list *l = b->l;
    if (b->st == REFINE_OK && l->n == l->cap) {
        const int cap = l->cap ? 2 * l->cap : 512;
        weight_entry *e = mem_realloc(l->entry, (size_t)cap * sizeof *e);
        if (e) {
            l->entry = e;
            l->cap = cap;
        } else {
            b->st = REFINE_ENOMEM;
        }
    }
    return b->st == REFINE_OK;
}

static weight_entry matrix_entry(segment seg, weight_op op, int rows, int k, int c_in,
                                 int n_sources)
{
    return (weight_entry){
        .seg = seg, .op = op, .rows = rows, .kh = k, .kw = k, .c_in = c_in, .n_sources = n_sources
    };
}

/* `part` is "weight" or "bias", of the entry as of its sources; `like` is all but the names. */
static wref append_weight(weight_builder *b, const char *at, const char *name,
                          const char *const sources[], const char *part, const weight_entry *like)
{
    if (!grow_list(b))
        return (wref){ 0 };
    weight_entry *e = &b->l->entry[b->l->n++];
    *e = *like;
    format_path(e->name, "%s.%s.%s", at, name, part);
    for (int i = 0; i < e->n_sources; i++)
        format_path(e->source[i], "%s.%s.%s", at, sources[i], part);
    return (wref){ b->l->n };
}

/* A matrix of which every source has a bias, or none has. */
static affine_ref append_affine(weight_builder *b, const char *at, const char *name,
                                const char *const sources[], bool bias, const weight_entry *matrix)
{
    const weight_entry vector = matrix_entry(SEG_VECTORS, matrix->op, 1, 1, matrix->rows,
                                             matrix->n_sources);
    affine_ref r = { 0 };
    r.weight = append_weight(b, at, name, sources, "weight", matrix);
    if (bias)
        r.bias = append_weight(b, at, name, sources, "bias", &vector);
    return r;
}

wref declare_vector(weight_builder *b, const char *at, const char *name, int n)
{
    const weight_entry e = matrix_entry(SEG_VECTORS, WEIGHT_COPY, 1, 1, n, 1);
    return append_weight(b, at, name, &name, "weight", &e);
}

affine_ref declare_norm(weight_builder *b, const char *at, const char *name, int c)
{
    const weight_entry e = matrix_entry(SEG_VECTORS, WEIGHT_COPY, 1, 1, c, 1);
    affine_ref r;
    r.weight = append_weight(b, at, name, &name, "weight", &e);
    r.bias = append_weight(b, at, name, &name, "bias", &e);
    return r;
}

affine_ref declare_matrix(weight_builder *b, segment seg, const char *at, const char *name,
                          int rows, int c_in)
{
    const weight_entry e = matrix_entry(seg, WEIGHT_COPY, rows, 1, c_in, 1);
    return append_affine(b, at, name, &name, false, &e);
}

affine_ref declare_linear(weight_builder *b, segment seg, const char *at, const char *name,
                          int rows, int c_in)
{
    return declare_conv(b, seg, at, name, rows, 1, c_in);
}

affine_ref declare_conv(weight_builder *b, segment seg, const char *at, const char *name, int rows,
                        int k, int c_in)
{
    const weight_entry e = matrix_entry(seg, WEIGHT_COPY, rows, k, c_in, 1);
    return append_affine(b, at, name, &name, true, &e);
}

affine_ref declare_gated(weight_builder *b, segment seg, const char *at, const char *name, int rows,
                         int c_in)
{
    const weight_entry e = matrix_entry(seg, WEIGHT_INTERLEAVE, rows, 1, c_in, 1);
    return append_affine(b, at, name, &name, true, &e);
}

affine_ref declare_stack(weight_builder *b, segment seg, const char *at, const char *name,
                         const char *const sources[], int n, bool bias, int rows, int c_in)
{
    const weight_entry e = matrix_entry(seg, WEIGHT_STACK, n * rows, 1, c_in, n);
    assert(n <= WEIGHT_SOURCES);
    return append_affine(b, at, name, sources, bias, &e);
}

weight_builder weight_list_begin(weight_list *out, const model_config *c)
{
    *out = (weight_list){ .config = *c };
    return (weight_builder){ .l = out };
}

/* Stable: a counting sort. */
static refine_status sort_by_segment(weight_list *l)
{
    int next[N_SEGMENTS + 1] = { 0 };
    weight_entry *sorted = mem_alloc((size_t)l->n * sizeof *sorted);
    l->index = mem_alloc((size_t)l->n * sizeof *l->index);
    if (!sorted || !l->index) {
        mem_free(sorted);
        return REFINE_ENOMEM;
    }
    for (int i = 0; i < l->n; i++)
        next[l->entry[i].seg + 1]++;
    for (int s = 0; s < N_SEGMENTS; s++)
        next[s + 1] += next[s];
    for (int i = 0; i < l->n; i++) {
        l->index[i] = next[l->entry[i].seg]++;
        sorted[l->index[i]] = l->entry[i];
    }
    mem_free(l->entry);
    l->entry = sorted;
    l->cap = l->n;
    return REFINE_OK;
}

refine_status weight_list_end(weight_builder *b)
{
    if (b->st == REFINE_OK)
        b->st = sort_by_segment(b->l);
    if (b->st != REFINE_OK)
        weight_list_free(b->l);
    return b->st;
}

/* ---- asking ---- */

void weight_list_free(weight_list *l)
{
    mem_free(l->entry);
    mem_free(l->index);
    l->entry = NULL;
    l->index = NULL;
    l->n = l->cap = 0;
}

int weight_index(const weight_list *l, wref w)
{
    assert(weight_present(w) && w.declared <= l->n);
    return l->index[w.declared - 1];
}

int weight_list_find(const weight_list *l, const char *name)
{
    for (int i = 0; i < l->n; i++)
        if (strcmp(l->entry[i].name, name) == 0)
            return i;
    return -1;
}

void weight_list_segment(const weight_list *l, segment s, int *first, int *end)
{
    int i = 0;
    while (i < l->n && l->entry[i].seg < s)
        i++;
    *first = i;
    while (i < l->n && l->entry[i].seg == s)
        i++;
    *end = i;
}
