/* tools/memprof/memprof_cards.h -- laptop graphics cards, and what this model would do on each.
 *
 * The rates are estimates for sustained laptop clocks: published peaks times the share of them
 * that kernels of this kind reach (0.62 of fp16 with fp32 accumulation; attention 0.50).
 */
#ifndef REFINE_MEMPROF_CARDS_H
#define REFINE_MEMPROF_CARDS_H

#include <refine/refine.h>

enum { CARDS = 6, CARD_SIZES = 3 };

typedef struct card {
    const char *id, *name, *bus;
    double vram;              /* GiB */
    double link, memory;      /* GB/s */
    double matrix, attention; /* effective TFLOP/s */
} card;

extern const card cards[CARDS];
extern const int card_sizes[CARD_SIZES]; /* pixels, square */

/* What the user knows better; 0: the card's, or what is common. */
typedef struct card_override {
    double link, disk, tflops;
} card_override;

typedef struct card_cell {
    bool fits;
    uint64_t smallest; /* bytes of device memory */
    double step;       /* predicted seconds; 0: no prediction */
    double stall;      /* share of it */
} card_cell;

typedef struct card_row {
    card card; /* overrides applied */
    uint64_t vram;
    card_cell cell[CARD_SIZES];
} card_row;

/* By id or name, in any case; NULL when there is none. */
const card *card_find(const char *text);

/* Options and rates as on the card: its memory less what the desktop takes. */
void card_apply(refine_options *o, const card *c, const card_override *with);

/* Every size on one card; the job's own size is not used. */
refine_status card_predict(card_row *out, const card *c, const card_override *with,
                           const refine_options *o, const refine_job *j, refine_error *err);

#endif
