/* engine/model/scratch.c -- first fit over a sorted list of live blocks.
 *
 *     a block:  zone | asked | what aligning left over, zone
 */
#include "engine/model/scratch.h"

#include "engine/base/guard.h"
#include "engine/base/num.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* ---- zones ---- */

enum { ZONE_MAX = GUARD_MAX + SCRATCH_ALIGN };

/* A part of the region. */
typedef struct span {
    size_t at, bytes;
} span;

static span zone_before(const scratch *s, scratch_block b) { return (span){ b.at, s->zone }; }

static span zone_behind(const scratch *s, scratch_block b)
{
    const size_t end = s->zone + b.asked;
    return (span){ b.at + end, b.bytes - end };
}

static bool has_zones(const scratch *s)
{
    return s->zone > 0 && s->base && s->base != SCRATCH_TOKEN;
}

/* Instrumented code reaches the memory of a device without any of its own, and is done with a
 * block that is given unless the device runs behind. */
static bool is_span_reachable(const scratch *s, span part)
{
    return has_zones(s) && part.at + part.bytes <= s->size && !dev_is_discrete(s->d) &&
           !dev_is_async(s->d);
}

static void shut_out(const scratch *s, span part)
{
    if (is_span_reachable(s, part))
        guard_shut(s->base + part.at, part.bytes);
}

static void let_in(const scratch *s, span part)
{
    if (is_span_reachable(s, part))
        guard_open(s->base + part.at, part.bytes);
}

/* The pattern goes by addresses, of which only the lowest bit counts. */
static char *image_of(char buffer[ZONE_MAX + 2], const scratch *s, span zone)
{
    const size_t odd = (uintptr_t)(s->base + zone.at) & 1;
    return buffer + (((uintptr_t)buffer & 1) != odd);
}

static void lay_zone(scratch *s, span zone)
{
    char buffer[ZONE_MAX + 2], *image = image_of(buffer, s, zone);
    guard_fill(image, zone.bytes);
    dev_put(s->d, s->base + zone.at, image, zone.bytes);
    shut_out(s, zone);
}

static void check_block_zone(scratch *s, scratch_block b, span zone)
{
    char buffer[ZONE_MAX + 2], *image = image_of(buffer, s, zone), why[160];

    let_in(s, zone);
    if (dev_status(s->d) != REFINE_OK)
        return;
    dev_get(s->d, image, s->base + zone.at, zone.bytes);
    const size_t spoilt = guard_spoilt(image, zone.bytes);
    if (spoilt == zone.bytes || dev_status(s->d) != REFINE_OK)
        return;
    (void)snprintf(why, sizeof why,
                   "activations: byte %td of the block of %zu bytes at %zu was written, which is "
                   "beside it",
                   (ptrdiff_t)(zone.at + spoilt) - (ptrdiff_t)(b.at + s->zone), b.asked, b.at);
    dev_fail(s->d, REFINE_EDEVICE, why);
}

static void lay_zones(scratch *s, scratch_block b)
{
    if (!has_zones(s))
        return;
    let_in(s, (span){ b.at, b.bytes });
    lay_zone(s, zone_before(s, b));
    lay_zone(s, zone_behind(s, b));
}

static void check_zones(scratch *s, scratch_block b)
{
    if (!has_zones(s))
        return;
    check_block_zone(s, b, zone_before(s, b));
    check_block_zone(s, b, zone_behind(s, b));
}

/* ---- blocks ---- */

size_t scratch_span(const scratch *s, size_t bytes)
{
    return num_align(num_max(bytes, 1), SCRATCH_ALIGN) + 2 * s->zone;
}

void scratch_open(scratch *s, dev *d, void *base, size_t size, size_t zone)
{
    s->d = d;
    s->base = base;
    s->size = size;
    s->zone = zone;
    s->peak = 0;
    s->n = 0;
}

void scratch_close(scratch *s)
{
    for (int i = 0; i < s->n; i++)
        check_zones(s, s->live[i]);
    let_in(s, (span){ 0, num_min(s->peak, s->size) });
    s->n = 0;
    s->base = NULL;
}

/* Where a block of `want` bytes goes that lies at `at` or above: before live[*i]. */
static size_t find_place(const scratch *s, size_t at, size_t want, int *i)
{
    for (*i = 0; *i < s->n && s->live[*i].at < at + want; ++*i)
        at = num_max(at, s->live[*i].at + s->live[*i].bytes);
    return at;
}

bool scratch_fits(const scratch *s, size_t bytes, size_t end)
{
    const size_t want = scratch_span(s, bytes);
    int i;
    return want <= end && find_place(s, 0, want, &i) <= end - want;
}

void *scratch_bytes_above(scratch *s, size_t below, size_t bytes)
{
    const size_t want = scratch_span(s, bytes);
    int i;
    const size_t at = find_place(s, below > 0 ? scratch_span(s, below) : 0, want, &i);

    assert(s->n < SCRATCH_BLOCKS);
    memmove(&s->live[i + 1], &s->live[i], (size_t)(s->n - i) * sizeof s->live[0]);
    s->live[i] = (scratch_block){ at, want, bytes };
    s->n++;
    s->peak = num_max(s->peak, at + want);
    s->high = num_max(s->high, at + want);
    if (at + want > s->size)
        dev_fail(s->d, REFINE_EBUDGET, "activations: the plan and the run disagree");
    else
        lay_zones(s, s->live[i]);
    return s->base + at + s->zone;
}

void *scratch_bytes(scratch *s, size_t bytes) { return scratch_bytes_above(s, 0, bytes); }

static int find_block(const scratch *s, const void *p)
{
    const size_t at = (size_t)((const char *)p - s->base) - s->zone;
    for (int i = 0; i < s->n; i++)
        if (s->live[i].at == at)
            return i;
    assert(0 && "not a block of this scratch");
    return -1;
}

void scratch_free_bytes(scratch *s, void *p)
{
    if (!p)
        return;
    const int i = find_block(s, p);
    check_zones(s, s->live[i]);
    shut_out(s, (span){ s->live[i].at, s->live[i].bytes });
    s->n--;
    memmove(&s->live[i], &s->live[i + 1], (size_t)(s->n - i) * sizeof s->live[0]);
}

size_t scratch_high(scratch *s)
{
    const size_t high = s->high;
    s->high = s->n > 0 ? s->live[s->n - 1].at + s->live[s->n - 1].bytes : 0;
    return high;
}

size_t scratch_live(const scratch *s)
{
    size_t sum = 0;
    for (int i = 0; i < s->n; i++)
        sum += s->live[i].bytes;
    return sum;
}

tensor scratch_alloc(scratch *s, dtype type, int n, int h, int w, int c)
{
    tensor t = tensor_make(NULL, type, n, h, w, c);
    t.data = scratch_bytes(s, tensor_bytes(t));
    return t;
}

void scratch_free(scratch *s, tensor t)
{
    if (tensor_present(t))
        scratch_free_bytes(s, t.data);
}

void scratch_trim(scratch *s, void *p, size_t bytes)
{
    scratch_block *b = &s->live[find_block(s, p)];
    const size_t had = b->bytes;

    assert(bytes <= b->asked);
    check_zones(s, *b);
    b->bytes = scratch_span(s, bytes);
    b->asked = bytes;
    lay_zones(s, *b);
    shut_out(s, (span){ b->at + b->bytes, had - b->bytes });
}
