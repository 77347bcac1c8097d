/* tools/memprof/memprof_json.c -- a report as one JSON object. */
#include "tools/memprof/memprof_json.h"

#include "tools/files/json_values.h"
#include "tools/report/result_json.h"

#include <jansson.h>

/* Appends what json_pack made, and remembers when it could not. */
static void append_json(json_t *list, json_t *v, bool *failed)
{
    if (json_array_append_new(list, v) != 0)
        *failed = true;
}

static json_t *layer_list(const layers *l, bool *failed)
{
    json_t *list = json_array();
    for (int i = 0; i < l->n; i++) {
        const layer *v = &l->v[i];
        append_json(list,
                    json_pack("{s:s%, s:s, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f}",
                              "name", v->name, v->name_len, "phase", trace_phases[v->phase],
                              "chunks", v->chunks, "visits", v->uses, "bytes",
                              saturate_json_integer(v->bytes), "stored_bytes",
                              saturate_json_integer(v->stored_bytes), "disk",
                              saturate_json_integer(v->tier[REFINE_TIER_DISK]), "host",
                              saturate_json_integer(v->tier[REFINE_TIER_HOST]), "device",
                              saturate_json_integer(v->tier[REFINE_TIER_DEVICE]), "flops", v->flops,
                              "seconds", v->seconds, "stalled", layer_time(v) - v->seconds),
                    failed);
    }
    return list;
}

static json_t *use_object(const use *u, bool *failed)
{
    json_t *o = json_pack("{s:f, s:s, s:f, s:f, s:f}", "seconds", u->wall, "bound",
                          resource_names[u->bound], "stall_disk", u->stall[0], "stall_decode",
                          u->stall[1], "stall_copy", u->stall[2]);
    for (int r = 0; r < RESOURCES; r++)
        if (json_object_set_new(o, resource_names[r],
                                json_pack("{s:f, s:f, s:f, s:f}", "busy", u->busy[r], "work",
                                          u->work[r], "roof", u->roof[r], "reached",
                                          use_reached(u, (resource)r))) != 0)
            *failed = true;
    return o;
}

static json_t *curve_list(const curve *c, bool *failed)
{
    json_t *list = json_array();
    for (int i = 0; i < c->n; i++)
        append_json(list,
                    json_pack("{s:I, s:I, s:f, s:f}", "vram", saturate_json_integer(c->v[i].vram),
                              "resident", saturate_json_integer(c->v[i].resident), "step",
                              c->v[i].step, "stall", c->v[i].stall),
                    failed);
    return list;
}

static json_t *card_list(const memprof *m, bool *failed)
{
    json_t *list = json_array();
    for (int i = 0; i < m->n_rows; i++) {
        const card_row *r = &m->row[i];
        json_t *sizes = json_array();
        for (int k = 0; k < CARD_SIZES; k++)
            append_json(sizes,
                        json_pack("{s:i, s:b, s:I, s:f, s:f}", "size", card_sizes[k], "fits",
                                  r->cell[k].fits, "smallest",
                                  saturate_json_integer(r->cell[k].smallest), "step",
                                  r->cell[k].step, "stall", r->cell[k].stall),
                        failed);
        append_json(list,
                    json_pack("{s:s, s:s, s:I, s:f, s:f, s:o}", "id", r->card.id, "name",
                              r->card.name, "vram", saturate_json_integer(r->vram), "link",
                              r->card.link * 1e9, "rate", r->card.matrix * 1e12, "sizes", sizes),
                    failed);
    }
    return list;
}

static json_t *report_object(const memprof *m)
{
    bool failed = false;
    json_t *o = json_pack("{s:s, s:O, s:o, s:o, s:o}", "version", refine_version(), "result",
                          m->result, "curve", curve_list(&m->curve, &failed), "predicted_cards",
                          card_list(m, &failed), "note", clean_json_text(m->note));
    if (m->run &&
        (json_object_set_new(o, "layers", layer_list(&m->layer, &failed)) != 0 ||
         json_object_set_new(o, "denoising", use_object(&m->use, &failed)) != 0 ||
         json_object_set_new(o, "lost", json_integer(saturate_json_integer(m->run->lost))) != 0))
        failed = true;
    if (o && !failed)
        return o;
    json_decref(o);
    return NULL;
}

refine_status memprof_print_json(FILE *out, const memprof *m, refine_error *err)
{
    return result_write(out, report_object(m), err);
}
