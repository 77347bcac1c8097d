/* tests/install/consumer.c -- a program that uses the installed library, as C11 and as C++20. */
#include <refine/refine.h>

#include <stdio.h>
#include <string.h>

int main(void)
{
    refine_options o = REFINE_OPTIONS_INIT;
    refine_job j = REFINE_JOB_INIT;
    refine_report r = REFINE_REPORT_INIT;
    refine_error err;

    o.pack_path = "no such file.pack";
    if (refine_plan(&r, &o, &j, &err) == REFINE_OK || !strstr(err.text, o.pack_path))
        return 1;
    printf("librefine %s: %s\n", refine_version(), err.text);
    return 0;
}
