/* tests/tools/test_report_fields.c -- every member of a report is in its JSON once, and comes back.
 */
#include "engine/base/mem.h"
#include "tests/support/random.h"
#include "tools/report/report_fields.h"
#include "tools/report/result_json.h"

#include <criterion/criterion.h>
#include <string.h>

enum { ROUNDS = 2000, STEPS_MOST = 12, TEXT_LEN = 24, TEXTS_MOST = 16 };

static size_t field_size(report_kind kind)
{
    switch (kind) {
    case FIELD_COUNT: return sizeof(int);
    case FIELD_SECONDS:
    case FIELD_AMOUNT: return sizeof(double);
    case FIELD_TEXT: return sizeof(char *);
    case FIELD_STEPS: return sizeof(double *);
    case FIELD_BYTES:
    case FIELD_HASH: return sizeof(uint64_t);
    case FIELD_STALLED:
    case FIELD_OBJECT: break;
    }
    return 0;
}

/* ---- every row, wherever its table hangs ---- */

/* A row that is no object: where its member lies in the report, and all that it needs. */
typedef void visit_field(void *context, const report_field *f, size_t at, unsigned needs);

static void visit_table(const report_field *table, size_t base, unsigned needs, visit_field *visit,
                        void *context)
{
    for (const report_field *f = table; f->key; f++)
        if (f->kind == FIELD_OBJECT)
            visit_table(f->members, base + f->offset, needs | f->needs, visit, context);
        else
            visit(context, f, base + f->offset, needs | f->needs);
}

static void visit_report(visit_field *visit, void *context)
{
    visit_table(report_head, 0, 0, visit, context);
    visit_table(report_parts, 0, 0, visit, context);
    visit_table(report_source, 0, 0, visit, context);
}

/* ---- no member is forgotten ---- */

/* How many rows each byte is in. */
typedef struct coverage {
    int rows[sizeof(refine_report)];
} coverage;

static void cover_bytes(coverage *c, size_t at, size_t n)
{
    for (size_t i = at; i < at + n; i++)
        c->rows[i]++;
}

static void cover_field(void *context, const report_field *f, size_t at, unsigned needs)
{
    (void)needs;
    cover_bytes(context, at, field_size(f->kind));
}

/* By a compiler that can tell: a member that has taken the place of padding is not covered. */
static void cover_padding(coverage *c)
{
    static const size_t BEFORE[] = { offsetof(refine_report, total),
                                     offsetof(refine_report, source_hash) };
    refine_report r;
    memset(&r, 0, sizeof r);
#if defined(__has_builtin)
#if __has_builtin(__builtin_clear_padding)
    memset(&r, 0xff, sizeof r);
    __builtin_clear_padding(&r);
#endif
#endif
    for (size_t i = 0; i < sizeof BEFORE / sizeof BEFORE[0]; i++)
        for (size_t at = BEFORE[i] - sizeof(int); at < BEFORE[i]; at++)
            c->rows[at] += ((unsigned char *)&r)[at] == 0;
}

#define NOT_WRITTEN(name)                                                                          \
    {                                                                                              \
        offsetof(refine_report, name), sizeof(((refine_report *)NULL)->name)                       \
    }

Test(tools_report_fields, hold_every_member_once)
{
    static const struct {
        size_t at, size;
    } OTHERS[] = {
        NOT_WRITTEN(struct_bytes),    /* of the interface, not of the run */
        NOT_WRITTEN(decode_threads),  /* the plan's choice; no reader of a file asks for it */
        NOT_WRITTEN(threads),         /* likewise; --plan shows it as text */
        NOT_WRITTEN(device_hash),     /* the device and its model are */
        NOT_WRITTEN(tokens),          /* for a warning on the terminal */
        NOT_WRITTEN(negative_tokens), /* likewise */
        NOT_WRITTEN(note),            /* for the terminal */
        NOT_WRITTEN(unused),          /* among the notes */
        NOT_WRITTEN(base),            /* a report of its own */
    };
    coverage c = { 0 };
    visit_report(cover_field, &c);
    cover_padding(&c);
    for (size_t i = 0; i < sizeof OTHERS / sizeof OTHERS[0]; i++)
        cover_bytes(&c, OTHERS[i].at, OTHERS[i].size);
    for (size_t i = 0; i < sizeof c.rows / sizeof c.rows[0]; i++)
        cr_expect_eq(c.rows[i], 1, "byte %zu of refine_report is in %d rows", i, c.rows[i]);
}

/* ---- there and back ---- */

/* A report of which every row has a value. */
typedef struct report_sample {
    refine_report r;
    double step[STEPS_MOST];
    char text[TEXTS_MOST][TEXT_LEN];
    int n_texts;
    uint64_t *seed;
} report_sample;

/* One that nine digits hold. */
static double draw_amount(uint64_t *seed) { return random_below(seed, 1 << 20) / 8.0; }

static const char *draw_text(report_sample *s)
{
    cr_assert_lt(s->n_texts, TEXTS_MOST);
    char *text = s->text[s->n_texts++];
    const int n = random_below(s->seed, TEXT_LEN);
    for (int i = 0; i < n; i++)
        text[i] = (char)(1 + random_below(s->seed, 127));
    text[n] = '\0';
    return text;
}

