/* tests/tools/test_manifest.c -- what lines of a manifest say, and which are refused. */
#define _XOPEN_SOURCE 700 /* strtok_r */
#include "tools/batch/manifest.h"

#include "engine/base/mem.h"
#include "tests/support/temp_place.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static refine_status read_manifest_text(work_list *l, const temp_place *p, const char *text,
                                        refine_error *err)
{
    *l = (work_list){ 0 };
    temp_write(p->path, text, strlen(text));
    return manifest_read(l, p->path, err);
}

static void remove_manifest(const temp_place *p)
{
    cr_assert(remove(p->path) == 0 && rmdir(p->dir) == 0);
    cr_expect_eq(mem_used().now, 0u);
}

static void expect_beside(const char *path, const temp_place *p, const char *name)
{
    char right[TEMP_NAME + 32];
    (void)snprintf(right, sizeof right, "%s/%s", p->dir, name);
    cr_expect_str_eq(path, right);
}

Test(tools_manifest, is_seen_from_its_directory)
{
    const temp_place p = temp_place_make("list.jsonl");
    work_list l;
    refine_error err;
    cr_assert_eq(read_manifest_text(&l, &p,
                                    "{\"input\": \"a.png\", \"output\": \"/o/a.png\"}\n\n"
                                    "{\"input\": \"/b.png\", \"output\": \"d/b.png\"}\n",
                                    &err),
                 REFINE_OK, "%s", err.text);
    cr_assert_eq(l.n, 2);
    cr_expect(l.several && l.item[0].line == 1 && l.item[1].line == 3);
    expect_beside(l.item[0].input, &p, "a.png");
    cr_expect_str_eq(l.item[0].output, "/o/a.png");
    cr_expect_str_eq(l.item[1].input, "/b.png");
    expect_beside(l.item[1].output, &p, "d/b.png");
    work_list_free(&l);
    remove_manifest(&p);
}

Test(tools_manifest, says_of_each_image_what_sets_it_apart)
{
    const temp_place p = temp_place_make("list.jsonl");
    work_list l;
    refine_error err;
    cr_assert_eq(read_manifest_text(
                     &l, &p,
                     "{\"prompt\": \"a\", \"negative_prompt\": \"b\", \"prompt_2\": \"c\", "
                     "\"negative_2\": \"d\", \"seed\": \"18446744073709551615\", \"steps\": 7, "
                     "\"strength\": 1, \"guidance\": 2.5, \"height\": 128, \"width\": 64}\n"
                     "{\"seed\": -1, \"negative\": \"\", \"size\": \"0.5MP\"}\n{}\n",
                     &err),
                 REFINE_OK, "%s", err.text);
    cr_assert_eq(l.n, 3);
    const work_item *a = &l.item[0], *b = &l.item[1], *c = &l.item[2];
    cr_expect(!a->input && strcmp(a->prompt, "a") == 0 && strcmp(a->negative, "b") == 0 &&
              strcmp(a->prompt_2, "c") == 0 && strcmp(a->negative_2, "d") == 0);
    cr_expect(a->seed_from == SEED_GIVEN && a->seed == UINT64_MAX && a->steps == 7);
    cr_expect(a->strength >= 1 && a->guidance >= 2.5 && a->guidance <= 2.5);
    cr_expect(a->sized && a->size.kind == SIZE_SIDES && a->size.width == 64 &&
              a->size.height == 128);
    cr_expect(b->seed_from == SEED_DRAWN && b->sized && b->size.kind == SIZE_AREA &&
              strcmp(b->negative, "") == 0);
    cr_expect(c->seed_from == SEED_OF_COMMAND && c->steps == 0 && isnan(c->strength) &&
              isnan(c->guidance) && !c->sized && !c->prompt && !c->negative);
    work_list_free(&l);
    remove_manifest(&p);
}

static bool says_nothing(const work_item *w)
{
    return !w->input && !w->output && !w->prompt && !w->negative && !w->prompt_2 &&
           !w->negative_2 && w->seed_from == SEED_OF_COMMAND && w->steps == 0 &&
           isnan(w->strength) && isnan(w->guidance) && !w->sized;
}

