/* The rolling restart: a check by the program on disk, that program in this process, then one
 * worker after the other. A worker's successor serves before the worker drains, so whatever keeps
 * the successor from that leaves everything as it was. */
#include "base/logging.h"
#include "policy/policy.h"
#include "server/supervisor.h"
#include "server/supervisor_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    CHECK_MS = 60000,                           /* to check the configuration and the policy */
    READY_MS = POLICY_READY_TIMEOUT_MS + 30000, /* until a new worker serves */
    RETIRE_EXTRA_MS = 5000,                     /* beyond the drain deadline */
    ARGUMENTS_MAX = 256,
};

bool restart_active(const struct supervisor *s)
{
    return s->roll.stage != ROLL_IDLE;
}

/* After a failure there are as many workers as before, and those that a restart added and that have
 * come up. Who is not there has crashed, perhaps before the takeover, which knows of processes
 * only: it is started. A place that nobody takes must not accept, or its clients would wait for
 * ever. */
static void supervisor_restart_go_on(struct supervisor *s)
{
    unsigned count = s->roll.before;
    for (unsigned i = 1; i <= WORKERS_MAX; i++) {
        count = s->children[i].pid && i > count ? i : count;
    }
    for (unsigned i = 1; i <= WORKERS_MAX; i++) {
        struct child *c = &s->children[i];
        if (i > count) {
            c->due_ms = 0;
            sockets_close_slot(s, i);
        } else if (!c->pid && !c->due_ms) {
            c->due_ms = supervisor_now_ms();
        }
    }
    if (count != s->count) {
        s->count = count;
        s->shared->count = count;
        if (s->children[0].pid) { /* the next one knows of them */
            (void)kill(s->children[0].pid, SIGTERM);
        }
    }
}

static void supervisor_restart_finish(struct supervisor *s, const char *why)
{
    struct roll *r = &s->roll;
    if (r->check_output >= 0) {
        close(r->check_output);
    }
    if (why && !s->draining) {
        supervisor_restart_go_on(s);
    }
    *r = (struct roll){.check_output = -1};
    if (!s->draining) {
        systemd_notify("READY=1\nSTATUS=%s%s", supervisor_serving(s),
                       why ? "; the last restart failed, see the log" : "");
    }
    if (why) {
        (void)snprintf(s->shared->restart_error, sizeof s->shared->restart_error, "%s", why);
        log_error("supervisor", "restart failed, the old workers continue",
                  LOG_F(log_str("error", why)));
    } else {
        log_info("supervisor", "restarted", LOG_F(log_uint("workers", s->count)));
    }
    s->shared->restart = why ? RESTART_FAILED : RESTART_DONE;
}

void restart_stop(struct supervisor *s, const char *why)
{
    if (restart_active(s)) {
        if (s->roll.check_pid) {
            (void)kill(s->roll.check_pid, SIGKILL);
        }
        supervisor_restart_finish(s, why);
    }
}

/* ---------------------------------------------------------------- the check */

/* In a child: the program on disk checks what it would serve. */
static void exec_check(const struct supervisor *s, int output)
{
    char check[] = "check";
    char *argv[ARGUMENTS_MAX + 1];
    size_t n = 0;
    while (n < ARGUMENTS_MAX && s->argv[n]) {
        argv[n] = n == 1 ? check : s->argv[n];
        n++;
    }
    argv[n] = NULL;
    (void)setenv(SUPERVISOR_CHECK_LOADING_ONLY, "1",
                 1); /* options an older program would not know */
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)sigprocmask(SIG_SETMASK, &s->before, NULL);
    if (dup2(output, STDOUT_FILENO) >= 0 && dup2(output, STDERR_FILENO) >= 0) {
        (void)execvp(argv[0], argv);
        fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
    }
    _exit(EX_OSERR);
}

void restart_begin(struct supervisor *s)
{
    struct roll *r = &s->roll;
    if (s->draining || restart_active(s)) {
        log_warn(
            "supervisor", "restart ignored",
            LOG_F(log_str("why", s->draining ? "draining" : "another restart is in progress")));
        return;
    }
    s->reload.until_ms = 0; /* READY=1 comes at the end of the restart */
    systemd_notify_reloading("replacing the workers");
    log_info("supervisor", "restart: checking the configuration",
             LOG_F(log_str("program", s->argv[0])));
    s->shared->restart = RESTART_RUNNING;
    s->shared->restarts++;
    *r = (struct roll){
        .stage = ROLL_CHECK, .until_ms = supervisor_now_ms() + CHECK_MS, .before = s->count};
    r->check_output = memfd_create("tidegate-check", MFD_CLOEXEC);
    pid_t pid = r->check_output < 0 ? -1 : fork();
    if (pid == 0) {
        exec_check(s, r->check_output);
    }
    if (pid < 0) {
        supervisor_restart_finish(s, strerror(errno));
        return;
    }
    r->check_pid = pid;
}

