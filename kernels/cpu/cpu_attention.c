/* kernels/cpu/cpu_attention.c -- softmax(q k^T * scale) v without its scores in memory.
 *
 * A task is one head of one image and a super-block of queries.  It walks the keys in tiles:
 *
 *     S = Q K^T                               a piece of queries at a time
 *     m' = max(m, max S);  P = exp(S - m')    per query, in F32
 *     l = l e^(m - m') + sum P;  O = O e^(m - m') + P V
 *     y = O / l
 *
 * Keys and values of a tile are laid out for the products once for all the task's queries.
 * Tiles are as even as can be; what a tile has too many are zero keys, whose scores are
 * never looked at and whose weight is zero.  q is scaled when it is loaded, by what scale
 * k is stored with too; v's is applied at the end.
 */
#include "kernels/cpu/cpu.h"

#include "engine/base/num.h"
#include "kernels/cpu/matrix.h"
#include "kernels/cpu/panels.h"
#include "kernels/cpu/pieces.h"
#include "kernels/cpu/rows.h"

#include <math.h>
#include <string.h>

enum {
    SUPER = 512,      /* queries of a task, a whole number of pieces */
    SUPER_WIDE = 256, /* where a head has more than WIDE channels: few heads, more tasks */
    WIDE = 128,
    PIECE = 128, /* queries of a product */
    TILE = 256,  /* keys of a tile, at most */
    CACHE_LINE = 64,
    MAX_SHAPES = 8
};

typedef struct attention_plan {
    int hd, k; /* channels of a head, and as padded */
    int tq, tk;
    int super, supers;                          /* queries of a super-block; how many of them */
    int tile;                                   /* keys */
    pieces split[2];                            /* of a full super-block and of the last */
    const product *scores[2][2], *values[2][2]; /* super-block, last piece */
    product_layout key_layout, value_layout;
    size_t q, o, stat, keys, vals, s, row, scratch, thread_bytes, bytes;
} attention_plan;

static bool find_product(const cpu_dev *c, attention_plan *p, int super, int last)
{
    const int queries = last ? p->split[super].last : p->split[super].size;
    const product_shape s = { queries, p->k, p->tile, false };
    const product_shape v = { queries, p->tile, p->k, true };
    const product *scores = onednn_product(c->dnnl, s), *values = onednn_product(c->dnnl, v);

    if (!scores || !values)
        return false;
    p->scores[super][last] = scores;
    p->values[super][last] = values;
    p->key_layout = product_weights(scores);
    p->value_layout = product_weights(values);
    p->scratch = num_max(p->scratch, num_max(product_scratch(scores), product_scratch(values)));
    return true;
}

static bool find_products(const cpu_dev *c, attention_plan *p)
{
    onednn_make_room(c->dnnl, MAX_SHAPES);
    return (p->tq < p->super || (find_product(c, p, FULL, 0) && find_product(c, p, FULL, 1))) &&
           (p->tq % p->super == 0 || (find_product(c, p, TAIL, 0) && find_product(c, p, TAIL, 1)));
}

static size_t floats(size_t n) { return num_align(n * sizeof(float), CPU_ALIGN); }

static bool make_plan(const cpu_dev *c, const attention_args *a, attention_plan *p)
{
    *p = (attention_plan){
        .hd = a->q.c / a->heads,
        .tq = (int)tensor_pixels(a->q),
        .tk = (int)tensor_pixels(a->k),
    };
    const int tiles = (p->tk + TILE - 1) / TILE;
    p->k = matrix_channels(p->hd);
    p->tile = matrix_channels((p->tk + tiles - 1) / tiles);
    p->super = p->hd > WIDE ? SUPER_WIDE : SUPER;
    p->supers = (p->tq + p->super - 1) / p->super;
    p->split[FULL] = pieces_of(p->super, PIECE);
    p->split[TAIL] = pieces_of(p->tq % p->super ? p->tq % p->super : 1, PIECE);
    if (!find_products(c, p))
        return false;

    const size_t queries = num_min((size_t)p->super, (size_t)p->tq);
    const size_t piece = (size_t)p->split[p->tq < p->super ? TAIL : FULL].size;
    const size_t longest = num_max(piece, p->tq % p->super ? (size_t)p->split[TAIL].size : 1);
    const size_t size = dtype_bytes(c->multiply);
    p->q = num_align(queries * (size_t)p->k * size, CPU_ALIGN);
    p->o = floats(queries * (size_t)p->k);
    p->stat = floats(2 * queries);
    p->keys = num_align(p->key_layout.bytes, CPU_ALIGN);
    p->vals = num_align(p->value_layout.bytes, CPU_ALIGN);
    p->s = floats(longest * (size_t)p->tile);
    const size_t group = (size_t)p->value_layout.group * (size_t)p->value_layout.rows;
    p->row = floats(num_max(num_max((size_t)p->k, (size_t)p->tile), group));
    p->thread_bytes = p->q + p->o + p->stat + p->keys + p->vals + p->s + p->row + p->scratch;
    p->bytes = CPU_ALIGN + (size_t)c->threads * p->thread_bytes;
    return true;
}

