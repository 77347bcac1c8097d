/* tests/support/cuda/emulation_streams.cpp -- work is run as early or as late as is legal.
 *
 *     queue   items in order; each runs something, or waits for a mark, or is one
 *     mark    what an event's record leaves in a queue; passed when the queue came to it
 *     event   the last mark it was recorded with, or none
 *
 * A driver that batches keeps what is enqueued until somebody asks for that queue, or waits for it.
 *
 * A wait is for the mark that its event has when it is enqueued: so it was enqueued after it, and
 * no circle can arise.  Time is that of a card whose streams run beside each other: a queue's
 * clock moves by what its items cost, and a wait moves it to that of the mark.
 */
#include "emulation_streams.h"

#include "cuda_runtime.h"

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <set>
#include <vector>

namespace emulation {

struct queue;
typedef std::shared_ptr<queue> queue_ref;

struct mark {
    queue_ref on;
    bool passed;
    double at; /* ns, once passed */
    uint64_t number; /* of its item in the queue, from 1 */
};
typedef std::shared_ptr<mark> mark_ref;

struct item {
    std::function<void()> run;
    double least_ns;
    mark_ref waits, marks;
};

struct queue {
    int number;
    std::deque<item> items;
    double clock;
    uint64_t come = 0, gone = 0, sent = 0; /* items so far; of them run; of them with the card */
};

work done;

} /* namespace emulation */

struct emulated_stream {
    emulation::queue_ref q;
};

struct emulated_event {
    emulation::mark_ref last;
    bool timed;
};

