/* tools/files/merges.h -- a CLIP merge list out of whatever file it was published in. */
#ifndef REFINE_MERGES_H
#define REFINE_MERGES_H

#include <refine/status.h>

#include <stdbool.h>
#include <stddef.h>

/* `path` is one of
 *     merges.txt, bpe_simple_vocab_16e6.txt, either of them gzipped
 *     tokenizer.json (its member model.merges)
 *     vocab.json, with merges.txt beside it
 *     a directory with one of these, or with tokenizer_2/ or tokenizer/ holding one.
 * Told apart by what is in the file, not by its name.
 *
 * On success *text is 48894 lines "left right\n" that tokenizer_open accepts, *len
 * bytes and a final NUL; free it with mem_free.  Where a vocabulary comes along (the JSON
 * files) its ids were checked against the rule that the tokenizer numbers by.  A text
 * whose first line is "#version: demo" may have fewer lines, for models that nobody
 * trained; nothing else may. */
refine_status merges_load(const char *path, char **text, size_t *len, refine_error *err);

/* The same of a gzipped text that is part of the program (tools/vocabulary/). */
refine_status merges_unpack(const void *gzip, size_t bytes, char **text, size_t *len,
                            refine_error *err);

/* The files that merges_load may read: what it finds at `path`, and merges.txt beside that.
 * False: there is nothing to find. */
enum { MERGES_PATH = 4096 };
bool merges_files(char file[MERGES_PATH], char beside[MERGES_PATH], const char *path);

#endif
