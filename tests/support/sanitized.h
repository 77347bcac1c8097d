/* tests/support/sanitized.h -- what AddressSanitizer need not see again.
 *
 * It finds wrong accesses and leaks, and takes several times as long.  Under it every path of the
 * code is walked, once: that results are the same the tenth time too, equal to reference values, or
 * come in time is shown without it.
 */
#ifndef TEST_SANITIZED_H
#define TEST_SANITIZED_H

#include <criterion/criterion.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* A Test whose paths others walk too: under AddressSanitizer there is no such case. */
#if SANITIZED
#define ReleaseTest(suite, name)                                                                   \
    __attribute__((unused)) static void suite##_##name##_in_release(void)
#else
#define ReleaseTest(suite, name) Test(suite, name)
#endif

#endif
