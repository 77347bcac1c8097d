/* tools/memprof/memprof_charts.c -- paths made of horizontal and vertical strokes. */
#include "tools/memprof/memprof_charts.h"

#include "tools/files/figures.h"
#include "tools/memprof/memprof_report.h"

#include <math.h>

enum { HEIGHT = 100, TICKS = 5, STEPS_SHOWN = 100 };

/* ---- axes ---- */

/* 1, 2 or 5 times a power of ten, so that at most TICKS of it make `most`. */
static double tick_of(double most)
{
    const double raw = most / TICKS;
    if (!(raw > 0) || !isfinite(raw))
        return 1;
    const double ten = pow(10, floor(log10(raw)));
    const double lead = raw / ten;
    return (lead <= 1 ? 1 : lead <= 2 ? 2 : lead <= 5 ? 5 : 10) * ten;
}

static void y_labels(text_out *o, double most, const char *unit)
{
    const double tick = tick_of(most);
    text_out_put(o, "<div class=\"y\" aria-hidden=\"true\">");
    for (int i = 0; i * tick <= most * 1.0001 && i <= TICKS; i++)
        text_out_put(o, "<span style=\"bottom:%.2f%%\">%g%s%s</span>", 100 * i * tick / most,
                     i * tick, i ? " " : "", i ? unit : "");
    text_out_put(o, "</div>");
}

static void y_grid(text_out *o, double most)
{
    const double tick = tick_of(most);
    text_out_put(o, "<path class=\"grid\" d=\"");
    for (int i = 1; i * tick <= most * 1.0001 && i <= TICKS; i++)
        text_out_put(o, "M0 %.2fH%d", HEIGHT * (1 - i * tick / most), CHART_COLUMNS);
    text_out_put(o, "\"/>");
}

static void time_labels(text_out *o, double from, double to)
{
    const double tick = tick_of(to - from), scale = to - from < 1 ? 1000 : 1;
    text_out_put(o, "<div class=\"x\" aria-hidden=\"true\">");
    for (int i = 0; i <= TICKS && i * tick <= (to - from) * 0.97; i++)
        text_out_put(o, "<span style=\"left:%.2f%%\">%g%s</span>", 100 * i * tick / (to - from),
                     i * tick * scale, scale > 1 ? " ms" : " s");
    text_out_put(o, "</div>");
}

static void svg_begin(text_out *o, int height, const char *css, const char *label)
{
    text_out_put(o,
                 "<svg class=\"%s\" viewBox=\"0 0 %d %d\" preserveAspectRatio=\"none\" "
                 "role=\"img\" aria-label=\"",
                 css, CHART_COLUMNS, height);
    text_out_html(o, label);
    text_out_put(o, "\">");
}

/* ---- stacked areas ---- */

/* The area under top[0..columns), drawn from column to column as stairs; values are 0..1.  What
 * moves by less than a pixel is not written. */
static void write_stair_area(text_out *o, const char *css, int number, const double *top,
                             int columns, int height, const char *title)
{
    double last = 0;
    text_out_put(o, "<path class=\"%s%d\" d=\"M0 %d", css, number, height);
    for (int c = 0; c < columns; c++) {
        if (fabs(top[c] - last) * height < 0.2 && (top[c] > 0) == (last > 0))
            continue;
        text_out_put(o, "H%dV%.1f", c, height * (1 - top[c]));
        last = top[c];
    }
    text_out_put(o, "H%dV%dZ\"><title>%s</title></path>", columns, height, title);
}

static double most_of(const chart_memory *c, const timeline *t)
{
    double most = (double)(c->planned > c->peak ? c->planned : c->peak);
    for (int i = 0; i < t->columns; i++) {
        double sum = 0;
        for (int k = 0; k < c->n_owners; k++)
            sum += (double)c->bytes[i][k];
        most = sum > most ? sum : most;
    }
    return most > 0 ? most / 1048576.0 * 1.05 : 1.0;
}

/* Painted from the top of the stack down, each over the last. */
static void write_owner_stack(text_out *o, const chart_memory *c, const timeline *t, double most)
{
    double top[TIMELINE_COLUMNS_MAX];
    for (int k = c->n_owners - 1; k >= 0; k--) {
        double any = 0;
        for (int i = 0; i < t->columns; i++) {
            double sum = 0;
            for (int below = 0; below <= k; below++)
                sum += (double)c->bytes[i][below];
            top[i] = sum / 1048576.0 / most;
            any += (double)c->bytes[i][k];
        }
        if (any > 0)
            write_stair_area(o, c->css, k, top, t->columns, HEIGHT, c->owners[k].title);
    }
}