/* Of every member there is: the refusal of an unknown one lists them. */
Test(tools_manifest, takes_a_null_for_a_member_that_is_not_there)
{
    const temp_place p = temp_place_make("list.jsonl");
    work_list l;
    refine_error err, known;
    int n = 0;
    cr_assert_eq(read_manifest_text(&l, &p, "{\"?\": null}", &known), REFINE_EFORMAT);
    work_list_free(&l);
    char *keys = strstr(known.text, "there are ");
    cr_assert_not_null(keys, "%s", known.text);
    keys += strlen("there are ");
    for (char *rest, *key = strtok_r(keys, ", ", &rest); key; key = strtok_r(NULL, ", ", &rest)) {
        char text[128];
        (void)snprintf(text, sizeof text, "{\"%s\": null}\n", key);
        cr_assert_eq(read_manifest_text(&l, &p, text, &err), REFINE_OK, "%s", err.text);
        cr_expect(l.n == 1 && says_nothing(&l.item[0]), "%s", key);
        work_list_free(&l);
        n++;
    }
    cr_expect_gt(n, 1);
    cr_assert_eq(read_manifest_text(&l, &p,
                                    "{\"negative\": null, \"negative_prompt\": \"b\", "
                                    "\"size\": \"0.5MP\", \"width\": null, \"height\": null}\n",
                                    &err),
                 REFINE_OK, "%s", err.text);
    cr_expect_str_eq(l.item[0].negative, "b");
    cr_expect_eq(l.item[0].size.kind, SIZE_AREA);
    work_list_free(&l);
    remove_manifest(&p);
}

Test(tools_manifest, is_refused_by_line_and_member)
{
    static const struct {
        const char *line, *says;
    } CASES[] = {
        { "[1]", "is no JSON object" },
        { "{\"input\": \"a.png\"", "column 17: '}' expected near end of the line; a line is " },
        { "{", "near end of the line; a line is one JSON object" },
        { "{\"seed\": 1} {}", "column 13: end of the line expected near '{'; a line" },
        { "{\"seed\": 1}\r{}", "column 13: end of the line expected near '{'; a line" },
        { "{\"seed\": 1, \x1b[1m}", "string or '}' expected near '?'; a line" },
        { "{\"prompt\": \"caf\xe9\"}", "is not UTF-8" },
        { "{\"input\": 3}", "\"input\": give a file's name" },
        { "{\"nagative\": \"x\"}", "\"nagative\" is unknown; there are input, output, prompt" },
        { "{\"a\\nb\": 1}", "\"a?b\" is unknown" },
        { "{\"seed\": -2}", "\"seed\": give a whole number from 0 up, or -1" },
        { "{\"seed\": 1.5}", "\"seed\"" },
        { "{\"seed\": \"x\"}", "\"seed\"" },
        { "{\"steps\": 0}", "\"steps\": give a whole number from 1 to 1000" },
        { "{\"steps\": 1001}", "\"steps\"" },
        { "{\"steps\": 4294967297}", "\"steps\"" },
        { "{\"strength\": 1.01}", "\"strength\": give a number from 0 to 1" },
        { "{\"strength\": \"0.5\"}", "\"strength\"" },
        { "{\"guidance\": \"null\"}", "\"guidance\": give a number" },
        { "{\"guidance\": false}", "\"guidance\": give a number" },
        { "{\"nagative\": null}", "\"nagative\" is unknown" },
        { "{\"width\": 64}", "give both" },
        { "{\"width\": 64, \"height\": null}", "give both" },
        { "{\"width\": 65, \"height\": 64}", "\"width\": give a multiple of 8" },
        { "{\"width\": 64, \"height\": 64, \"size\": \"64\"}", "\"size\": give " },
        { "{\"size\": \"64\", \"width\": 64}", "\"width\": give " },
        { "{\"size\": \"big\"}", "\"size\": give " },
        { "{\"negative\": \"a\", \"negative_prompt\": \"b\"}", "\"negative_prompt\"" },
        { "{\"prompt\": \"a\", \"prompt\": \"b\"}", "duplicate object key near '\"prompt\"'" },
        { "{\"prompt\": 'a'}", "column 12: invalid token" },
    };
    const temp_place p = temp_place_make("list.jsonl");
    work_list l;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        char text[256];
        refine_error err = { 0 };
        (void)snprintf(text, sizeof text, "\n{}\n%s\n", CASES[i].line);
        cr_expect_eq(read_manifest_text(&l, &p, text, &err), REFINE_EFORMAT, "%s", CASES[i].line);
        cr_expect(strstr(err.text, "list.jsonl: line 3") && strstr(err.text, CASES[i].says) &&
                      !strchr(err.text, '\n'),
                  "%s: %s", CASES[i].line, err.text);
        work_list_free(&l);
    }
    refine_error err;
    cr_expect_eq(read_manifest_text(&l, &p, " \n\n", &err), REFINE_EFORMAT);
    work_list_free(&l);
    l = (work_list){ 0 };
    cr_expect_eq(manifest_read(&l, "/dev/zero", &err), REFINE_EFORMAT);
    cr_expect(strstr(err.text, "line 1 is too long"), "%s", err.text);
    work_list_free(&l);
    remove_manifest(&p);
}

