/* tools/memprof/memprof_html.c -- sections, tables and charts of the HTML report. */
#include "tools/memprof/memprof_html.h"

#include "engine/base/mem.h"
#include "engine/base/try.h"
#include "tools/files/figures.h"
#include "tools/memprof/memprof_charts.h"
#include "tools/memprof/memprof_style.h"

#include <math.h>
#include <string.h>

static const char *or_empty(const char *s) { return s ? s : ""; }

static void cell_mib(text_out *o, uint64_t bytes)
{
    text_out_put(o, "<td>%.1f</td>", bytes_to_mib(bytes));
}

static void table_begin(text_out *o, const char *label, const char *caption)
{
    text_out_put(o,
                 "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"%s\"><table>"
                 "<caption>%s</caption>",
                 label, caption);
}

static void table_end(text_out *o) { text_out_put(o, "</tbody></table></div>\n"); }

/* Of few columns, which would drift apart on a wide page. */
static void narrow_table_begin(text_out *o, const char *label, const char *caption)
{
    text_out_put(o, "<div class=\"narrow\">");
    table_begin(o, label, caption);
}

static void narrow_table_end(text_out *o)
{
    table_end(o);
    text_out_put(o, "</div>\n");
}

/* ---- head ---- */

static void write_html_head(text_out *o, const memprof *m)
{
    const refine_report *r = &m->r;
    const char *title = m->run ? "Memory and time of a run" : "Memory and time of a plan";
    text_out_put(o,
                 "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta "
                 "name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<link "
                 "rel=\"icon\" href=\"data:,\">\n<title>%s</title>\n<style>\n",
                 title);
    text_out_bytes(o, memprof_style, strlen(memprof_style));
    text_out_put(o, "</style></head>\n<body><main>\n<h1>%s</h1>\n<p class=\"soft path\">", title);
    text_out_html(o, or_empty(m->pack));
    text_out_put(o, "<br>%d × %d, %d steps, ", r->width, r->height, r->steps_run);
    text_out_html(o, or_empty(r->precision));
    text_out_put(o, " on ");
    text_out_html(o, or_empty(r->device));
    if (r->device_model && r->device_model[0]) {
        text_out_put(o, ", ");
        text_out_html(o, r->device_model);
    }
    text_out_put(o, "</p>\n");
}

static void write_note(text_out *o, const char *text)
{
    text_out_put(o, "<p class=\"note\">");
    text_out_html(o, text);
    text_out_put(o, "</p>\n");
}

static void write_run_key_figures(text_out *o, const memprof *m)
{
    const refine_report *r = &m->r;
    const use *u = &m->use;
    text_out_put(o,
                 "<div><dt>Device memory, peak</dt><dd>%.0f MiB<small>planned %.0f</small></dd>"
                 "</div>\n<div><dt>A step, median</dt><dd>%.3f s<small>",
                 bytes_to_mib(r->memory.device_peak), bytes_to_mib(r->memory.device_planned),
                 r->step_median);
    if (r->predicted_step > 0)
        text_out_put(o, "predicted %.3f s", r->predicted_step);
    text_out_put(o, "</small></dd></div>\n");
    if (u->wall > 0)
        text_out_put(o,
                     "<div><dt>Bound by</dt><dd>%s<small>busy %.0f %% of denoising</small></dd>"
                     "</div>\n<div><dt>Compute waited</dt><dd>%.1f %%<small>of denoising</small>"
                     "</dd></div>\n",
                     resource_names[u->bound], percent_of_whole(u->busy[u->bound], u->wall),
                     percent_of_whole(u->stall[0] + u->stall[1] + u->stall[2], u->wall));
}

