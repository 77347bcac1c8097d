/* kernels/cpu/matrix.c -- decode and lay out some tiles, multiply, finish; next tiles.
 *
 * Weights arrive as the pack holds them.  As many tiles as fit PACKED_BYTES are decoded into the
 * layout products want, in parallel, and used at once; then the next.  Each thread has room
 * for one piece's result, for a fetched piece of input, and for the library's scratch.
 */
#include "kernels/cpu/matrix.h"

#include "engine/base/num.h"
#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/panels.h"
#include "kernels/cpu/pieces.h"

enum {
    PIECE_1 = 128, /* pixels of a piece, about: products with one tap */
    PIECE_9 = 512, /* and with nine, where more pixels share a tap's weights */
    PACKED_BYTES = 8 << 20,
    PACK_ELEMENTS = 64 << 10, /* of one packing task, about */
    MAX_SHAPES = 16
};

typedef struct matrix_plan {
    pieces split[2]; /* of a full unit and of the image's last */
    int units;
    operand x;
    int tile, tiles, last_rows;
    const product *of[2][2][2][2]; /* unit, last piece, tile, add; of floats */
    product_layout layout[2];      /* of a tile's tap; of floats */
    int panels[2];                 /* of a tile */
    size_t tap_bytes[2];           /* of a packed tile */
    size_t tile_bytes;             /* of a packed tile, all taps */
    int tiles_at_once;
    size_t result_bytes, gather_bytes, thread_bytes, bytes;
} matrix_plan;

/* Pixels of a unit of `rows` rows, as they lie in the input. */
static int unit_pixels(const matrix_job *j, int rows) { return (rows - 1) * j->pitch + j->width; }

static int rows_of_unit(const matrix_job *j, int unit)
{
    const int left = j->rows - unit * j->unit_rows;
    return left < j->unit_rows ? left : j->unit_rows;
}

static bool is_tail(const matrix_job *j, int unit) { return rows_of_unit(j, unit) < j->unit_rows; }

static bool find_product(const cpu_dev *c, matrix_plan *p, int unit, int last, int tile, int add)
{
    const pieces s = p->split[unit];
    const product_shape shape = {
        .pixels = last ? s.last : s.size,
        .k = p->x.k,
        .rows = matrix_channels(tile == FULL ? p->tile : p->last_rows),
        .add = add,
    };
    const product *found = onednn_product(c->dnnl, shape);
    if (!found)
        return false;
    p->of[unit][last][tile][add] = found;
    p->layout[tile] = product_weights(found);
    p->panels[tile] = pack_panels(p->layout[tile]);
    p->tap_bytes[tile] = p->layout[tile].bytes;
    p->thread_bytes = num_max(p->thread_bytes, product_scratch(found));
    return true;
}

/* All shapes this job can meet, whatever band it is: a plan then needs what a run does. */
static bool find_products(const cpu_dev *c, const matrix_job *j, matrix_plan *p)
{
    const bool tail_unit = j->height % j->unit_rows != 0;
    const bool full_unit = j->height >= j->unit_rows;
    const bool full_tile = p->tiles > 1 || p->last_rows == p->tile;
    const bool tail_tile = p->last_rows != p->tile;

    onednn_make_room(c->dnnl, MAX_SHAPES);
    for (int i = 0; i < MAX_SHAPES; i++) {
        const int unit = i & 1, last = i >> 1 & 1, tile = i >> 2 & 1, add = i >> 3;
        if ((unit == TAIL ? !tail_unit : !full_unit) || (tile == TAIL ? !tail_tile : !full_tile) ||
            (add && j->taps == 1))
            continue;
        if (!find_product(c, p, unit, last, tile, add))
            return false;
    }
    return true;
}

