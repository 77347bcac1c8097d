/* tests/support/temp_file.h -- files that tests write, read back and damage. */
#ifndef TEMP_FILE_H
#define TEMP_FILE_H

#include <stdbool.h>
#include <stddef.h>

enum { TEMP_NAME = 256 };

/* A new empty file whose name ends in `suffix`. */
void temp_file(char name[TEMP_NAME], const char *suffix);
void temp_write(const char *name, const void *data, size_t len);
/* The whole file, to be freed with free(). */
unsigned char *temp_read(const char *name, size_t *len);
/* Removes the file that an error says the work is kept as; false: it says of none. */
bool temp_remove_kept(const char *error);

#endif