static void write_plan_key_figures(text_out *o, const memprof *m)
{
    const refine_report *r = &m->r;
    text_out_put(o,
                 "<div><dt>Device memory</dt><dd>%.0f MiB<small>of %.0f</small></dd></div>\n"
                 "<div><dt>Smallest that would do</dt><dd>%.0f MiB</dd></div>\n",
                 bytes_to_mib(r->memory.device_planned), bytes_to_mib(r->memory.device_limit),
                 bytes_to_mib(r->memory.smallest_device));
    if (r->predicted_step > 0)
        text_out_put(o,
                     "<div><dt>A step, predicted</dt><dd>%.3f s<small>%.1f %% of it waiting"
                     "</small></dd></div>\n",
                     r->predicted_step, 100 * fmax(r->predicted_stall, 0));
    text_out_put(o, "<div><dt>Read in each step</dt><dd>%.0f MiB</dd></div>\n",
                 bytes_to_mib(r->disk_bytes_per_step));
}

/* ---- memory ---- */

/* A table of owners, with the colours of the chart above it. */
typedef struct owner_table {
    const char *label, *caption, *css;
    int n;
    const memory_owner *owners;
    const uint64_t *bytes;
    uint64_t planned;
} owner_table;

static void write_owner_table(text_out *o, const owner_table *w)
{
    narrow_table_begin(o, w->label, w->caption);
    text_out_put(o, "<thead><tr><th>owner</th><th>MiB</th></tr></thead><tbody>\n");
    for (int i = 0; i < w->n; i++) {
        text_out_put(o,
                     "<tr><th scope=\"row\"><span class=\"swatch\"><svg viewBox=\"0 0 1 1\" "
                     "aria-hidden=\"true\"><path class=\"%s%d\" d=\"M0 0H1V1H0Z\"/></svg></span>%s"
                     "</th>",
                     w->css, i, w->owners[i].title);
        cell_mib(o, w->bytes[i]);
        text_out_put(o, "</tr>\n");
    }
    text_out_put(o, "<tr class=\"total\"><th scope=\"row\">planned in all</th>");
    cell_mib(o, w->planned);
    text_out_put(o, "</tr>\n");
    narrow_table_end(o);
}

static void write_device_table(text_out *o, const refine_memory *m)
{
    uint64_t bytes[DEVICE_OWNERS];
    memprof_device_bytes(bytes, m);
    const owner_table w = { .label = "Device memory by owner",
                            .caption = "The most that each owner holds. Phases share memory, so "
                                       "their sum may be more than the plan.",
                            .css = "dev",
                            .n = DEVICE_OWNERS,
                            .owners = device_owners,
                            .bytes = bytes,
                            .planned = m->device_planned };
    write_owner_table(o, &w);
}

static void write_host_table(text_out *o, const refine_memory *m)
{
    uint64_t bytes[HOST_OWNERS];
    owners_of_host(bytes, m);
    const owner_table w = { .label = "Host memory by owner",
                            .caption = "What is held from start to end. The heap is planned too.",
                            .css = "hos",
                            .n = HOST_OWNERS,
                            .owners = host_owners,
                            .bytes = bytes,
                            .planned = m->host_planned };
    write_owner_table(o, &w);
}

static void write_ceiling_row(text_out *o, const memprof *m, const char *name, uint64_t smallest,
                              uint64_t planned, uint64_t peak, uint64_t limit)
{
    text_out_put(o, "<tr><th scope=\"row\">%s</th>", name);
    cell_mib(o, planned);
    if (m->run)
        cell_mib(o, peak);
    if (limit)
        cell_mib(o, limit);
    else
        text_out_put(o, "<td class=\"no\">none</td>");
    if (smallest)
        cell_mib(o, smallest);
    else
        text_out_put(o, "<td></td>");
    text_out_put(o, "</tr>\n");
}

static void write_ceiling_table(text_out *o, const memprof *m)
{
    const refine_memory *b = &m->r.memory;
    narrow_table_begin(o, "Ceilings",
                       "All of it beside its ceilings, and the least that would do, MiB");
    text_out_put(o,
                 "<thead><tr><th></th><th>planned</th>%s<th>ceiling</th><th>least</th></tr></thead>"
                 "<tbody>\n",
                 m->run ? "<th>peak</th>" : "");
    write_ceiling_row(o, m, "device", b->smallest_device, b->device_planned, b->device_peak,
                      b->device_limit);
    write_ceiling_row(o, m, "host", b->smallest_host, b->host_planned, b->host_peak, b->host_limit);
    write_ceiling_row(o, m, "whole process", 0, b->rss_planned, b->rss_peak, 0);
    narrow_table_end(o);
}

