/* kernels/cpu/matrix.c -- decode and lay out some tiles, multiply, finish; next tiles.
 *
 * Weights arrive as the pack holds them.  As many tiles as fit PACKED_BYTES are decoded into
 * panels, in parallel, and used at once; then the next.  Each thread has room for one piece's
 * result, whichever unit the piece is of.
 *
 * Where there would be too few tasks for many threads, a task is fewer panels, then fewer pixels.
 * How many threads there are plays no part.
 */
#include "kernels/cpu/matrix.h"

#include "engine/base/num.h"
#include "kernels/cpu/blocks.h"
#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/panels.h"

#include <assert.h>

enum {
    PIECE = 128,     /* pixels of a piece, about, */
    BLOCK_MIN = 32,  /* and where there are few */
    MANY_TASKS = 96, /* so many leave none of eight threads idle for long */
    PACKED_BYTES = 8 << 20,
    PACK_ELEMENTS = 32 << 10 /* of one packing task, about */
};

static_assert((int)INT8_PANEL == (int)GEMM_PANEL, "a tile has as many panels either way");

/* One matrix_run: its plan, its workspace, and where it is. */
typedef struct matrix_state {
    const cpu_dev *c;
    const matrix_job *j;

    blocks split[2]; /* of a full unit and of the image's last */
    int units;
    int most_blocks, most_pixels; /* of a unit; of a piece */
    int tile, tiles, last_rows;
    int panels, panels_each, groups; /* of a tile; of a task; tasks of a tile and a piece */
    size_t part_at[MATRIX_PARTS], tile_bytes; /* packed, of a full tile */
    int tiles_at_once;

    char *packed;
    carve_parts threads; /* thread_room each */

    int tile0, n_tiles;    /* of this pass */
    int packs, packs_each; /* a panel of a part is one pack; of this pass; of a task */
} matrix_state;

typedef struct thread_room {
    const matrix_state *s;
    float *result; /* [pixel of a piece][row of a tile] */
} thread_room;

/* Pixels of a unit of `rows` rows, as they lie in the input. */
static int unit_pixels(const matrix_job *j, int rows) { return (rows - 1) * j->pitch + j->width; }

static int rows_of_unit(const matrix_job *j, int unit)
{
    const int left = j->rows - unit * j->unit_rows;
    return left < j->unit_rows ? left : j->unit_rows;
}

static int max_int(int a, int b) { return a > b ? a : b; }

static int panels_of(int rows) { return (rows + GEMM_PANEL - 1) / GEMM_PANEL; }

static size_t panel_bytes(const matrix_state *s, const matrix_part *p)
{
    const gemm_operand x = s->j->x;
    return x.int8_math ? int8_panel_bytes(s->c->int8, p->k / I8_GROUP)
                       : gemm_panel_bytes(x.gemm->element, p->k);
}

static void split_pixels(matrix_state *s, int about)
{
    const matrix_job *j = s->j;
    const int tail_rows = j->height % j->unit_rows;
    const int full_rows = j->height < j->unit_rows ? tail_rows : j->unit_rows;
    s->split[FULL] = split_blocks(unit_pixels(j, full_rows), about);
    s->split[TAIL] = split_blocks(unit_pixels(j, tail_rows ? tail_rows : full_rows), about);
    s->most_blocks = max_int(s->split[FULL].n, s->split[TAIL].n);
}

static void split_panels(matrix_state *s, int each)
{
    s->panels_each = each;
    s->groups = (s->panels + each - 1) / each;
}

/* False: it is enough. */
static bool has_few_tasks(const matrix_state *s)
{
    return (int64_t)s->j->y.n * s->units * s->most_blocks * s->tiles_at_once * s->groups <
           MANY_TASKS;
}

static void split_more(matrix_state *s)
{
    while (has_few_tasks(s) && s->panels_each > 1)
        split_panels(s, (s->panels_each + 1) / 2);
    for (int about = PIECE / 2; has_few_tasks(s) && about >= BLOCK_MIN; about /= 2)
        split_pixels(s, about);
}

/* Both kinds of unit that the image has count for the room, whatever band it is and however it is
 * split further: a plan then needs what a run does. */
