/* tests/tools/test_job_notes.c -- what is said of resized images and of long prompts. */
#include "tools/batch/job_notes.h"

#include <criterion/criterion.h>
#include <string.h>

static void expect_notes(json_t *notes, size_t n, const char *first)
{
    cr_assert_eq(json_array_size(notes), n);
    if (n > 0)
        cr_expect_str_eq(json_string_value(json_array_get(notes, 0)), first);
    json_decref(notes);
}

static json_t *size_notes(int from_width, int from_height, size_fit fit)
{
    const job_input in = { .from_width = from_width, .from_height = from_height, .fit = fit };
    json_t *notes = json_array();
    note_input(notes, "a.png", &in);
    return notes;
}

Test(tools_job_notes, say_what_became_of_the_size)
{
    expect_notes(size_notes(64, 64, (size_fit){ 0, 0, 64, 64, 64, 64 }), 0, "");
    expect_notes(size_notes(0, 0, (size_fit){ 0 }), 0, "");
    expect_notes(size_notes(101, 67, (size_fit){ 0, 0, 101, 67, 96, 64 }), 1,
                 "a.png: 101 x 67 pixels became 96 x 64; sides are multiples of 8");
    expect_notes(size_notes(100, 64, (size_fit){ 18, 0, 64, 64, 64, 64 }), 1,
                 "a.png: 100 x 64 pixels, of which 64 x 64 in the middle were kept, became 64 x "
                 "64; sides are multiples of 8");
}

Test(tools_job_notes, say_what_an_input_lacks)
{
    const job_input in = { .note = "it lacks its end",
                           .from_width = 72,
                           .from_height = 64,
                           .fit = { 0, 0, 72, 64, 64, 64 } };
    json_t *notes = json_array();
    note_input(notes, "-", &in);
    expect_notes(notes, 2, "standard input: it lacks its end");
}

Test(tools_job_notes, say_which_prompt_is_too_long_and_by_how_much)
{
    json_t *notes = json_array();
    note_tokens(notes, "a.png", 77, 77);
    expect_notes(notes, 0, "");
    notes = json_array();
    note_tokens(notes, "a.png", 78, 100);
    cr_expect_str_eq(json_string_value(json_array_get(notes, 1)),
                     "a.png: the negative prompt has 100 tokens, of which 77 are read; the rest "
                     "was cut");
    expect_notes(notes, 2,
                 "a.png: the prompt has 78 tokens, of which 77 are read; the rest was "
                 "cut");
}