size_t cpu_attention_workspace(const dev *d, const attention_args *a)
{
    attention_plan p;
    return make_plan(cpu_peek(d), a, &p) ? p.bytes : 0;
}

/* ---- running ---- */

typedef struct attention_state {
    cpu_dev *c;
    const attention_args *a;
    attention_plan p;
    char *threads;
} attention_state;

typedef struct key_tile {
    int key0, keys;
} key_tile;

/* One task at work. */
typedef struct worker {
    const attention_state *s;
    int thread, n, head, query0, queries;
    char *q;           /* [queries][k], multiplied type */
    float *o;          /* [queries][k] */
    float *max, *sum;  /* [queries] */
    char *keys, *vals; /* laid out */
    float *scores;     /* [piece][tile]; as BF16 afterwards where products take that */
    float *row;
    char *scratch;
} worker;

static worker worker_at(const attention_state *s, int task, int thread)
{
    const attention_plan *p = &s->p;
    char *at = s->threads + (size_t)thread * p->thread_bytes;
    worker w = { .s = s, .thread = thread };

    w.query0 = task % p->supers * p->super;
    w.queries = p->tq - w.query0 < p->super ? p->tq - w.query0 : p->super;
    w.head = task / p->supers % s->a->heads;
    w.n = task / p->supers / s->a->heads;
    w.q = at;
    w.o = (float *)(void *)(at += p->q);
    w.max = (float *)(void *)(at += p->o);
    w.sum = w.max + w.queries;
    w.keys = at += p->stat;
    w.vals = at += p->keys;
    w.scores = (float *)(void *)(at += p->vals);
    w.row = (float *)(void *)(at += p->s);
    w.scratch = at + p->row;
    return w;
}

static void load_queries(worker *w)
{
    const attention_args *a = w->s->a;
    const attention_plan *p = &w->s->p;
    const dtype type = w->s->c->multiply;
    const size_t bytes = (size_t)p->k * dtype_bytes(type);
    const float scale = ldexpf(a->scale, a->k.exp2);

    for (int i = 0; i < w->queries; i++) {
        row_load(w->s->c->v, w->row, a->q, (size_t)w->n * (size_t)p->tq + (size_t)(w->query0 + i),
                 w->head * p->hd, p->hd);
        w->s->c->v->scale(w->row, scale, (size_t)p->hd);
        memset(w->row + p->hd, 0, (size_t)(p->k - p->hd) * sizeof *w->row);
        row_encode(w->q + (size_t)i * bytes, type, w->row, (size_t)p->k);
        w->max[i] = -INFINITY;
        w->sum[i] = 0;
    }
    memset(w->o, 0, (size_t)w->queries * (size_t)p->k * sizeof *w->o);
}

static pack_source head_rows(tensor t, size_t pixel, int c0, int rows, int hd)
{
    return (pack_source){ .data = row_at(t, pixel, c0),
                          .type = t.type,
                          .stride = (size_t)t.stride,
                          .rows = rows,
                          .k = hd };
}

static void load_keys(worker *w, int key0, int count)
{
    const attention_state *s = w->s;
    const size_t pixel = (size_t)w->n * (size_t)s->p.tk + (size_t)key0;
    const int c0 = w->head * s->p.hd;
    const pack_source k = head_rows(s->a->k, pixel, c0, count, s->p.hd);
    const pack_source v = head_rows(s->a->v, pixel, c0, count, s->p.hd);

    for (int panel = 0; panel < pack_panels(s->p.key_layout); panel++)
        pack_panel(s->c->v, s->p.key_layout, s->c->multiply, w->keys, panel, k);
    pack_transposed(s->p.value_layout, s->c->multiply, w->vals, v, w->row);
}

/* The rows of a head lie far apart, and packing a tile would wait for each line of them.  So
 * every query fetches a few lines of the next tile ahead: keys on even queries, values on odd. */
