/* tools/batch/job_notes.h -- what was decided for the user about an image, each in a sentence that
 * is appended to a list of JSON texts. */
#ifndef REFINE_JOB_NOTES_H
#define REFINE_JOB_NOTES_H

#include "tools/batch/job_input.h"

#include <jansson.h>

/* Of the prompts, with what marks their start and end. */
enum { TOKENS_READ = 77 };

/* What the user should know of an input, and that it was cut or resized.  name: '-' is standard
 * input. */
void note_input(json_t *notes, const char *name, const job_input *in);

/* What the job gives to no end, as refine_report.unused has it. */
void note_unused(json_t *notes, const char *unused);

/* Prompts of more than TOKENS_READ tokens. */
void note_tokens(json_t *notes, const char *name, int tokens, int negative_tokens);

#endif
