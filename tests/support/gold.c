/* tests/support/gold.c -- reads the golden values of tests/golden/. */
#include "tests/support/gold.h"

#include "engine/base/mem.h"
#include "engine/base/try.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const char MAGIC[8] = { 'R', 'G', 'O', 'L', 'D', '1', '\n', 0 };

enum { BYTES_MAX = 64 << 20, SMALLEST_ENTRY = 2 + 6 * 4 };

struct gold {
    gold_entry *entry;
    uint32_t n;
    float *values; /* of all entries, one behind the other */
};

/* What is left to read. */
typedef struct gold_cursor {
    const unsigned char *p;
    size_t left;
} gold_cursor;

static bool read_gold_bytes(gold_cursor *c, void *dst, size_t n)
{
    if (n > c->left)
        return false;
    memcpy(dst, c->p, n);
    c->p += n;
    c->left -= n;
    return true;
}

/* Elements of the tensor; 0 when there are none or absurdly many. */
static uint64_t gold_elements(const gold_entry *e)
{
    const uint64_t limit = (uint64_t)1 << 32;
    const uint32_t shape[4] = { e->n, e->c, e->h, e->w };
    uint64_t product = 1;
    for (int i = 0; i < 4; i++) {
        product *= shape[i];
        if (product == 0 || product >= limit)
            return 0;
    }
    return product;
}

static bool take_entry(gold_cursor *c, gold_entry *e, float *values, size_t room)
{
    uint16_t len;
    uint32_t v[6];
    if (!read_gold_bytes(c, &len, sizeof len) || len == 0 || len >= GOLD_NAME ||
        !read_gold_bytes(c, e->name, len) || !read_gold_bytes(c, v, sizeof v))
        return false;
    e->name[len] = 0;
    e->n = v[0];
    e->c = v[1];
    e->h = v[2];
    e->w = v[3];
    e->stride = v[4];
    e->stored = v[5];
    e->value = values;

    const uint64_t all = gold_elements(e);
    if (all == 0 || e->stride == 0 || e->stored != (all + e->stride - 1) / e->stride ||
        e->stored > room)
        return false;
    return read_gold_bytes(c, values, e->stored * sizeof *values);
}

static refine_status parse_gold(gold *g, gold_cursor c, refine_error *err)
{
    const size_t room = c.left / sizeof *g->values;
    size_t used = 0;

    g->entry = mem_calloc((size_t)g->n + 1, sizeof *g->entry);
    g->values = mem_calloc(room + 1, sizeof *g->values);
    if (!g->entry || !g->values)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    for (uint32_t i = 0; i < g->n; i++) {
        if (!take_entry(&c, &g->entry[i], g->values + used, room - used))
            return refine_fail(err, REFINE_EFORMAT, "golden values: entry %u is damaged", i);
        used += g->entry[i].stored;
    }
    if (c.left)
        return refine_fail(err, REFINE_EFORMAT, "golden values: %zu bytes too many", c.left);
    return REFINE_OK;
}

refine_status gold_parse(gold **out, const void *bytes, size_t len, refine_error *err)
{
    gold_cursor c = { bytes, len };
    char magic[sizeof MAGIC];
    uint32_t n;

    *out = NULL;
    if (!read_gold_bytes(&c, magic, sizeof magic) || memcmp(magic, MAGIC, sizeof magic) != 0 ||
        !read_gold_bytes(&c, &n, sizeof n) || n > c.left / SMALLEST_ENTRY)
        return refine_fail(err, REFINE_EFORMAT, "not a file of golden values");
    gold *g = mem_calloc(1, sizeof *g);
    if (!g)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    g->n = n;
    const refine_status st = parse_gold(g, c, err);
    if (st != REFINE_OK) {
        gold_close(g);
        return st;
    }
    *out = g;
    return REFINE_OK;
}

refine_status gold_open(gold **out, const char *path, refine_error *err)
{
    refine_status st = REFINE_OK;
    size_t len = 0;

    *out = NULL;
    FILE *f = fopen(path, "rbe");
    if (!f)
        return refine_fail(err, REFINE_EIO, "%s: cannot be opened", path);
    char *bytes = mem_alloc(BYTES_MAX);
    if (!bytes)
        st = refine_fail(err, REFINE_ENOMEM, "out of memory");
    else
        len = fread(bytes, 1, BYTES_MAX, f);
    if (st == REFINE_OK && (ferror(f) || !feof(f)))
        st = refine_fail(err, REFINE_EIO, "%s: cannot be read, or is too long", path);
    (void)fclose(f);
    if (st == REFINE_OK)
        st = gold_parse(out, bytes, len, err);
    mem_free(bytes);
    return st;
}

void gold_close(gold *g)
{
    if (!g)
        return;
    mem_free(g->entry);
    mem_free(g->values);
    mem_free(g);
}

const gold_entry *gold_find(const gold *g, const char *name)
{
    for (uint32_t i = 0; i < g->n; i++)
        if (strcmp(g->entry[i].name, name) == 0)
            return &g->entry[i];
    return NULL;
}

const gold_entry *gold_at(const gold *g, uint32_t i) { return i < g->n ? &g->entry[i] : NULL; }
