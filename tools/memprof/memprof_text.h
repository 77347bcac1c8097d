/* tools/memprof/memprof_text.h -- a report for the terminal, 80 columns wide. */
#ifndef REFINE_MEMPROF_TEXT_H
#define REFINE_MEMPROF_TEXT_H

#include "tools/memprof/memprof_report.h"

#include <stdio.h>

/* REFINE_ENOMEM. */
refine_status memprof_print(FILE *out, const memprof *m, refine_error *err);

#endif
