/* tools/memprof/memprof_style.h -- how the HTML report looks, in light and in dark. */
#ifndef REFINE_MEMPROF_STYLE_H
#define REFINE_MEMPROF_STYLE_H

extern const char *const memprof_style[]; /* CSS in pieces, NULL-ended */

#endif
