/* tools/cli/devices.h -- what --device may name on this machine. */
#ifndef REFINE_TOOLS_DEVICES_H
#define REFINE_TOOLS_DEVICES_H

#include <stdio.h>

enum { DEVICES_MAX = 64 }; /* GPUs that are looked at */

/* A line for each device on `out`; where there is no GPU a line on `why_none`.  Returns the exit
 * code of a program that does nothing else. */
int devices_print(FILE *out, FILE *why_none);

#endif
