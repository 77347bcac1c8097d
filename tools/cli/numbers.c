/* tools/cli/numbers.c -- strtod and strtoull without what they let pass. */
#include "tools/cli/numbers.h"

#include <errno.h>
#include <stdlib.h>

bool numbers_real(const char *text, double least, double most, double *out)
{
    char *end;
    errno = 0;
    const double v = strtod(text, &end);
    if (errno || end == text || *end || !(v >= least && v <= most))
        return false;
    *out = v;
    return true;
}

/* Digits, followed by anything: where they end, or NULL. */
static const char *parse_leading_digits(const char *text, uint64_t least, uint64_t most,
                                        uint64_t *out)
{
    char *end;
    errno = 0;
    if (*text < '0' || *text > '9')
        return NULL;
    const unsigned long long v = strtoull(text, &end, 10);
    if (errno || v < least || v > most)
        return NULL;
    *out = v;
    return end;
}

bool numbers_whole(const char *text, uint64_t least, uint64_t most, uint64_t *out)
{
    uint64_t v;
    const char *end = parse_leading_digits(text, least, most, &v);
    if (!end || *end)
        return false;
    *out = v;
    return true;
}

bool numbers_int(const char *text, int least, int most, int *out)
{
    uint64_t v;
    if (!numbers_whole(text, (uint64_t)least, (uint64_t)most, &v))
        return false;
    *out = (int)v;
    return true;
}

bool numbers_pair(const char *text, char between, int least, int most, int *a, int *b)
{
    uint64_t v;
    const char *x = parse_leading_digits(text, (uint64_t)least, (uint64_t)most, &v);
    if (!x || *x != between || !numbers_int(x + 1, least, most, b))
        return false;
    *a = (int)v;
    return true;
}
