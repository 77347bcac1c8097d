/* engine/base/status.c -- formatting of the one error line. */
#include <refine/status.h>

#include <stdarg.h>
#include <stdio.h>

refine_status refine_fail(refine_error *err, refine_status st, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        err->status = st;
        (void)vsnprintf(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
    }
    return st;
}
