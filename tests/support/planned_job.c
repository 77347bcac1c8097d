/* tests/support/planned_job.c -- opens a kept pack and a pipeline over it. */
#include "tests/support/planned_job.h"

#include "tests/support/field.h"
#include "tests/support/tiny_pack.h"

#include <criterion/criterion.h>

void planned_job_open(planned_job *j)
{
    static uint8_t pixels; /* only that there are some matters */
    refine_job job = REFINE_JOB_INIT;
    refine_error err = { 0 };
    char pack_file[512];

    kept_pack(pack_file, sizeof pack_file, "");
    job.width = 64;
    job.height = 96;
    job.rgb_in = job.rgb_out = &pixels;
    *j = (planned_job){ .d = field_cpu(DT_F32, 1) };
    cr_assert_eq(model_open(&j->m, pack_file, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(phases_open(&j->p, &j->m, &job, 1, &err), REFINE_OK, "%s", err.text);
    j->p->act = DT_F32;
}

void planned_job_close(planned_job *j)
{
    phases_close(j->p);
    model_close(&j->m);
    dev_close(j->d);
}
