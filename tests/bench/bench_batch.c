/* tests/bench/bench_batch.c -- what an image costs in company, on a slow disk.
 *
 *     bench_batch PACK SIZE DISK_BYTES_PER_SECOND [STEPS]
 *
 * Groups of 1, 2, 4 and 8 images with no weight kept anywhere: seconds of a step for each
 * image, measured and predicted.
 */
#include <refine/refine.h>

#include <stdio.h>
#include <stdlib.h>

enum { MOST = 8 };

static int measure_batch_step(refine_options o, const refine_job *jobs, int n)
{
    refine_engine *e;
    refine_error err = { 0 };
    refine_report r = REFINE_REPORT_INIT;

    o.images = n;
    if (refine_open(&e, &o, jobs, &err) != REFINE_OK ||
        refine_run_many(e, jobs, n, &err) != REFINE_OK) {
        fprintf(stderr, "bench_batch: %s\n", err.text);
        return 1;
    }
    refine_get_report(e, &r);
    printf("%d images: %.3f s a step for each, predicted %.3f; replayed %.3f; stalled %.0f %%\n", n,
           r.step_median / n, r.predicted_step / n, r.replayed_step / n,
           100.0 * (r.stall_disk + r.stall_decode + r.stall_copy) / r.total);
    refine_close(e);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: bench_batch PACK SIZE DISK_BYTES_PER_SECOND [STEPS]\n");
        return 2;
    }
    const int size = (int)strtol(argv[2], NULL, 10);
    float *latents = calloc((size_t)MOST * (size_t)size * (size_t)size / 16, sizeof *latents);
    refine_job jobs[MOST];
    refine_options o = REFINE_OPTIONS_INIT;
    int failed = latents == NULL;

    o.pack_path = argv[1];
    o.precision = REFINE_F32;
    o.resident_bytes = o.cached_bytes = UINT64_MAX;
    o.disk_limit = strtod(argv[3], NULL);
    for (int i = 0; i < MOST && !failed; i++) {
        jobs[i] = (refine_job)REFINE_JOB_INIT;
        jobs[i].prompt = "a cup of coffee";
        jobs[i].width = jobs[i].height = size;
        jobs[i].steps = 100;
        jobs[i].strength = argc > 4 ? strtod(argv[4], NULL) / 100 + 0.001 : 0.03;
        jobs[i].latents_in = jobs[i].latents_out = latents +
                                                   (size_t)i * (size_t)size * (size_t)size / 16;
    }
    for (int n = 1; n <= MOST && !failed; n *= 2)
        failed = measure_batch_step(o, jobs, n);
    free(latents);
    return failed;
}
