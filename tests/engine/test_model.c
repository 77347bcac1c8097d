/* tests/engine/test_model.c -- a pack understood as a model, in either kind of weights. */
#include "engine/model/model.h"

#include "tests/support/pack_fixture.h"
#include "tests/support/tiny_pack.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int count_tensors_of_type(const model *m, dtype type)
{
    int n = 0;
    for (int i = 0; i < n_pack_tensors(m->p); i++)
        n += pack_tensor_at(m->p, i)->dtype == (uint32_t)type;
    return n;
}

Test(engine_model, takes_matrices_in_16_bits_and_in_int8)
{
    static const char *const OPTIONS[] = { "--weights fp16", "--weights int8" };
    for (int i = 0; i < 2; i++) {
        char path[TEMP_NAME];
        refine_error err = { 0 };
        model m;
        tiny_pack(path, sizeof path, OPTIONS[i]);
        cr_assert_eq(model_open(&m, path, &err), REFINE_OK, "%s", err.text);
        cr_expect_eq(count_tensors_of_type(&m, DT_I8G64) > 0, i == 1);
        cr_expect_gt(count_tensors_of_type(&m, DT_F16), 0);

        const wref w = m.unet->level[m.l.config.unet.levels].block[0].res.conv1.weight;
        const pack_tensor *t = model_tensor(&m, w);
        cr_expect_str_eq(model_entry(&m, w)->name, "unet.mid_block.resnets.0.conv1.weight");
        const tensor rows = model_rows(&m, (int)t->first_chunk, "somewhere");
        cr_expect_eq(rows.type, i ? DT_I8G64 : DT_F16);
        cr_expect(rows.h == 3 && rows.w == 3 && rows.c == (int)t->c_in);
        model_close(&m);
        (void)unlink(path);
    }
}

/* As many bytes, other numbers. */
Test(engine_model, refuses_other_types_than_the_engine_computes_with)
{
    char path[TEMP_NAME];
    size_t bytes;
    model m;
    refine_error err = { 0 };
    tiny_pack(path, sizeof path, "--codec raw");
    pack_fixture f = { .file = temp_read(path, &bytes) };
    for (pack_tensor *t = fixture_tensors(&f);; t++)
        if (t->dtype == DT_F16) {
            t->dtype = DT_BF16;
            break;
        }
    pack_fixture_rehash(f.file, bytes);
    temp_write(path, f.file, bytes);
    cr_expect_eq(model_open(&m, path, &err), REFINE_EFORMAT);
    cr_expect(strstr(err.text, "is expected"), "%s", err.text);
    free(f.file);
    (void)unlink(path);
}
