/* tools/memprof/memprof_text.c -- a report as lines and narrow tables. */
#include "tools/memprof/memprof_text.h"

#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "tools/files/figures.h"
#include "tools/memprof/memprof_timeline.h"

#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 64, LAYERS_SHOWN = 12, NAME = 34 };

/* A name out of a file may hold what a terminal obeys. */
static void print_name(FILE *out, const char *s, int len, int width)
{
    const int cut = len > width ? len - width : 0;
    for (int i = cut; i < len; i++) {
        const unsigned char c = (unsigned char)s[i];
        (void)fputc(c < 0x20 || c >= 0x7f ? '?' : c, out);
    }
    (void)fprintf(out, "%*s", width - (len - cut), "");
}

static void print_words(FILE *out, const char *s)
{
    const int len = (int)num_min(strlen(s), 200);
    print_name(out, s, len, len);
}

static void print_head(FILE *out, const memprof *m)
{
    const refine_report *r = &m->r;
    (void)fprintf(out, m->run ? "run       " : "plan      ");
    print_words(out, r->device ? r->device : "");
    (void)fprintf(out, ", ");
    print_words(out, r->precision ? r->precision : "");
    (void)fprintf(out, ", %d x %d, %d steps\npack      ", r->width, r->height, r->steps_run);
    print_words(out, m->pack);
    (void)fprintf(out, "\n");
}

static void print_memory_line(FILE *out, const memprof *m, const char *name, uint64_t planned,
                              uint64_t peak, uint64_t limit)
{
    (void)fprintf(out, "  %-26s %10.1f", name, bytes_to_mib(planned));
    if (m->run)
        (void)fprintf(out, " %10.1f", bytes_to_mib(peak));
    if (limit)
        (void)fprintf(out, " %10.1f", bytes_to_mib(limit));
    (void)fprintf(out, "\n");
}

static void print_owners(FILE *out, const memory_owner owners[], const uint64_t bytes[], int n)
{
    for (int i = 0; i < n; i++)
        (void)fprintf(out, "    %-24s %10.1f\n", owners[i].title, bytes_to_mib(bytes[i]));
}

static void print_memory_table(FILE *out, const memprof *m)
{
    const refine_memory *b = &m->r.memory;
    uint64_t device[DEVICE_OWNERS], host[HOST_OWNERS];
    memprof_device_bytes(device, b);
    owners_of_host(host, b);
    (void)fprintf(out, "\nmemory, MiB                     planned%s      limit\n",
                  m->run ? "       peak" : "");
    print_memory_line(out, m, "device", b->device_planned, b->device_peak, b->device_limit);
    print_owners(out, device_owners, device, DEVICE_OWNERS);
    print_memory_line(out, m, "host", b->host_planned, b->host_peak, b->host_limit);
    print_owners(out, host_owners, host, HOST_OWNERS);
    print_memory_line(out, m, "whole process", b->rss_planned, b->rss_peak, 0);
    (void)fprintf(out, "  smallest that would do: device %.1f, host %.1f\n",
                  bytes_to_mib(b->smallest_device), bytes_to_mib(b->smallest_host));
}

static void print_times(FILE *out, const refine_report *r)
{
    (void)fprintf(out,
                  "\ntime, s   open %.2f, encode %.2f, text %.2f, %d steps %.2f, decode %.2f\n",
                  r->open, r->vae_encode, r->text, r->steps_run, r->unet, r->vae_decode);
    (void)fprintf(out, "          a step: median %.3f, first %.3f", r->step_median, r->first_step);
    if (r->predicted_step > 0)
        (void)fprintf(out, ", predicted %.3f", r->predicted_step);
    if (r->mispredicted_rate && r->mispredicted_rate[0]) {
        (void)fprintf(out, "; the rate to blame: ");
        print_words(out, r->mispredicted_rate);
    }
    (void)fprintf(out, "\n");
}

/* ---- the timeline ---- */

