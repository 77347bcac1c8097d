/* offload/schedule.c -- the list of uses of a run, walked by several threads. */
#include "offload/schedule.h"

#include "engine/base/mem.h"
#include "engine/base/num.h"

#include <assert.h>
#include <string.h>

static bool is_empty(const stream_pass *p) { return p->passes <= 0 || p->first >= p->end; }

/* Later passes are overwritten by earlier ones, so the first wins. */
static void find_first_passes(schedule *s)
{
    for (int i = 0; i < s->n_chunks; i++)
        s->travels[i] = -1;
    for (int p = s->n - 1; p >= 0; p--)
        for (int i = s->pass[p].first; i < s->pass[p].end && !is_empty(&s->pass[p]); i++)
            s->travels[i] = p;
}

bool schedule_open(schedule *s, const stream_pass *pass, int n, const bool *resident, int n_chunks)
{
    const size_t chunks = (size_t)n_chunks;

    *s = (schedule){ .n = n, .n_chunks = n_chunks };
    s->pass = mem_calloc((size_t)n + 1, sizeof *s->pass);
    s->resident = mem_calloc(chunks + 1, sizeof *s->resident);
    s->held = mem_calloc(chunks + 1, sizeof *s->held);
    s->travels = mem_calloc(chunks + 1, sizeof *s->travels);
    if (!s->pass || !s->resident || !s->held || !s->travels) {
        schedule_close(s);
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

void schedule_close(schedule *s)
{
    mem_free(s->pass);
    mem_free(s->resident);
    mem_free(s->held);
    mem_free(s->travels);
    *s = (schedule){ 0 };
}

size_t schedule_memory(int n, int n_chunks)
{
    return ((size_t)n + 1) * sizeof(stream_pass) +
           ((size_t)n_chunks + 1) * (2 * sizeof(bool) + sizeof(int));
}

/* Onto the next pass that has something in it. */
static void skip_empty(const schedule *s, cursor *c)
{
    while (c->pass < s->n && is_empty(&s->pass[c->pass]))
        c->pass++;
    c->round = 0;
    c->chunk = c->pass < s->n ? s->pass[c->pass].first : -1;
}

cursor schedule_begin(const schedule *s)
{
    cursor c = { 0 };
    skip_empty(s, &c);
    return c;
}

bool schedule_at_end(const schedule *s, const cursor *c) { return c->pass == s->n; }

bool schedule_is_transfer(const schedule *s, const cursor *c)
{
    if (!s->resident[c->chunk])
        return true;
    return !s->held[c->chunk] && c->round == 0 && c->pass == s->travels[c->chunk];
}

void schedule_next(const schedule *s, cursor *c)
{
    const stream_pass *p = &s->pass[c->pass];

    assert(!schedule_at_end(s, c));
    c->transfer += schedule_is_transfer(s, c);
    c->use++;
    if (++c->chunk < p->end)
        return;
    c->chunk = p->first;
    if (++c->round < p->passes)
        return;
    c->pass++;
    skip_empty(s, c);
}

bool schedule_to_transfer(const schedule *s, cursor *c)
{
    while (!schedule_at_end(s, c)) {
        if (schedule_is_transfer(s, c))
            return true;
        schedule_next(s, c);
    }
    return false;
}

void schedule_hold_before(schedule *s, const cursor *c)
{
    for (cursor at = schedule_begin(s); at.use < c->use;) {
        const bool travelled = s->resident[at.chunk] && schedule_is_transfer(s, &at);
        const int chunk = at.chunk;
        schedule_next(s, &at);
        if (travelled)
            s->held[chunk] = true;
    }
}

bool schedule_needs_residents(const schedule *s, const cursor *c, int below)
{
    for (int p = c->pass; p < s->n; p++) {
        const stream_pass *pass = &s->pass[p];
        const bool last_round = p == c->pass && c->round + 1 == pass->passes;
        for (int i = last_round ? c->chunk : pass->first; i < pass->end && !is_empty(pass); i++)
            if (s->resident[i] && i < below)
                return true;
    }
    return false;
}