void charts_memory(text_out *o, const chart_memory *c, const timeline *t)
{
    char label[160];
    const double most = most_of(c, t);
    (void)snprintf(
        label, sizeof label,
        "%s over time by owner, stacked. At most %.1f MiB at once; planned %.1f MiB. The "
        "table below has the owners.",
        c->title, bytes_to_mib(c->peak), bytes_to_mib(c->planned));
    text_out_put(o, "<figure><figcaption>%s over time</figcaption><div class=\"plot\">", c->title);
    y_labels(o, most, "MiB");
    svg_begin(o, HEIGHT, "area", label);
    write_owner_stack(o, c, t, most);
    y_grid(o, most);
    text_out_put(o, "<path class=\"planned\" d=\"M0 %.2fH%d\"/></svg>",
                 HEIGHT * (1 - bytes_to_mib(c->planned) / most), CHART_COLUMNS);
    time_labels(o, t->from, t->to);
    text_out_put(o, "</div></figure>\n");
}

/* ---- lanes ---- */

enum { LANE_HEIGHT = 20 };

/* Narrow steps have a number at every fifth only, which may reach beyond them. */
static void write_step_band(text_out *o, int step, double left, double width)
{
    const bool wide = width >= 0.08, numbered = wide || step == 1 || step % 5 == 0;
    text_out_put(o, "<b%s style=\"left:%.2f%%;width:%.2f%%\">",
                 numbered && !wide ? " class=\"n\"" : "", 100 * left, 100 * width);
    if (numbered)
        text_out_put(o, "%d", step);
    text_out_put(o, "</b>");
}

static void write_phase_band(text_out *o, refine_phase phase, double left, double width)
{
    text_out_put(o, "<b style=\"left:%.2f%%;width:%.2f%%\">%s</b>", 100 * left, 100 * width,
                 trace_phases[phase]);
}

static void write_lane_bands(text_out *o, const recording *t, const timeline *l, refine_lane lane,
                             const char *title)
{
    const double wide = l->to - l->from;
    const size_t first = t->lane_at[lane], end = t->lane_at[lane + 1];
    if (end - first > STEPS_SHOWN || end == first)
        return;
    text_out_put(o, "<div class=\"lane\"><span>%s</span><div class=\"bands\">", title);
    for (size_t i = first; i < end; i++) {
        const refine_event *v = &t->event[i];
        const double b = fmax(v->begin, l->from), e = fmin(v->end, l->to);
        if (!(e > b))
            continue;
        if (lane == REFINE_LANE_PHASE)
            write_phase_band(o, (refine_phase)v->chunk, (b - l->from) / wide, (e - b) / wide);
        else
            write_step_band(o, v->chunk + 1, (b - l->from) / wide, (e - b) / wide);
    }
    text_out_put(o, "</div></div>\n");
}

static void lane_begin(text_out *o, const recording *t, const timeline *l, refine_lane lane,
                       const char *name)
{
    char label[96];
    (void)snprintf(label, sizeof label, "%s: busy %.1f %% of the time", name,
                   100 * timeline_busy(t, lane, l->from, l->to) / (l->to - l->from));
    text_out_put(o, "<div class=\"lane\"><span>%s</span>", name);
    svg_begin(o, LANE_HEIGHT, "strip", label);
}

static void simple_lane(text_out *o, const recording *t, const timeline *l, refine_lane lane,
                        const char *name)
{
    if (t->lane_at[lane] == t->lane_at[lane + 1])
        return;
    lane_begin(o, t, l, lane, name);
    write_stair_area(o, "lane", (int)lane, l->share[lane], l->columns, LANE_HEIGHT, name);
    text_out_put(o, "</svg></div>\n");
}

