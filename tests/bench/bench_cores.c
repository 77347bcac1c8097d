/* tests/bench/bench_cores.c -- what more cores would make of a step, by how its work is split.
 *
 *     bench_cores PACK SIZE f32|bf16|int8 [STEPS]
 *
 * A job runs on one thread.  Each task of each pool_run is timed, and dealt out as the pool does:
 * in order, each to the thread that is free first.  What cores would share besides, memory and
 * clock, is left out: the figures are modelled, and say what the split itself costs.
 *
 *     idle = 1 - seconds of all tasks / (threads * seconds until the last of each pool_run ends)
 */
#define _POSIX_C_SOURCE 200809L
#include "kernels/cpu/pool.h"
#include <refine/refine.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_THREADS = 16, MOST_TASKS = 1 << 16 };

/* Of all pool_runs while it counts. */
static struct {
    bool counts;
    double busy, lasts[MOST_THREADS + 1]; /* by number of threads */
    long runs, tasks;
} total;

static double seconds[MOST_TASKS]; /* of each task of a run */

/* Of processor time: what else runs on the machine does not count. */
static double thread_cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct timed {
    pool_task *f;
    void *context;
} timed;

static void time_task(void *context, int task, int thread)
{
    const timed *t = context;
    const double began = thread_cpu_seconds();
    t->f(t->context, task, thread);
    seconds[task] = thread_cpu_seconds() - began;
}

/* When the last task ends. */
static double dealt_out(int tasks, int threads)
{
    double free_at[MOST_THREADS] = { 0 }, last = 0;
    for (int i = 0; i < tasks; i++) {
        int first = 0;
        for (int t = 1; t < threads; t++)
            first = free_at[t] < free_at[first] ? t : first;
        free_at[first] += seconds[i];
        last = free_at[first] > last ? free_at[first] : last;
    }
    return last;
}

void __real_pool_run(pool *p, int tasks, pool_task *f, void *context);
void __wrap_pool_run(pool *p, int tasks, pool_task *f, void *context);

/* The linker puts it between the operators and the pool. */
void __wrap_pool_run(pool *p, int tasks, pool_task *f, void *context)
{
    timed t = { f, context };
    if (!total.counts || tasks > MOST_TASKS) {
        __real_pool_run(p, tasks, f, context);
        return;
    }
    __real_pool_run(p, tasks, time_task, &t);
    for (int i = 0; i < tasks; i++)
        total.busy += seconds[i];
    for (int n = 1; n <= MOST_THREADS; n++)
        total.lasts[n] += dealt_out(tasks, n);
    total.runs++;
    total.tasks += tasks;
}

/* Text and opening are not the steps'. */
static int count_steps(void *context, const refine_progress *p)
{
    (void)context;
    total.counts = p->phase == REFINE_DENOISING;
    return 0;
}

static refine_precision parse_cores_precision(const char *word)
{
    return strcmp(word, "int8") == 0   ? REFINE_INT8
           : strcmp(word, "bf16") == 0 ? REFINE_BF16
                                       : REFINE_F32;
}

int main(int argc, char **argv)
{
    refine_options o = REFINE_OPTIONS_INIT;
    refine_job j = REFINE_JOB_INIT;
    refine_error err = { 0 };
    refine_engine *e;
    if (argc < 4) {
        fprintf(stderr, "usage: bench_cores PACK SIZE f32|bf16|int8 [STEPS]\n");
        return 2;
    }
    o.pack_path = argv[1];
    o.device = REFINE_DEVICE_CPU;
    o.precision = parse_cores_precision(argv[3]);
    o.threads = 1;
    o.resident_bytes = UINT64_MAX; /* all are streamed */
    j.width = j.height = (int)strtol(argv[2], NULL, 10);
    j.prompt = "a cup of coffee";
    j.steps = 100;
    j.strength = (argc > 4 ? strtod(argv[4], NULL) : 1) / 100 + 0.001;
    j.progress = count_steps;
    j.latents_in = j.latents_out = calloc((size_t)(j.width / 8) * (size_t)(j.height / 8) * 4,
                                          sizeof(float));
    if (!j.latents_in || refine_open(&e, &o, &j, &err) != REFINE_OK ||
        refine_run(e, &j, &err) != REFINE_OK) {
        fprintf(stderr, "bench_cores: %s\n", err.text);
        return 1;
    }
    printf("%dx%d %s: %.2f s of tasks, %ld in %ld runs of the pool; modelled:\n", j.width, j.height,
           argv[3], total.busy, total.tasks, total.runs);
    printf("%8s %9s %9s %7s\n", "threads", "seconds", "speed-up", "idle");
    for (int n = 1; n <= MOST_THREADS; n++)
        printf("%8d %9.3f %9.2f %6.1f%%\n", n, total.lasts[n], total.busy / total.lasts[n],
               100 * (1 - total.busy / (n * total.lasts[n])));
    refine_close(e);
    return 0;
}
