/* tests/support/cuda/emulation_streams.h -- queues of work, and in which order it is run. */
#ifndef EMULATION_STREAMS_H
#define EMULATION_STREAMS_H

#include "cuda_runtime_api.h"
#include "emulation.h"

#include <functional>

/* All under the card's lock.  Handles must be ones that are open. */
namespace emulation {

cudaStream_t stream_make();
void stream_give(cudaStream_t s); /* what it has enqueued is run all the same */
bool stream_is(cudaStream_t s);
void stream_push(cudaStream_t s, std::function<void()> run, double least_ns);
void stream_drain(cudaStream_t s);
bool stream_is_late(cudaStream_t s); /* of what is to run next, as event_is_late */
void stream_send(cudaStream_t s);
bool stream_query(cudaStream_t s); /* whether all has run */
/* Sends what the stream has; whether it then waits for what another has and nobody has sent. */
bool stream_stands(cudaStream_t s);
void stream_wait_event(cudaStream_t s, cudaEvent_t e);

cudaEvent_t event_make(bool timed);
void event_give(cudaEvent_t e);
bool event_is(cudaEvent_t e);
void event_record(cudaEvent_t e, cudaStream_t s);
void event_drain(cudaEvent_t e);
/* Whether it has not passed and the schedule would have it pass as late as can be. */
bool event_is_late(cudaEvent_t e);
bool event_stands(cudaEvent_t e); /* likewise of its last record's stream */
bool event_query(cudaEvent_t e); /* whether it has passed; if not, its stream gets on */
cudaError_t event_elapsed(float *ms, cudaEvent_t begin, cudaEvent_t end);

/* Some time passes: the schedule runs what it likes. */
void streams_advance();
void streams_drain();
/* What is enqueued will never run. */
void streams_drop();
int streams_live(); /* streams and events */
void streams_reset();

} /* namespace emulation */

#endif
