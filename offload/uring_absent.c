/* offload/uring_absent.c -- io_uring of a build without liburing; readers fall back to pread. */
#include "offload/reader.h"

refine_status reader_open_uring(reader **out, const reader_config *c, refine_error *err)
{
    (void)c;
    *out = NULL;
    return refine_fail(err, REFINE_EIO,
                       "io_uring is unavailable: this program was built without liburing");
}
