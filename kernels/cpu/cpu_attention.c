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
 * k is stored with too; v's is applied at the end.  Of BF16 all four are operands in BF16.
 */
#include "kernels/cpu/operand.h"

#include "engine/base/num.h"
#include "kernels/cpu/panels.h"
#include "kernels/cpu/rows.h"

#include <math.h>
#include <string.h>

enum {
    SUPER = 512,      /* queries of a task, at most */
    SUPER_WIDE = 256, /* where a head has more than WIDE channels: few heads, more tasks */
    WIDE = 128,
    PIECE = 128, /* queries of a product, at most */
    TILE = 256,  /* keys of a tile, at most */
    CACHE_LINE = 64
};

typedef struct attention_state {
    const cpu_dev *c;
    const attention_args *a;
    const gemm *g;
    int hd, k; /* channels of a head, and as padded */
    int tq, tk;
    int super, supers; /* queries of a super-block; how many of them */
    int tile;          /* keys, padded */
    carve_parts threads;
} attention_state;

typedef struct key_tile {
    int key0, keys;
} key_tile;

/* One task at work, and its thread's room. */
typedef struct attention_worker {
    const attention_state *s;
    int n, head, query0, queries;
    char *q;           /* [queries][k], operands */
    float *o;          /* [queries][k] */
    float *max, *sum;  /* [queries] */
    char *keys, *vals; /* panels */
    float *scores;     /* [queries of a piece][tile] */
    char *weights;     /* the same as operands; in place, where these are floats */
    float *row;        /* [k] */
} attention_worker;

static attention_state make_attention_state(const cpu_dev *c, const attention_args *a)
{
    attention_state s = {
        .c = c,
        .a = a,
        .g = operand_gemm(c, a->q.type),
        .hd = a->q.c / a->heads,
        .tq = (int)tensor_pixels(a->q),
        .tk = (int)tensor_pixels(a->k),
    };
    const int tiles = (s.tk + TILE - 1) / TILE;
    s.k = gemm_padded(s.hd);
    s.tile = gemm_padded((s.tk + tiles - 1) / tiles);
    s.super = s.hd > WIDE ? SUPER_WIDE : SUPER;
    s.supers = (s.tq + s.super - 1) / s.super;
    return s;
}

static void carve_attention_worker(carver *at, void *context)
{
    attention_worker *w = context;
    const attention_state *s = w->s;
    const size_t size = dtype_bytes(s->g->element), k = (size_t)s->k, tile = (size_t)s->tile;
    const size_t queries = num_min((size_t)s->super, (size_t)s->tq);
    const size_t block = num_min(PIECE, queries);

    w->q = carve_block(at, queries * k * size);
    w->o = carve_block(at, queries * k * sizeof *w->o);
    w->max = carve_block(at, queries * sizeof *w->max);
    w->sum = carve_block(at, queries * sizeof *w->sum);
    w->keys = carve_block(at, tile * k * size);
    w->vals = carve_block(at, tile * k * size);
    w->scores = carve_block(at, block * tile * sizeof *w->scores);
    w->weights = size == sizeof(float) ? (char *)w->scores : carve_block(at, block * tile * size);
    w->row = carve_block(at, k * sizeof *w->row);
}

static void carve_attention_state(carver *at, void *context)
{
    attention_state *s = context;
    attention_worker each = { .s = s };
    s->threads = carve_each(at, s->c->threads, carve_attention_worker, &each);
}

size_t cpu_attention_workspace(const dev *d, const attention_args *a)
{
    attention_state s = make_attention_state(cpu_peek(d), a);
    return cpu_workspace_bytes(carve_attention_state, &s);
}

/* ---- running ---- */

static attention_worker worker_at(const attention_state *s, int task, int thread)
{
    attention_worker w = { .s = s };
    carver room = carve_part(s->threads, thread);

    carve_attention_worker(&room, &w);
    w.query0 = task % s->supers * s->super;
    w.queries = s->tq - w.query0 < s->super ? s->tq - w.query0 : s->super;
    w.head = task / s->supers % s->a->heads;
    w.n = task / s->supers / s->a->heads;
    return w;
}

static void load_queries(attention_worker *w)
{
    const attention_state *s = w->s;
    const attention_args *a = s->a;
    const size_t bytes = (size_t)s->k * dtype_bytes(s->g->element);
    const float scale = ldexpf(a->scale, a->k.exp2);

    for (int i = 0; i < w->queries; i++) {
        row_load(s->c->v, w->row, a->q, (size_t)w->n * (size_t)s->tq + (size_t)(w->query0 + i),
                 w->head * s->hd, s->hd);
        s->c->v->scale(w->row, scale, (size_t)s->hd);
        memset(w->row + s->hd, 0, (size_t)(s->k - s->hd) * sizeof *w->row);
        gemm_encode(s->g, w->q + (size_t)i * bytes, w->row, (size_t)s->k);
        w->max[i] = -INFINITY;
        w->sum[i] = 0;
    }
    memset(w->o, 0, (size_t)w->queries * (size_t)s->k * sizeof *w->o);
}

