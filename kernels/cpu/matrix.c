/* kernels/cpu/matrix.c -- decode and lay out some tiles, multiply, finish; next tiles.
 *
 * Weights arrive as the pack holds them.  As many tiles as fit PACKED_BYTES are decoded into
 * panels, in parallel, and used at once; then the next.  Each thread has room for one piece's
 * result and for a fetched piece of input, whichever unit the piece is of.
 */
#include "kernels/cpu/matrix.h"

#include "engine/base/num.h"
#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/panels.h"
#include "kernels/cpu/pieces.h"

#include <assert.h>

enum {
    PIECE = 128, /* pixels of a piece, about */
    PACKED_BYTES = 8 << 20,
    PACK_ELEMENTS = 64 << 10 /* of one packing task, about */
};

static_assert((int)INT8_PANEL == (int)GEMM_PANEL, "a tile has as many panels either way");

/* One matrix_run: its plan, its workspace, and where it is. */
typedef struct matrix_state {
    const cpu_dev *c;
    const matrix_job *j;

    pieces split[2]; /* of a full unit and of the image's last */
    int units;
    int most_pieces, most_pixels; /* of a unit; of a piece */
    int tile, tiles, last_rows;
    size_t panel_bytes, tap_bytes, tile_bytes; /* packed, of a full tile */
    int tiles_at_once;

    char *packed;
    carve_parts threads; /* thread_room each */

    int tile0, n_tiles; /* of this pass */
    int panels_per_task, tasks_per_tile;
    int tiles_per_task, groups;
} matrix_state;

typedef struct thread_room {
    const matrix_state *s;
    float *result; /* [pixel of a piece][row of a tile] */
    char *fetched; /* [pixel of a piece]: operands */
} thread_room;

/* Pixels of a unit of `rows` rows, as they lie in the input. */
static int unit_pixels(const matrix_job *j, int rows) { return (rows - 1) * j->pitch + j->width; }

static int rows_of_unit(const matrix_job *j, int unit)
{
    const int left = j->rows - unit * j->unit_rows;
    return left < j->unit_rows ? left : j->unit_rows;
}

static int larger(int a, int b) { return a > b ? a : b; }

static int panels_of(int rows) { return (rows + GEMM_PANEL - 1) / GEMM_PANEL; }

static size_t panel_bytes(const cpu_dev *c, operand x)
{
    return x.ints ? int8_panel_bytes(c->int8, x.k / I8_GROUP)
                  : gemm_panel_bytes(x.gemm->element, x.k);
}

/* Both kinds of unit that the image has count, whatever band it is: a plan then needs what a run
 * does. */
static matrix_state make_plan(const cpu_dev *c, const matrix_job *j)
{
    const int tail_rows = j->height % j->unit_rows;
    const int full_rows = j->height < j->unit_rows ? tail_rows : j->unit_rows;
    matrix_state s = {
        .c = c,
        .j = j,
        .units = (j->rows + j->unit_rows - 1) / j->unit_rows,
        .tile = tile_rows(j->w.h, j->w.w),
        .panel_bytes = panel_bytes(c, j->x),
    };
    s.split[FULL] = pieces_of(unit_pixels(j, full_rows), PIECE);
    s.split[TAIL] = pieces_of(unit_pixels(j, tail_rows ? tail_rows : full_rows), PIECE);
    s.most_pieces = larger(s.split[FULL].n, s.split[TAIL].n);
    s.most_pixels = larger(s.split[FULL].size, s.split[TAIL].size);
    s.tiles = (j->w.n + s.tile - 1) / s.tile;
    s.last_rows = j->w.n - (s.tiles - 1) * s.tile;
    s.tap_bytes = (size_t)panels_of(s.tiles > 1 ? s.tile : s.last_rows) * s.panel_bytes;
    s.tile_bytes = (size_t)j->taps * s.tap_bytes;
    s.tiles_at_once = (int)num_max(1, num_min(PACKED_BYTES / s.tile_bytes, (size_t)s.tiles));
    return s;
}

