/* tools/memprof/trace_read.c -- a walk over the outermost braces, one value at a time.
 *
 * A trace has hundreds of thousands of events.  As one tree of JSON values they would take a
 * kilobyte each, so the walk parses each event by itself and keeps what a report needs.
 */
#include "tools/memprof/trace_read.h"

#include "engine/base/mem.h"
#include "engine/base/try.h"
#include "tools/files/json_file.h"
#include "tools/report/result_json.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double SECONDS_MAX = 1e8;
static const double AMOUNT_MAX = 1e24;

/* ---- checked values: the first failure sticks ---- */

typedef struct checker {
    const char *path;
    refine_error *err;
    refine_status st;
} checker;

static void refuse_recording(checker *c, const char *what)
{
    if (c->st == REFINE_OK)
        c->st = refine_fail(c->err, REFINE_EFORMAT,
                            "%s: %s; is this a file of refine-lowmem --trace?", c->path, what);
}

static void checker_out_of_memory(checker *c)
{
    if (c->st == REFINE_OK)
        c->st = refine_fail(c->err, REFINE_ENOMEM, "out of memory");
}

static void refuse_member(checker *c, const char *key, const char *kind)
{
    char what[96];
    (void)snprintf(what, sizeof what, "'%s' is no %s", key, kind);
    refuse_recording(c, what);
}

/* A member that is missing is 0. */
static double checked_real(checker *c, const json_t *o, const char *key, double most)
{
    const json_t *v = json_object_get(o, key);
    const double d = json_number_value(v);
    if (!v)
        return 0;
    if (!json_is_number(v) || !(d >= 0) || d > most) {
        refuse_member(c, key, "number in range");
        return 0;
    }
    return d;
}

static uint64_t checked_count(checker *c, const json_t *o, const char *key, uint64_t most)
{
    const json_t *v = json_object_get(o, key);
    const json_int_t n = json_integer_value(v);
    if (!v)
        return 0;
    if (!json_is_integer(v) || n < 0 || (uint64_t)n > most) {
        refuse_member(c, key, "count in range");
        return 0;
    }
    return (uint64_t)n;
}

static uint64_t checked_bytes(checker *c, const json_t *o, const char *key)
{
    return checked_count(c, o, key, INT64_MAX);
}

static int checked_int(checker *c, const json_t *o, const char *key)
{
    return (int)checked_count(c, o, key, INT_MAX);
}

static const char *checked_text(checker *c, const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    if (v && !json_is_string(v))
        refuse_member(c, key, "text");
    const char *s = json_string_value(v);
    return s ? s : "";
}

/* The object `key`; NULL, of which every member is missing, when it is not there. */
static json_t *checked_object(checker *c, const json_t *o, const char *key)
{
    json_t *v = json_object_get(o, key);
    if (v && !json_is_object(v)) {
        refuse_member(c, key, "object");
        return NULL;
    }
    return v;
}

/* The index of the word in a list of n. */
static int checked_word(checker *c, const json_t *o, const char *key, const char *const list[],
                        int n)
{
    const char *s = checked_text(c, o, key);
    for (int i = 0; i < n; i++)
        if (strcmp(s, list[i]) == 0)
            return i;
    refuse_member(c, key, "word that is known");
    return 0;
}

/* ---- the member "refine" ---- */

static refine_rates read_rates(checker *c, const json_t *o)
{
    return (refine_rates){ .disk = checked_real(c, o, "disk", AMOUNT_MAX),
                           .decode = checked_real(c, o, "decode", AMOUNT_MAX),
                           .copy = checked_real(c, o, "copy", AMOUNT_MAX),
                           .linear = checked_real(c, o, "linear", AMOUNT_MAX),
                           .conv = checked_real(c, o, "conv", AMOUNT_MAX),
                           .attention = checked_real(c, o, "attention", AMOUNT_MAX),
                           .memory = checked_real(c, o, "memory", AMOUNT_MAX) };
}

static refine_memory read_memory(checker *c, const json_t *o)
{
    refine_memory m = { 0 };
    for (int i = 0; i < MEMORY_FIELDS; i++)
        *memory_field_of(&m, &memory_fields[i]) = checked_bytes(c, o, memory_fields[i].key);
    return m;
}

