/* tests/support/vectors.c -- the reference vectors that are shared beside the repository. */
#include "tests/support/vectors.h"

#include <stdio.h>
#include <stdlib.h>

bool vectors_path(const char *name, char out[VECTORS_PATH])
{
    const char *dir = getenv("REFINE_SHARED");
    const int n = snprintf(out, VECTORS_PATH, "%s/%s", dir ? dir : "../shared", name);
    FILE *f = n < VECTORS_PATH ? fopen(out, "rb") : NULL;
    if (!f) {
        printf("SKIP %s is not here (set REFINE_SHARED)\n", out);
        return false;
    }
    (void)fclose(f);
    return true;
}

json_t *vectors_load(const char *name)
{
    char path[VECTORS_PATH];
    json_error_t where;
    if (!vectors_path(name, path))
        return NULL;
    json_t *v = json_load_file(path, 0, &where);
    if (!v)
        printf("SKIP %s: line %d: %s\n", path, where.line, where.text);
    return v;
}

size_t vectors_doubles(const json_t *object, const char *key, double *out, size_t max)
{
    const json_t *list = json_object_get(object, key);
    size_t n = 0;
    for (; n < json_array_size(list) && n < max; n++)
        out[n] = json_number_value(json_array_get(list, n));
    return n;
}
