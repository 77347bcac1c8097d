/* tests/property/property.c -- drawing, trying in a process apart, and shrinking. */
#define _GNU_SOURCE /* memfd_create, program_invocation_name */
#include "tests/property/property.h"

#include "tests/support/random.h"
#include "tests/support/sanitized.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST_CHOICES = 4096, SHRINKS = 3000, CASE_SECONDS = SANITIZED ? 600 : 200 };

static const double DEFAULT_SECONDS = 2, SHRINK_SECONDS = 60;

/* ---- choices ---- */

/* What a case's process leaves, in memory that it shares. */
typedef struct property_case {
    int n;
    unsigned choice[MOST_CHOICES], most[MOST_CHOICES];
    bool over; /* it came to its end */
    char what[1024], fault[1024];
} property_case;

struct draws {
    property_case *t;
    const unsigned *given; /* choices to make again; behind them random ones, or 0 */
    int n_given;
    bool random;
    uint64_t seed;
};

static unsigned make_choice(draws *d, unsigned otherwise, unsigned most)
{
    property_case *t = d->t;
    if (t->n == MOST_CHOICES)
        return 0;
    unsigned c = t->n < d->n_given ? d->given[t->n] : d->random ? otherwise : 0;
    if (c > most)
        c = most;
    t->most[t->n] = most;
    t->choice[t->n++] = c;
    return c;
}

int draw_integer(draws *d, int low, int high)
{
    const unsigned most = (unsigned)high - (unsigned)low;
    return low + (int)make_choice(d, (unsigned)(random_bits(&d->seed) % (most + 1ull)), most);
}

int draw_scale(draws *d, int low, int high)
{
    const unsigned most = (unsigned)(high - low);
    return low + (int)make_choice(d, (unsigned)(random_scale(&d->seed, low, high) - low), most);
}

bool draw_once_in(draws *d, int n)
{
    return make_choice(d, random_below(&d->seed, n) == 0, 1) != 0;
}

static void format_first_text(char *out, size_t size, const char *fmt, va_list args)
{
    if (!*out)
        (void)vsnprintf(out, size, fmt, args);
}

void describe_case(draws *d, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    format_first_text(d->t->what, sizeof d->t->what, fmt, args);
    va_end(args);
}

void fail_case(draws *d, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    format_first_text(d->t->fault, sizeof d->t->fault, fmt, args);
    va_end(args);
}

bool is_wrong(const draws *d) { return d->t->fault[0] != '\0'; }

/* ---- one case, in a process of its own ---- */

typedef struct trier {
    property *p;
    property_case *t; /* shared with the process of the case */
    int said;         /* a file: what that process printed */
} trier;

static trier open_trier(property *p)
{
    trier k = { .p = p, .said = memfd_create("said", MFD_CLOEXEC) };
    k.t = mmap(NULL, sizeof *k.t, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    cr_assert(k.t != MAP_FAILED && k.said >= 0);
    return k;
}

static void close_trier(trier *k)
{
    (void)munmap(k->t, sizeof *k->t);
    (void)close(k->said);
}

/* Leaving in the ordinary way lets a sanitizer look for leaks. */
_Noreturn static void run_case_child(const trier *k, draws *d)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)dup2(k->said, STDOUT_FILENO);
    (void)dup2(k->said, STDERR_FILENO);
    alarm(CASE_SECONDS);
    k->p(d);
    k->t->over = true;
    exit(0);
}

/* What the process was too ill to say. */
static void set_exit_fault(property_case *t, int status)
{
    const bool spoke = t->fault[0] != '\0';
    if (spoke)
        return;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        (void)snprintf(t->fault, sizeof t->fault, "does not end in %d s", CASE_SECONDS);
    else if (WIFSIGNALED(status))
        (void)snprintf(t->fault, sizeof t->fault, "dies of %s", strsignal(WTERMSIG(status)));
    else if (!t->over)
        (void)snprintf(t->fault, sizeof t->fault, "an assertion fails");
    else if (WEXITSTATUS(status) != 0)
        (void)snprintf(t->fault, sizeof t->fault, "leaves with %d", WEXITSTATUS(status));
}

