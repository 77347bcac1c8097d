/* tests/property/property.h -- what is claimed of everything is tried on things drawn at random.
 *
 *     Property(any_sum_is_at_least_its_parts)
 *     {
 *         const int a = draw_integer(d, 0, 1000), b = draw_scale(d, 1, 1 << 20);
 *         describe_case(d, "%d + %d", a, b);
 *         if (a + b < b)
 *             fail_case(d, "the sum is %d", a + b);
 *     }
 *
 * A case is what its body made of a list of choices, each a number from 0, the simplest, to some
 * most.  What fails is shrunk there, whatever it is: choices are left out, made 0, halved and
 * lessened while any fault remains (after "integrated shrinking": D. MacIver, A. Donaldson,
 * "Test-Case Reduction via Test-Case Generation", ECOOP 2020).
 *
 * Each case is a process of its own, so that one that dies, hangs or leaks is a case that fails and
 * is shrunk like any other.  A failed assertion of a test's support fails the case too.
 *
 * In the environment: REFINE_SEED (1) draws other cases, REFINE_SECONDS (2) how long each property
 * is tried, REFINE_CASES how many are at most.  What failed is printed with the command that
 * repeats it.
 */
#ifndef TEST_PROPERTY_H
#define TEST_PROPERTY_H

#include <criterion/criterion.h>
#include <stdbool.h>

typedef struct draws draws;
typedef void property(draws *d);

/* low .. high, of which low is the simplest. */
int draw_integer(draws *d, int low, int high);
/* The same, as likely from 10 to 100 as from 100 to 1000; 0 < low. */
int draw_scale(draws *d, int low, int high);
/* Once in n times; else the simplest, false. */
bool draw_once_in(draws *d, int n);
/* An index below n, of which 0 is the simplest. */
static inline int draw_below(draws *d, int n) { return draw_integer(d, 0, n - 1); }

/* What this case is; before what may fail. */
void describe_case(draws *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The case fails.  The first fault counts. */
void fail_case(draws *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool is_wrong(const draws *d);

/* Tries it until its time is over, `share` times what the environment says, and fails the test with
 * the smallest case that fails. */
void property_hold(const char *name, property *p, int share);

/* What became of it. */
typedef struct property_result {
    int cases;
    bool held;
    int choices;      /* of the smallest case that fails */
    char what[1024];  /* what it is, */
    char fault[1024]; /* what is wrong, */
    char said[4096];  /* and what its process said */
    unsigned long long seed;
} property_result;

void property_try(property_result *out, property *p, unsigned long long seed, double seconds,
                  int cases);

#define Property(name_) PROPERTY_OF(name_, 1)
/* One whose cases take long, or of which there are many kinds: tried for thrice as long. */
#define CostlyProperty(name_) PROPERTY_OF(name_, 3)

#define PROPERTY_OF(name_, share_)                                                                 \
    static property name_;                                                                         \
    Test(property, name_) { property_hold(#name_, name_, share_); }                                \
    static void name_(draws *d)

#endif
