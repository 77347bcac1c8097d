/* tests/engine/test_weight_list.c -- the list is the published model: names, shapes, order. */
#include "engine/model/weight_list.h"

#include "engine/base/mem.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static weight_list build_checked_list(const model_config *c)
{
    weight_list l;
    cr_assert_eq(model_config_check(c, NULL), REFINE_OK);
    cr_assert_eq(weight_list_build(&l, c), REFINE_OK);
    return l;
}

Test(engine_weight_list, has_every_parameter_of_the_refiner_once)
{
    weight_list l = build_checked_list(&MODEL_REFINER);
    uint64_t per[N_SEGMENTS] = { 0 }, total = 0;
    for (int i = 0; i < l.n; i++) {
        per[l.entry[i].seg] += weight_elements(&l.entry[i]);
        total += weight_elements(&l.entry[i]);
    }
    cr_assert_eq(total, 3037840363u); /* the published checkpoint */
    cr_assert_eq(per[SEG_TOKENS], 49408u * 1280);
    cr_assert_eq(per[SEG_UNET] + per[SEG_ONCE] + 1161220 - 0, 2259526660u,
                 "UNet matrices and its 1161220 numbers in vectors");
    weight_list_free(&l);
}

Test(engine_weight_list, lists_segments_in_order_and_names_once)
{
    weight_list l = build_checked_list(&MODEL_TINY);
    for (int i = 1; i < l.n; i++)
        cr_assert_leq(l.entry[i - 1].seg, l.entry[i].seg);
    for (int i = 0; i < l.n; i++)
        cr_assert_eq(weight_list_find(&l, l.entry[i].name), i, "%s", l.entry[i].name);
    weight_list_free(&l);
}

/* The reference list: component, name, dtype, shape... one tensor a line. */
static FILE *open_reference_list(void)
{
    const char *shared = getenv("REFINE_SHARED");
    char path[512];
    snprintf(path, sizeof path, "%s/spec/refiner_tensors_diffusers.tsv",
             shared ? shared : "../shared");
    return fopen(path, "r");
}

static const char *prefix_of(const char *component)
{
    if (strcmp(component, "unet") == 0)
        return "unet";
    return strcmp(component, "vae") == 0 ? "vae" : "text";
}

static int times_used(const weight_list *l, const char *name)
{
    int n = 0;
    for (int i = 0; i < l->n; i++)
        for (int k = 0; k < l->entry[i].n_sources; k++)
            n += strcmp(l->entry[i].source[k], name) == 0;
    return n;
}

Test(engine_weight_list, uses_every_published_tensor_exactly_once, .timeout = 60)
{
    FILE *f = open_reference_list();
    char line[1024], component[64], tensor_name[256];
    int n = 0;
    if (!f) {
        printf("SKIP the list of published tensors is not here\n");
        cr_skip_test("the list of published tensors is not here");
    }
    weight_list l = build_checked_list(&MODEL_REFINER);
    cr_assert_not_null(fgets(line, sizeof line, f));
    while (fgets(line, sizeof line, f)) {
        char name[WEIGHT_NAME * 3];
        cr_assert_eq(sscanf(line, "%63s %255s", component, tensor_name), 2);
        snprintf(name, sizeof name, "%s.%s", prefix_of(component), tensor_name);
        cr_assert_eq(times_used(&l, name), 1, "%s", name);
        n++;
    }
    cr_assert_eq(n, 1985);
    (void)fclose(f);
    weight_list_free(&l);
}

/* In an order that the sort has to change. */
enum { DECLARED = 7 };
static refine_status declare_some(weight_list *l, wref w[DECLARED])
{
    static const char *const PARTS[] = { "a", "b" };
    weight_builder b = weight_list_begin(l, &MODEL_TINY);
    const affine_ref table = declare_matrix(&b, SEG_TOKENS, "x", "table", 5, 3);
    const affine_ref conv = declare_conv(&b, SEG_UNET, "x", "conv", 4, 3, 2);
    const affine_ref stack = declare_stack(&b, SEG_TEXT, "x", "ab", PARTS, 2, false, 4, 3);
    const affine_ref gated = declare_gated(&b, SEG_UNET, "x", "gated", 8, 3);
    const wref vector = declare_vector(&b, "x", "vector", 9);
    const wref all[DECLARED] = { table.weight, conv.weight, conv.bias, stack.weight,
                                 gated.weight, gated.bias,  vector };
    memcpy(w, all, sizeof all);
    if (b.st == REFINE_OK) {
        cr_expect_not(weight_present(table.bias));
        cr_expect_not(weight_present(stack.bias));
    }
    return weight_list_end(&b);
}

Test(engine_weight_list, sorts_by_segment_and_references_lead_to_what_was_declared)
{
    static const char *const NAMES[DECLARED] = { "x.table.weight", "x.conv.weight",  "x.conv.bias",
                                                 "x.ab.weight",    "x.gated.weight", "x.gated.bias",
                                                 "x.vector.weight" };
    static const char *const SORTED[DECLARED] = { "x.conv.bias",     "x.gated.bias",
                                                  "x.vector.weight", "x.ab.weight",
                                                  "x.conv.weight",   "x.gated.weight",
                                                  "x.table.weight" };
    weight_list l;
    wref w[DECLARED];
    cr_assert_eq(declare_some(&l, w), REFINE_OK);
    cr_assert_eq(l.n, DECLARED);
    for (int i = 0; i < DECLARED; i++) {
        cr_expect_str_eq(l.entry[weight_index(&l, w[i])].name, NAMES[i]);
        cr_expect_str_eq(l.entry[i].name, SORTED[i]);
    }
    const weight_entry *ab = &l.entry[weight_index(&l, w[3])];
    cr_expect(ab->op == WEIGHT_STACK && ab->rows == 8 && ab->n_sources == 2);
    cr_expect_str_eq(ab->source[1], "x.b.weight");
    cr_expect_eq(l.entry[weight_index(&l, w[5])].op, WEIGHT_INTERLEAVE);
    weight_list_free(&l);
}

Test(engine_weight_list, without_memory_is_empty_and_references_nothing)
{
    for (long k = 0;; k++) {
        const uint64_t before = mem_used().now;
        weight_list l;
        wref w[DECLARED];
        mem_fail_after(k, MEM_FAIL_ONCE);
        const refine_status st = declare_some(&l, w);
        mem_fail_after(-1, MEM_FAIL_ONCE);
        if (st == REFINE_OK) {
            cr_expect_eq(k, 3, "the list, its sorted copy and its index");
            weight_list_free(&l);
            break;
        }
        cr_expect_eq(st, REFINE_ENOMEM);
        cr_expect_eq(l.n, 0);
        cr_expect_eq(mem_used().now, before);
        for (int i = 0; k == 0 && i < DECLARED; i++)
            cr_expect_not(weight_present(w[i]));
    }
}
