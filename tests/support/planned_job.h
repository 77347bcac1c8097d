/* tests/support/planned_job.h -- what a plan is made of: a tiny model, a job of it, a device. */
#ifndef PLANNED_JOB_H
#define PLANNED_JOB_H

#include "engine/model/phases.h"

typedef struct planned_job {
    model m;
    phases *p;
    dev *d;
} planned_job;

/* An image of 64 x 96 pixels, with guidance, on the CPU in F32.  Failing to open it fails the
 * test. */
void planned_job_open(planned_job *j);
void planned_job_close(planned_job *j);

#endif
