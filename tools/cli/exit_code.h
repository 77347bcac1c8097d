/* tools/cli/exit_code.h -- how a program ends; scripts rely on it. */
#ifndef REFINE_EXIT_CODE_H
#define REFINE_EXIT_CODE_H

#include <refine/status.h>

#include <stdbool.h>

enum { EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_BUDGET, EXIT_INPUT };

/* reading: an input was being opened or read, so that what could not be read was that. */
static inline int exit_code(refine_status st, bool reading)
{
    switch (st) {
    case REFINE_OK: return EXIT_DONE;
    case REFINE_EINVAL: return EXIT_USAGE;
    case REFINE_EBUDGET: return EXIT_BUDGET;
    case REFINE_EFORMAT: return EXIT_INPUT;
    case REFINE_EIO: return reading ? EXIT_INPUT : EXIT_FAILED;
    default: return EXIT_FAILED;
    }
}

#endif
