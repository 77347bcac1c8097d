/* engine/base/try.h -- the two control macros of the code base. */
#ifndef REFINE_TRY_H
#define REFINE_TRY_H

#include <refine/status.h>

/* Return early, unchanged.  For functions that own nothing yet. */
#define TRY(expr)                                                                                  \
    do {                                                                                           \
        const refine_status try_ = (expr);                                                         \
        if (try_ != REFINE_OK)                                                                     \
            return try_;                                                                           \
    } while (0)

/* Jump to the one cleanup label, the status in `st`.  For functions that do. */
#define TRY_OR(label, expr)                                                                        \
    do {                                                                                           \
        if ((st = (expr)) != REFINE_OK)                                                            \
            goto label;                                                                            \
    } while (0)

#endif
