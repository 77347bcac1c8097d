/* tools/arguments/lowmem_arguments.h -- what the command line of refine-lowmem asks for. */
#ifndef REFINE_LOWMEM_ARGUMENTS_H
#define REFINE_LOWMEM_ARGUMENTS_H

#include "tools/cli/options.h"

#include "tools/batch/size_wish.h"
#include <jansson.h>
#include <refine/refine.h>

/* How a base and a refiner share the work. */
typedef enum flow_kind { FLOW_ENSEMBLE, FLOW_TWO_STAGE } flow_kind;

typedef struct lowmem_arguments {
    refine_options o;
    refine_job j;
    const char **inputs; /* owned; as many as -i was given */
    int n_inputs;
    const char *manifest, *output, *output_latents, *tokenizer, *trace, *reference;
    json_t *notes; /* owned, texts: what was decided for the user so far */
    json_t *told;  /* likewise: those that have been on the terminal */
    flow_kind flow;
    bool plan, json, quiet;
    bool seeded; /* else a seed is drawn */
    uint8_t background[3];
    size_wish size;
    int count; /* images of each input, or of the prompt; 1 to begin with */
} lowmem_arguments;

extern const options_program LOWMEM_OPTIONS;

/* -1: go on; else the exit code.  lowmem_arguments_free either way. */
int lowmem_arguments_read(lowmem_arguments *a, int argc, char **argv);
void lowmem_arguments_free(lowmem_arguments *a);

#endif