/* Did it fail?  The choices that were made are in k->t. */
static bool case_fails(const trier *k, draws d)
{
    int status = 0;

    memset(k->t, 0, offsetof(property_case, choice));
    k->t->over = false;
    k->t->what[0] = k->t->fault[0] = '\0';
    d.t = k->t;
    fflush(NULL);
    cr_assert(ftruncate(k->said, 0) == 0 && lseek(k->said, 0, SEEK_SET) == 0);
    const pid_t child = fork();
    cr_assert(child >= 0, "fork: %s", strerror(errno));
    if (child == 0)
        run_case_child(k, &d);
    cr_assert(waitpid(child, &status, 0) == child);
    set_exit_fault(k->t, status);
    return k->t->fault[0] != '\0';
}

/* ---- shrinking ---- */

typedef struct shrinker {
    const trier *k;
    int n, tries;
    unsigned choice[MOST_CHOICES];
    char what[sizeof((property_case *)NULL)->what], fault[sizeof((property_case *)NULL)->fault];
    double until;
} shrinker;

/* The failed case in k->t. */
static void keep_failed_case(shrinker *s)
{
    const property_case *t = s->k->t;
    s->n = t->n;
    memcpy(s->choice, t->choice, (size_t)t->n * sizeof *t->choice);
    memcpy(s->what, t->what, sizeof s->what);
    memcpy(s->fault, t->fault, sizeof s->fault);
}

