/* tools/files/durations.h -- spans of time as people say them. */
#ifndef REFINE_DURATIONS_H
#define REFINE_DURATIONS_H

/* "1.5 hours" from one hour on, "25 minutes" from two, else "12.3 seconds". */
enum { DURATION_TEXT = 32 };
const char *duration_text(char out[DURATION_TEXT], double seconds);

#endif
