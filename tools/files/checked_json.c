/* tools/files/checked_json.c -- a kind and a range for every member. */
#include "tools/files/checked_json.h"

#include "engine/base/mem.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

void refuse_json(json_checker *c, const char *what)
{
    if (c->st == REFINE_OK)
        c->st = refine_fail(c->err, REFINE_EFORMAT, "%s: %s; is this a %s?", c->path, what,
                            c->kind);
}

void checker_out_of_memory(json_checker *c)
{
    if (c->st == REFINE_OK)
        c->st = refine_fail(c->err, REFINE_ENOMEM, "out of memory");
}

static void refuse_member(json_checker *c, const char *key, const char *kind)
{
    char what[96];
    (void)snprintf(what, sizeof what, "'%s' is no %s", key, kind);
    refuse_json(c, what);
}

/* A number that is not from 0 to `most`, as a NaN would be, is refused. */
static double real_in_range(json_checker *c, const json_t *v, const char *key, double most)
{
    const double d = json_number_value(v);
    if (json_is_number(v) && d >= 0 && d <= most)
        return d;
    refuse_member(c, key, "number in range");
    return 0;
}

double checked_real(json_checker *c, const json_t *o, const char *key, double most)
{
    const json_t *v = json_object_get(o, key);
    return v ? real_in_range(c, v, key, most) : 0;
}

uint64_t checked_count(json_checker *c, const json_t *o, const char *key, uint64_t most)
{
    const json_t *v = json_object_get(o, key);
    const json_int_t n = json_integer_value(v);
    if (!v)
        return 0;
    if (!json_is_integer(v) || n < 0 || (uint64_t)n > most) {
        refuse_member(c, key, "count in range");
        return 0;
    }
    return (uint64_t)n;
}

uint64_t checked_bytes(json_checker *c, const json_t *o, const char *key)
{
    return checked_count(c, o, key, INT64_MAX);
}

int checked_int(json_checker *c, const json_t *o, const char *key)
{
    return (int)checked_count(c, o, key, INT_MAX);
}

const char *checked_text(json_checker *c, const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    if (v && !json_is_string(v))
        refuse_member(c, key, "text");
    const char *s = json_string_value(v);
    return s ? s : "";
}

json_t *checked_object(json_checker *c, const json_t *o, const char *key)
{
    json_t *v = json_object_get(o, key);
    if (v && !json_is_object(v)) {
        refuse_member(c, key, "object");
        return NULL;
    }
    return v;
}

double *checked_reals(json_checker *c, const json_t *o, const char *key, double most, size_t *n)
{
    const json_t *list = json_object_get(o, key);
    double *v = NULL;

    *n = json_array_size(list);
    if (*n == 0)
        return NULL;
    v = mem_calloc(*n, sizeof *v);
    if (!v) {
        checker_out_of_memory(c);
        *n = 0;
        return NULL;
    }
    for (size_t i = 0; i < *n; i++)
        v[i] = real_in_range(c, json_array_get(list, i), key, most);
    return v;
}

int checked_word(json_checker *c, const json_t *o, const char *key, const char *const list[], int n)
{
    const char *s = checked_text(c, o, key);
    for (int i = 0; i < n; i++)
        if (strcmp(s, list[i]) == 0)
            return i;
    refuse_member(c, key, "word that is known");
    return 0;
}
