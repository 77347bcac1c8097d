/* engine/include/refine/status.h -- the one vocabulary of failure.
 *
 * Zero is success, negative is failure.  A failure of the world travels as a
 * refine_status, with one line of text in the caller's refine_error saying what,
 * where and what to do.  Our own bugs are asserts; a device's are sticky in it.
 * Public: installed next to refine.h.
 */
#ifndef REFINE_STATUS_H
#define REFINE_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

typedef enum refine_status {
    REFINE_OK = 0,
    REFINE_EINVAL = -1,    /* the caller broke the contract of a public call */
    REFINE_ENOMEM = -2,    /* host memory */
    REFINE_EBUDGET = -3,   /* would exceed the device or host ceiling we were given */
    REFINE_EIO = -4,       /* the file system said no */
    REFINE_EFORMAT = -5,   /* the file is not what it claims to be */
    REFINE_EDEVICE = -6,   /* the device failed and is finished */
    REFINE_ECANCELLED = -7 /* the caller's progress callback asked to stop */
} refine_status;

/* Filled on failure, untouched on success.  NULL is always accepted. */
typedef struct refine_error {
    refine_status status;
    char text[512];
} refine_error;

/* Fills `err` (NULL is fine) printf-style and returns `st`. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4), visibility("default")))
#endif
refine_status
refine_fail(refine_error *err, refine_status st, const char *fmt, ...);

#ifdef __cplusplus
}
#endif
#endif
