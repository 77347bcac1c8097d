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

const char *stream_file_name(const stream *s, int chunk)
{
    const char *path = pack_path(s->chunks.pack[chunk_list_pack(&s->chunks, chunk)]);
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

const char *stream_weight_name(const stream *s, int chunk)
{
    return chunk_list_name(&s->chunks, chunk);
}

void stream_wait_paused(stream *s, stream_thread who)
{
    s->shared.n_paused++;
    stream_signal(s, COMPUTE);
    while (s->shared.pause && !s->shared.stop)
        stream_wait(s, who);
    s->shared.n_paused--;
}