/* What a column of the compute lane was mostly spent on. */
static char compute_letter(const timeline *t, int c)
{
    static const refine_lane LANES[] = { REFINE_LANE_COMPUTE, REFINE_LANE_STALL_DISK,
                                         REFINE_LANE_STALL_DECODE, REFINE_LANE_STALL_COPY };
    int most = 0;
    for (int i = 1; i < 4; i++)
        if (t->share[LANES[i]][c] > t->share[LANES[most]][c])
            most = i;
    return t->share[LANES[most]][c] < 0.02 ? ' ' : "#dzc"[most];
}

static char busy_letter(const timeline *t, refine_lane lane, int c)
{
    const double v = t->share[lane][c];
    return v < 0.02 ? ' ' : v < 0.35 ? '.' : v < 0.75 ? 'o' : '#';
}

static void print_lane(FILE *out, const char *name, const timeline *t, refine_lane lane)
{
    (void)fprintf(out, "  %-8s|", name);
    for (int c = 0; c < t->columns; c++)
        (void)fputc(lane == REFINE_LANE_COMPUTE ? compute_letter(t, c) : busy_letter(t, lane, c),
                    out);
    (void)fprintf(out, "|\n");
}

static void print_phases(FILE *out, const recording *t, const timeline *l)
{
    char row[COLUMNS];
    const double width = (l->to - l->from) / COLUMNS;
    memset(row, ' ', sizeof row);
    for (size_t i = t->lane_at[REFINE_LANE_PHASE]; i < t->lane_at[REFINE_LANE_PHASE + 1]; i++) {
        const refine_event *v = &t->event[i];
        for (int c = 0; c < COLUMNS; c++) {
            const double middle = l->from + (c + 0.5) * width;
            if (middle >= v->begin && middle < v->end)
                row[c] = "oETuD "[v->chunk];
        }
    }
    (void)fprintf(out, "  phase   |%.*s|\n", COLUMNS, row);
}

static refine_status print_timeline(FILE *out, const recording *t, refine_error *err)
{
    if (!(t->end > 0))
        return REFINE_OK;
    timeline *l = timeline_of(t, 0, t->end, COLUMNS);
    if (!l)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    (void)fprintf(out,
                  "\ntimeline  0 to %.2f s; o open, E encode, T text, u UNet, D decode\n"
                  "          compute: # works; waits for d disk, z decode, c copy\n",
                  t->end);
    print_phases(out, t, l);
    print_lane(out, "compute", l, REFINE_LANE_COMPUTE);
    print_lane(out, "copy", l, REFINE_LANE_COPY);
    print_lane(out, "decode", l, REFINE_LANE_DECODE);
    print_lane(out, "disk", l, REFINE_LANE_DISK);
    mem_free(l);
    if (t->lost)
        (void)fprintf(out, "          %zu events found no room and are missing here\n", t->lost);
    return REFINE_OK;
}

static void print_use(FILE *out, const use *u)
{
    if (!(u->wall > 0))
        return;
    (void)fprintf(out,
                  "\nroofline while denoising, %.2f s; bound by %s\n"
                  "            busy     average   could have   reached\n",
                  u->wall, resource_names[u->bound]);
    for (int r = 0; r < RESOURCES; r++) {
        const bool flops = r == RESOURCE_COMPUTE;
        const double unit = flops ? 1e12 : 1e9;
        if (!(u->busy[r] > 0))
            continue;
        (void)fprintf(out, "  %-8s %5.1f %% %7.3f %s", resource_names[r],
                      percent_of_whole(u->busy[r], u->wall), use_rate(u, (resource)r) / unit,
                      flops ? "TFLOP/s" : "GB/s   ");
        if (u->roof[r] > 0)
            (void)fprintf(out, " %6.3f    %5.1f %%", u->roof[r] / unit,
                          100.0 * use_reached(u, (resource)r));
        (void)fprintf(out, "\n");
    }
    (void)fprintf(out, "  compute waited: disk %.1f %%, decode %.1f %%, copy %.1f %% of the time\n",
                  percent_of_whole(u->stall[0], u->wall), percent_of_whole(u->stall[1], u->wall),
                  percent_of_whole(u->stall[2], u->wall));
}

