/* tests/support/opened_cpu.h -- CPU devices that a test changes when the engine has opened them.
 *
 * The linker puts this between the engine and dev_open_cpu (tests/CMakeLists.txt) in every test
 * that includes it.
 */
#ifndef TEST_OPENED_CPU_H
#define TEST_OPENED_CPU_H

#include "kernels/backend.h"

/* The test's own: changes what it likes of d and of its operators, a copy of `real`. */
void opened_cpu(dev *d, struct dev_ops *ops, const struct dev_ops *real);

#endif