namespace emulation {

namespace {

std::vector<queue_ref> queues; /* of open streams, and of others with work left */
std::set<cudaStream_t> streams;
std::set<cudaEvent_t> events;

/* Calls of the runtime that a standstill by chance lasts, on average. */
constexpr uint32_t STANDSTILL = 32;

struct {
    emulation_schedule schedule = EMULATION_EAGER;
    uint32_t random = 0;
    int still = -1; /* the queue's number */
    emulation_omission omission = EMULATION_NOTHING;
    int ignored = 0;
    double tensor = 8000, half2 = 1000;
} wish;

uint32_t by_chance(uint32_t n)
{
    wish.random = wish.random * 1664525u + 1013904223u;
    return (wish.random >> 8) % n;
}

bool is_copy(const queue &q)
{
    return q.number % 2 == 1;
}

double work_nanoseconds(work before)
{
    double ns = 0;
    if (wish.tensor > 0)
        ns += static_cast<double>(done.tensor - before.tensor) / wish.tensor;
    if (wish.half2 > 0)
        ns += static_cast<double>(done.half2 - before.half2) / wish.half2;
    return ns;
}

bool is_batched()
{
    return wish.schedule == EMULATION_BATCHED;
}

void send_queue(queue &q)
{
    q.sent = q.come;
}

/* Must it be run to come to item `number`, although nobody has sent it? */
bool is_kept_back(const queue &q, uint64_t number)
{
    if (number > q.sent)
        return true;
    uint64_t i = q.gone;
    for (const item &it : q.items) {
        if (++i > number)
            break;
        if (it.waits && !it.waits->passed && is_kept_back(*it.waits->on, it.waits->number))
            return true;
    }
    return false;
}

/* Runs what comes next, unless it must wait or there is nothing. */
bool step_queue(queue &q)
{
    if (q.items.empty() || (q.items.front().waits && !q.items.front().waits->passed))
        return false;
    if (is_batched() && q.gone == q.sent) {
        fputs("the card is waited for, and nobody has sent it what it waits for\n", stderr);
        abort();
    }
    item it = std::move(q.items.front());
    q.items.pop_front();
    q.gone++;
    if (it.waits && it.waits->at > q.clock)
        q.clock = it.waits->at;
    if (it.run) {
        const work before = done;
        it.run();
        q.clock += it.least_ns + work_nanoseconds(before);
    }
    if (it.marks) {
        it.marks->passed = true;
        it.marks->at = q.clock;
    }
    return true;
}

/* Runs what comes next, and before it what that must wait for. */
void force_queue(queue &q)
{
    while (!step_queue(q))
        force_queue(*q.items.front().waits->on);
}

void pass_mark(const mark_ref &m)
{
    while (!m->passed) {
        streams_advance();
        if (!m->passed)
            force_queue(*m->on);
    }
}

void advance_all_of(bool copies)
{
    for (const queue_ref &q : queues)
        while (is_copy(*q) == copies && step_queue(*q)) {
        }
}

/* One queue stands still for a while, then perhaps another: were the next step everybody's at
 * every call, none would ever fall far behind. */
void advance_by_chance()
{
    if (by_chance(STANDSTILL) == 0)
        wish.still = static_cast<int>(by_chance(3)) - 1;
    for (uint32_t n = by_chance(2) * by_chance(4); n > 0 && !queues.empty(); n--) {
        queue &q = *queues[by_chance(static_cast<uint32_t>(queues.size()))];
        if (q.number != wish.still)
            step_queue(q);
    }
}

void push_queue_item(queue &q, item it)
{
    q.items.push_back(std::move(it));
    q.come++;
}

mark_ref push_mark(const queue_ref &q)
{
    const mark_ref m = std::make_shared<mark>(mark{ q, false, 0, q->come + 1 });
    push_queue_item(*q, { nullptr, 0, nullptr, m });
    return m;
}

bool ignore_wait(emulation_omission o)
{
    if (wish.omission != o)
        return false;
    wish.ignored++;
    return true;
}

bool is_queue_late(const queue &q)
{
    switch (wish.schedule) {
    case EMULATION_COPY_FIRST: return !is_copy(q);
    case EMULATION_COMPUTE_FIRST: return is_copy(q);
    case EMULATION_BY_CHANCE: return by_chance(4) == 0;
    default: return false;
    }
}

/* Forgets queues that no stream has and that have nothing left. */
void drop_idle_queues()
{
    for (size_t i = queues.size(); i-- > 0;)
        if (queues[i].use_count() == 1 && queues[i]->items.empty())
            queues.erase(queues.begin() + static_cast<std::ptrdiff_t>(i));
}

int free_number()
{
    int n = 0;
    for (bool taken = true; taken; n += taken) {
        taken = false;
        for (cudaStream_t s : streams)
            taken = taken || s->q->number == n;
    }
    return n;
}

} /* namespace */

/* ---- streams ---- */

cudaStream_t stream_make()
{
    drop_idle_queues();
    cudaStream_t s = new emulated_stream{ std::make_shared<queue>() };
    s->q->number = free_number();
    s->q->clock = 0;
    streams.insert(s);
    queues.push_back(s->q);
    return s;
}

void stream_give(cudaStream_t s)
{
    streams.erase(s);
    delete s;
    drop_idle_queues();
}

bool stream_is(cudaStream_t s)
{
    return streams.count(s) != 0;
}

void stream_push(cudaStream_t s, std::function<void()> run, double least_ns)
{
    push_queue_item(*s->q, { std::move(run), least_ns, nullptr, nullptr });
    streams_advance();
}

void stream_drain(cudaStream_t s)
{
    const mark_ref m = push_mark(s->q);
    send_queue(*s->q);
    pass_mark(m);
}

void stream_send(cudaStream_t s)
{
    send_queue(*s->q);
}

bool stream_query(cudaStream_t s)
{
    return s->q->items.empty();
}

bool stream_stands(cudaStream_t s)
{
    send_queue(*s->q);
    return is_batched() && is_kept_back(*s->q, s->q->come);
}

bool stream_is_late(cudaStream_t s)
{
    return !s->q->items.empty() && is_queue_late(*s->q);
}

void stream_wait_event(cudaStream_t s, cudaEvent_t e)
{
    if (!e->last || ignore_wait(is_copy(*s->q) ? EMULATION_COPY_WAITS : EMULATION_COMPUTE_WAITS))
        return;
    push_queue_item(*s->q, { nullptr, 0, e->last, nullptr });
    streams_advance();
}

/* ---- events ---- */

cudaEvent_t event_make(bool timed)
{
    cudaEvent_t e = new emulated_event{ nullptr, timed };
    events.insert(e);
    return e;
}

void event_give(cudaEvent_t e)
{
    events.erase(e);
    delete e;
}

bool event_is(cudaEvent_t e)
{
    return events.count(e) != 0;
}

void event_record(cudaEvent_t e, cudaStream_t s)
{
    e->last = push_mark(s->q);
    streams_advance();
}

void event_drain(cudaEvent_t e)
{
    if (e->last && !(is_copy(*e->last->on) && ignore_wait(EMULATION_HOST_WAITS)))
        pass_mark(e->last);
}

bool event_stands(cudaEvent_t e)
{
    if (!is_batched() || !e->last || e->last->passed)
        return false;
    send_queue(*e->last->on);
    return is_kept_back(*e->last->on, e->last->number);
}

bool event_is_late(cudaEvent_t e)
{
    return e->last && !e->last->passed && is_queue_late(*e->last->on);
}

bool event_query(cudaEvent_t e)
{
    const bool passed = !e->last || e->last->passed;
    if (!passed && !event_stands(e))
        force_queue(*e->last->on);
    return passed;
}

cudaError_t event_elapsed(float *ms, cudaEvent_t begin, cudaEvent_t end)
{
    if (!begin->timed || !end->timed || !begin->last || !end->last)
        return cudaErrorInvalidResourceHandle;
    if (!begin->last->passed || !end->last->passed)
        return cudaErrorNotReady;
    *ms = static_cast<float>((end->last->at - begin->last->at) * 1e-6);
    return cudaSuccess;
}

/* ---- all of them ---- */

void streams_advance()
{
    switch (wish.schedule) {
    case EMULATION_EAGER: streams_drain(); break;
    case EMULATION_COPY_FIRST: advance_all_of(true); break;
    case EMULATION_COMPUTE_FIRST: advance_all_of(false); break;
    case EMULATION_BY_CHANCE: advance_by_chance(); break;
    default: break;
    }
}

void streams_drain()
{
    for (const queue_ref &q : queues)
        send_queue(*q);
    for (const queue_ref &q : queues)
        while (!q->items.empty())
            force_queue(*q);
}

void streams_drop()
{
    for (const queue_ref &q : queues) {
        for (item &it : q->items)
            if (it.marks)
                it.marks->passed = true;
        q->items.clear();
        q->gone = q->sent = q->come;
    }
}

int streams_live()
{
    return static_cast<int>(streams.size() + events.size());
}

void streams_reset()
{
    streams_drop();
    for (cudaStream_t s : streams)
        delete s;
    for (cudaEvent_t e : events)
        delete e;
    streams.clear();
    events.clear();
    queues.clear();
    wish = {};
}

} /* namespace emulation */

void emulation_set_schedule(emulation_schedule s, uint32_t seed)
{
    emulation::wish.schedule = s;
    emulation::wish.random = seed * 2654435769u + 1;
    emulation::wish.still = -1;
}

void emulation_ignore(emulation_omission o)
{
    emulation::wish.omission = o;
    emulation::wish.ignored = 0;
}

int emulation_ignored(void)
{
    return emulation::wish.ignored;
}

void emulation_set_performance(double tensor, double half2)
{
    emulation::wish.tensor = tensor;
    emulation::wish.half2 = half2;
}