static const char *tier_of(const layer *l)
{
    if (l->tier[REFINE_TIER_DEVICE] == l->bytes)
        return "resident";
    if (l->tier[REFINE_TIER_HOST] == l->bytes)
        return "host";
    return l->tier[REFINE_TIER_DISK] == l->bytes ? "disk" : "mixed";
}

static refine_status print_longest_layers(FILE *out, const layers *l, refine_error *err)
{
    double all = 0;
    int *order = mem_alloc(((size_t)l->n + 1) * sizeof *order);
    if (!order)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    layers_by_time(l, order);
    for (int i = 0; i < l->n; i++)
        all += layer_time(&l->v[i]);
    if (l->n)
        (void)fprintf(out, "\nblocks that took longest             MiB  FLOP/byte        s  share "
                           " weights\n");
    for (int i = 0; i < l->n && i < LAYERS_SHOWN; i++) {
        const layer *v = &l->v[order[i]];
        (void)fprintf(out, "  ");
        print_name(out, v->name, v->name_len, NAME - 2);
        (void)fprintf(out, " %7.1f %10.0f %8.2f %4.1f %%  %s\n", bytes_to_mib(v->bytes),
                      layer_intensity(v), layer_time(v), percent_of_whole(layer_time(v), all),
                      tier_of(v));
    }
    mem_free(order);
    return REFINE_OK;
}

/* ---- predictions ---- */

static void print_curve(FILE *out, const curve *c)
{
    double most = 0;
    for (int i = 0; i < c->n; i++)
        most = c->v[i].step > most ? c->v[i].step : most;
    if (!(most > 0))
        return;
    (void)fprintf(out, "\nbudget curve (prediction)\n   --vram MiB  resident   s/step  stalled\n");
    for (int i = 0; i < c->n; i++) {
        const curve_point *p = &c->v[i];
        const int bar = (int)(36 * p->step / most + 0.5);
        (void)fprintf(out, "  %10.1f %9.1f %8.3f %6.1f %%  %.*s\n", bytes_to_mib(p->vram),
                      bytes_to_mib(p->resident), p->step, 100.0 * p->stall, bar,
                      "####################################");
    }
}

static void print_cell(FILE *out, const card_cell *c)
{
    if (c->fits && c->step > 0)
        (void)fprintf(out, " %7.2f %6.0f ", c->step, bytes_to_mib(c->smallest));
    else
        (void)fprintf(out, " %7s %6.0f ", c->fits ? "?" : "no", bytes_to_mib(c->smallest));
}

static void print_cards(FILE *out, const memprof *m)
{
    if (m->n_rows == 0)
        return;
    (void)fprintf(out, "\nother cards (prediction from assumed rates: nothing was run on them)\n"
                       "                             512 x 512       768 x 768      1024 x 1024\n"
                       "  card             MiB  s/step  least   s/step  least   s/step  least\n");
    for (int i = 0; i < m->n_rows; i++) {
        const card_row *r = &m->row[i];
        (void)fprintf(out, "  %-15.15s %5.0f", r->card.name, bytes_to_mib(r->vram));
        for (int k = 0; k < CARD_SIZES; k++)
            print_cell(out, &r->cell[k]);
        (void)fprintf(out, "\n");
    }
}

refine_status memprof_print(FILE *out, const memprof *m, refine_error *err)
{
    refine_status st = REFINE_OK;
    print_head(out, m);
    print_memory_table(out, m);
    if (m->run) {
        print_times(out, &m->r);
        st = print_timeline(out, m->run, err);
        print_use(out, &m->use);
        if (st == REFINE_OK)
            st = print_longest_layers(out, &m->block, err);
    } else if (m->r.predicted_step > 0) {
        (void)fprintf(out, "\ntime      predicted %.3f s a step, %.1f s for %d\n",
                      m->r.predicted_step, m->r.predicted_unet, m->r.steps_run);
    }
    print_curve(out, &m->curve);
    print_cards(out, m);
    if (m->note[0]) {
        (void)fprintf(out, "\n");
        print_words(out, m->note);
        (void)fprintf(out, "\n");
    }
    return st;
}