static double case_clock_seconds(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static bool may_go_on(const shrinker *s)
{
    return s->tries < SHRINKS && case_clock_seconds() < s->until;
}

/* Fewer choices, or the same number and the first that differs is smaller. */
static bool is_simpler(const shrinker *s, const property_case *t)
{
    if (t->n != s->n)
        return t->n < s->n;
    for (int i = 0; i < s->n; i++)
        if (t->choice[i] != s->choice[i])
            return t->choice[i] < s->choice[i];
    return false;
}

/* Takes these choices where they fail too and are simpler, as they were made. */
static bool try_choices(shrinker *s, const unsigned *choice, int n)
{
    const draws d = { .given = choice, .n_given = n };
    const property_case *t = s->k->t;
    s->tries++;
    if (!case_fails(s->k, d) || !is_simpler(s, t))
        return false;
    keep_failed_case(s);
    return true;
}

static bool take_without(shrinker *s, int at, int count)
{
    unsigned c[MOST_CHOICES];
    memcpy(c, s->choice, sizeof c);
    memmove(&c[at], &c[at + count], (size_t)(s->n - at - count) * sizeof *c);
    return try_choices(s, c, s->n - count);
}

static bool take_with(shrinker *s, int at, unsigned value)
{
    unsigned c[MOST_CHOICES];
    if (at >= s->n || value >= s->choice[at])
        return false;
    memcpy(c, s->choice, sizeof c);
    c[at] = value;
    return try_choices(s, c, s->n);
}

static bool remove_choices(shrinker *s)
{
    bool any = false;
    for (int count = 8; count > 0; count /= 2)
        for (int at = s->n - count; at >= 0 && may_go_on(s); at--)
            if (at + count <= s->n)
                any |= take_without(s, at, count);
    return any;
}

/* Where one less of a choice makes for fewer choices behind it, as of a length: without any of
 * them, and not just without the last. */
static bool shorten_choices(shrinker *s, int at)
{
    const int fewer = s->n - s->k->t->n;
    unsigned c[MOST_CHOICES];
    if (fewer <= 0 || s->choice[at] == 0)
        return false;
    for (int gone = at + 1; gone + fewer <= s->n && may_go_on(s); gone++) {
        memcpy(c, s->choice, sizeof c);
        c[at]--;
        memmove(&c[gone], &c[gone + fewer], (size_t)(s->n - gone - fewer) * sizeof *c);
        if (try_choices(s, c, s->n - fewer))
            return true;
    }
    return false;
}

/* Down to where it does not fail any more, by halves. */
static bool lessen_choices(shrinker *s)
{
    bool any = false;
    for (int at = 0; at < s->n && may_go_on(s); at++) {
        any |= take_with(s, at, 0);
        for (unsigned step = at < s->n ? s->choice[at] / 2 : 0; step > 0 && may_go_on(s); step /= 2)
            while (at < s->n && s->choice[at] >= step && take_with(s, at, s->choice[at] - step))
                any = true;
        if (at < s->n && s->choice[at] > 0)
            any |= take_with(s, at, s->choice[at] - 1) || shorten_choices(s, at);
    }
    return any;
}

/* From the failed case in k->t to the simplest, which is then there.  What fails now and then is
 * told as it was when it last did. */
static void shrink_case(const trier *k)
{
    enum { AGAIN = 5 };
    shrinker s = { .k = k, .until = case_clock_seconds() + SHRINK_SECONDS };
    keep_failed_case(&s);
    for (bool better = true; better && may_go_on(&s);) {
        better = remove_choices(&s);
        better |= lessen_choices(&s);
    }
    for (int i = 0; i < AGAIN; i++)
        if (case_fails(k, (draws){ .given = s.choice, .n_given = s.n }))
            return;
    memcpy(k->t->what, s.what, sizeof s.what);
    (void)snprintf(k->t->fault, sizeof k->t->fault, "(now and then) %.900s", s.fault);
}

/* ---- a property ---- */

static void fill_property_result(property_result *out, const trier *k)
{
    const ssize_t n = pread(k->said, out->said, sizeof out->said - 1, 0);
    out->said[n > 0 ? n : 0] = '\0';
    out->held = false;
    out->choices = k->t->n;
    memcpy(out->what, k->t->what, sizeof out->what);
    memcpy(out->fault, k->t->fault, sizeof out->fault);
}

void property_try(property_result *out, property *p, unsigned long long seed, double seconds,
                  int cases)
{
    trier k = open_trier(p);
    uint64_t next = seed;
    const double until = case_clock_seconds() + seconds;

    *out = (property_result){ .held = true, .seed = seed };
    do {
        const draws d = { .random = true, .seed = out->seed };
        if (case_fails(&k, d)) {
            shrink_case(&k);
            fill_property_result(out, &k);
            break;
        }
        out->seed = random_bits(&next);
    } while (++out->cases < cases && case_clock_seconds() < until);
    close_trier(&k);
}

static double get_setting_number(const char *name, double otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtod(text, NULL) : otherwise;
}

/* "NAME=value " of what a case may depend on beside its seed, as far as it is set. */
static void add_setting(char *out, size_t size, const char *name)
{
    const char *value = getenv(name);
    const size_t n = strlen(out);
    if (value && *value)
        (void)snprintf(out + n, size - n, "%s='%s' ", name, value);
}

void property_hold(const char *name, property *p, int share)
{
    char settings[1024] = "";
    const char *seed = getenv("REFINE_SEED");
    property_result r;

    property_try(&r, p, seed && *seed ? strtoull(seed, NULL, 10) : 1,
                 share * get_setting_number("REFINE_SECONDS", DEFAULT_SECONDS),
                 (int)get_setting_number("REFINE_CASES", 1e9));
    printf("%s: %d cases\n", name, r.cases);
    add_setting(settings, sizeof settings, "REFINE_BIN");
    add_setting(settings, sizeof settings, "LSAN_OPTIONS");
    add_setting(settings, sizeof settings, "REFINE_ISA");
    if (!r.held)
        cr_assert_fail("%s\n%s\n%s\nagain, from the source's root: %sREFINE_SEED=%llu "
                       "REFINE_CASES=1 %s --filter property/%s",
                       r.what, r.fault, r.said, settings, r.seed, program_invocation_name, name);
}
