/* engine/base/guard.c -- a pattern, and what AddressSanitizer is told. */
#include "engine/base/guard.h"

#include <stdint.h>

#ifdef __has_feature
#define HAS_FEATURE(f) __has_feature(f)
#else
#define HAS_FEATURE(f) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || HAS_FEATURE(address_sanitizer)
#define WATCHES 1
#include <sanitizer/asan_interface.h>
#else
#define WATCHES                               0
#define ASAN_POISON_MEMORY_REGION(p, bytes)   ((void)(p), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(p, bytes) ((void)(p), (void)(bytes))
#define __asan_region_is_poisoned(p, bytes)   ((void)(p), (void)(bytes), NULL)
#endif

/* 0x7fe5, the low byte first. */
static unsigned char pattern_at(const unsigned char *p) { return (uintptr_t)p & 1 ? 0x7f : 0xe5; }

void guard_fill(void *zone, size_t bytes)
{
    unsigned char *p = zone;
    for (size_t i = 0; i < bytes; i++)
        p[i] = pattern_at(p + i);
}

size_t guard_spoilt(const void *zone, size_t bytes)
{
    const unsigned char *p = zone;
    size_t i = 0;
    while (i < bytes && p[i] == pattern_at(p + i))
        i++;
    return i;
}

void guard_shut(const void *p, size_t bytes)
{
    if (GUARDED)
        ASAN_POISON_MEMORY_REGION(p, bytes);
}

void guard_open(const void *p, size_t bytes)
{
    if (GUARDED)
        ASAN_UNPOISON_MEMORY_REGION(p, bytes);
}

bool guard_watches(void) { return WATCHES; }

void guard_touch(const void *p, size_t bytes)
{
    const volatile char *shut = __asan_region_is_poisoned((void *)(uintptr_t)p, bytes);
    if (shut)
        (void)*shut;
}
