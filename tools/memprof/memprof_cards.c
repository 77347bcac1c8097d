/* tools/memprof/memprof_cards.c -- a table of cards, and refine_plan with their rates. */
#include "tools/memprof/memprof_cards.h"

#include <math.h>
#include <strings.h>

static const double GIB = 1073741824.0, DESKTOP_GIB = 0.4, DISK = 3.5;
/* Two decode threads of a recent laptop, unpacking fp16 in byte planes. */
static const double DECODE = 5.0;

const card cards[CARDS] = {
    { "1650ti", "GTX 1650 Ti", "3.0 x8", 4, 6.4, 170, 3.4, 2.4 },
    { "2060", "RTX 2060 M", "3.0 x8", 6, 6.4, 270, 12.8, 10.3 },
    { "3050-4g", "RTX 3050 M 4 GB", "4.0 x8", 4, 12.8, 165, 7.6, 6.1 },
    { "3050-6g", "RTX 3050 M 6 GB", "4.0 x8", 6, 12.8, 145, 8.9, 7.2 },
    { "4050", "RTX 4050 M", "4.0 x8", 6, 12.8, 165, 12.1, 9.7 },
    { "5050", "RTX 5050 M", "5.0 x8", 8, 25, 330, 14, 11 },
};

const int card_sizes[CARD_SIZES] = { 512, 768, 1024 };

const card *card_find(const char *text)
{
    for (int i = 0; i < CARDS; i++)
        if (strcasecmp(text, cards[i].id) == 0 || strcasecmp(text, cards[i].name) == 0)
            return &cards[i];
    return NULL;
}

static double given_or_default(double given, double otherwise)
{
    return given > 0 ? given : otherwise;
}

void card_apply(refine_options *o, const card *c, const card_override *with)
{
    o->vram_bytes = (uint64_t)((c->vram - DESKTOP_GIB) * GIB);
    o->rates.disk = given_or_default(with->disk, DISK) * 1e9;
    o->rates.decode = DECODE * 1e9;
    o->rates.copy = given_or_default(with->link, c->link) * 1e9;
    o->rates.linear = o->rates.conv = given_or_default(with->tflops, c->matrix) * 1e12;
    o->rates.attention = given_or_default(with->tflops, c->attention) * 1e12;
    o->rates.memory = c->memory * 1e9;
    /* As the cards compute: what a processor here would choose says nothing about them. */
    if (o->precision == REFINE_PRECISION_AUTO)
        o->precision = REFINE_BF16;
}

static refine_status predict_cell(card_cell *out, const refine_options *o, const refine_job *j,
                                  refine_error *err)
{
    refine_report r = REFINE_REPORT_INIT;
    const refine_status st = refine_plan(&r, o, j, err);
    if (st != REFINE_OK && st != REFINE_EBUDGET)
        return st;
    *out = (card_cell){ .fits = st == REFINE_OK,
                        .smallest = r.memory.smallest_device,
                        .step = st == REFINE_OK ? r.predicted_step : 0,
                        .stall = st == REFINE_OK ? fmax(r.predicted_stall, 0) : 0 };
    return REFINE_OK;
}

refine_status card_predict(card_row *out, const card *c, const card_override *with,
                           const refine_options *o, const refine_job *j, refine_error *err)
{
    refine_options at = *o;
    refine_job job = *j;
    card_apply(&at, c, with);
    *out = (card_row){ .card = *c, .vram = at.vram_bytes };
    out->card.link = given_or_default(with->link, c->link);
    out->card.matrix = given_or_default(with->tflops, c->matrix);
    for (int i = 0; i < CARD_SIZES; i++) {
        job.width = job.height = card_sizes[i];
        const refine_status st = predict_cell(&out->cell[i], &at, &job, err);
        if (st != REFINE_OK)
            return st;
    }
    return REFINE_OK;
}
