/* tests/plain_runner/criterion/criterion.h -- the words of criterion that our tests use.
 *
 * Criterion's sandbox cannot start under ThreadSanitizer, and not every machine has it.  There the
 * tests are built against this header and plain_runner.c instead: each test in a forked child, the
 * same exit status and the same TAP file (CRITERION_OUTPUTS=tap:PATH).
 */
#ifndef REFINE_PLAIN_RUNNER_H
#define REFINE_PLAIN_RUNNER_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct plain_options {
    void (*init)(void);
    void (*fini)(void);
    double timeout; /* seconds */
    bool   disabled;
    int    exit_code, signal; /* what the test is to end with */
} plain_options;

typedef struct plain_test plain_test;
struct plain_test {
    const char   *suite, *name;
    void        (*body)(void);
    plain_options options;
    plain_test   *next;
};

typedef struct plain_suite plain_suite;
struct plain_suite {
    const char   *name;
    plain_options options;
    plain_suite  *next;
};

void plain_add_test(plain_test *t);
void plain_add_suite(plain_suite *s);
void plain_skip(const char *fmt, ...);

/* Prints where and why a check failed; ends the test if it was an assertion. */
void plain_check(bool held, bool fatal, const char *file, int line, const char *what,
                 const char *fmt, ...);

#define Test(suite_, name_, ...)                                                                   \
    static void       suite_##_##name_##_body(void);                                               \
    static plain_test suite_##_##name_##_test = { .suite = #suite_,                                \
                                                  .name = #name_,                                  \
                                                  .body = suite_##_##name_##_body,                 \
                                                  .options = { .exit_code = 0, __VA_ARGS__ } };    \
    __attribute__((constructor)) static void suite_##_##name_##_add(void)                          \
    {                                                                                              \
        plain_add_test(&suite_##_##name_##_test);                                                  \
    }                                                                                              \
    static void suite_##_##name_##_body(void)

#define TestSuite(suite_, ...)                                                                     \
    static plain_suite suite_##_suite = { .name = #suite_,                                         \
                                          .options = { .exit_code = 0, __VA_ARGS__ } };            \
    __attribute__((constructor)) static void suite_##_suite_add(void)                              \
    {                                                                                              \
        plain_add_suite(&suite_##_suite);                                                          \
    }                                                                                              \
    struct plain_suite

#define PLAIN(fatal, cond, text, ...)                                                              \
    plain_check((cond), fatal, __FILE__, __LINE__, text, "" __VA_ARGS__)

#define cr_assert(c, ...) PLAIN(true, !!(c), #c, __VA_ARGS__)
#define cr_expect(c, ...) PLAIN(false, !!(c), #c, __VA_ARGS__)
#define cr_assert_not(c, ...) PLAIN(true, !(c), "not " #c, __VA_ARGS__)
#define cr_expect_not(c, ...) PLAIN(false, !(c), "not " #c, __VA_ARGS__)
#define cr_assert_fail(...) PLAIN(true, false, "fail", __VA_ARGS__)
#define cr_expect_fail(...) PLAIN(false, false, "fail", __VA_ARGS__)
#define cr_fail(...) PLAIN(false, false, "fail", __VA_ARGS__)
#define cr_fatal(...) PLAIN(true, false, "fail", __VA_ARGS__)

#define cr_assert_eq(a, b, ...) PLAIN(true, (a) == (b), #a " == " #b, __VA_ARGS__)
#define cr_assert_neq(a, b, ...) PLAIN(true, (a) != (b), #a " != " #b, __VA_ARGS__)
#define cr_assert_lt(a, b, ...) PLAIN(true, (a) < (b), #a " < " #b, __VA_ARGS__)
#define cr_assert_leq(a, b, ...) PLAIN(true, (a) <= (b), #a " <= " #b, __VA_ARGS__)
#define cr_assert_gt(a, b, ...) PLAIN(true, (a) > (b), #a " > " #b, __VA_ARGS__)
#define cr_assert_geq(a, b, ...) PLAIN(true, (a) >= (b), #a " >= " #b, __VA_ARGS__)
#define cr_assert_null(a, ...) PLAIN(true, !(a), #a " is NULL", __VA_ARGS__)
#define cr_assert_not_null(a, ...) PLAIN(true, !!(a), #a " is not NULL", __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...) PLAIN(true, !strcmp(a, b), #a " reads " #b, __VA_ARGS__)
#define cr_assert_str_neq(a, b, ...) PLAIN(true, strcmp(a, b), #a " is not " #b, __VA_ARGS__)
#define cr_assert_arr_eq(a, b, n, ...) PLAIN(true, !memcmp(a, b, n), #a " is " #b, __VA_ARGS__)
#define cr_assert_arr_neq(a, b, n, ...) PLAIN(true, memcmp(a, b, n), #a " isn't " #b, __VA_ARGS__)
#define cr_assert_float_eq(a, b, e, ...)                                                           \
    PLAIN(true, fabs((double)((a) - (b))) <= (e), #a " ~ " #b, __VA_ARGS__)

#define cr_expect_eq(a, b, ...) PLAIN(false, (a) == (b), #a " == " #b, __VA_ARGS__)
#define cr_expect_neq(a, b, ...) PLAIN(false, (a) != (b), #a " != " #b, __VA_ARGS__)
#define cr_expect_lt(a, b, ...) PLAIN(false, (a) < (b), #a " < " #b, __VA_ARGS__)
#define cr_expect_leq(a, b, ...) PLAIN(false, (a) <= (b), #a " <= " #b, __VA_ARGS__)
#define cr_expect_gt(a, b, ...) PLAIN(false, (a) > (b), #a " > " #b, __VA_ARGS__)
#define cr_expect_geq(a, b, ...) PLAIN(false, (a) >= (b), #a " >= " #b, __VA_ARGS__)
#define cr_expect_null(a, ...) PLAIN(false, !(a), #a " is NULL", __VA_ARGS__)
#define cr_expect_not_null(a, ...) PLAIN(false, !!(a), #a " is not NULL", __VA_ARGS__)
#define cr_expect_str_eq(a, b, ...) PLAIN(false, !strcmp(a, b), #a " reads " #b, __VA_ARGS__)
#define cr_expect_str_neq(a, b, ...) PLAIN(false, strcmp(a, b), #a " is not " #b, __VA_ARGS__)
#define cr_expect_arr_eq(a, b, n, ...) PLAIN(false, !memcmp(a, b, n), #a " is " #b, __VA_ARGS__)
#define cr_expect_arr_neq(a, b, n, ...) PLAIN(false, memcmp(a, b, n), #a " isn't " #b, __VA_ARGS__)
#define cr_expect_float_eq(a, b, e, ...)                                                           \
    PLAIN(false, fabs((double)((a) - (b))) <= (e), #a " ~ " #b, __VA_ARGS__)

#define cr_skip_test(...) plain_skip("" __VA_ARGS__)
#define cr_skip(...) plain_skip("" __VA_ARGS__)
#define cr_log_info(...) (printf(__VA_ARGS__), putchar('\n'))
#define cr_log_warn(...) (printf(__VA_ARGS__), putchar('\n'))

#endif