static void write_memory_charts(text_out *o, const memprof *m, const timeline *t)
{
    const refine_memory *b = &m->r.memory;
    const chart_memory device = { .title = "Device memory",
                                  .css = "dev",
                                  .owners = device_owners,
                                  .bytes = t->device,
                                  .n_owners = DEVICE_OWNERS,
                                  .planned = b->device_planned,
                                  .peak = timeline_peak(&m->run->device) };
    const chart_memory host = { .title = "Host memory",
                                .css = "hos",
                                .owners = host_owners,
                                .bytes = t->host,
                                .n_owners = HOST_OWNERS,
                                .planned = b->host_planned,
                                .peak = timeline_peak(&m->run->host) };
    charts_memory(o, &device, t);
    write_device_table(o, b);
    charts_memory(o, &host, t);
    write_host_table(o, b);
}

static void write_memory_section(text_out *o, const memprof *m, const timeline *t)
{
    text_out_put(o, "<section><h2>Memory</h2>\n");
    if (t) {
        text_out_put(o,
                     "<p>The dashed line is what was planned before anything was allocated.</p>");
        write_memory_charts(o, m, t);
    } else {
        write_device_table(o, &m->r.memory);
        write_host_table(o, &m->r.memory);
    }
    write_ceiling_table(o, m);
    text_out_put(o, "</section>\n");
}

/* ---- time ---- */

static void write_phase_table(text_out *o, const refine_report *r)
{
    const struct {
        const char *name;
        double seconds;
    } rows[] = { { "opening", r->open },
                 { "encoding the image", r->vae_encode },
                 { "reading the prompts", r->text },
                 { "denoising", r->unet },
                 { "decoding the image", r->vae_decode } };
    const double all = r->open + r->total;
    narrow_table_begin(o, "Phases", "Phases");
    text_out_put(o, "<thead><tr><th>phase</th><th>s</th><th>share</th></tr></thead><tbody>\n");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        text_out_put(o, "<tr><th scope=\"row\">%s</th><td>%.2f</td><td>%.1f %%</td></tr>\n",
                     rows[i].name, rows[i].seconds, percent_of_whole(rows[i].seconds, all));
    text_out_put(
        o, "<tr class=\"total\"><th scope=\"row\">in all</th><td>%.2f</td><td></td></tr>\n", all);
    narrow_table_end(o);
}

static void write_lane_legend(text_out *o)
{
    static const struct {
        const char *name;
        refine_lane lane;
    } ITEMS[] = { { "computes", REFINE_LANE_COMPUTE },
                  { "waits for disk", REFINE_LANE_STALL_DISK },
                  { "waits for decode", REFINE_LANE_STALL_DECODE },
                  { "waits for copy", REFINE_LANE_STALL_COPY },
                  { "busy", REFINE_LANE_DISK } };
    text_out_put(o, "<ul class=\"legend\">");
    for (size_t i = 0; i < sizeof ITEMS / sizeof ITEMS[0]; i++)
        text_out_put(
            o,
            "<li><span class=\"swatch\"><svg viewBox=\"0 0 1 1\" aria-hidden=\"true\"><path "
            "class=\"lane%d\" d=\"M0 0H1V1H0Z\"/></svg></span>%s</li>",
            (int)ITEMS[i].lane, ITEMS[i].name);
    text_out_put(o, "</ul>\n");
}

/* A step from the middle of the run, when caches and residents have settled. */
static refine_status write_step_lanes(text_out *o, const recording *t)
{
    double from, to;
    char title[64];
    const int which = (int)((t->lane_at[REFINE_LANE_STEP + 1] - t->lane_at[REFINE_LANE_STEP]) / 2);
    if (!timeline_find(t, REFINE_LANE_STEP, which, &from, &to))
        return REFINE_OK;
    timeline *l = timeline_of(t, from, to, CHART_COLUMNS);
    if (!l)
        return refine_fail(o->err, REFINE_ENOMEM, "out of memory");
    (void)snprintf(title, sizeof title, "Step %d, from its beginning", which + 1);
    charts_lanes(o, t, l, title);
    mem_free(l);
    return REFINE_OK;
}

