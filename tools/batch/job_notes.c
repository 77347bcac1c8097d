/* tools/batch/job_notes.c -- sentences. */
#include "tools/batch/job_notes.h"

#include "tools/files/json_values.h"

#include <stdio.h>
#include <string.h>

static void note_size(json_t *notes, const char *name, const job_input *in)
{
    const size_fit *f = &in->fit;
    char cut[96] = "";
    if (f->cut_width != in->from_width || f->cut_height != in->from_height)
        (void)snprintf(cut, sizeof cut, ", of which %d x %d in the middle were kept,", f->cut_width,
                       f->cut_height);
    if (f->width != in->from_width || f->height != in->from_height)
        append_json_note(notes, "%s: %d x %d pixels%s became %d x %d; sides are multiples of %d",
                         name, in->from_width, in->from_height, cut, f->width, f->height,
                         SIZE_UNIT);
}

void note_input(json_t *notes, const char *name, const job_input *in)
{
    const char *said = strcmp(name, "-") == 0 ? "standard input" : name;
    if (in->note)
        append_json_note(notes, "%s: %s", said, in->note);
    note_size(notes, said, in);
}

static void note_prompt(json_t *notes, const char *name, const char *what, int tokens)
{
    if (tokens > TOKENS_READ)
        append_json_note(notes, "%s: the %s has %d tokens, of which %d are read; the rest was cut",
                         name, what, tokens, TOKENS_READ);
}

void note_tokens(json_t *notes, const char *name, int tokens, int negative_tokens)
{
    note_prompt(notes, name, "prompt", tokens);
    note_prompt(notes, name, "negative prompt", negative_tokens);
}

void note_unused(json_t *notes, const char *unused)
{
    if (unused[0])
        append_json_note(notes, "given, but not used by the models of this run: %s", unused);
}