static void fetch_ahead(const worker *w, int i, key_tile t)
{
    const attention_state *s = w->s;
    const int key = t.key0 + t.keys + i / 2;
    if (i / 2 >= s->p.tile || key >= s->p.tk)
        return;
    const tensor from = i % 2 ? s->a->v : s->a->k;
    const char *row = row_at(from, (size_t)w->n * (size_t)s->p.tk + (size_t)key, w->head * s->p.hd);
    for (size_t at = 0; at < (size_t)s->p.hd * dtype_bytes(from.type); at += CACHE_LINE)
        __builtin_prefetch(row + at);
}

/* Scores of query i, the first `seen` of which count, become weights; o is rescaled. */
static void weigh(worker *w, int i, float *scores, int seen)
{
    const vec *v = w->s->c->v;
    const int tile = w->s->p.tile, k = w->s->p.k;

    if (seen > 0) {
        const float had = w->max[i], top = v->max(scores, (size_t)seen);
        if (top > had) {
            float shrink = had;
            (void)v->softmax(&shrink, top, 1);
            w->max[i] = top;
            w->sum[i] *= shrink;
            v->scale(w->o + (size_t)i * (size_t)k, shrink, (size_t)k);
        }
        w->sum[i] += v->softmax(scores, w->max[i], (size_t)seen);
    }
    memset(scores + seen, 0, (size_t)(tile - seen) * sizeof *scores);
    if (w->s->c->multiply != DT_F32) /* in place: a row becomes shorter */
        row_encode(w->row, w->s->c->multiply, scores, (size_t)tile);
}

static bool attend_piece(worker *w, int super, int last, int first, key_tile t)
{
    const attention_state *s = w->s;
    const attention_plan *p = &s->p;
    const size_t size = dtype_bytes(s->c->multiply);
    const int count = last ? p->split[super].last : p->split[super].size;
    char *weights = (char *)w->scores;

    if (!product_run(p->scores[super][last], w->thread, w->scores,
                     w->q + (size_t)first * (size_t)p->k * size, w->keys, w->scratch))
        return false;
    for (int i = 0; i < count; i++) {
        const int query = w->query0 + first + i;
        int seen = t.keys;
        if (s->a->causal)
            seen = query - t.key0 + 1 < t.keys ? query - t.key0 + 1 : t.keys;
        float *scores = w->scores + (size_t)i * (size_t)p->tile;
        fetch_ahead(w, first + i, t);
        weigh(w, first + i, scores, seen > 0 ? seen : 0);
        if (size != sizeof(float))
            memcpy(weights + (size_t)i * (size_t)p->tile * size, w->row, (size_t)p->tile * size);
    }
    return product_run(p->values[super][last], w->thread, w->o + (size_t)first * (size_t)p->k,
                       weights, w->vals, w->scratch);
}

static bool attend_tile(worker *w, key_tile t)
{
    const int super = w->queries < w->s->p.super ? TAIL : FULL;
    const pieces split = w->s->p.split[super];

    load_keys(w, t.key0, t.keys);
    for (int i = 0; i < split.n; i++)
        if (!attend_piece(w, super, i == split.n - 1, i * split.size, t))
            return false;
    return true;
}

static void store_result(worker *w)
{
    const attention_args *a = w->s->a;
    const attention_plan *p = &w->s->p;
    for (int i = 0; i < w->queries; i++) {
        float *o = w->o + (size_t)i * (size_t)p->k;
        w->s->c->v->scale(o, ldexpf(1.0f, a->v.exp2) / w->sum[i], (size_t)p->hd);
        row_store(w->s->c->v, a->y, (size_t)w->n * (size_t)p->tq + (size_t)(w->query0 + i),
                  w->head * p->hd, p->hd, o);
    }
}

static void attention_task(void *context, int task, int thread)
{
    const attention_state *s = context;
    worker w = worker_at(s, task, thread);

    load_queries(&w);
    for (int key = 0; key < s->p.tk; key += s->p.tile) {
        if (s->a->causal && key >= w.query0 + w.queries)
            break;
        const int left = s->p.tk - key;
        if (!attend_tile(&w, (key_tile){ key, left < s->p.tile ? left : s->p.tile })) {
            dev_fail(&s->c->base, REFINE_EDEVICE, "cpu: oneDNN failed to execute a product");
            return;
        }
    }
    store_result(&w);
}

void cpu_attention(dev *d, const attention_args *a)
{
    attention_state s = { .c = cpu_of(d), .a = a };
    if (!make_plan(s.c, a, &s.p)) {
        dev_fail(d, REFINE_EDEVICE, "cpu: oneDNN has no product of a shape that is needed");
        return;
    }
    s.threads = cpu_workspace(s.c, s.p.bytes);
    if (s.threads)
        pool_run(s.c->pool, a->q.n * a->heads * s.p.supers, attention_task, &s);
}
