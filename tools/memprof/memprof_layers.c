/* tools/memprof/memprof_layers.c -- chunks gathered by name, events by chunk. */
#include "tools/memprof/memprof_layers.h"

#include "engine/base/mem.h"

#include <ctype.h>
#include <string.h>

static bool same_name(const layer *a, const char *name, int len, refine_phase phase)
{
    return a->phase == phase && a->name_len == len && memcmp(a->name, name, (size_t)len) == 0;
}

static layer *add_layer(layers *l, const char *name, int len, refine_phase phase)
{
    layer *last = l->n ? &l->v[l->n - 1] : NULL;
    if (last && same_name(last, name, len, phase))
        return last;
    last = &l->v[l->n++];
    *last = (layer){ .name = name, .name_len = len, .phase = phase };
    return last;
}

static void add_event(layer *at, const refine_event *v)
{
    const double seconds = v->end - v->begin;
    if (v->lane == REFINE_LANE_COMPUTE) {
        at->seconds += seconds;
        at->uses++;
    } else {
        at->stall[v->lane - REFINE_LANE_STALL_DISK] += seconds;
    }
}

static void add_events(layers *l, const int *layer_of, const recording *t)
{
    for (size_t i = t->lane_at[REFINE_LANE_COMPUTE]; i < t->lane_at[REFINE_LANE_STALL_COPY + 1];
         i++)
        add_event(&l->v[layer_of[t->event[i].chunk]], &t->event[i]);
}

refine_status layers_of(layers *out, const recording *t, refine_error *err)
{
    const size_t n = (size_t)t->n_chunks + 1;
    int *layer_of = mem_alloc(n * sizeof *layer_of);
    out->n = 0;
    out->v = mem_alloc(n * sizeof *out->v);
    if (!layer_of || !out->v) {
        mem_free(layer_of);
        layers_free(out);
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    }
    for (int i = 0; i < t->n_chunks; i++) {
        const refine_chunk *c = &t->chunk[i];
        layer *l = add_layer(out, c->name, (int)strlen(c->name), c->phase);
        layer_of[i] = (int)(l - out->v);
        l->chunks++;
        l->bytes += c->bytes;
        l->stored_bytes += c->stored_bytes;
        l->tier[c->tier] += c->bytes;
        l->flops += c->flops;
        l->planned += c->seconds;
    }
    add_events(out, layer_of, t);
    mem_free(layer_of);
    return REFINE_OK;
}

static bool is_number(const char *s, const char *end)
{
    while (s < end && isdigit((unsigned char)*s))
        s++;
    return s == end;
}

/* How much of a layer's name is its block's. */
static int block_len(const char *name, int len)
{
    static const char ALIKE[] = "layers";
    const char *end = name + len, *part = name, *before = NULL;
    while (part < end) {
        const char *dot = memchr(part, '.', (size_t)(end - part));
        const char *stop = dot ? dot : end;
        const size_t before_len = before ? (size_t)(part - 1 - before) : 0;
        if (stop > part && is_number(part, stop)) {
            const bool alike = before_len == sizeof ALIKE - 1 &&
                               memcmp(before, ALIKE, before_len) == 0;
            return (int)((alike ? part - 1 : stop) - name);
        }
        before = part;
        part = stop + 1;
    }
    return before && before > name ? (int)(before - 1 - name) : len;
}

refine_status layers_blocks(layers *out, const layers *l, refine_error *err)
{
    out->n = 0;
    out->v = mem_alloc(((size_t)l->n + 1) * sizeof *out->v);
    if (!out->v)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    for (int i = 0; i < l->n; i++) {
        const layer *from = &l->v[i];
        layer *to = add_layer(out, from->name, block_len(from->name, from->name_len), from->phase);
        to->chunks += from->chunks;
        to->uses += from->uses;
        to->bytes += from->bytes;
        to->stored_bytes += from->stored_bytes;
        to->flops += from->flops;
        to->seconds += from->seconds;
        to->planned += from->planned;
        for (int k = 0; k < 3; k++) {
            to->tier[k] += from->tier[k];
            to->stall[k] += from->stall[k];
        }
    }
    return REFINE_OK;
}

void layers_free(layers *l)
{
    mem_free(l->v);
    *l = (layers){ 0 };
}

double layer_intensity(const layer *l) { return l->bytes ? l->flops / (double)l->bytes : 0.0; }

double layer_time(const layer *l) { return l->seconds + l->stall[0] + l->stall[1] + l->stall[2]; }

/* Sifts i down in a heap whose top is the shortest. */
static void sift_down(const layers *l, int *heap, int i, int n)
{
    for (int child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && layer_time(&l->v[heap[child + 1]]) < layer_time(&l->v[heap[child]]))
            child++;
        if (layer_time(&l->v[heap[i]]) <= layer_time(&l->v[heap[child]]))
            return;
        const int swap = heap[i];
        heap[i] = heap[child];
        heap[child] = swap;
    }
}

void layers_by_time(const layers *l, int *out)
{
    for (int i = 0; i < l->n; i++)
        out[i] = i;
    for (int i = l->n / 2 - 1; i >= 0; i--)
        sift_down(l, out, i, l->n);
    for (int n = l->n - 1; n > 0; n--) {
        const int swap = out[0];
        out[0] = out[n];
        out[n] = swap;
        sift_down(l, out, 0, n);
    }
}
