/* tools/memprof/memprof_html.h -- a report as one HTML file that needs no other and no network. */
#ifndef REFINE_MEMPROF_HTML_H
#define REFINE_MEMPROF_HTML_H

#include "tools/memprof/memprof_report.h"

/* Complete or not at all. */
refine_status memprof_save_html(const char *path, const memprof *m, refine_error *err);

#endif