static matrix_state make_matrix_state(const cpu_dev *c, const matrix_job *j)
{
    matrix_state s = {
        .c = c,
        .j = j,
        .units = (j->rows + j->unit_rows - 1) / j->unit_rows,
        .tile = tile_rows(j->w.h, j->w.w),
    };
    split_pixels(&s, PIECE);
    s.most_pixels = max_int(s.split[FULL].size, s.split[TAIL].size);
    s.tiles = (j->w.n + s.tile - 1) / s.tile;
    s.last_rows = j->w.n - (s.tiles - 1) * s.tile;
    s.panels = panels_of(s.tiles > 1 ? s.tile : s.last_rows);
    for (int i = 0; i < j->parts; i++) {
        s.part_at[i] = s.tile_bytes;
        s.tile_bytes += (size_t)s.panels * panel_bytes(&s, &j->part[i]);
    }
    const int most = (int)num_max(1, num_min(PACKED_BYTES / s.tile_bytes, (size_t)s.tiles));
    const int passes = (s.tiles + most - 1) / most;
    s.tiles_at_once = (s.tiles + passes - 1) / passes;
    split_panels(&s, s.panels);
    split_more(&s);
    return s;
}

static void carve_thread_room(carver *at, void *context)
{
    thread_room *r = context;
    const matrix_state *s = r->s;
    const size_t rows = (size_t)s->panels * GEMM_PANEL;

    r->result = carve_block(at, (size_t)s->most_pixels * rows * sizeof(float));
}

static void carve_matrix_state(carver *at, void *context)
{
    matrix_state *s = context;
    thread_room room = { .s = s };

    s->packed = carve_block(at, (size_t)s->tiles_at_once * s->tile_bytes);
    s->threads = carve_each(at, s->c->threads, carve_thread_room, &room);
}

