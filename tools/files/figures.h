/* tools/files/figures.h -- amounts as people read them. */
#ifndef REFINE_FIGURES_H
#define REFINE_FIGURES_H

#include <stdint.h>

static inline double bytes_to_mib(uint64_t bytes) { return (double)bytes / 1048576.0; }

/* 0 of nothing. */
static inline double percent_of_whole(double part, double whole)
{
    return whole > 0 ? 100.0 * part / whole : 0.0;
}

#endif