static refine_status read_manifest_bytes(work_list *l, const temp_place *p, const char *bytes,
                                         size_t n, refine_error *err)
{
    *l = (work_list){ 0 };
    temp_write(p->path, bytes, n);
    return manifest_read(l, p->path, err);
}

Test(tools_manifest, is_read_with_any_line_ends_and_a_byte_order_mark)
{
    static const char TEXT[] =
        "\xef\xbb\xbf{\"seed\": 1}\r\n\r\n \t\r\n{\"seed\": 2}\n\n{\"seed\": 3}";
    const temp_place p = temp_place_make("list.jsonl");
    refine_error err = { 0 };
    work_list l;
    cr_assert_eq(read_manifest_bytes(&l, &p, TEXT, sizeof TEXT - 1, &err), REFINE_OK, "%s",
                 err.text);
    cr_assert_eq(l.n, 3);
    for (int i = 0; i < 3; i++)
        cr_expect_eq(l.item[i].seed, (uint64_t)i + 1);
    cr_expect_eq(l.item[2].line, 6);
    work_list_free(&l);
    remove_manifest(&p);
}

Test(tools_manifest, has_no_zero_bytes)
{
    static const char LAST[] = "{\"seed\": 1}\0{\"seed\": 2}", BLANK[] = "\0\n{\"seed\": 2}\n";
    const temp_place p = temp_place_make("list.jsonl");
    work_list l;
    cr_expect_eq(read_manifest_bytes(&l, &p, LAST, sizeof LAST - 1, NULL), REFINE_EFORMAT);
    work_list_free(&l);
    cr_expect_eq(read_manifest_bytes(&l, &p, BLANK, sizeof BLANK - 1, NULL), REFINE_EFORMAT);
    work_list_free(&l);
    remove_manifest(&p);
}

/* Whatever its last byte is. */
Test(tools_manifest, has_lines_of_less_than_a_mebibyte)
{
    enum { MOST = 1 << 20 };
    static const char ENDS[] = { ' ', '\r' };
    const temp_place p = temp_place_make("list.jsonl");
    char *text = malloc(MOST + 8);
    for (size_t i = 0; i < 2; i++)
        for (int over = 0; over < 2; over++) {
            refine_error err = { 0 };
            work_list l;
            const size_t n = (size_t)(MOST - 1 + over);
            memset(text, ' ', n);
            memcpy(text, "{}", 2);
            text[n - 1] = ENDS[i];
            memcpy(text + n, "\n{}\n", 4);
            const refine_status st = read_manifest_bytes(&l, &p, text, n + 4, &err);
            cr_expect_eq(st, over ? REFINE_EFORMAT : REFINE_OK, "%s", err.text);
            cr_expect(over ? strstr(err.text, "line 1 is too long") != NULL : l.n == 2);
            work_list_free(&l);
        }
    free(text);
    remove_manifest(&p);
}
