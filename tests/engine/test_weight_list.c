/* tests/engine/test_weight_list.c -- the layout is the published model: names, shapes, order. */
#include "engine/model/weight_list.h"

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
