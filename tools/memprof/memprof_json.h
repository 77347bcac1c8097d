/* tools/memprof/memprof_json.h -- a report for scripts: one JSON object, in bytes and seconds. */
#ifndef REFINE_MEMPROF_JSON_H
#define REFINE_MEMPROF_JSON_H

#include "tools/memprof/memprof_report.h"

#include <stdio.h>

/* REFINE_ENOMEM. */
refine_status memprof_print_json(FILE *out, const memprof *m, refine_error *err);

#endif