/* Compute at the bottom, what it waited for above. */
static void compute_lane(text_out *o, const recording *t, const timeline *l)
{
    static const refine_lane LANES[] = { REFINE_LANE_COMPUTE, REFINE_LANE_STALL_DISK,
                                         REFINE_LANE_STALL_DECODE, REFINE_LANE_STALL_COPY };
    static const char *const NAMES[] = { "computes", "waits for disk", "waits for decode",
                                         "waits for copy" };
    double top[TIMELINE_COLUMNS_MAX];
    lane_begin(o, t, l, REFINE_LANE_COMPUTE, "compute");
    for (int k = 3; k >= 0; k--) {
        if (t->lane_at[LANES[k]] == t->lane_at[LANES[k] + 1])
            continue;
        for (int c = 0; c < l->columns; c++) {
            top[c] = 0;
            for (int below = 0; below <= k; below++)
                top[c] += l->share[LANES[below]][c];
            top[c] = fmin(top[c], 1.0);
        }
        write_stair_area(o, "lane", (int)LANES[k], top, l->columns, LANE_HEIGHT, NAMES[k]);
    }
    text_out_put(o, "</svg></div>\n");
}

void charts_lanes(text_out *o, const recording *t, const timeline *l, const char *title)
{
    text_out_put(o, "<figure><figcaption>%s</figcaption><div class=\"lanes\">", title);
    write_lane_bands(o, t, l, REFINE_LANE_PHASE, "phase");
    write_lane_bands(o, t, l, REFINE_LANE_STEP, "step");
    compute_lane(o, t, l);
    simple_lane(o, t, l, REFINE_LANE_COPY, "copy");
    simple_lane(o, t, l, REFINE_LANE_DECODE, "decode");
    simple_lane(o, t, l, REFINE_LANE_DISK, "disk");
    text_out_put(o, "<div class=\"lane\"><span></span>");
    time_labels(o, l->from, l->to);
    text_out_put(o, "</div></div></figure>\n");
}

/* ---- the curve ---- */

typedef struct chart_axes {
    double least, most, step; /* log2 of MiB; seconds */
} chart_axes;

static double x_of(const chart_axes *s, uint64_t vram)
{
    const double at = log2(fmax(bytes_to_mib(vram), 1.0));
    return s->most > s->least
               ? CHART_COLUMNS * (0.02 + 0.96 * (at - s->least) / (s->most - s->least))
               : CHART_COLUMNS / 2.0;
}

static double y_of(const chart_axes *s, double step) { return HEIGHT * (1 - step / s->step); }

static void curve_labels(text_out *o, const curve *c, const chart_axes *s)
{
    text_out_put(o, "<div class=\"x\" aria-hidden=\"true\">");
    for (int i = 0; i < c->n; i += (c->n + 3) / 4)
        text_out_put(o, "<span class=\"mid\" style=\"left:%.2f%%\">%.0f MiB</span>",
                     100 * x_of(s, c->v[i].vram) / CHART_COLUMNS, bytes_to_mib(c->v[i].vram));
    text_out_put(o, "</div>");
}

void charts_curve(text_out *o, const curve *c, uint64_t here)
{
    chart_axes s = { .least = log2(fmax(bytes_to_mib(c->v[0].vram), 1.0)),
                     .most = log2(fmax(bytes_to_mib(c->v[c->n - 1].vram), 1.0)) };
    for (int i = 0; i < c->n; i++)
        s.step = fmax(s.step, c->v[i].step * 1.1);
    if (!(s.step > 0))
        return;
    text_out_put(o, "<figure><figcaption>Predicted seconds a step under each ceiling on device "
                    "memory</figcaption><div class=\"plot\">");
    y_labels(o, s.step, "s");
    svg_begin(o, HEIGHT, "area",
              "Predicted seconds a step against the ceiling on device memory; "
              "the table below has the points.");
    y_grid(o, s.step);
    if (here >= c->v[0].vram && here <= c->v[c->n - 1].vram)
        text_out_put(o, "<path class=\"planned\" d=\"M%.1f 0V%d\"/>", x_of(&s, here), HEIGHT);
    text_out_put(o, "<path class=\"curve\" d=\"");
    for (int i = 0; i < c->n; i++)
        text_out_put(o, "%c%.1f %.2f", i ? 'L' : 'M', x_of(&s, c->v[i].vram),
                     y_of(&s, c->v[i].step));
    text_out_put(o, "\"/>");
    for (int i = 0; i < c->n; i++)
        text_out_put(
            o, "<path class=\"dot\" d=\"M%.1f %.2fh0\"><title>%.0f MiB: %.3f s</title></path>",
            x_of(&s, c->v[i].vram), y_of(&s, c->v[i].step), bytes_to_mib(c->v[i].vram),
            c->v[i].step);
    text_out_put(o, "</svg>");
    curve_labels(o, c, &s);
    text_out_put(o, "</div></figure>\n");
}