static refine_status write_time_section(text_out *o, const memprof *m, const timeline *l)
{
    text_out_put(o, "<section><h2>Time</h2>\n<p>How busy each part of the pipeline was; the height "
                    "of a strip is the share of that moment. Weights go from disk through decode "
                    "and copy to compute.</p>\n");
    write_lane_legend(o);
    charts_lanes(o, m->run, l, "The whole run");
    const refine_status st = write_step_lanes(o, m->run);
    write_phase_table(o, &m->r);
    if (m->r.mispredicted_rate && m->r.mispredicted_rate[0]) {
        text_out_put(o, "<p>Steps took another time than predicted, most of all because of this "
                        "rate: ");
        text_out_html(o, m->r.mispredicted_rate);
        text_out_put(o, ".</p>\n");
    }
    if (m->run->lost)
        text_out_put(o,
                     "<p class=\"note\">%zu events found no room in the recorder and are missing "
                     "above.</p>\n",
                     m->run->lost);
    text_out_put(o, "</section>\n");
    return st;
}

/* ---- roofline ---- */

static void write_stalls(text_out *o, const use *u)
{
    text_out_put(
        o,
        "<p>Compute waited %.2f s for the disk (%.1f %%), %.2f s for decoding (%.1f %%) and "
        "%.2f s for copies (%.1f %%).</p></section>\n",
        u->stall[0], percent_of_whole(u->stall[0], u->wall), u->stall[1],
        percent_of_whole(u->stall[1], u->wall), u->stall[2],
        percent_of_whole(u->stall[2], u->wall));
}

static void write_roofline_section(text_out *o, const use *u)
{
    if (!(u->wall > 0))
        return;
    text_out_put(o,
                 "<section><h2>Roofline</h2>\n<p>While denoising (%.2f s): the rate that each "
                 "resource reached on average, beside the rate it could have. The busiest one "
                 "bounds the run: more budget or a better machine would have to relieve it.</p>\n",
                 u->wall);
    table_begin(o, "Roofline", "Rates while denoising");
    text_out_put(o, "<thead><tr><th>resource</th><th>reached</th><th>average</th><th>could "
                    "have</th><th>busy</th></tr></thead><tbody>\n");
    for (int r = 0; r < RESOURCES; r++) {
        const bool flops = r == RESOURCE_COMPUTE;
        const char *unit = flops ? "TFLOP/s" : "GB/s";
        const double scale = flops ? 1e12 : 1e9, reached = 100 * use_reached(u, (resource)r);
        if (!(u->busy[r] > 0))
            continue;
        text_out_put(o, "<tr><th scope=\"row\">%s</th>", resource_names[r]);
        if (u->roof[r] > 0)
            text_out_put(o,
                         "<td>%.1f %%<span class=\"meter\"><i style=\"width:%.1f%%\"></i></span>"
                         "</td><td>%.3f %s</td><td>%.3f %s</td>",
                         reached, reached, use_rate(u, (resource)r) / scale, unit,
                         u->roof[r] / scale, unit);
        else
            text_out_put(o, "<td class=\"no\">not known</td><td>%.3f %s</td><td></td>",
                         use_rate(u, (resource)r) / scale, unit);
        text_out_put(o, "<td>%.1f %%</td></tr>\n", percent_of_whole(u->busy[r], u->wall));
    }
    table_end(o);
    write_stalls(o, u);
}

/* ---- layers ---- */