size_t matrix_workspace(const cpu_dev *c, const matrix_job *j)
{
    matrix_state s = make_matrix_state(c, j);
    return cpu_workspace_bytes(carve_matrix_state, &s);
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

/* As it lies in the matrix. */
static pack_tile tile_of(const matrix_state *s, int tile)
{
    const tensor w = s->j->w;
    const int taps = w.h * w.w;
    const size_t bytes = w.type == DT_I8G64
                             ? i8_bytes(s->tile, taps, w.c)
                             : (size_t)s->tile * (size_t)taps * (size_t)w.c * dtype_bytes(w.type);
    return (pack_tile){ .data = (const char *)w.data + (size_t)tile * bytes,
                        .type = w.type,
                        .rows = rows_of_tile(s, tile),
                        .taps = taps,
                        .channels = w.c };
}

static char *packed_at(const matrix_state *s, int tile, int part)
{
    return s->packed + (size_t)(tile - s->tile0) * s->tile_bytes + s->part_at[part];
}

static void pack_one(const matrix_state *s, int tile, int panel, int part)
{
    const gemm_operand x = s->j->x;
    const matrix_part *p = &s->j->part[part];
    const pack_source from = pack_source_of(tile_of(s, tile), p->tap, p->c0, p->channels);
    char *to = packed_at(s, tile, part) + (size_t)panel * panel_bytes(s, p);

    if (x.int8_math)
        s->c->int8->pack(to, from.data, from.rows, panel * GEMM_PANEL, from.slab, p->k / I8_GROUP);
    else
        pack_panel(x.gemm, s->c->v, to, panel * GEMM_PANEL, p->k, from);
}

static void pack_task(void *context, int task, int thread)
{
    (void)thread;
    const matrix_state *s = context;
    const int first = task * s->packs_each, parts = s->j->parts;
    const int end = first + s->packs_each < s->packs ? first + s->packs_each : s->packs;

    for (int i = first; i < end; i++) {
        const int tile = s->tile0 + i / parts / s->panels, panel = i / parts % s->panels;
        if (panel < panels_of_tile(s, tile))
            pack_one(s, tile, panel, i % parts);
    }
}

static void pack_tiles(matrix_state *s)
{
    const int elements = GEMM_PANEL * s->j->part[0].k;
    s->packs = s->n_tiles * s->panels * s->j->parts;
    s->packs_each = max_int(1, PACK_ELEMENTS / elements);
    pool_run(s->c->pool, (s->packs - 1) / s->packs_each + 1, pack_task, s);
}

/* ---- multiplying ---- */

/* Where a task is. */
typedef struct unit_place {
    int n, row;       /* image; first row of the unit */
    int first, count; /* pixels of the unit, as they lie in the input */
    int tile, panel, panels;
} unit_place;

/* Pixels that lie between the rows of y have been computed for nothing. */
static void store_pixels(const matrix_state *s, const unit_place *at, float *result)
{
    const matrix_job *j = s->j;
    const int stride = at->panels * GEMM_PANEL, row0 = at->panel * GEMM_PANEL;
    const int left = rows_of_tile(s, at->tile) - row0, rows = left < stride ? left : stride;

    for (int i = 0; i < at->count; i++, result += stride) {
        const int row = (at->first + i) / j->pitch, column = (at->first + i) % j->pitch;
        if (column >= j->width)
            continue;
        const size_t pixel = ((size_t)at->n * (size_t)j->height + (size_t)(at->row + row)) *
                                 (size_t)j->width +
                             (size_t)column;
        epilogue_store(s->c->v, &j->e, j->y, pixel, (size_t)at->n, at->tile * s->tile + row0, rows,
                       result);
    }
}

/* False: there is no such piece, or no such panel. */
static bool locate_task(const matrix_state *s, int task, unit_place *at)
{
    const int group = task % s->groups, tile = task / s->groups % s->n_tiles;
    const int spot = task / s->groups / s->n_tiles, block = spot % s->most_blocks;
    const int unit = spot / s->most_blocks % s->units;
    const bool tail = rows_of_unit(s->j, unit) < s->j->unit_rows;
    const blocks p = s->split[tail ? TAIL : FULL];

    at->tile = s->tile0 + tile;
    at->panel = group * s->panels_each;
    at->panels = panels_of_tile(s, at->tile) - at->panel;
    if (at->panels > s->panels_each)
        at->panels = s->panels_each;
    at->n = spot / s->most_blocks / s->units;
    at->row = s->j->row0 + unit * s->j->unit_rows;
    at->first = block * p.size;
    at->count = block == p.n - 1 ? p.last : p.size;
    return block < p.n && at->panels > 0;
}

/* D (+)= the piece's pixels times one part of the tile. */
static void multiply_part(const matrix_state *s, const unit_place *at, float *result, int part)
{
    const matrix_job *j = s->j;
    const matrix_part *p = &j->part[part];
    const size_t stride = (size_t)at->panels * GEMM_PANEL;
    const size_t pixel = (size_t)(at->row - j->row0) * (size_t)j->pitch + (size_t)at->first;
    const char *input = p->input + (size_t)at->n * p->image_bytes + pixel * p->pixel_bytes;
    const char *w = packed_at(s, at->tile, part) + (size_t)at->panel * panel_bytes(s, p);

    if (j->x.int8_math)
        s->c->int8->product(result, stride, input, p->pixel_bytes, at->count, w, at->panels,
                            p->k / I8_GROUP, part > 0);
    else
        j->x.gemm->multiply(result, stride, input, p->pixel_bytes, at->count, w, at->panels, p->k,
                            part > 0);
}

static thread_room room_of(const matrix_state *s, int thread)
{
    thread_room room = { .s = s };
    carver at = carve_part(s->threads, thread);
    carve_thread_room(&at, &room);
    return room;
}

static void multiply_task(void *context, int task, int thread)
{
    const matrix_state *s = context;
    const thread_room mine = room_of(s, thread);
    unit_place at;

    if (!locate_task(s, task, &at))
        return;
    for (int i = 0; i < s->j->parts; i++)
        multiply_part(s, &at, mine.result, i);
    store_pixels(s, &at, mine.result);
}

static void multiply_tiles(matrix_state *s)
{
    const int spots = s->j->y.n * s->units * s->most_blocks;
    pool_run(s->c->pool, spots * s->n_tiles * s->groups, multiply_task, s);
}

void matrix_run(cpu_dev *c, const matrix_job *j)
{
    matrix_state s = make_matrix_state(c, j);
    if (!cpu_workspace_cut(c, carve_matrix_state, &s))
        return;
    for (; s.tile0 < s.tiles; s.tile0 += s.n_tiles) {
        s.n_tiles = (int)num_min((size_t)s.tiles_at_once, (size_t)(s.tiles - s.tile0));
        pack_tiles(&s);
        multiply_tiles(&s);
    }
    cpu_workspace_check(c, "matrix", carve_matrix_state, &s);
}
