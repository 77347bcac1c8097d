/* tools/report/compare_report.h -- a comparison as text for people and as JSON. */
#ifndef REFINE_COMPARE_REPORT_H
#define REFINE_COMPARE_REPORT_H

#include "tools/report/compare.h"

#include <jansson.h>
#include <stdio.h>

/* pack, r: of the run that was compared. */
void compare_print(FILE *out, const compare *c, const char *pack, const refine_report *r);

/* The object, the caller's; NULL when out of memory.  Decibels of what does not differ are null. */
json_t *compare_json(const compare *c, const refine_report *r);

#endif
