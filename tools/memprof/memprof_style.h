/* tools/memprof/memprof_style.h -- how the HTML report looks. */
#ifndef REFINE_MEMPROF_STYLE_H
#define REFINE_MEMPROF_STYLE_H

extern const char memprof_style[]; /* tools/memprof/report.css (cmake/Embed.cmake) */

#endif
