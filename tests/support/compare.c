/* tests/support/compare.c -- how far computed values are from the golden ones. */
#include "tests/support/compare.h"

#include <math.h>
#include <stdio.h>

static double refuse_comparison(const char *name, const char *why)
{
    fprintf(stderr, "%s: %s\n", name, why);
    return (double)INFINITY;
}

static const gold_entry *entry_of(const gold *g, const char *name, int n, int h, int w, int c)
{
    const gold_entry *e = gold_find(g, name);
    if (!e) {
        (void)refuse_comparison(name, "the gold file has no such entry");
        return NULL;
    }
    if (e->n == (uint32_t)n && e->h == (uint32_t)h && e->w == (uint32_t)w && e->c == (uint32_t)c)
        return e;
    fprintf(stderr, "%s: computed (n,c,h,w) = (%d,%d,%d,%d), golden (%u,%u,%u,%u)\n", name, n, c, h,
            w, e->n, e->c, e->h, e->w);
    return NULL;
}

/* Where element `flat` of (n,c,h,w) lies in (n,h,w,c). */
static size_t nhwc_index(const gold_entry *e, size_t flat)
{
    const size_t hw = (size_t)e->h * e->w;
    const size_t pixel = flat % hw, plane = flat / hw;
    return (plane / e->c * hw + pixel) * e->c + plane % e->c;
}

static double error_of(const gold_entry *e, const float *v,
                       size_t (*at)(const gold_entry *, size_t))
{
    double worst = 0, largest = 0;
    for (size_t i = 0; i < e->stored; i++) {
        const double want = (double)e->value[i], got = (double)v[at(e, i * e->stride)];
        if (!isfinite(got))
            return refuse_comparison(e->name, "a computed value is no number");
        worst = fmax(worst, fabs(got - want));
        largest = fmax(largest, fabs(want));
    }
    if (largest > 0)
        return worst / largest;
    return worst > 0 ? (double)INFINITY : 0;
}

double gold_compare(const gold *g, const char *name, const float *nhwc, int n, int h, int w, int c)
{
    const gold_entry *e = entry_of(g, name, n, h, w, c);
    return e ? error_of(e, nhwc, nhwc_index) : (double)INFINITY;
}

static size_t as_it_lies(const gold_entry *e, size_t flat)
{
    (void)e;
    return flat;
}

double gold_compare_planes(const gold *g, const char *name, const float *nchw, int n, int c, int h,
                           int w)
{
    const gold_entry *e = entry_of(g, name, n, h, w, c);
    return e ? error_of(e, nchw, as_it_lies) : (double)INFINITY;
}