/* Integers are multiplied whatever the shape. */
static void lay_out_ints(const cpu_dev *c, matrix_plan *p)
{
    const size_t panel = int8_panel_bytes(c->int8, p->x.k / I8_GROUP);
    const int rows[] = { [FULL] = p->tile, [TAIL] = p->last_rows };
    for (int i = 0; i < 2; i++) {
        p->panels[i] = (rows[i] + INT8_PANEL - 1) / INT8_PANEL;
        p->tap_bytes[i] = (size_t)p->panels[i] * panel;
    }
}

static bool make_plan(const cpu_dev *c, const matrix_job *j, matrix_plan *p)
{
    const int about = j->taps == 1 ? PIECE_1 : PIECE_9;
    const int tail_rows = j->height % j->unit_rows;

    *p = (matrix_plan){
        .units = (j->rows + j->unit_rows - 1) / j->unit_rows,
        .x = operand_of(c, j->ints, j->w.c),
        .tile = tile_rows(j->w.h, j->w.w),
    };
    p->split[FULL] = pieces_of(unit_pixels(j, j->unit_rows), about);
    p->split[TAIL] = pieces_of(unit_pixels(j, tail_rows ? tail_rows : 1), about);
    p->tiles = (j->w.n + p->tile - 1) / p->tile;
    p->last_rows = j->w.n - (p->tiles - 1) * p->tile;
    if (j->ints)
        lay_out_ints(c, p);
    else if (!find_products(c, j, p))
        return false;

    const int widest = p->split[j->height >= j->unit_rows ? FULL : TAIL].size;
    const size_t taps = (size_t)j->taps;
    p->tile_bytes = num_align(taps * num_max(p->tap_bytes[FULL], p->tap_bytes[TAIL]), CPU_ALIGN);
    p->tiles_at_once = (int)num_max(1, num_min(PACKED_BYTES / p->tile_bytes, (size_t)p->tiles));
    p->result_bytes = num_align((size_t)widest * (size_t)matrix_channels(p->tile) * sizeof(float),
                                CPU_ALIGN);
    p->gather_bytes = j->gather ? num_align((size_t)widest * p->x.bytes, CPU_ALIGN) : 0;
    p->thread_bytes += p->result_bytes + p->gather_bytes;
    p->bytes = CPU_ALIGN + (size_t)p->tiles_at_once * p->tile_bytes +
               (size_t)c->threads * p->thread_bytes;
    return true;
}

size_t matrix_workspace(const cpu_dev *c, const matrix_job *j)
{
    matrix_plan p;
    return make_plan(c, j, &p) ? p.bytes : 0;
}

/* ---- running ---- */

typedef struct matrix_state {
    cpu_dev *c;
    const matrix_job *j;
    matrix_plan p;
    char *packed, *threads;
    int tile0, n_tiles; /* of this pass */
    int panels_per_task, tasks_per_tile;
    int most_pieces; /* of a unit */
    int tiles_per_task, groups;
} matrix_state;

static int tile_kind(const matrix_state *s, int tile)
{
    return tile == s->p.tiles - 1 && s->p.last_rows != s->p.tile ? TAIL : FULL;
}

static int rows_of_tile(const matrix_state *s, int tile)
{
    return tile == s->p.tiles - 1 ? s->p.last_rows : s->p.tile;
}

/* Where a tile begins in the matrix. */
static const char *tile_at(const matrix_job *j, int tile, int tile_rows)
{
    const tensor w = j->w;
    if (w.type == DT_I8G64)
        return (const char *)w.data + (size_t)tile * i8_bytes(tile_rows, j->taps, w.c);
    return (const char *)w.data +
           (size_t)tile * (size_t)tile_rows * (size_t)j->taps * (size_t)w.c * dtype_bytes(w.type);
}

