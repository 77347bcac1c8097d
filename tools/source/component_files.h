/* tools/source/component_files.h -- which file of a component's directory holds its weights.
 *
 *     STEM.safetensors                      the weights        STEM.safetensors.index.json
 *     STEM.VARIANT.safetensors              or a variant       STEM.safetensors.index.VARIANT.json
 *                                                              STEM.VARIANT.safetensors.index.json
 *
 * On the right they are in shards, which the index names.
 */
#ifndef REFINE_COMPONENT_FILES_H
#define REFINE_COMPONENT_FILES_H

#include <refine/status.h>

#include <stdbool.h>

enum { COMPONENT_NAME = 256, COMPONENT_VARIANT = 32 };

typedef struct component_file {
    char name[COMPONENT_NAME];       /* in the directory */
    char variant[COMPONENT_VARIANT]; /* "": of none */
    bool sharded;                    /* it is an index */
    bool there;                      /* and no link to nothing */
} component_file;

/* That of the variant, if one is asked for (else NULL) and there; else that of none, as diffusers
 * does; else of the only variant.  REFINE_EFORMAT: there are several variants, which the text
 * names, or other files, of which it says what they are. */
refine_status component_files_choose(component_file *out, const char *dir, const char *stem,
                                     const char *variant, refine_error *err);

#endif
