/* tests/support/trouble.h -- reads that fail, end early, come in part or are interrupted.
 *
 *     trouble t = { .at = 7, .kind = TROUBLE_FAILS };
 *     const reader_calls calls = trouble_calls(&t);
 *
 * Both must outlive the reader.
 */
#ifndef TEST_TROUBLE_H
#define TEST_TROUBLE_H

#include "offload/reader.h"

#include <stdatomic.h>

typedef enum trouble_kind {
    TROUBLE_NONE,
    TROUBLE_SHORT,       /* half of what was asked for */
    TROUBLE_INTERRUPTED, /* every other time */
    TROUBLE_FAILS,
    TROUBLE_ENDS,   /* as if the file did */
    TROUBLE_SUBMITS /* io_uring takes no more; `at` counts what it is handed over */
} trouble_kind;

typedef struct trouble {
    atomic_int reads, submissions, at; /* at: number of the one that has it; negative: all */
    trouble_kind kind;
} trouble;

reader_calls trouble_calls(trouble *t);

#endif
