/* tests/property/test_plans.c -- what is foretold of memory comes true.
 *
 *   - A job that the plan accepts is run to its end, and one that it refuses names ceilings that
 *     do, of which a granule less is refused.
 *   - The device's peak is the planned one, to the byte, and within its ceiling; so is the host's
 *     within what is planned for it.
 *   - The process takes no more than 1 % or 2 MiB above what is foretold, and no less than 4 MiB
 *     below: threads that find nothing to do, and a trace that is not full, leave pages untouched.
 */
#include "tests/property/any_job.h"

#include <math.h>

TestSuite(property, .init = any_job_packs);

enum { GRANULE = 256 };

static const double MIB = 1 << 20;

static void expect_kept(draws *d, const refine_options *o, const refine_memory *plan,
                        const refine_memory *m)
{
    const double more = (double)m->rss_peak - (double)m->rss_planned;
    if (m->device_peak != m->device_planned || m->device_planned != plan->device_planned)
        fail_case(d, "%llu bytes of the device, planned %llu, foretold %llu",
                  (unsigned long long)m->device_peak, (unsigned long long)m->device_planned,
                  (unsigned long long)plan->device_planned);
    if (m->device_peak > o->vram_bytes)
        fail_case(d, "%llu bytes of the device, above its ceiling",
                  (unsigned long long)m->device_peak);
    if (m->host_peak > m->host_planned || m->host_planned > o->ram_bytes)
        fail_case(d, "%llu bytes of the host, planned %llu", (unsigned long long)m->host_peak,
                  (unsigned long long)m->host_planned);
    if (!SANITIZED && (more > fmax(2 * MIB, 0.01 * (double)m->rss_planned) || more < -4 * MIB))
        fail_case(d, "the process took %.1f MiB, foretold %.1f", (double)m->rss_peak / MIB,
                  (double)m->rss_planned / MIB);
}

static void expect_planned_run(draws *d, const any_job *a, const refine_options *o,
                               const refine_memory *plan)
{
    any_result r;
    refine_error err = { 0 };
    const refine_status st = any_job_run(a, o, &r, &err);
    if (st != REFINE_OK)
        fail_case(d, "was planned, and ends with %d: %s", st, err.text);
    else
        expect_kept(d, o, plan, &r.report.memory);
    any_job_free(&r);
}

/* A plan that is made keeps to its ceilings. */
static bool is_planned(draws *d, const any_job *a, const refine_options *o)
{
    refine_report r = REFINE_REPORT_INIT;
    refine_error err = { 0 };
    const refine_memory *m = &r.memory;
    if (any_job_plan(a, o, &r, &err) != REFINE_OK)
        return false;
    if (m->device_planned > o->vram_bytes || m->host_planned > o->ram_bytes)
        fail_case(d,
                  "plans %llu bytes of the device for a ceiling of %llu, %llu of the host for %llu",
                  (unsigned long long)m->device_planned, (unsigned long long)o->vram_bytes,
                  (unsigned long long)m->host_planned, (unsigned long long)o->ram_bytes);
    return true;
}

/* *ceiling is one of o's. */
static void expect_least(draws *d, const any_job *a, const refine_options *o, uint64_t *ceiling,
                         uint64_t smallest, const char *of)
{
    *ceiling = smallest;
    if (!is_planned(d, a, o))
        fail_case(d, "the smallest ceiling of the %s, %llu, is refused", of,
                  (unsigned long long)smallest);
    *ceiling = smallest - GRANULE;
    if (is_planned(d, a, o))
        fail_case(d, "less than the smallest ceiling of the %s, %llu, is accepted", of,
                  (unsigned long long)smallest);
}

/* With all of the other memory. */
static void expect_smallest(draws *d, const any_job *a, const refine_memory *m)
{
    refine_options device = a->o, host = a->o;
    expect_least(d, a, &device, &device.vram_bytes, m->smallest_device, "device");
    expect_least(d, a, &host, &host.ram_bytes, m->smallest_host, "host");
}

/* With a granule less of either memory than a plan takes, another is made, which keeps to that. */
static void expect_less(draws *d, const any_job *a, const refine_options *o,
                        const refine_memory *plan)
{
    refine_options device = *o, host = *o;
    device.vram_bytes = plan->device_planned - GRANULE;
    host.ram_bytes = plan->host_planned - GRANULE;
    (void)is_planned(d, a, &device);
    (void)is_planned(d, a, &host);
}

CostlyProperty(any_plan_is_kept)
{
    any_job a;
    refine_report r = REFINE_REPORT_INIT;
    refine_error err = { 0 };
    draw_job(d, &a, draw_once_in(d, 4) ? 2 : 1, ANY_JOB_PIXELS);
    draw_ways(d, &a, &a.o);
    refine_options o = a.o;
    o.vram_bytes = (uint64_t)draw_scale(d, 1 << 10, 1 << 20) << 10;
    o.ram_bytes = (uint64_t)draw_scale(d, 1 << 10, 1 << 20) << 10;
    describe_case(d, "%s, %llu and %llu bytes", a.text, (unsigned long long)o.vram_bytes,
                  (unsigned long long)o.ram_bytes);
    const refine_status st = any_job_plan(&a, &o, &r, &err);
    if (st == REFINE_OK) {
        expect_less(d, &a, &o, &r.memory);
        expect_planned_run(d, &a, &o, &r.memory);
    } else if (st != REFINE_EBUDGET || !err.text[0])
        fail_case(d, "is refused with %d: %s", st, err.text);
    any_job_close(&a);
}

Property(any_plan_names_the_smallest_ceilings)
{
    any_job a;
    refine_report r = REFINE_REPORT_INIT;
    refine_error err = { 0 };
    draw_job(d, &a, draw_once_in(d, 4) ? 2 : 1, ANY_JOB_PIXELS * 4);
    draw_ways(d, &a, &a.o);
    describe_case(d, "%s", a.text);
    if (any_job_plan(&a, &a.o, &r, &err) != REFINE_OK)
        fail_case(d, "is refused with all memory: %s", err.text);
    else
        expect_smallest(d, &a, &r.memory);
    any_job_close(&a);
}
