/* tests/fuzz/fuzz_safetensors.c -- hostile checkpoints: the header, and what is made of its names.
 *
 * What opens must keep the promises of tools/files/safetensors.h; what is taken for a refiner must
 * be readable to its last element.
 */
#define _GNU_SOURCE /* memfd_create */
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "tests/fuzz/memory_file.h"
#include "tools/files/safetensors.h"
#include "tools/source/checkpoint.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t end_of(const safetensor *t) { return t->at + t->bytes; }

static void check_tensors(const safetensors *f)
{
    unsigned char last;
    for (int i = 0; i < f->n; i++) {
        const safetensor *t = &f->tensor[i];
        assert(num_within(t->at, t->bytes, f->file_bytes));
        assert(t->type == ST_OTHER || t->bytes == t->elements * st_dtype_bytes(t->type));
        assert(safetensors_find(f, t->name) == t);
        assert(i == 0 || strcmp(f->tensor[i - 1].name, t->name) < 0);
        for (int j = 0; j < i; j++) {
            const safetensor *o = &f->tensor[j];
            assert(!t->bytes || !o->bytes || end_of(t) <= o->at || end_of(o) <= t->at);
        }
        if (t->bytes)
            assert(safetensors_read(f, t, t->bytes - 1, 1, &last, NULL) == REFINE_OK);
        assert(safetensors_read(f, t, t->bytes, 1, &last, NULL) == REFINE_EINVAL);
    }
}

static void check_source(const weight_source *s)
{
    for (int e = 0; e < s->list.n; e++)
        for (int part = 0; part < s->list.entry[e].n_sources; part++) {
            const weight_entry *l = &s->list.entry[e];
            const uint64_t n = weight_elements(l) / (uint64_t)l->n_sources;
            uint16_t row[4096];
            /* The transposed one is read by rows. */
            const size_t width = (size_t)l->c_in <= 4096 ? (size_t)l->c_in : 0;
            if (l->seg != SEG_VECTORS && width)
                (void)s->read(s, e, part, n - width, width, DT_F16, row, NULL);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char name[MEMORY_FILE_NAME];
    refine_error err = { 0 };
    safetensors *f;
    weight_source *s;
    const int fd = memory_file(name, data, size);
    if (fd < 0)
        return 0;

    refine_status st = safetensors_open(&f, name, &err);
    if (st == REFINE_OK)
        check_tensors(f);
    else
        assert(!f && err.status == st && err.text[0] != '\0');
    safetensors_close(f);

    err = (refine_error){ 0 };
    st = checkpoint_open(&s, name, NULL, &err);
    if (st == REFINE_OK) {
        check_source(s);
        s->close(s);
    } else {
        assert(!s && err.status == st && err.text[0] != '\0');
    }
    assert(mem_used().now == 0);
    (void)close(fd);
    return 0;
}