void restart_check_ended(struct supervisor *s, int status)
{
    char text[sizeof s->shared->restart_error];
    struct err e = {0};
    s->roll.check_pid = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        (void)handover_exec(s, &e); /* does not return when all is well */
        supervisor_restart_finish(s, e.text);
        return;
    }
    ssize_t n = pread(s->roll.check_output, text, sizeof text - 1, 0);
    while (n > 0 && text[n - 1] == '\n') {
        n--;
    }
    text[n > 0 ? n : 0] = '\0';
    supervisor_restart_finish(s,
                              n > 0 ? text : "the check of the configuration ended without a word");
}

/* ---------------------------------------------------------------- one worker after the other */

void restart_continue(struct supervisor *s, const struct err *e)
{
    s->shared->restart = RESTART_RUNNING;
    s->roll = (struct roll){.stage = ROLL_NEXT, .check_output = -1, .before = s->roll.before};
    if (s->children[0].pid) {
        (void)kill(s->children[0].pid, SIGTERM); /* a new one starts when it has ended */
    } else if (s->admin.fd >= 0) {
        s->children[0].due_ms = supervisor_now_ms();
    }
    if (e) {
        supervisor_restart_finish(s, e->text);
    }
}

/* The old one takes its place again. */
static void give_back(struct supervisor *s)
{
    struct child *c = &s->children[s->roll.number];
    if (c->retiring) {
        c->pid = c->retiring;
        c->retiring = 0;
        c->due_ms = 0;
        s->shared->workers[s->roll.number - 1].pid = (int)c->pid;
    }
}

static void supervisor_restart_fail(struct supervisor *s, const char *why)
{
    char text[sizeof s->shared->restart_error];
    (void)snprintf(text, sizeof text, "worker %u: %s", s->roll.number, why);
    give_back(s);
    supervisor_restart_finish(s, text);
}

void restart_child_ended(struct supervisor *s, int code)
{
    char text[96];
    const char *why = s->shared->gave_up[s->roll.number - 1];
    (void)snprintf(text, sizeof text,
                   "its successor ended with code %d before it served: see the log", code);
    supervisor_restart_fail(s, *why ? why : text);
}

static void supervisor_restart_retire(struct supervisor *s)
{
    struct roll *r = &s->roll;
    const struct child *c = &s->children[r->number];
    s->shared->workers[r->number - 1].retire_pid = (int)c->retiring;
    (void)kill(c->retiring, WORKER_DRAIN_SIGNAL);
    r->stage = ROLL_RETIRING;
    r->until_ms = supervisor_now_ms() + (uint64_t)s->cfg->drain.timeout_s * 1000 + RETIRE_EXTRA_MS;
}

/* True in the new child. */
static bool next_worker(struct supervisor *s, int *code)
{
    struct roll *r = &s->roll;
    while (++r->number > s->count && r->number <= WORKERS_MAX) { /* fewer than before */
        s->children[r->number].due_ms = 0;
        sockets_close_slot(s, r->number);
        if (s->children[r->number].pid) {
            break;
        }
    }
    if (r->number > WORKERS_MAX) {
        supervisor_restart_finish(s, NULL);
        return false;
    }
    struct child *c = &s->children[r->number];
    c->retiring = c->pid;
    c->pid = 0;
    if (r->number > s->count) {
        s->shared->workers[r->number - 1].pid = 0;
        supervisor_restart_retire(s);
        return false;
    }
    r->stage = ROLL_STARTING;
    r->until_ms = supervisor_now_ms() + READY_MS;
    if (child_start(s, r->number, code)) {
        return true;
    }
    if (c->pid == 0) {
        supervisor_restart_fail(s, "cannot be started: see the log");
    }
    return false;
}

bool restart_step(struct supervisor *s, int *code)
{
    struct roll *r = &s->roll;
    struct child *c = &s->children[r->number];
    bool late = supervisor_now_ms() >= r->until_ms;
    switch (r->stage) {
    case ROLL_IDLE:
        break;
    case ROLL_CHECK:
        if (late) {
            restart_stop(s, "the check of the configuration takes too long");
        }
        break;
    case ROLL_NEXT:
        return next_worker(s, code);
    case ROLL_STARTING:
        if (s->shared->workers[r->number - 1].ready_pid == c->pid) {
            if (c->retiring) {
                supervisor_restart_retire(s);
            } else {
                r->stage = ROLL_NEXT;
            }
        } else if (late) {
            (void)kill(c->pid, SIGKILL);
            c->pid = 0;
            supervisor_restart_fail(s, "its successor takes too long to serve");
        }
        break;
    case ROLL_RETIRING:
        if (c->retiring == 0) {
            r->stage = ROLL_NEXT;
        } else if (late) {
            (void)kill(c->retiring, SIGKILL);
        }
        break;
    }
    return false;
}
