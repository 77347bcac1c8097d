/* tools/arguments/memprof_arguments.h -- what the command line of refine-memprof asks for. */
#ifndef REFINE_MEMPROF_ARGUMENTS_H
#define REFINE_MEMPROF_ARGUMENTS_H

#include "tools/cli/options.h"
#include "tools/memprof/memprof_report.h"

typedef struct memprof_arguments {
    const char *html, *trace, *from;
    bool json;
    memprof_wish wish;
    refine_options o; /* with the path of a pack when one is planned for */
    refine_job j;
    char **child; /* NULL: no job is run */
} memprof_arguments;

extern const options_program MEMPROF_OPTIONS;

/* -1: go on; else the exit code. */
int memprof_arguments_read(memprof_arguments *a, int argc, char **argv);

#endif
