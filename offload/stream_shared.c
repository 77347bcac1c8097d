/* offload/stream_shared.c -- what any thread of a stream may do; all with the lock held. */
#include "offload/stream_state.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void stream_fail(stream *s, refine_status st, const char *fmt, ...)
{
    char why[256];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    dev_fail(s->d, st, why);
    s->shared.failed = true;
    stream_signal_all(s);
}

const char *stream_file_name(const stream *s)
{
    const char *slash = strrchr(pack_path(s->p), '/');
    return slash ? slash + 1 : pack_path(s->p);
}

const char *stream_weight_name(const stream *s, int chunk)
{
    return pack_tensor_name(s->p, (int)pack_chunk_at(s->p, chunk)->tensor);
}

void stream_wait_paused(stream *s, stream_thread who)
{
    s->shared.n_paused++;
    stream_signal(s, COMPUTE);
    while (s->shared.pause && !s->shared.stop)
        stream_wait(s, who);
    s->shared.n_paused--;
}
