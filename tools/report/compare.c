/* tools/report/compare.c -- two runs of one job; what the first gave waits in a scratch file.
 *
 * A piece of a stage belongs at its item's place plus the piece's own offset, so that runs whose
 * pieces or passes are cut differently still meet.
 */
#include "tools/report/compare.h"

#include "engine/base/io.h"
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"
#include "offload/scratch_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- open and close ---- */

static const char *scratch_dir(const compare *c)
{
    return c->o.spill_dir ? c->o.spill_dir : SCRATCH_FILE_DIR;
}

static refine_status scratch_failed(const compare *c, int error, refine_error *err)
{
    return refine_fail(err, REFINE_EIO, "scratch file in %.200s: %s; name another with TMPDIR",
                       scratch_dir(c), error ? strerror(error) : "it ended");
}

static int record_layer_output(void *context, const refine_layer_output *s);

refine_status compare_open(compare **out, const char *reference, const refine_options *o,
                           const refine_job *j, refine_error *err)
{
    refine_status st = REFINE_OK;

    *out = NULL;
    compare *c = mem_calloc(1, sizeof *c);
    if (!c)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    c->fd = -1;
    c->rgb = mem_alloc((size_t)j->width * (size_t)j->height * 3);
    c->buffer = mem_alloc(COMPARE_BUFFER * sizeof *c->buffer);
    c->o = *o;
    c->o.pack_path = reference;
    c->o.precision = REFINE_F32;
    c->o.trace = false;
    c->j = *j;
    c->j.rgb_out = c->rgb;
    c->j.latents_out = NULL; /* might be the input */
    c->j.layer_output = record_layer_output;
    c->j.layer_output_context = c;
    c->reference = (refine_report)REFINE_REPORT_INIT;
    if (!c->rgb || !c->buffer)
        st = refine_fail(err, REFINE_ENOMEM, "out of memory");
    if (st == REFINE_OK && (c->fd = scratch_file_open(scratch_dir(c))) < 0)
        st = scratch_failed(c, errno, err);
    if (st != REFINE_OK)
        compare_close(c);
    else
        *out = c;
    return st;
}

void compare_close(compare *c)
{
    if (!c)
        return;
    if (c->fd >= 0)
        (void)close(c->fd);
    mem_free(c->layers);
    mem_free(c->buffer);
    mem_free(c->rgb);
    mem_free(c);
}

/* ---- stages ---- */

static bool is_wanted(const refine_layer_output *s)
{
    return s->batch_index < COMPARE_ITEMS && (s->step == 0 || strcmp(s->name, "latents") == 0);
}

static compare_layer *find_layer_output(const compare *c, const refine_layer_output *s)
{
    for (int i = 0; i < c->n; i++)
        if (c->layers[i].step == s->step && strcmp(c->layers[i].name, s->name) == 0)
            return &c->layers[i];
    return NULL;
}

static compare_layer *add_layer_output(compare *c, const refine_layer_output *s)
{
    compare_layer *grown = mem_grow(c->layers, (size_t)c->n, &c->room, sizeof *grown);
    if (!grown) {
        refine_fail(&c->failed, REFINE_ENOMEM, "out of memory");
        return NULL;
    }
    c->layers = grown;
    compare_layer *t = &c->layers[c->n++];
    *t = (compare_layer){ .step = s->step, .h = s->h, .w = s->w, .c = s->c };
    (void)snprintf(t->name, sizeof t->name, "%s", s->name);
    return t;
}

/* Gives an item's values their place. */
static void set_scratch_offset(compare *c, compare_layer *t, int item)
{
    t->at[item] = c->end;
    c->end += (uint64_t)t->h * (uint64_t)t->w * (uint64_t)t->c * sizeof(float);
}

/* Have so many values of the buffer moved, to or from the scratch file? */
static bool check_values_moved(compare *c, size_t done, size_t n)
{
    if (done == n * sizeof(float))
        return true;
    (void)scratch_failed(c, errno, &c->failed);
    return false;
}

/* Where a value of a piece lies in the scratch file. */
static uint64_t scratch_offset(const compare_layer *t, const refine_layer_output *s, size_t i)
{
    return t->at[s->batch_index] + (s->first + i) * sizeof(float);
}

/* The reference tells of a stage: non-zero, something failed. */
static int record_layer_output(void *context, const refine_layer_output *s)
{
    compare *c = context;
    if (!is_wanted(s))
        return 0;
    compare_layer *t = find_layer_output(c, s);
    if (!t && !(t = add_layer_output(c, s)))
        return 1;
    if (s->first == 0)
        set_scratch_offset(c, t, s->batch_index);
    for (size_t i = 0; i < s->count;) {
        const size_t n = num_min(COMPARE_BUFFER, s->count - i);
        memcpy(c->buffer, s->value + i, n * sizeof(float));
        const size_t done = io_write_at(c->fd, c->buffer, n * sizeof(float),
                                        scratch_offset(t, s, i));
        if (!check_values_moved(c, done, n))
            return 1;
        i += n;
    }
    return 0;
}

/* The other run tells of one. */
static int compare_layer_output(void *context, const refine_layer_output *s)
{
    compare *c = context;
    compare_layer *t = is_wanted(s) ? find_layer_output(c, s) : NULL;
    if (!t || t->h != s->h || t->w != s->w || t->c != s->c)
        return 0;
    for (size_t i = 0; i < s->count;) {
        const size_t n = num_min(COMPARE_BUFFER, s->count - i);
        const size_t done = io_read_at(c->fd, c->buffer, n * sizeof(float),
                                       scratch_offset(t, s, i));
        if (!check_values_moved(c, done, n))
            return 1;
        quality_add(&t->of, c->buffer, s->value + i, n);
        i += n;
    }
    return 0;
}

/* ---- the runs ---- */

refine_status compare_plan(compare *c, refine_error *err)
{
    return refine_plan(&c->reference, &c->o, &c->j, err);
}

refine_status compare_record(compare *c, refine_error *err)
{
    refine_engine *e;
    TRY(refine_open(&e, &c->o, &c->j, err));
    const refine_status st = compare_why(c, refine_run(e, &c->j, err), err);
    refine_close(e);
    return st;
}

void compare_attach(compare *c, refine_job *j)
{
    j->layer_output = compare_layer_output;
    j->layer_output_context = c;
}

refine_status compare_why(const compare *c, refine_status st, refine_error *err)
{
    if (st != REFINE_ECANCELLED || c->failed.status == REFINE_OK)
        return st;
    return refine_fail(err, c->failed.status, "%s", c->failed.text);
}

void compare_finish(compare *c, const uint8_t *rgb)
{
    c->image_error = compare_image_quality(c->rgb, rgb, c->j.width, c->j.height);
}

bool compare_same_source(const compare *c, const refine_report *other)
{
    return c->reference.source_hash == other->source_hash;
}

bool compare_is_latents(const compare_layer *s) { return strcmp(s->name, "latents") == 0; }
