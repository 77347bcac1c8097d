/* tests/tools/test_memprof_arguments.c -- what the command line of refine-memprof comes to. */
#include "tools/arguments/memprof_arguments.h"

#include "tools/cli/exit_code.h"
#include "tools/memprof/memprof_cards.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <string.h>

static int read_memprof(memprof_arguments *a, int n, const char *const words[])
{
    char *argv[16] = { (char *)(uintptr_t) "refine-memprof" };
    cr_assert_lt(n, 14);
    for (int i = 0; i < n; i++)
        argv[i + 1] = (char *)(uintptr_t)words[i];
    *a = (memprof_arguments){ .o = REFINE_OPTIONS_INIT, .j = REFINE_JOB_INIT };
    return memprof_arguments_read(a, n + 1, argv);
}

#define READ(a, ...)                                                                               \
    read_memprof((a), (int)(sizeof((const char *[]){ __VA_ARGS__ }) / sizeof(const char *)),       \
                 (const char *const[]){ __VA_ARGS__ })

static const option_row *find_row(const char *name)
{
    for (int i = 0; i < MEMPROF_OPTIONS.n_rows; i++)
        if (strcmp(MEMPROF_OPTIONS.rows[i].name, name) == 0)
            return &MEMPROF_OPTIONS.rows[i];
    return NULL;
}

Test(tools_memprof_arguments, every_card_is_taken_and_told_of)
{
    const option_row *r = find_row("card");
    memprof_arguments a;
    for (int i = 0; i < CARDS; i++) {
        cr_expect_eq(READ(&a, "--plan", "x", "--card", cards[i].id), -1, "%s", cards[i].id);
        cr_expect_eq(a.wish.card, &cards[i]);
        cr_expect(strstr(r->help, cards[i].id) && strstr(r->man, cards[i].id) &&
                      strstr(r->takes, cards[i].id),
                  "%s", cards[i].id);
    }
}

Test(tools_memprof_arguments, the_job_is_what_follows_and_its_options_are_its_own)
{
    memprof_arguments a;
    cr_assert_eq(READ(&a, "--html", "x", "refine-lowmem", "--steps", "9", "--html", "y"), -1);
    cr_expect_str_eq(a.html, "x");
    cr_expect_str_eq(a.child[0], "refine-lowmem");
    cr_expect_str_eq(a.child[1], "--steps");
}

Test(tools_memprof_arguments, what_only_a_plan_has_is_for_a_plan)
{
    static const char *const OPTIONS[] = { "--size=64x64", "--vram=1M", "--ram=1M",
                                           "--precision=f32", "--steps=1" };
    memprof_arguments a;
    for (size_t i = 0; i < sizeof OPTIONS / sizeof OPTIONS[0]; i++) {
        cr_expect_eq(READ(&a, "--from", "x", OPTIONS[i]), EXIT_USAGE, "%s", OPTIONS[i]);
        cr_expect_eq(READ(&a, "--plan", "x", OPTIONS[i]), -1, "%s", OPTIONS[i]);
    }
    cr_expect(a.j.steps == 1 && a.j.width == 1024);
    cr_expect_eq(READ(&a, "--plan", "x", "--size", "640x480"), -1);
    cr_expect(a.j.width == 640 && a.j.height == 480);
}
