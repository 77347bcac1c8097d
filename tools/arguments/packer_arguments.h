/* tools/arguments/packer_arguments.h -- what the command line of refine-pack asks for. */
#ifndef REFINE_PACKER_ARGUMENTS_H
#define REFINE_PACKER_ARGUMENTS_H

#include "tools/cli/options.h"
#include "tools/packer/weights_policy.h"
#include "tools/source/schedule_choices.h"

typedef enum packer_mode { MODE_PACK, MODE_INSPECT, MODE_VERIFY } packer_mode;
typedef enum packer_codec { PACKER_ZSTD, PACKER_RAW } packer_codec;

typedef struct packer_arguments {
    packer_mode mode;
    int n_packs;       /* that are to be read */
    const char *input; /* the source, or the pack that is read */
    const char *output, *tokenizer, *vae, *variant;
    schedule_choices schedule;
    weights_kind weights;
    packer_codec codec;
    uint64_t chunk_bytes; /* 0: as pack_write chooses */
    int threads;          /* 0: one per core */
    bool force, json, quiet;
} packer_arguments;

extern const options_program PACKER_OPTIONS;

/* -1: go on; else the exit code. */
int packer_arguments_read(packer_arguments *a, int argc, char **argv);

#endif
