/* tests/engine/test_run_memory.c -- what the code of a run does to memory is watched.
 *
 * The CPU device that the engine opens is one whose linear operator also writes one byte where it
 * has no business, and says whether memory could have been taken then.
 */
#include "engine/base/guard.h"
#include "engine/base/mem.h"
#include "kernels/backend.h"
#include "tests/support/opened_cpu.h"
#include "tests/support/picture_rig.h"
#include "tests/support/tiny_pack.h"
#include <refine/refine.h>

#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

/* ---- the stray device ---- */

typedef enum stray { NOWHERE, BEFORE_ACTIVATIONS, BEHIND_WORKSPACE } stray;

static const struct dev_ops *real;
static stray where;
static int allowed, forbidden; /* operators under which memory could be taken, or not */

static void write_at(char *byte)
{
    guard_open(byte, 1);
    *byte ^= 1;
}

static void stray_linear(dev *d, const linear_args *a)
{
    const bool was = mem_allow(false);
    (void)mem_allow(was);
    *(was ? &allowed : &forbidden) += 1;
    real->linear(d, a);
    if (where == BEFORE_ACTIVATIONS && a->y.stride == a->y.c) /* not in the midst of a block */
        write_at((char *)a->y.data - 1);
    if (where == BEHIND_WORKSPACE)
        write_at((char *)d->workspace + d->workspace_bytes);
    where = NOWHERE;
}

void opened_cpu(dev *d, struct dev_ops *ops, const struct dev_ops *its)
{
    (void)d;
    real = its;
    ops->linear = stray_linear;
}

/* ---- a job ---- */

static char pack_file[256];

static void make_run_memory_pack(void) { tiny_pack(pack_file, sizeof pack_file, ""); }
static void remove_run_memory_pack(void) { (void)unlink(pack_file); }

TestSuite(engine_run_memory, .init = make_run_memory_pack, .fini = remove_run_memory_pack,
          .timeout = 100);

static refine_status run_stray_job(bool guards, stray s, refine_error *err)
{
    static uint8_t rgb[PICTURE_BYTES];
    refine_options o = picture_options(pack_file, REFINE_DEVICE_CPU, REFINE_F32);
    const refine_job j = picture_small_job(rgb);
    refine_engine *e;
    o.guards = guards;
    cr_assert_eq(refine_open(&e, &o, &j, err), REFINE_OK, "%s", err->text);
    allowed = forbidden = 0;
    where = s;
    const refine_status st = refine_run(e, &j, err);
    refine_close(e);
    return st;
}

static void expect_stray_found(stray s, const char *what)
{
    refine_error err = { 0 };
    cr_expect_eq(run_stray_job(true, s, &err), REFINE_EDEVICE);
    cr_expect_not_null(strstr(err.text, what), "%s", err.text);
}

Test(engine_run_memory, a_byte_beside_activations_ends_a_guarded_run)
{
    expect_stray_found(BEFORE_ACTIVATIONS, "activations: byte -1 of the block");
}

Test(engine_run_memory, a_byte_behind_the_workspace_ends_a_guarded_run)
{
    expect_stray_found(BEHIND_WORKSPACE, "the arena: byte 0 behind the workspace was written");
}

Test(engine_run_memory, a_guarded_run_that_does_nothing_wrong_comes_to_its_end)
{
    refine_error err = { 0 };
    cr_expect_eq(run_stray_job(true, NOWHERE, &err), REFINE_OK, "%s", err.text);
}

Test(engine_run_memory, a_run_may_take_no_memory_and_its_caller_may_again)
{
    refine_error err = { 0 };
    cr_assert_eq(run_stray_job(false, NOWHERE, &err), REFINE_OK, "%s", err.text);
    cr_expect(forbidden > 0 && allowed == 0, "%d operators, and %d where it may", forbidden,
              allowed);
    cr_expect(mem_allow(true), "of the thread that called it");
}
