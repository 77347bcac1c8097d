/* tools/report/compare_report.c -- tables and members. */
#include "tools/report/compare_report.h"

#include "tools/files/json_values.h"

#include <inttypes.h>
#include <math.h>

/* ---- for people ---- */

/* Right-aligned in so many columns. */
static void print_decibels(FILE *out, int columns, double v)
{
    if (isinf(v) && v > 0)
        fprintf(out, "%*s", columns, "the same");
    else
        fprintf(out, "%*.2f dB", columns > 3 ? columns - 3 : 0, v);
}

static void print_steps(FILE *out, const compare *c)
{
    fprintf(out, "\nlatents\nafter step  relative error         PSNR\n");
    for (int i = 0; i < c->n; i++) {
        const compare_layer *s = &c->layers[i];
        if (!compare_is_latents(s))
            continue;
        fprintf(out, "%10d  %14.3g ", s->step + 1, quality_relative(&s->of));
        print_decibels(out, 12, quality_psnr(&s->of));
        fputc('\n', out);
    }
}

static void print_layer_sqnr(FILE *out, const compare *c)
{
    fprintf(out, "\nwhat each layer gives, in the first step         SQNR\n");
    for (int i = 0; i < c->n; i++) {
        const compare_layer *s = &c->layers[i];
        if (compare_is_latents(s) || s->of.n == 0)
            continue;
        fprintf(out, "  %-38s ", s->name);
        print_decibels(out, 12, quality_sqnr(&s->of));
        fputc('\n', out);
    }
}

void compare_print(FILE *out, const compare *c, const char *pack, const refine_report *r)
{
    fprintf(out, "%s in %s\nagainst %s in %s: %d x %d, %d steps, seed %" PRIu64 "\n", pack,
            r->precision, c->o.pack_path, c->reference.precision, r->width, r->height, r->steps_run,
            c->j.seed);
    if (!compare_same_source(c, r))
        fprintf(out,
                "The packs were made from different weights: more than their storage differs.\n");
    fprintf(out, "\nimage  PSNR ");
    print_decibels(out, 0, c->image_error.psnr);
    fprintf(out, ", SSIM %.5f, at most %d grey levels apart\n", c->image_error.ssim,
            c->image_error.apart);
    print_steps(out, c);
    print_layer_sqnr(out, c);
}

/* ---- for scripts ---- */

/* JSON has no word for infinity. */
static json_t *finite_or_null(double v) { return isfinite(v) ? json_real(v) : json_null(); }

static json_t *step_object(const compare_layer *s)
{
    return json_pack("{s:i, s:o, s:o}", "step", s->step + 1, "relative_error",
                     finite_or_null(quality_relative(&s->of)), "psnr",
                     finite_or_null(quality_psnr(&s->of)));
}

static json_t *layer_object(const compare_layer *s)
{
    return json_pack("{s:s, s:o}", "name", s->name, "sqnr", finite_or_null(quality_sqnr(&s->of)));
}

/* Of the latents or of the layers. */
static json_t *layers_array(const compare *c, bool latents)
{
    json_t *list = json_array();
    for (int i = 0; list && i < c->n; i++) {
        const compare_layer *s = &c->layers[i];
        if (compare_is_latents(s) != latents || s->of.n == 0)
            continue;
        if (json_array_append_new(list, latents ? step_object(s) : layer_object(s)) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

json_t *compare_json(const compare *c, const refine_report *r)
{
    char hash[17];
    (void)snprintf(hash, sizeof hash, "%016" PRIx64, c->reference.source_hash);
    json_t *image_error = json_pack("{s:o, s:o, s:i}", "psnr", finite_or_null(c->image_error.psnr),
                                    "ssim", finite_or_null(c->image_error.ssim),
                                    "largest_difference", c->image_error.apart);
    return json_pack("{s:o, s:s, s:s, s:b, s:o, s:o, s:o}", "reference",
                     clean_json_text(c->o.pack_path), "reference_source_hash", hash,
                     "reference_precision", c->reference.precision, "same_source",
                     compare_same_source(c, r), "picture", image_error, "steps",
                     layers_array(c, true), "layers", layers_array(c, false));
}