static void pack_one(const matrix_state *s, int tile, int panel, int tap)
{
    const matrix_job *j = s->j;
    const int kind = tile_kind(s, tile), rows = rows_of_tile(s, tile);
    char *to = s->packed + (size_t)(tile - s->tile0) * s->p.tile_bytes +
               (size_t)tap * s->p.tap_bytes[kind];
    const char *from = tile_at(j, tile, s->p.tile);

    if (j->ints) {
        const int groups = s->p.x.k / I8_GROUP;
        s->c->int8->pack(to + (size_t)panel * int8_panel_bytes(s->c->int8, groups), from, rows,
                         panel * INT8_PANEL, tap * groups, groups);
    } else {
        pack_panel(s->c->v, s->p.layout[kind], s->c->multiply, to, panel,
                   pack_source_tap(from, j->w.type, rows, j->taps, j->w.c, tap));
    }
}

static void pack_task(void *context, int task, int thread)
{
    (void)thread;
    const matrix_state *s = context;
    const int tile = s->tile0 + task / s->tasks_per_tile;
    const int first = task % s->tasks_per_tile * s->panels_per_task;
    const int panels = s->p.panels[tile_kind(s, tile)];

    for (int panel = first; panel < first + s->panels_per_task && panel < panels; panel++)
        for (int t = 0; t < s->j->taps; t++)
            pack_one(s, tile, panel, t);
}

static void pack(matrix_state *s)
{
    const int kind = tile_kind(s, s->tile0);
    const int elements = matrix_channels(rows_of_tile(s, s->tile0)) / s->p.panels[kind] * s->p.x.k *
                         s->j->taps;
    int most = s->p.panels[kind];

    for (int t = s->tile0; t < s->tile0 + s->n_tiles; t++)
        most = (int)num_max((size_t)most, (size_t)s->p.panels[tile_kind(s, t)]);
    s->panels_per_task = elements < PACK_ELEMENTS ? PACK_ELEMENTS / elements : 1;
    s->tasks_per_tile = (most + s->panels_per_task - 1) / s->panels_per_task;
    pool_run(s->c->pool, s->n_tiles * s->tasks_per_tile, pack_task, s);
}

/* Where a task is. */
typedef struct place {
    int n, row;       /* image; first row of the unit */
    int unit, last;   /* kind of unit, of piece */
    int first, count; /* pixels of the unit, as they lie in the input */
    int tile;
} place;

static void gather(const matrix_state *s, char *to, const place *at)
{
    const matrix_job *j = s->j;
    const size_t pixel = ((size_t)at->n * (size_t)j->height + (size_t)at->row) * (size_t)j->width +
                         (size_t)at->first;

    for (int i = 0; i < at->count; i++, to += s->p.x.bytes)
        operand_fill(s->c, s->p.x, to, &j->in, (size_t)at->n, pixel + (size_t)i);
}

/* Pixels that lie between the rows of y have been computed for nothing. */
static void finish(const matrix_state *s, const place *at, float *result)
{
    const matrix_job *j = s->j;
    const int stride = matrix_channels(rows_of_tile(s, at->tile));

    for (int i = 0; i < at->count; i++, result += stride) {
        const int row = (at->first + i) / j->pitch, column = (at->first + i) % j->pitch;
        if (column >= j->width)
            continue;
        const size_t pixel = ((size_t)at->n * (size_t)j->height + (size_t)(at->row + row)) *
                                 (size_t)j->width +
                             (size_t)column;
        epilogue_store(s->c->v, &j->e, j->y, pixel, (size_t)at->n, at->tile * s->p.tile,
                       rows_of_tile(s, at->tile), result);
    }
}

/* Task number `task` takes the tiles [at->tile, *end).  False: there is no such piece. */
static bool locate(const matrix_state *s, int task, place *at, int *end)
{
    const int most = s->most_pieces;
    const int group = task % s->groups, piece = task / s->groups % most;
    const int unit = task / s->groups / most % s->p.units;

    at->tile = s->tile0 + group * s->tiles_per_task;
    *end = at->tile + s->tiles_per_task;
    if (*end > s->tile0 + s->n_tiles)
        *end = s->tile0 + s->n_tiles;
    at->n = task / s->groups / most / s->p.units;
    at->unit = is_tail(s->j, unit) ? TAIL : FULL;
    at->row = s->j->row0 + unit * s->j->unit_rows;

    const pieces p = s->p.split[at->unit];
    at->last = piece == p.n - 1;
    at->first = piece * p.size;
    at->count = at->last ? p.last : p.size;
    return piece < p.n;
}