static void read_steps(checker *c, recording *t, const json_t *seconds)
{
    const json_t *steps = json_object_get(seconds, "steps");
    const size_t n = json_array_size(steps);
    if (n == 0)
        return;
    t->step = mem_calloc(n, sizeof *t->step);
    if (!t->step) {
        checker_out_of_memory(c);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *step = json_array_get(steps, i);
        const double v = json_number_value(step);
        if (!json_is_number(step) || !(v >= 0) || v > SECONDS_MAX)
            refuse_recording(c, "a step's time is out of range");
        t->step[i] = v;
    }
    t->report.step = t->step;
    t->report.steps_run = (int)n;
}

static void read_seconds(checker *c, recording *t, const json_t *o)
{
    refine_report *r = &t->report;
    r->total = checked_real(c, o, "total", SECONDS_MAX);
    r->open = checked_real(c, o, "open", SECONDS_MAX);
    r->text = checked_real(c, o, "text", SECONDS_MAX);
    r->vae_encode = checked_real(c, o, "vae_encode", SECONDS_MAX);
    r->unet = checked_real(c, o, "unet", SECONDS_MAX);
    r->vae_decode = checked_real(c, o, "vae_decode", SECONDS_MAX);
    r->first_step = checked_real(c, o, "first_step", SECONDS_MAX);
    r->step_median = checked_real(c, o, "step_median", SECONDS_MAX);
    read_steps(c, t, o);
}

static void read_result(checker *c, recording *t)
{
    refine_report *r = &t->report;
    const json_t *o = t->result, *io = checked_object(c, o, "io"),
                 *stall = checked_object(c, o, "stall");
    const json_t *predicted = checked_object(c, o, "predicted"), *run = checked_object(c, o, "run");

    r->device = checked_text(c, o, "device");
    r->device_model = checked_text(c, o, "device_model");
    r->precision = checked_text(c, o, "precision");
    r->reader = checked_text(c, io, "reader");
    r->source_name = checked_text(c, run, "source");
    r->source_hash = strtoull(checked_text(c, run, "source_hash"), NULL, 16);
    r->width = checked_int(c, o, "width");
    r->height = checked_int(c, o, "height");
    r->images = checked_int(c, o, "images");
    r->memory = read_memory(c, checked_object(c, o, "memory"));
    read_seconds(c, t, checked_object(c, o, "seconds"));
    r->disk_bytes = checked_bytes(c, io, "disk_bytes");
    r->disk_bytes_per_step = checked_bytes(c, io, "disk_bytes_per_step");
    r->copy_bytes_per_step = checked_bytes(c, io, "copy_bytes_per_step");
    r->disk_rate = checked_real(c, io, "disk_rate", AMOUNT_MAX);
    r->copy_rate = checked_real(c, io, "copy_rate", AMOUNT_MAX);
    r->stall_disk = checked_real(c, stall, "disk", SECONDS_MAX);
    r->stall_decode = checked_real(c, stall, "decode", SECONDS_MAX);
    r->stall_copy = checked_real(c, stall, "copy", SECONDS_MAX);
    r->predicted_step = checked_real(c, predicted, "step", SECONDS_MAX);
    r->predicted_unet = checked_real(c, predicted, "unet", SECONDS_MAX);
}

static refine_chunk read_chunk(checker *c, const json_t *o)
{
    if (!json_is_object(o))
        refuse_recording(c, "a chunk is no object");
    return (refine_chunk){
        .name = checked_text(c, o, "name"),
        .phase = (refine_phase)checked_word(c, o, "phase", trace_phases, TRACE_PHASES),
        .tier = (refine_tier)checked_word(c, o, "tier", trace_tiers, 3),
        .bytes = checked_count(c, o, "bytes", UINT32_MAX),
        .stored_bytes = checked_count(c, o, "stored_bytes", UINT32_MAX),
        .flops = checked_real(c, o, "flops", AMOUNT_MAX),
        .seconds = checked_real(c, o, "seconds", SECONDS_MAX),
    };
}

static void read_chunk_list(checker *c, recording *t)
{
    const json_t *list = json_object_get(t->refine, "chunks");
    const size_t n = json_array_size(list);
    if (!json_is_array(list) || n > TRACE_CHUNKS_MAX) {
        refuse_recording(c, "there is no list of chunks");
        return;
    }
    t->chunk = mem_calloc(n + 1, sizeof *t->chunk);
    if (!t->chunk) {
        checker_out_of_memory(c);
        return;
    }
    for (size_t i = 0; i < n && c->st == REFINE_OK; i++)
        t->chunk[i] = read_chunk(c, json_array_get(list, i));
    t->n_chunks = (int)n;
}

