/* tools/memprof/memprof_child.c -- posix_spawn, and signals that are waited for instead of
 * handled. */
#define _XOPEN_SOURCE 700
#include "tools/memprof/memprof_child.h"

#include "engine/base/mem.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static const int WATCHED[] = { SIGINT, SIGTERM, SIGHUP, SIGCHLD };

enum { N_WATCHED = sizeof WATCHED / sizeof WATCHED[0] };

const char *child_trace(char *const argv[])
{
    static const char OPTION[] = "--trace";
    const size_t len = sizeof OPTION - 1;
    const char *found = NULL;
    for (int i = 1; argv[0] && argv[i]; i++) {
        if (strncmp(argv[i], OPTION, len) != 0)
            continue;
        if (argv[i][len] == '=')
            found = argv[i] + len + 1;
        else if (argv[i][len] == '\0' && argv[i + 1])
            found = argv[++i];
    }
    return found;
}

bool child_wants_stdout(char *const argv[])
{
    for (int i = 1; argv[0] && argv[i]; i++) {
        const char *next = argv[i + 1];
        const bool names_output = strcmp(argv[i], "-o") == 0 || strcmp(argv[i], "--output") == 0;
        if (strcmp(argv[i], "--json") == 0 || strcmp(argv[i], "-o-") == 0 ||
            strcmp(argv[i], "--output=-") == 0 || (names_output && next && strcmp(next, "-") == 0))
            return true;
    }
    return false;
}

/* `name` in the directory of this program, if it can be run there; else as it is. */
static void resolve_program(char out[PATH_MAX], const char *name)
{
    (void)snprintf(out, PATH_MAX, "%s", name);
    if (strchr(name, '/'))
        return;
    char self[PATH_MAX];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0)
        return;
    self[n] = '\0';
    char *slash = strrchr(self, '/');
    if (!slash || (size_t)(slash + 1 - self) + strlen(name) >= sizeof self)
        return;
    memcpy(slash + 1, name, strlen(name) + 1);
    if (access(self, X_OK) == 0)
        memcpy(out, self, strlen(self) + 1);
}

/* argv with the option behind its first word; the caller's to mem_free. */
static char **with_trace(char *const argv[], char *option, char *trace)
{
    size_t n = 0;
    while (argv[n])
        n++;
    char **out = mem_alloc((n + 3) * sizeof *out);
    if (!out)
        return NULL;
    out[0] = argv[0];
    out[1] = option;
    out[2] = trace;
    memcpy(out + 3, argv + 1, n * sizeof *out);
    return out;
}

static refine_status spawn_child(pid_t *pid, char *const argv[], const sigset_t *mask,
                                 refine_error *err)
{
    char program[PATH_MAX];
    posix_spawnattr_t how;
    resolve_program(program, argv[0]);
    if (posix_spawnattr_init(&how) != 0)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    (void)posix_spawnattr_setsigmask(&how, mask);
    (void)posix_spawnattr_setflags(&how, POSIX_SPAWN_SETSIGMASK);
    const int failed = posix_spawnp(pid, program, NULL, &how, argv, environ);
    (void)posix_spawnattr_destroy(&how);
    if (failed)
        return refine_fail(err, REFINE_EINVAL, "%s: cannot be started: %s", argv[0],
                           strerror(failed));
    return REFINE_OK;
}

/* The terminal sends its signals to both of us; a second one is merged with the first.  *last: the
 * one that was passed on, 0: none. */
static int wait_child(pid_t pid, const sigset_t *mask, int *last)
{
    for (;;) {
        int got = 0, status;
        const pid_t ended = waitpid(pid, &status, WNOHANG);
        if (ended == pid)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        if (ended < 0 && errno != EINTR)
            return 1;
        if (sigwait(mask, &got) == 0 && got != SIGCHLD) {
            *last = got;
            (void)kill(pid, got);
        }
    }
}

/* The caller of child_run may hold its signals; the child is to have them. */
static sigset_t mask_for_child(const sigset_t *before)
{
    sigset_t mask = *before;
    for (size_t i = 0; i < N_WATCHED; i++)
        (void)sigdelset(&mask, WATCHED[i]);
    return mask;
}

refine_status child_run(int *code, char *const argv[], const char *trace, refine_error *err)
{
    char option[] = "--trace";
    sigset_t ours, before;
    int last = 0;
    pid_t pid;

    *code = 1;
    char *file = mem_strdup(trace);
    char **all = file ? with_trace(argv, option, file) : NULL;
    if (!all) {
        mem_free(file);
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    }
    (void)sigemptyset(&ours);
    for (size_t i = 0; i < N_WATCHED; i++)
        (void)sigaddset(&ours, WATCHED[i]);
    (void)sigprocmask(SIG_BLOCK, &ours, &before);
    const sigset_t mask = mask_for_child(&before);
    const refine_status st = spawn_child(&pid, all, &mask, err);
    if (st == REFINE_OK)
        *code = wait_child(pid, &ours, &last);
    if (last)
        (void)raise(last);
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    mem_free(all);
    mem_free(file);
    return st;
}