static void draw_field(void *context, const report_field *f, size_t offset, unsigned needs)
{
    report_sample *s = context;
    void *at = (char *)&s->r + offset;
    (void)needs;
    switch (f->kind) {
    case FIELD_BYTES: *(uint64_t *)at = random_bits(s->seed) >> 1; break;
    case FIELD_HASH: *(uint64_t *)at = random_bits(s->seed); break;
    case FIELD_COUNT: *(int *)at = random_below(s->seed, 1 << 30); break;
    case FIELD_SECONDS:
    case FIELD_AMOUNT: *(double *)at = draw_amount(s->seed); break;
    case FIELD_TEXT: *(const char **)at = draw_text(s); break;
    case FIELD_STEPS: *(const double **)at = s->step; break;
    case FIELD_STALLED:
    case FIELD_OBJECT: break;
    }
}

static void draw_report(report_sample *s, uint64_t *seed)
{
    *s = (report_sample){ .seed = seed };
    visit_report(draw_field, s);
    for (int i = 0; i < STEPS_MOST; i++)
        s->step[i] = draw_amount(seed);
    s->r.steps_run = random_below(seed, STEPS_MOST + 1);
    if (random_below(seed, 4) == 0)
        s->r.predicted_step = 0;
}

/* The report as it is printed, parsed and read: the JSON, which owns its texts. */
static json_t *read_back_report(refine_report *out, double **step, const refine_report *r, bool ran)
{
    refine_job job = REFINE_JOB_INIT;
    refine_error err = { 0 };
    json_checker c = { .path = "x", .kind = "result", .err = &err };
    const run_record run = { .output = ran ? "o" : NULL, .job = &job };
    FILE *f = tmpfile();
    cr_assert_eq(result_print_json(f, r, &run, NULL), REFINE_OK);
    rewind(f);
    json_t *o = json_loadf(f, 0, NULL);
    (void)fclose(f);
    report_read(&c, o, out, step);
    cr_assert_eq(c.st, REFINE_OK, "%s", err.text);
    return o;
}

typedef struct report_comparison {
    const refine_report *want, *got;
    unsigned known;
    int round;
} report_comparison;

/* What is not known comes back as nothing.  Steps are compared apart. */
static void expect_field(void *context, const report_field *f, size_t at, unsigned needs)
{
    static const char NOTHING[sizeof(double)] = { 0 };
    const report_comparison *c = context;
    const bool known = (needs & ~c->known) == 0;
    const void *want = (const char *)c->want + at, *got = (const char *)c->got + at;
    if (f->kind == FIELD_TEXT)
        cr_expect_str_eq(*(const char *const *)got, known ? *(const char *const *)want : "",
                         "%s in round %d", f->key, c->round);
    else if (f->kind != FIELD_STEPS &&
             !(f->kind == FIELD_COUNT && strcmp(f->key, "steps_run") == 0))
        cr_expect_eq(memcmp(got, known ? want : NOTHING, field_size(f->kind)), 0, "%s in round %d",
                     f->key, c->round);
}

Test(tools_report_fields, come_back_as_they_were_written)
{
    uint64_t seed = 20240607;
    for (int round = 0; round < ROUNDS; round++) {
        const bool ran = random_below(&seed, 2);
        report_sample s;
        refine_report got;
        double *step;
        draw_report(&s, &seed);
        json_t *o = read_back_report(&got, &step, &s.r, ran);
        visit_report(expect_field, &(report_comparison){ .want = &s.r,
                                                         .got = &got,
                                                         .known = report_known(&s.r, ran),
                                                         .round = round });
        cr_expect_eq(got.steps_run, ran ? s.r.steps_run : 0, "round %d", round);
        for (int i = 0; i < got.steps_run; i++)
            cr_expect_eq(got.step[i], s.step[i], "step %d of round %d", i, round);
        mem_free(step);
        json_decref(o);
    }
    cr_expect_eq(mem_used().now, 0u);
}

/* The steps that are there are counted, not those that the file speaks of. */
Test(tools_report_fields, believe_no_number_of_steps)
{
    json_checker c = { .path = "x", .kind = "result" };
    json_t *o = json_pack("{s:i, s:{s:[f,f]}}", "steps_run", 1 << 20, "seconds", "steps", 1.0, 2.0);
    refine_report r;
    double *step;
    report_read(&c, o, &r, &step);
    cr_expect_eq(c.st, REFINE_OK);
    cr_expect_eq(r.steps_run, 2);
    cr_expect_eq(r.step[1], 2.0);
    mem_free(step);
    json_decref(o);
}

Test(tools_report_fields, refuse_what_is_out_of_range)
{
    static const char *const LIES[] = {
        "{\"width\":-1}",
        "{\"device\":7}",
        "{\"seconds\":[]}",
        "{\"seconds\":{\"total\":1e9}}",
        "{\"seconds\":{\"steps\":[1,-1]}}",
        "{\"memory\":{\"ring\":-1}}",
        "{\"memory\":{\"ring\":0.5}}",
        "{\"predicted\":{\"rates\":{\"disk\":1e25}}}",
        "{\"predicted\":{\"slowest_step\":{\"part\":[]}}}",
        "{\"run\":{\"source_hash\":1}}",
    };
    for (size_t i = 0; i < sizeof LIES / sizeof LIES[0]; i++) {
        json_checker c = { .path = "x", .kind = "result" };
        refine_report r;
        double *step;
        json_t *o = json_loads(LIES[i], 0, NULL);
        report_read(&c, o, &r, &step);
        cr_expect_eq(c.st, REFINE_EFORMAT, "%s", LIES[i]);
        mem_free(step);
        json_decref(o);
    }
}