static void write_layer_row(text_out *o, const layer *v, double all)
{
    char name[256];
    const uint64_t *tier = v->tier;
    (void)snprintf(name, sizeof name, "%.*s", v->name_len, v->name);
    text_out_put(o, "<tr><th scope=\"row\">");
    text_out_html(o, name);
    text_out_put(
        o,
        "</th><td class=\"wide\">%s</td><td>%.2f</td><td>%.1f %%</td><td class=\"wide\">%.2f</td>"
        "<td>%.1f</td><td>"
        "%.0f</td>",
        trace_phases[v->phase], layer_time(v), percent_of_whole(layer_time(v), all),
        layer_time(v) - v->seconds, bytes_to_mib(v->bytes), layer_intensity(v));
    for (int k = REFINE_TIER_DEVICE; k >= REFINE_TIER_DISK; k--)
        text_out_put(o, "<td class=\"wide\">%.0f</td>",
                     percent_of_whole((double)tier[k], (double)v->bytes));
    text_out_put(o, "</tr>\n");
}

static void write_layer_table(text_out *o, const layers *l, const int *order, const char *what,
                              const char *caption)
{
    double all = 0;
    for (int i = 0; i < l->n; i++)
        all += layer_time(&l->v[i]);
    table_begin(o, what, caption);
    text_out_put(
        o,
        "<thead><tr><th>%s</th><th class=\"wide\">phase</th><th>s</th><th>share</th>"
        "<th class=\"wide\">waited, "
        "s</th><th>MiB</th><th>FLOP / byte</th><th class=\"wide\">resident, %%</th><th "
        "class=\"wide\">host, %%</th><th class=\"wide\">disk, %%</th></tr></thead><tbody>\n",
        what);
    for (int i = 0; i < l->n; i++)
        write_layer_row(o, &l->v[order ? order[i] : i], all);
    table_end(o);
}

/* The page stays readable, and small, however long the list of a hostile trace is. */
enum { LAYERS_MAX = 2000 };

static refine_status write_layer_section(text_out *o, const memprof *m)
{
    int *order = mem_alloc(((size_t)m->layer.n + 1) * sizeof *order);
    if (!order)
        return refine_fail(o->err, REFINE_ENOMEM, "out of memory");
    layers blocks = m->block, all = m->layer;
    blocks.n = blocks.n < LAYERS_MAX ? blocks.n : LAYERS_MAX;
    layers_by_time(&m->layer, order);
    all.n = all.n < LAYERS_MAX ? all.n : LAYERS_MAX;
    text_out_put(o, "<section><h2>Layers</h2>\n<p>Weights with little compute per byte are the "
                    "ones worth keeping resident. Time is compute and waiting, over the whole "
                    "run; FLOP / byte is of one visit.</p>\n");
    write_layer_table(o, &blocks, NULL, "block", "Blocks, in the order of the pack");
    text_out_put(o, "<details><summary>%s %d layers, longest first</summary>\n",
                 all.n < m->layer.n ? "The first" : "All", all.n);
    write_layer_table(o, &all, order, "layer", "Layers by time");
    text_out_put(o, "</details></section>\n");
    mem_free(order);
    return REFINE_OK;
}

/* ---- predictions ---- */

static void write_curve_section(text_out *o, const memprof *m)
{
    const curve *c = &m->curve;
    if (c->n == 0 || !(c->v[0].step > 0))
        return;
    text_out_put(o,
                 "<section><h2>Budget curve <span class=\"tag\">prediction</span></h2>\n<p>From "
                 "the smallest ceiling that would do to all weights resident%s. The dashed line "
                 "is the ceiling of this %s.</p>\n",
                 m->run ? ", at the rates that the run measured" : "", m->run ? "run" : "plan");
    charts_curve(o, c, m->r.memory.device_limit);
    narrow_table_begin(o, "Budget curve", "The points of the curve");
    text_out_put(o, "<thead><tr><th>--vram, MiB</th><th>resident, MiB</th><th>s a step</th>"
                    "<th>waiting</th></tr></thead><tbody>\n");
    for (int i = 0; i < c->n; i++)
        text_out_put(o, "<tr><td>%.1f</td><td>%.1f</td><td>%.3f</td><td>%.1f %%</td></tr>\n",
                     bytes_to_mib(c->v[i].vram), bytes_to_mib(c->v[i].resident), c->v[i].step,
                     100 * c->v[i].stall);
    narrow_table_end(o);
    text_out_put(o, "</section>\n");
}