static const char *input_of(const matrix_state *s, const place *at)
{
    const matrix_job *j = s->j;
    const size_t pixel = (size_t)(at->row - j->row0) * (size_t)j->pitch + (size_t)at->first;
    return j->ready + (size_t)at->n * j->image_bytes + pixel * s->p.x.bytes;
}

/* D (+)= the piece's pixels times one tap of the tile.  False: the library failed. */
static bool multiply_tap(const matrix_state *s, const place *at, int thread, float *result,
                         const char *input, int tap, void *scratch)
{
    const int kind = tile_kind(s, at->tile);
    const char *w = s->packed + (size_t)(at->tile - s->tile0) * s->p.tile_bytes +
                    (size_t)tap * s->p.tap_bytes[kind];

    input += s->j->tap_at[tap];
    if (!s->j->ints)
        return product_run(s->p.of[at->unit][at->last][kind][tap > 0], thread, result, input, w,
                           scratch);
    s->c->int8->product(result, (size_t)matrix_channels(rows_of_tile(s, at->tile)), input,
                        s->p.x.bytes, at->count, w, s->p.panels[kind], s->p.x.k / I8_GROUP,
                        tap > 0);
    return true;
}

static void multiply_task(void *context, int task, int thread)
{
    const matrix_state *s = context;
    const matrix_job *j = s->j;
    char *mine = s->threads + (size_t)thread * s->p.thread_bytes;
    float *result = (float *)(void *)mine;
    char *fetched = mine + s->p.result_bytes, *scratch = fetched + s->p.gather_bytes;
    place at;
    int end;

    if (!locate(s, task, &at, &end))
        return;
    if (j->gather)
        gather(s, fetched, &at);
    const char *input = j->gather ? fetched : input_of(s, &at);

    for (; at.tile < end; at.tile++) {
        for (int t = 0; t < j->taps; t++)
            if (!multiply_tap(s, &at, thread, result, input, t, scratch)) {
                dev_fail(&s->c->base, REFINE_EDEVICE, "cpu: oneDNN failed to execute a product");
                return;
            }
        finish(s, &at, result);
    }
}

/* One tile per task, unless the input must be fetched: then so many that it pays and every
 * thread still has a few tasks. */
static void multiply(matrix_state *s)
{
    const int spots = s->j->y.n * s->p.units * s->most_pieces;
    s->tiles_per_task = 1;
    if (s->j->gather)
        s->tiles_per_task = (int)num_min((size_t)s->n_tiles,
                                         1 + (size_t)(spots * s->n_tiles / (4 * s->c->threads)));
    s->groups = (s->n_tiles + s->tiles_per_task - 1) / s->tiles_per_task;
    pool_run(s->c->pool, spots * s->groups, multiply_task, s);
}

void matrix_run(cpu_dev *c, const matrix_job *j)
{
    matrix_state s = { .c = c, .j = j };
    if (!make_plan(c, j, &s.p)) {
        dev_fail(&c->base, REFINE_EDEVICE, "cpu: oneDNN has no product of a shape that is needed");
        return;
    }
    s.packed = cpu_workspace(c, s.p.bytes);
    if (!s.packed)
        return;
    s.threads = s.packed + (size_t)s.p.tiles_at_once * s.p.tile_bytes;

    s.most_pieces = (int)num_max((size_t)s.p.split[FULL].n, (size_t)s.p.split[TAIL].n);
    for (; s.tile0 < s.p.tiles; s.tile0 += s.n_tiles) {
        s.n_tiles = (int)num_min((size_t)s.p.tiles_at_once, (size_t)(s.p.tiles - s.tile0));
        pack(&s);
        multiply(&s);
    }
}
