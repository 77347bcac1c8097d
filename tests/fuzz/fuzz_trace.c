/* tests/fuzz/fuzz_trace.c -- hostile traces: a refusal, or a report in all its forms. */
#define _GNU_SOURCE /* memfd_create */
#include "engine/base/mem.h"
#include "tests/fuzz/memory_file.h"
#include "tools/memprof/memprof_html.h"
#include "tools/memprof/memprof_json.h"
#include "tools/memprof/memprof_text.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_order(const recording *t)
{
    for (int l = 0; l < REFINE_LANES; l++)
        for (size_t i = t->lane_at[l]; i < t->lane_at[l + 1]; i++) {
            const refine_event *v = &t->event[i];
            assert((int)v->lane == l && v->begin >= 0 && v->end >= v->begin && v->end <= t->end);
            assert(i == t->lane_at[l] || t->event[i - 1].begin <= v->begin);
            assert(v->chunk >= 0);
        }
    assert(t->lane_at[REFINE_LANES] == t->n_events);
}

/* The page is written, looked at for what would break out of it, and removed. */
static void check_html(const memprof *m)
{
    char path[64];
    FILE *f = NULL;
    (void)snprintf(path, sizeof path, "/dev/shm/fuzz_trace.%ld.html", (long)getpid());
    if (memprof_save_html(path, m, NULL) == REFINE_OK)
        f = fopen(path, "r");
    (void)unlink(path);
    if (!f)
        return;
    char line[4096];
    while (fgets(line, sizeof line, f))
        assert(!strcasestr(line, "<script"));
    (void)fclose(f);
}

static void check_report(const recording *t)
{
    memprof m;
    char *text = NULL;
    size_t len;
    const memprof_wish wish = { 0 };
    assert(memprof_of_run(&m, t, &wish, NULL) == REFINE_OK);
    FILE *f = open_memstream(&text, &len);
    assert(memprof_print(f, &m, NULL) == REFINE_OK);
    assert(memprof_print_json(f, &m, NULL) == REFINE_OK);
    (void)fclose(f);
    for (size_t i = 0; i < len; i++)
        assert((unsigned char)text[i] != 0x1b);
    free(text);
    check_html(&m);
    memprof_free(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char name[MEMORY_FILE_NAME];
    refine_error err = { 0 };
    recording t;
    const int fd = memory_file(name, data, size);
    if (fd < 0)
        return 0;
    const refine_status st = trace_read(&t, name, &err);
    if (st == REFINE_OK) {
        check_order(&t);
        check_report(&t);
        trace_free(&t);
    } else {
        assert(err.status == st && err.text[0] != '\0');
    }
    assert(mem_used().now == 0);
    (void)close(fd);
    return 0;
}
