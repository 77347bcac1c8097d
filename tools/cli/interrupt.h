/* tools/cli/interrupt.h -- being interrupted without leaving half a file.
 *
 *     interrupt_hold();
 *     ... work that calls interrupt_pending() now and then, and cleans up if it is true ...
 *     interrupt_release();        the signal, if there was one, ends the process here
 *
 * No handler and no flag: SIGINT, SIGTERM and SIGHUP are blocked and asked for.  Hold before
 * the first thread is started; threads inherit it.
 */
#ifndef REFINE_INTERRUPT_H
#define REFINE_INTERRUPT_H

#include <stdbool.h>

void interrupt_hold(void);
bool interrupt_pending(void); /* from any thread */
/* Before a wait that perhaps nothing else ends: a signal then ends the process, a pending one now.
 * True: they were held, and are to be held again. */
bool interrupt_let_through(void);
void interrupt_release(void);

#endif
