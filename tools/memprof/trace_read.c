/* tools/memprof/trace_read.c -- a walk over the outermost braces, one value at a time.
 *
 * A trace has hundreds of thousands of events.  As one tree of JSON values they would take a
 * kilobyte each, so the walk parses each event by itself and keeps what a report needs.
 */
#include "tools/memprof/trace_read.h"

#include "engine/base/mem.h"
#include "engine/base/try.h"
#include "tools/files/checked_json.h"
#include "tools/files/json_file.h"
#include "tools/report/report_fields.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* ---- the member "refine" ---- */

static refine_chunk read_chunk(json_checker *c, const json_t *o)
{
    if (!json_is_object(o))
        refuse_json(c, "a chunk is no object");
    return (refine_chunk){
        .name = checked_text(c, o, "name"),
        .phase = (refine_phase)checked_word(c, o, "phase", trace_phases, TRACE_PHASES),
        .tier = (refine_tier)checked_word(c, o, "tier", trace_tiers, 3),
        .bytes = checked_count(c, o, "bytes", UINT32_MAX),
        .stored_bytes = checked_count(c, o, "stored_bytes", UINT32_MAX),
        .flops = checked_real(c, o, "flops", CHECKED_AMOUNT_MAX),
        .seconds = checked_real(c, o, "seconds", CHECKED_SECONDS_MAX),
    };
}

static void read_chunk_list(json_checker *c, recording *t)
{
    const json_t *list = json_object_get(t->refine, "chunks");
    const size_t n = json_array_size(list);
    if (!json_is_array(list) || n > TRACE_CHUNKS_MAX) {
        refuse_json(c, "there is no list of chunks");
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

static void read_summary(json_checker *c, recording *t)
{
    if (!json_is_object(t->refine)) {
        refuse_json(c, "there is no member \"refine\"");
        return;
    }
    if (checked_count(c, t->refine, "format", INT_MAX) != TRACE_FORMAT)
        refuse_json(c, "its format is of another version");
    t->lost = (size_t)checked_bytes(c, t->refine, "lost");
    t->result = checked_object(c, t->refine, "result");
    if (!t->result)
        refuse_json(c, "there is no result");
    report_read(c, t->result, &t->report, &t->step);
    const json_t *r = checked_object(c, t->refine, "rates");
    report_fields_read(c, checked_object(c, r, "assumed"), rate_fields, &t->report.rates);
    report_fields_read(c, checked_object(c, r, "measured"), rate_fields, &t->report.measured);
    t->report.mispredicted_rate = checked_text(c, t->refine, "wrong_rate");
    read_chunk_list(c, t);
}

/* ---- events ---- */

/* Room for one more element of `size` bytes; the list may move.  Where it cannot grow it stays, and
 * nothing is put into it. */
static void *grow_event_list(json_checker *c, void *list, size_t n, size_t *room, size_t size)
{
    void *grown = mem_grow(list, n, room, size);
    if (!grown)
        checker_out_of_memory(c);
    return grown ? grown : list;
}

static void read_sample(json_checker *c, const json_t *o, trace_samples *list,
                        const memory_owner owners[], int n_owners)
{
    const json_t *args = checked_object(c, o, "args");
    trace_sample s = { .at = checked_real(c, o, "ts", CHECKED_SECONDS_MAX * 1e6) / 1e6 };
    for (int i = 0; i < n_owners; i++)
        s.bytes[i] = checked_count(c, args, owners[i].key, INT64_MAX / 8);
    list->v = grow_event_list(c, list->v, list->n, &list->room, sizeof *list->v);
    if (c->st == REFINE_OK)
        list->v[list->n++] = s;
}

static void read_counter(json_checker *c, recording *t, const json_t *o)
{
    const char *name = checked_text(c, o, "name");
    if (strcmp(name, "device memory") == 0)
        read_sample(c, o, &t->device, device_owners, DEVICE_OWNERS);
    else if (strcmp(name, "host memory") == 0)
        read_sample(c, o, &t->host, host_owners, HOST_OWNERS);
}

static void read_span(json_checker *c, recording *t, const json_t *o)
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
                       .begin = checked_real(c, o, "ts", CHECKED_SECONDS_MAX * 1e6) / 1e6,
                       .bytes = checked_count(c, args, "bytes", UINT32_MAX) };
    v.end = v.begin + checked_real(c, o, "dur", CHECKED_SECONDS_MAX * 1e6) / 1e6;
    t->event = grow_event_list(c, t->event, t->n_events, &t->room, sizeof *t->event);
    if (c->st == REFINE_OK)
        t->event[t->n_events++] = v;
}

static void read_event(json_checker *c, recording *t, const json_t *o)
{
    if (!json_is_object(o)) {
        refuse_json(c, "an event is no object");
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
    json_checker *c;
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
        refuse_json(w->c, "is no JSON, or not whole");
    return v;
}

static void parse_event_list(walker *w, recording *t)
{
    if (!accept_token(w, '[')) {
        refuse_json(w->c, "traceEvents is no list");
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
        refuse_json(w->c, "the list of events has no end");
}

static void parse_trace_member(walker *w, recording *t)
{
    json_t *key = parse_json_value(w);
    const char *name = json_string_value(key);
    if (!name || !accept_token(w, ':')) {
        refuse_json(w->c, "is no JSON object");
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
        refuse_json(w->c, "is no JSON object");
        return;
    }
    do
        parse_trace_member(w, t);
    while (w->c->st == REFINE_OK && accept_token(w, ','));
    if (!accept_token(w, '}') || peek_token(w) != '\0')
        refuse_json(w->c, "is no JSON object");
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
static void check_events(json_checker *c, const recording *t)
{
    for (size_t i = 0; i < t->n_events; i++) {
        const refine_event *v = &t->event[i];
        const int n = v->lane == REFINE_LANE_PHASE  ? TRACE_PHASES
                      : v->lane == REFINE_LANE_STEP ? INT_MAX
                                                    : t->n_chunks;
        if (v->chunk >= n)
            refuse_json(c, "an event is of a chunk that is not there");
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
    json_checker c = { .path = path, .kind = "file of refine-lowmem --trace", .err = err };

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