static void read_summary(checker *c, recording *t)
{
    if (!json_is_object(t->refine)) {
        refuse_recording(c, "there is no member \"refine\"");
        return;
    }
    if (checked_count(c, t->refine, "format", INT_MAX) != TRACE_FORMAT)
        refuse_recording(c, "its format is of another version");
    t->lost = (size_t)checked_bytes(c, t->refine, "lost");
    t->result = checked_object(c, t->refine, "result");
    if (!t->result)
        refuse_recording(c, "there is no result");
    read_result(c, t);
    const json_t *r = checked_object(c, t->refine, "rates");
    t->report.rates = read_rates(c, checked_object(c, r, "assumed"));
    t->report.measured = read_rates(c, checked_object(c, r, "measured"));
    t->report.mispredicted_rate = checked_text(c, t->refine, "wrong_rate");
    read_chunk_list(c, t);
}

/* ---- events ---- */

/* Room for one more element of `size` bytes; the list may move. */
static void *grow_event_list(checker *c, void *list, size_t n, size_t *room, size_t size)
{
    if (n < *room)
        return list;
    const size_t more = *room ? 2 * *room : 256;
    void *moved = mem_realloc(list, more * size);
    if (!moved) {
        checker_out_of_memory(c);
        return list;
    }
    *room = more;
    return moved;
}

static void read_sample(checker *c, const json_t *o, trace_samples *list,
                        const char *const owners[], int n_owners)
{
    const json_t *args = checked_object(c, o, "args");
    trace_sample s = { .at = checked_real(c, o, "ts", SECONDS_MAX * 1e6) / 1e6 };
    for (int i = 0; i < n_owners; i++)
        s.bytes[i] = checked_count(c, args, owners[i], INT64_MAX / 8);
    list->v = grow_event_list(c, list->v, list->n, &list->room, sizeof *list->v);
    if (c->st == REFINE_OK)
        list->v[list->n++] = s;
}

static void read_counter(checker *c, recording *t, const json_t *o)
{
    const char *name = checked_text(c, o, "name");
    if (strcmp(name, "device memory") == 0)
        read_sample(c, o, &t->device, trace_device_owners, TRACE_DEVICE_OWNERS);
    else if (strcmp(name, "host memory") == 0)
        read_sample(c, o, &t->host, trace_host_owners, TRACE_HOST_OWNERS);
}

static void read_span(checker *c, recording *t, const json_t *o)
{
    const char *cat = checked_text(c, o, "cat");
    int lane = 0;
    while (lane < REFINE_LANES &&
           !(trace_lanes[lane].cat && strcmp(cat, trace_lanes[lane].cat) == 0))
        lane++;
    if (lane == REFINE_LANES)
        return; /* another program's, merged into the file */
    const json_t *args = checked_object(c, o, "args");
    refine_event v = { .lane = (refine_lane)lane,
                       .chunk = checked_int(c, args, trace_lanes[lane].key),
                       .begin = checked_real(c, o, "ts", SECONDS_MAX * 1e6) / 1e6,
                       .bytes = checked_count(c, args, "bytes", UINT32_MAX) };
    v.end = v.begin + checked_real(c, o, "dur", SECONDS_MAX * 1e6) / 1e6;
    t->event = grow_event_list(c, t->event, t->n_events, &t->room, sizeof *t->event);
    if (c->st == REFINE_OK)
        t->event[t->n_events++] = v;
}

static void read_event(checker *c, recording *t, const json_t *o)
{
    if (!json_is_object(o)) {
        refuse_recording(c, "an event is no object");
        return;
    }
    const char *ph = checked_text(c, o, "ph");
    if (strcmp(ph, "X") == 0)
        read_span(c, t, o);
    else if (strcmp(ph, "C") == 0)
        read_counter(c, t, o);
}

/* ---- the walk ---- */

typedef struct walker {
    checker *c;
    const char *at, *end;
} walker;

static char peek_token(walker *w)
{
    while (w->at < w->end && (*w->at == ' ' || *w->at == '\t' || *w->at == '\n' || *w->at == '\r'))
        w->at++;
    return w->at < w->end ? *w->at : '\0';
}

static bool accept_token(walker *w, char expected)
{
    if (peek_token(w) != expected)
        return false;
    w->at++;
    return true;
}