static pack_source head_rows(tensor t, size_t pixel, int c0, int rows, int hd)
{
    return (pack_source){ .data = element_address(t, pixel, c0),
                          .type = t.type,
                          .stride = (size_t)t.stride,
                          .rows = rows,
                          .k = hd };
}

static void load_keys(attention_worker *w, key_tile t)
{
    const attention_state *s = w->s;
    const size_t pixel = (size_t)w->n * (size_t)s->tk + (size_t)t.key0;
    const size_t panel_bytes = gemm_panel_bytes(s->g->element, s->k);
    const int c0 = w->head * s->hd;
    const pack_source k = head_rows(s->a->k, pixel, c0, t.keys, s->hd);
    const pack_source v = head_rows(s->a->v, pixel, c0, t.keys, s->hd);

    for (int row = 0; row < s->tile; row += GEMM_PANEL)
        pack_panel(s->g, s->c->v, w->keys + (size_t)(row / GEMM_PANEL) * panel_bytes, row, s->k, k);
    pack_transposed(s->g, w->vals, s->k, s->tile, v);
}

/* The rows of a head lie far apart, and packing a tile would wait for each line of them.  So
 * every query fetches a few lines of the next tile ahead: keys on even queries, values on odd. */
static void fetch_ahead(const attention_worker *w, int i, key_tile t)
{
    const attention_state *s = w->s;
    const int key = t.key0 + t.keys + i / 2;
    if (i / 2 >= s->tile || key >= s->tk)
        return;
    const tensor from = i % 2 ? s->a->v : s->a->k;
    const char *row = element_address(from, (size_t)w->n * (size_t)s->tk + (size_t)key,
                                      w->head * s->hd);
    for (size_t at = 0; at < (size_t)s->hd * dtype_bytes(from.type); at += CACHE_LINE)
        __builtin_prefetch(row + at);
}

/* Scores of query i, the first `seen` of which count, become weights; o is rescaled. */
static void update_online_softmax(attention_worker *w, int i, float *scores, int seen)
{
    const vec *v = w->s->c->v;
    const int tile = w->s->tile, k = w->s->k;

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
}

/* Of the tile's keys, those that query number i of the task sees. */
static int seen_by(const attention_worker *w, int i, key_tile t)
{
    const int before = w->query0 + i - t.key0 + 1;
    if (!w->s->a->causal || before > t.keys)
        return t.keys;
    return before > 0 ? before : 0;
}

static void attend_block(attention_worker *w, int first, int count, key_tile t)
{
    const attention_state *s = w->s;
    const size_t size = dtype_bytes(s->g->element), k = (size_t)s->k, tile = (size_t)s->tile;

    s->g->multiply(w->scores, tile, w->q + (size_t)first * k * size, k * size, count, w->keys,
                   s->tile / GEMM_PANEL, s->k, false);
    for (int i = 0; i < count; i++) {
        float *scores = w->scores + (size_t)i * tile;
        fetch_ahead(w, first + i, t);
        update_online_softmax(w, first + i, scores, seen_by(w, first + i, t));
        gemm_encode(s->g, w->weights + (size_t)i * tile * size, scores, tile);
    }
    s->g->multiply(w->o + (size_t)first * k, k, w->weights, tile * size, count, w->vals,
                   s->k / GEMM_PANEL, s->tile, true);
}

static void attend_tile(attention_worker *w, key_tile t)
{
    load_keys(w, t);
    for (int first = 0; first < w->queries; first += PIECE)
        attend_block(w, first, w->queries - first < PIECE ? w->queries - first : PIECE, t);
}

static void store_result(attention_worker *w)
{
    const attention_state *s = w->s;
    for (int i = 0; i < w->queries; i++) {
        float *o = w->o + (size_t)i * (size_t)s->k;
        s->c->v->scale(o, ldexpf(1.0f, s->a->v.exp2) / w->sum[i], (size_t)s->hd);
        row_store(s->c->v, s->a->y, (size_t)w->n * (size_t)s->tq + (size_t)(w->query0 + i),
                  w->head * s->hd, s->hd, o);
    }
}

static void attention_task(void *context, int task, int thread)
{
    const attention_state *s = context;
    attention_worker w = worker_at(s, task, thread);

    load_queries(&w);
    for (int key = 0; key < s->tk; key += s->tile) {
        if (s->a->causal && key >= w.query0 + w.queries)
            break;
        const int left = s->tk - key;
        attend_tile(&w, (key_tile){ key, left < s->tile ? left : s->tile });
    }
    store_result(&w);
}

void cpu_attention(dev *d, const attention_args *a)
{
    attention_state s = make_attention_state(cpu_of(d), a);
    if (!cpu_workspace_cut(cpu_of(d), carve_attention_state, &s))
        return;
    pool_run(s.c->pool, a->q.n * a->heads * s.supers, attention_task, &s);
    cpu_workspace_check(cpu_of(d), "attention", carve_attention_state, &s);
}
