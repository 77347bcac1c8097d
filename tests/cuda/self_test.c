/* tests/cuda/self_test.c -- which families of kernels does this card compute wrongly?
 *
 *     self_test [TRIAL...]
 *
 * What opening a card asks (kernels/cuda/cuda_self_test.c), in each way of multiplying, and all of
 * it, whatever is wrong: a line of JSON for each family.  One that the card does not survive, or
 * that does not end, is wrong as well: a child process opens the card, and another one goes on
 * behind what ended it.  Exits with 1 when one is wrong.
 *
 * On the emulated card the result of each TRIAL, counted from 1 on, has a wrong bit; in -TRIAL the
 * card is lost.
 */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "kernels/cuda/cuda.h"
#include "tests/support/json_line.h"
#ifdef REFINE_CUDA_EMULATED
#include "tests/support/cuda/emulation.h"
#endif

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_SECONDS = 3, NO_CARD = 2, DIED = 3 };

static const char *const NAMES[] = { "tensor cores", "half2", "f32" };

/* What the child that is at work leaves: trials are numbered, way after way. */
typedef struct notes {
    int at, wrong;
} notes;

static int n_families(void)
{
    int n = 0;
    while (cuda_self_test_family(n))
        n++;
    return n;
}

static void print_trial(notes *at, const char *why)
{
    const int n = n_families();
    printf("{\"stage\":\"self_test\",\"right\":%s", why ? "false" : "true");
    json_text(stdout, "family", cuda_self_test_family(at->at % n));
    json_text(stdout, "math", NAMES[at->at / n]);
    if (why)
        json_text(stdout, "said", why);
    printf("}\n");
    fflush(stdout);
    at->wrong += why != NULL;
}

/* ---- the child ---- */

/* The faults that were asked for. */
static void plant_faults(int argc, char **argv, int trial)
{
#ifdef REFINE_CUDA_EMULATED
    for (int i = 1; i < argc; i++) {
        const int at = (int)strtol(argv[i], NULL, 10);
        if (at == trial + 1)
            emulation_flip_bit(0);
        else if (at == -trial - 1)
            emulation_lose(cudaErrorIllegalAddress);
    }
#else
    (void)argc, (void)argv, (void)trial;
#endif
}

/* A device that multiplies so. */
static dev *open_card(cuda_math m)
{
    const dev_options o = { .compute = m == CUDA_F32 ? DT_F32 : DT_F16 };
    refine_error err = { 0 };
    dev *d = dev_open_cuda(&o, 0, &err);
    if (d)
        cuda_of(d)->math = m;
    else
        fprintf(stderr, "self_test: %s\n", err.text);
    return d;
}

static bool try_one(dev *d, int family)
{
    alarm(MOST_SECONDS);
    cuda_self_test_one(cuda_of(d), family);
    alarm(0);
    return dev_status(d) == REFINE_OK;
}

/* From at->at on.  A device that was wrong, or multiplies in another way, is opened anew; of a card
 * that is lost a new process may make more. */
static int run_child(notes *at, int argc, char **argv)
{
    const int n = n_families();
    dev *d = NULL;
    for (; at->at < 3 * n; at->at++) {
        if (!d && !(d = open_card((cuda_math)(at->at / n))))
            return NO_CARD;
        plant_faults(argc, argv, at->at);
        const bool right = try_one(d, at->at % n);
        print_trial(at, right ? NULL : dev_why(d));
        if (!right && cudaDeviceSynchronize() != cudaSuccess)
            return DIED;
        if (!right || at->at % n == n - 1) {
            dev_close(d);
            d = NULL;
        }
    }
    return 0;
}

/* ---- the parent ---- */

/* Whether another child is to go on. */
static bool go_on(notes *at, int status)
{
    char why[64];
    if (WIFEXITED(status) && WEXITSTATUS(status) != DIED)
        return false;
    if (WIFSIGNALED(status)) {
        (void)snprintf(why, sizeof why,
                       WTERMSIG(status) == SIGALRM ? "did not end" : "ended by signal %d",
                       WTERMSIG(status));
        print_trial(at, why);
    }
    at->at++;
    return at->at < 3 * n_families();
}

static bool try_all_families(notes *at, int argc, char **argv)
{
    int status = 0;
    do {
        fflush(NULL);
        const pid_t pid = fork();
        if (pid == 0)
            exit(run_child(at, argc, argv));
        if (pid < 0 || waitpid(pid, &status, 0) != pid)
            return false;
    } while (go_on(at, status));
    return at->at == 3 * n_families();
}

int main(int argc, char **argv)
{
    notes *at = mmap(NULL, sizeof *at, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED || setenv("REFINE_SELF_TEST", "off", 1) != 0)
        return 1;
    const bool done = try_all_families(at, argc, argv);
    if (at->wrong > 0)
        fprintf(stderr, "self_test: %d of %d are wrong\n", at->wrong, 3 * n_families());
    return !done || at->wrong > 0;
}
