/* engine/scratch.c -- first fit over a sorted list of live blocks. */
#include "engine/scratch.h"

#include "engine/base/num.h"

#include <assert.h>
#include <string.h>

void scratch_open(scratch *s, dev *d, void *base, size_t size)
{
    s->d = d;
    s->base = base;
    s->size = size;
    s->peak = 0;
    s->n = 0;
}

void *scratch_bytes_above(scratch *s, size_t floor, size_t bytes)
{
    const size_t want = num_align(num_max(bytes, 1), SCRATCH_ALIGN);
    size_t at = num_align(floor, SCRATCH_ALIGN);
    int i = 0;

    assert(s->n < SCRATCH_BLOCKS);
    while (i < s->n && s->live[i].at < at + want) {
        at = num_max(at, s->live[i].at + s->live[i].bytes);
        i++;
    }
    memmove(&s->live[i + 1], &s->live[i], (size_t)(s->n - i) * sizeof s->live[0]);
    s->live[i] = (scratch_block){ at, want };
    s->n++;
    s->peak = num_max(s->peak, at + want);
    s->high = num_max(s->high, at + want);
    if (at + want > s->size)
        dev_fail(s->d, REFINE_EBUDGET, "activations: the plan and the run disagree");
    return s->base + at;
}

void *scratch_bytes(scratch *s, size_t bytes) { return scratch_bytes_above(s, 0, bytes); }

static int find_block(const scratch *s, const void *p)
{
    const size_t at = (size_t)((const char *)p - s->base);
    for (int i = 0; i < s->n; i++)
        if (s->live[i].at == at)
            return i;
    assert(0 && "not a block of this scratch");
    return -1;
}

void scratch_give_bytes(scratch *s, void *p)
{
    if (!p)
        return;
    const int i = find_block(s, p);
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

tensor scratch_take(scratch *s, dtype type, int n, int h, int w, int c)
{
    tensor t = tensor_make(NULL, type, n, h, w, c);
    t.data = scratch_bytes(s, tensor_bytes(t));
    return t;
}

void scratch_give(scratch *s, tensor t)
{
    if (tensor_present(t))
        scratch_give_bytes(s, t.data);
}

void scratch_trim(scratch *s, void *p, size_t bytes)
{
    scratch_block *b = &s->live[find_block(s, p)];
    const size_t keep = num_align(num_max(bytes, 1), SCRATCH_ALIGN);
    assert(keep <= b->bytes);
    b->bytes = keep;
}