static void write_card_row(text_out *o, const card_row *r)
{
    text_out_put(o,
                 "<tr><th scope=\"row\">%s</th><td>%.0f</td><td class=\"wide\">%.1f</td><td "
                 "class=\"wide\">%.1f</td>",
                 r->card.name, bytes_to_mib(r->vram), r->card.link, r->card.matrix);
    for (int k = 0; k < CARD_SIZES; k++) {
        const card_cell *c = &r->cell[k];
        if (c->fits && c->step > 0)
            text_out_put(o, "<td class=\"group\">%.2f</td><td>%.0f</td>", c->step,
                         bytes_to_mib(c->smallest));
        else
            text_out_put(o, "<td class=\"group no\">%s</td><td>%.0f</td>",
                         c->fits ? "not known" : "too small", bytes_to_mib(c->smallest));
    }
    text_out_put(o, "</tr>\n");
}

static void write_card_section(text_out *o, const memprof *m)
{
    if (m->n_rows == 0)
        return;
    text_out_put(o,
                 "<section><h2>Other cards <span class=\"tag\">prediction</span></h2>\n<p>Nothing "
                 "was run on these cards: seconds a step are computed from estimated rates, "
                 "with the card's memory less 0.4 GiB for the desktop as the ceiling.</p>\n");
    table_begin(o, "Other cards", "Predicted time, and the least memory that would do");
    text_out_put(o, "<thead><tr><th rowspan=\"2\">card</th><th rowspan=\"2\">ceiling, MiB</th><th "
                    "rowspan=\"2\" class=\"wide\">link, GB/s</th><th rowspan=\"2\" "
                    "class=\"wide\">TFLOP/s</th>");
    for (int k = 0; k < CARD_SIZES; k++)
        text_out_put(o, "<th colspan=\"2\" class=\"group\" scope=\"colgroup\">%d × %d</th>",
                     card_sizes[k], card_sizes[k]);
    text_out_put(o, "</tr><tr>");
    for (int k = 0; k < CARD_SIZES; k++)
        text_out_put(o, "<th class=\"group\">s a step</th><th>least MiB</th>");
    text_out_put(o, "</tr></thead><tbody>\n");
    for (int i = 0; i < m->n_rows; i++)
        write_card_row(o, &m->row[i]);
    table_end(o);
    text_out_put(o, "</section>\n");
}

/* ---- the page ---- */

static refine_status write_run_sections(text_out *o, const memprof *m)
{
    if (!(m->run->end > 0)) {
        write_memory_section(o, m, NULL);
        return write_layer_section(o, m);
    }
    timeline *l = timeline_of(m->run, 0, m->run->end, CHART_COLUMNS);
    if (!l)
        return refine_fail(o->err, REFINE_ENOMEM, "out of memory");
    write_memory_section(o, m, l);
    refine_status st = write_time_section(o, m, l);
    mem_free(l);
    write_roofline_section(o, &m->use);
    return st == REFINE_OK ? write_layer_section(o, m) : st;
}

static refine_status write_html_page(text_out *o, const memprof *m)
{
    write_html_head(o, m);
    text_out_put(o, "<dl class=\"key\">\n");
    if (m->run)
        write_run_key_figures(o, m);
    else
        write_plan_key_figures(o, m);
    text_out_put(o, "</dl>\n");
    if (m->note[0])
        write_note(o, m->note);
    if (m->run)
        TRY(write_run_sections(o, m));
    else
        write_memory_section(o, m, NULL);
    write_curve_section(o, m);
    write_card_section(o, m);
    text_out_put(o, "<p class=\"soft\">refine-memprof %s</p>\n</main></body></html>\n",
                 refine_version());
    return REFINE_OK;
}

refine_status memprof_save_html(const char *path, const memprof *m, refine_error *err)
{
    text_out o;
    TRY(text_out_open(&o, path, err));
    const refine_status st = write_html_page(&o, m);
    if (st == REFINE_OK)
        return text_out_commit(&o);
    text_out_abandon(&o);
    return st;
}
