/* tests/support/policies.c -- spread and least_first as engine/plan/placement.c has them, and what
 * they are compared with. */
#include "tests/support/policies.h"

#include "engine/base/num.h"

#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 8 };

static size_t aligned_chunk_bytes(const step_chunks *c, int chunk)
{
    return num_align(pack_chunk_at(c->p, chunk)->bytes, DEV_ALIGN);
}

static void clear_resident_flags(const step_chunks *c, bool *resident)
{
    memset(resident, 0, (size_t)n_pack_chunks(c->p) * sizeof *resident);
}

void policy_none(const step_chunks *c, size_t budget, bool *resident)
{
    (void)budget;
    clear_resident_flags(c, resident);
}

void policy_prefix(const step_chunks *c, size_t budget, bool *resident)
{
    size_t sum = 0;
    clear_resident_flags(c, resident);
    for (int i = c->first; i < c->end && sum + aligned_chunk_bytes(c, i) <= budget; i++) {
        resident[i] = true;
        sum += aligned_chunk_bytes(c, i);
    }
}

void policy_spread(const step_chunks *c, size_t budget, bool *resident)
{
    double all = 0, due = 0;
    size_t sum = 0;
    clear_resident_flags(c, resident);
    for (int i = c->first; i < c->end; i++)
        all += (double)aligned_chunk_bytes(c, i);
    for (int i = c->first; i < c->end; i++) {
        const size_t bytes = aligned_chunk_bytes(c, i);
        due += (double)bytes * (double)budget / all;
        if (due < (double)bytes || sum + bytes > budget)
            continue;
        resident[i] = true;
        due -= (double)bytes;
        sum += bytes;
    }
}

void policy_lru(const step_chunks *c, size_t budget, bool *resident)
{
    const int n = c->end - c->first;
    uint64_t now = 0;
    uint64_t *used = calloc((size_t)n_pack_chunks(c->p), sizeof *used); /* 0: not in it */
    size_t sum = 0;
    clear_resident_flags(c, resident);
    while (used && now < (uint64_t)n * ROUNDS) {
        const int chunk = c->first + (int)(now % (uint64_t)n);
        resident[chunk] = used[chunk] != 0;
        if (!used[chunk])
            sum += aligned_chunk_bytes(c, chunk);
        used[chunk] = ++now;
        while (sum > budget) {
            int oldest = chunk;
            for (int i = c->first; i < c->end; i++)
                if (used[i] && used[i] < used[oldest])
                    oldest = i;
            used[oldest] = 0;
            sum -= aligned_chunk_bytes(c, oldest);
        }
    }
    free(used);
}

typedef struct policy_candidate {
    int chunk;
    double macs_per_byte;
} policy_candidate;

static int compare_macs_per_byte(const void *pa, const void *pb)
{
    const policy_candidate *a = pa, *b = pb;
    if (a->macs_per_byte != b->macs_per_byte)
        return a->macs_per_byte < b->macs_per_byte ? -1 : 1;
    return (a->chunk > b->chunk) - (a->chunk < b->chunk);
}

void policy_least_first(const step_chunks *c, size_t budget, bool *resident)
{
    const int n = c->end - c->first;
    policy_candidate *list = calloc((size_t)n, sizeof *list);
    size_t sum = 0;
    clear_resident_flags(c, resident);
    for (int i = 0; i < n && list; i++) {
        const int chunk = c->first + i;
        const double macs = (double)dev_work_macs(c->work[chunk]);
        list[i] = (policy_candidate){ chunk, macs / (double)aligned_chunk_bytes(c, chunk) };
    }
    if (list)
        qsort(list, (size_t)n, sizeof *list, compare_macs_per_byte);
    for (int i = 0; i < n && list; i++)
        if (sum + aligned_chunk_bytes(c, list[i].chunk) <= budget) {
            resident[list[i].chunk] = true;
            sum += aligned_chunk_bytes(c, list[i].chunk);
        }
    free(list);
}