static void lay_out_thread(carver *at, void *context)
{
    thread_room *r = context;
    const matrix_state *s = r->s;
    const size_t rows = (size_t)gemm_padded(s->tiles > 1 ? s->tile : s->last_rows);

    r->result = carve(at, (size_t)s->most_pixels * rows * sizeof(float));
    r->fetched = carve(at, s->j->gather ? (size_t)s->most_pixels * s->j->x.bytes : 0);
}

static void lay_out(carver *at, void *context)
{
    matrix_state *s = context;
    thread_room room = { .s = s };

    s->packed = carve(at, (size_t)s->tiles_at_once * s->tile_bytes);
    s->threads = carve_each(at, s->c->threads, lay_out_thread, &room);
}

size_t matrix_workspace(const cpu_dev *c, const matrix_job *j)
{
    matrix_state s = make_plan(c, j);
    return cpu_workspace_bytes(lay_out, &s);
}

/* ---- packing ---- */

static int rows_of_tile(const matrix_state *s, int tile)
{
    return tile == s->tiles - 1 ? s->last_rows : s->tile;
}

static int panels_of_tile(const matrix_state *s, int tile)
{
    return panels_of(rows_of_tile(s, tile));
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

static char *packed_at(const matrix_state *s, int tile, int tap)
{
    return s->packed + (size_t)(tile - s->tile0) * s->tile_bytes + (size_t)tap * s->tap_bytes;
}

static void pack_one(const matrix_state *s, int tile, int panel, int tap)
{
    const matrix_job *j = s->j;
    const int rows = rows_of_tile(s, tile), row = panel * GEMM_PANEL;
    const char *from = tile_at(j, tile, s->tile);
    char *to = packed_at(s, tile, tap) + (size_t)panel * s->panel_bytes;

    if (j->x.ints) {
        const int groups = j->x.k / I8_GROUP;
        s->c->int8->pack(to, from, rows, row, tap * groups, groups);
    } else {
        pack_panel(j->x.gemm, s->c->v, to, row, j->x.k,
                   pack_source_tap(from, j->w.type, rows, j->taps, j->w.c, tap));
    }
}

static void pack_task(void *context, int task, int thread)
{
    (void)thread;
    const matrix_state *s = context;
    const int tile = s->tile0 + task / s->tasks_per_tile, panels = panels_of_tile(s, tile);
    const int first = task % s->tasks_per_tile * s->panels_per_task;

    for (int panel = first; panel < first + s->panels_per_task && panel < panels; panel++)
        for (int t = 0; t < s->j->taps; t++)
            pack_one(s, tile, panel, t);
}

static void pack(matrix_state *s)
{
    const int elements = GEMM_PANEL * s->j->x.k * s->j->taps;
    s->panels_per_task = larger(1, PACK_ELEMENTS / elements);
    s->tasks_per_tile = (panels_of_tile(s, s->tile0) - 1) / s->panels_per_task + 1;
    pool_run(s->c->pool, s->n_tiles * s->tasks_per_tile, pack_task, s);
}

/* ---- multiplying ---- */

/* Where a task is. */
typedef struct place {
    int n, row;       /* image; first row of the unit */
    int first, count; /* pixels of the unit, as they lie in the input */
    int tile;
} place;

static void gather(const matrix_state *s, char *to, const place *at)
{
    const matrix_job *j = s->j;
    const size_t pixel = ((size_t)at->n * (size_t)j->height + (size_t)at->row) * (size_t)j->width +
                         (size_t)at->first;

    for (int i = 0; i < at->count; i++, to += j->x.bytes)
        operand_fill(s->c, j->x, to, &j->in, (size_t)at->n, pixel + (size_t)i);
}

/* Pixels that lie between the rows of y have been computed for nothing. */
static void finish(const matrix_state *s, const place *at, float *result)
{
    const matrix_job *j = s->j;
    const int stride = gemm_padded(rows_of_tile(s, at->tile));

    for (int i = 0; i < at->count; i++, result += stride) {
        const int row = (at->first + i) / j->pitch, column = (at->first + i) % j->pitch;
        if (column >= j->width)
            continue;
        const size_t pixel = ((size_t)at->n * (size_t)j->height + (size_t)(at->row + row)) *
                                 (size_t)j->width +
                             (size_t)column;
        epilogue_store(s->c->v, &j->e, j->y, pixel, (size_t)at->n, at->tile * s->tile,
                       rows_of_tile(s, at->tile), result);
    }
}

/* Task number `task` takes the tiles [at->tile, *end).  False: there is no such piece. */
static bool locate(const matrix_state *s, int task, place *at, int *end)
{
    const int group = task % s->groups, piece = task / s->groups % s->most_pieces;
    const int unit = task / s->groups / s->most_pieces % s->units;
    const bool tail = rows_of_unit(s->j, unit) < s->j->unit_rows;
    const pieces p = s->split[tail ? TAIL : FULL];

    at->tile = s->tile0 + group * s->tiles_per_task;
    *end = at->tile + s->tiles_per_task;
    if (*end > s->tile0 + s->n_tiles)
        *end = s->tile0 + s->n_tiles;
    at->n = task / s->groups / s->most_pieces / s->units;
    at->row = s->j->row0 + unit * s->j->unit_rows;
    at->first = piece * p.size;
    at->count = piece == p.n - 1 ? p.last : p.size;
    return piece < p.n;
}

static const char *input_of(const matrix_state *s, const place *at)
{
    const matrix_job *j = s->j;
    const size_t pixel = (size_t)(at->row - j->row0) * (size_t)j->pitch + (size_t)at->first;
    return j->ready + (size_t)at->n * j->image_bytes + pixel * j->x.bytes;
}

/* D (+)= the piece's pixels times one tap of the tile. */
static void multiply_tap(const matrix_state *s, const place *at, float *result, const char *input,
                         int tap)
{
    const operand x = s->j->x;
    const int panels = panels_of_tile(s, at->tile);
    const size_t stride = (size_t)panels * GEMM_PANEL;
    const char *w = packed_at(s, at->tile, tap);

    input += s->j->tap_at[tap];
    if (x.ints)
        s->c->int8->product(result, stride, input, x.bytes, at->count, w, panels, x.k / I8_GROUP,
                            tap > 0);
    else
        x.gemm->multiply(result, stride, input, x.bytes, at->count, w, panels, x.k, tap > 0);
}

static thread_room room_of(const matrix_state *s, int thread)
{
    thread_room room = { .s = s };
    carver at = carve_part(s->threads, thread);
    lay_out_thread(&at, &room);
    return room;
}

static void multiply_task(void *context, int task, int thread)
{
    const matrix_state *s = context;
    const thread_room mine = room_of(s, thread);
    place at;
    int end;

    if (!locate(s, task, &at, &end))
        return;
    if (s->j->gather)
        gather(s, mine.fetched, &at);
    const char *input = s->j->gather ? mine.fetched : input_of(s, &at);

    for (; at.tile < end; at.tile++) {
        for (int t = 0; t < s->j->taps; t++)
            multiply_tap(s, &at, mine.result, input, t);
        finish(s, &at, mine.result);
    }
}

/* One tile per task, unless the input must be fetched: then so many that it pays and every
 * thread still has a few tasks. */
static void multiply(matrix_state *s)
{
    const int spots = s->j->y.n * s->units * s->most_pieces;
    s->tiles_per_task = 1;
    if (s->j->gather)
        s->tiles_per_task = (int)num_min((size_t)s->n_tiles,
                                         1 + (size_t)(spots * s->n_tiles / (4 * s->c->threads)));
    s->groups = (s->n_tiles + s->tiles_per_task - 1) / s->tiles_per_task;
    pool_run(s->c->pool, spots * s->groups, multiply_task, s);
}

void matrix_run(cpu_dev *c, const matrix_job *j)
{
    matrix_state s = make_plan(c, j);
    if (!cpu_workspace_cut(c, lay_out, &s))
        return;
    for (; s.tile0 < s.tiles; s.tile0 += s.n_tiles) {
        s.n_tiles = (int)num_min((size_t)s.tiles_at_once, (size_t)(s.tiles - s.tile0));
        pack(&s);
        multiply(&s);
    }
    cpu_workspace_check(c, "matrix", lay_out, &s);
}