/* The value here, the caller's; NULL after a failure. */
static json_t *parse_json_value(walker *w)
{
    json_error_t e;
    (void)peek_token(w);
    json_t *v = json_loadb(w->at, (size_t)(w->end - w->at),
                           JSON_DISABLE_EOF_CHECK | JSON_DECODE_ANY, &e);
    if (v)
        w->at += e.position;
    else if (json_error_code(&e) == json_error_out_of_memory)
        checker_out_of_memory(w->c);
    else
        refuse_recording(w->c, "is no JSON, or not whole");
    return v;
}

static void parse_event_list(walker *w, recording *t)
{
    if (!accept_token(w, '[')) {
        refuse_recording(w->c, "traceEvents is no list");
        return;
    }
    if (accept_token(w, ']'))
        return;
    do {
        json_t *v = parse_json_value(w);
        if (v)
            read_event(w->c, t, v);
        json_decref(v);
    } while (w->c->st == REFINE_OK && accept_token(w, ','));
    if (!accept_token(w, ']'))
        refuse_recording(w->c, "the list of events has no end");
}

static void parse_trace_member(walker *w, recording *t)
{
    json_t *key = parse_json_value(w);
    const char *name = json_string_value(key);
    if (!name || !accept_token(w, ':')) {
        refuse_recording(w->c, "is no JSON object");
    } else if (strcmp(name, "traceEvents") == 0) {
        parse_event_list(w, t);
    } else {
        json_t *v = parse_json_value(w);
        if (v && strcmp(name, "refine") == 0 && !t->refine)
            t->refine = json_incref(v);
        json_decref(v);
    }
    json_decref(key);
}

static void parse_recording(walker *w, recording *t)
{
    if (!accept_token(w, '{')) {
        refuse_recording(w->c, "is no JSON object");
        return;
    }
    do
        parse_trace_member(w, t);
    while (w->c->st == REFINE_OK && accept_token(w, ','));
    if (!accept_token(w, '}') || peek_token(w) != '\0')
        refuse_recording(w->c, "is no JSON object");
}

/* ---- order ---- */

static int compare_events(const void *a, const void *b)
{
    const refine_event *p = a, *q = b;
    if (p->lane != q->lane)
        return p->lane < q->lane ? -1 : 1;
    return p->begin < q->begin ? -1 : p->begin > q->begin;
}

static int compare_samples(const void *a, const void *b)
{
    const trace_sample *p = a, *q = b;
    return p->at < q->at ? -1 : p->at > q->at;
}

/* What an event names is there. */
static void check_events(checker *c, const recording *t)
{
    for (size_t i = 0; i < t->n_events; i++) {
        const refine_event *v = &t->event[i];
        const int n = v->lane == REFINE_LANE_PHASE  ? TRACE_PHASES
                      : v->lane == REFINE_LANE_STEP ? INT_MAX
                                                    : t->n_chunks;
        if (v->chunk >= n)
            refuse_recording(c, "an event is of a chunk that is not there");
    }
}

static void sort_recording(recording *t)
{
    if (t->n_events)
        qsort(t->event, t->n_events, sizeof *t->event, compare_events);
    if (t->device.n)
        qsort(t->device.v, t->device.n, sizeof *t->device.v, compare_samples);
    if (t->host.n)
        qsort(t->host.v, t->host.n, sizeof *t->host.v, compare_samples);
    size_t at = 0;
    for (int l = 0; l < REFINE_LANES; l++) {
        t->lane_at[l] = at;
        while (at < t->n_events && (int)t->event[at].lane == l)
            at++;
    }
    t->lane_at[REFINE_LANES] = at;
    for (size_t i = 0; i < t->n_events; i++)
        t->end = t->event[i].end > t->end ? t->event[i].end : t->end;
}

refine_status trace_read(recording *t, const char *path, refine_error *err)
{
    char *file;
    size_t len = 0;
    checker c = { .path = path, .err = err };

    *t = (recording){ 0 };
    TRY(json_file_text(&file, &len, path, TRACE_FILE_MAX, err));
    walker w = { &c, file, file + len };
    parse_recording(&w, t);
    mem_free(file);
    if (c.st == REFINE_OK)
        read_summary(&c, t);
    if (c.st == REFINE_OK)
        check_events(&c, t);
    if (c.st == REFINE_OK)
        sort_recording(t);
    else
        trace_free(t);
    return c.st;
}

void trace_free(recording *t)
{
    mem_free(t->device.v);
    mem_free(t->host.v);
    mem_free(t->event);
    mem_free(t->chunk);
    mem_free(t->step);
    json_decref(t->refine);
    *t = (recording){ 0 };
}
