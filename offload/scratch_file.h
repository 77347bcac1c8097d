/* offload/scratch_file.h -- a file without a name, which the system removes whatever becomes of the
 * process. */
#ifndef REFINE_SCRATCH_FILE_H
#define REFINE_SCRATCH_FILE_H

#define SCRATCH_FILE_DIR "/var/tmp" /* unless told otherwise: /tmp may be memory */

/* Open for reading and writing; -1 and errno. */
int scratch_file_open(const char *dir);

#endif
