/* offload/schedule.c -- the list of visits of a run, walked by several threads. */
#include "offload/schedule.h"

#include "engine/base/mem.h"
#include "engine/base/num.h"

#include <assert.h>
#include <string.h>

static bool is_empty(const stream_pass *p) { return p->passes <= 0 || p->first >= p->end; }

/* Later passes are overwritten by earlier ones, so the first wins. */
static void find_first_passes(script *s)
{
    for (int i = 0; i < s->n_chunks; i++)
        s->travels[i] = -1;
    for (int p = s->n - 1; p >= 0; p--)
        for (int i = s->pass[p].first; i < s->pass[p].end && !is_empty(&s->pass[p]); i++)
            s->travels[i] = p;
}

bool script_open(script *s, const stream_pass *pass, int n, const bool *resident, int n_chunks)
{
    const size_t chunks = (size_t)n_chunks;

    *s = (script){ .n = n, .n_chunks = n_chunks };
    s->pass = mem_calloc((size_t)n + 1, sizeof *s->pass);
    s->resident = mem_calloc(chunks + 1, sizeof *s->resident);
    s->held = mem_calloc(chunks + 1, sizeof *s->held);
    s->travels = mem_calloc(chunks + 1, sizeof *s->travels);
    if (!s->pass || !s->resident || !s->held || !s->travels) {
        script_close(s);
        return false;
    }
    for (int i = 0; i < n; i++) {
        assert(is_empty(&pass[i]) || (pass[i].first >= 0 && pass[i].end <= n_chunks));
        s->pass[i] = pass[i];
    }
    if (resident)
        memcpy(s->resident, resident, chunks * sizeof *resident);
    find_first_passes(s);
    return true;
}

void script_close(script *s)
{
    mem_free(s->pass);
    mem_free(s->resident);
    mem_free(s->held);
    mem_free(s->travels);
    *s = (script){ 0 };
}

size_t script_memory(int n, int n_chunks)
{
    return ((size_t)n + 1) * sizeof(stream_pass) +
           ((size_t)n_chunks + 1) * (2 * sizeof(bool) + sizeof(int));
}

/* Onto the next pass that has something in it. */
static void skip_empty(const script *s, cursor *c)
{
    while (c->pass < s->n && is_empty(&s->pass[c->pass]))
        c->pass++;
    c->round = 0;
    c->chunk = c->pass < s->n ? s->pass[c->pass].first : -1;
}

cursor script_begin(const script *s)
{
    cursor c = { 0 };
    skip_empty(s, &c);
    return c;
}

bool script_at_end(const script *s, const cursor *c) { return c->pass == s->n; }

bool script_is_trip(const script *s, const cursor *c)
{
    if (!s->resident[c->chunk])
        return true;
    return !s->held[c->chunk] && c->round == 0 && c->pass == s->travels[c->chunk];
}

void script_next(const script *s, cursor *c)
{
    const stream_pass *p = &s->pass[c->pass];

    assert(!script_at_end(s, c));
    c->trip += script_is_trip(s, c);
    c->visit++;
    if (++c->chunk < p->end)
        return;
    c->chunk = p->first;
    if (++c->round < p->passes)
        return;
    c->pass++;
    skip_empty(s, c);
}

bool script_to_trip(const script *s, cursor *c)
{
    while (!script_at_end(s, c)) {
        if (script_is_trip(s, c))
            return true;
        script_next(s, c);
    }
    return false;
}

void script_hold_before(script *s, const cursor *c)
{
    for (cursor at = script_begin(s); at.visit < c->visit;) {
        const bool travelled = s->resident[at.chunk] && script_is_trip(s, &at);
        const int chunk = at.chunk;
        script_next(s, &at);
        if (travelled)
            s->held[chunk] = true;
    }
}

bool script_needs_residents(const script *s, const cursor *c)
{
    for (int p = c->pass; p < s->n; p++) {
        const stream_pass *pass = &s->pass[p];
        const bool last_round = p == c->pass && c->round + 1 == pass->passes;
        for (int i = last_round ? c->chunk : pass->first; i < pass->end && !is_empty(pass); i++)
            if (s->resident[i])
                return true;
    }
    return false;
}
