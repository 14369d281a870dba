/* Starting children, and what follows from their end. */
#include "base/alloc.h"
#include "base/logging.h"
#include "server/server.h"
#include "server/supervisor_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

enum {
    BACKOFF_MIN_MS = 100,
    BACKOFF_MAX_MS = 5000,
    HEALTHY_MS = 30000,      /* a crash after that long starts with the shortest back-off again */
    DRAIN_EXTRA_MS = 10000,  /* beyond the drain deadline, before a worker is killed */
    DRAIN_ORDER = SIGUSR1,   /* from the admin process */
    RESTART_ORDER = SIGUSR2, /* the same */
};

/* ---------------------------------------------------------------- in the child */

static int run_worker(struct supervisor *s, unsigned number)
{
    struct listen_socket *listen = xcalloc(s->listen_count, sizeof *listen);
    struct worker w = {.number = number,
                       .listen = listen,
                       .listen_count = s->listen_count,
                       .admin = &s->backends[number - 1].socket,
                       .wake_fds = s->wake_fds,
                       .shared = s->shared,
                       .area = &s->area};
    log_set_worker(number);
    sockets_keep(s, number, listen);
    int code = server_run(s->cfg, &w, s->given);
    for (size_t i = 0; i < s->listen_count; i++) {
        listen_socket_close(&listen[i], false); /* what it never got to */
    }
    free(listen);
    return code;
}

/* The life of a child, from the fork to its exit code. */
static int run_child(struct supervisor *s, unsigned number, pid_t parent)
{
    /* a terminal's Ctrl-C goes to the group: the supervisor alone decides what it means */
    (void)setpgid(0, 0);
    (void)prctl(PR_SET_PDEATHSIG, WORKER_DRAIN_SIGNAL);
    if (getppid() != parent) { /* it died before the line above */
        return EX_TEMPFAIL;
    }
    (void)signal(SIGHUP, SIG_IGN); /* until it listens to it */
    (void)signal(RESTART_ORDER, SIG_IGN);
    (void)sigprocmask(SIG_SETMASK, &s->before, NULL);
    if (number) {
        return run_worker(s, number);
    }
    sockets_keep(s, 0, NULL);
    return admin_process_run(s->cfg, &(struct admin_process){.listen = &s->admin,
                                                             .backends = s->backends,
                                                             .count = s->count,
                                                             .shared = s->shared,
                                                             .drain_signal = DRAIN_ORDER,
                                                             .restart_signal = RESTART_ORDER});
}

/* ---------------------------------------------------------------- starting */

static void start_failed(struct supervisor *s, unsigned number, const char *why)
{
    log_error("supervisor", "cannot start a worker",
              LOG_F(log_uint("number", number), log_str("error", why)));
    s->children[number].due_ms = supervisor_now_ms() + BACKOFF_MAX_MS;
}

bool child_start(struct supervisor *s, unsigned number, int *code)
{
    struct child *c = &s->children[number];
    struct err e = {0};
    pid_t parent = getpid();
    c->started_ms = supervisor_now_ms();
    c->due_ms = 0;
    if (number && sockets_open_slot(s, number, &e)) {
        start_failed(s, number, e.text);
        return false;
    }
    if (number) {
        s->shared->gave_up[number - 1][0] = '\0';
    }
    pid_t pid = fork();
    if (pid == 0) {
        *code = run_child(s, number, parent);
        return true;
    }
    if (pid < 0) {
        start_failed(s, number, strerror(errno));
        return false;
    }
    c->pid = pid;
    if (number) {
        s->shared->workers[number - 1].starts++;
        s->shared->workers[number - 1].pid = (int)pid;
        log_info("supervisor", "worker started",
                 LOG_F(log_uint("number", number), log_int("pid", pid)));
    }
    return false;
}

void children_signal(const struct supervisor *s, int signum)
{
    for (unsigned i = 1; i <= WORKERS_MAX; i++) {
        const pid_t both[2] = {s->children[i].pid, s->children[i].retiring};
        for (unsigned k = 0; k < 2; k++) {
            if (both[k]) {
                (void)kill(both[k], signum); /* a zombie at worst */
            }
        }
    }
}

unsigned children_running(const struct supervisor *s)
{
    unsigned n = 0;
    for (unsigned i = 1; i <= WORKERS_MAX; i++) {
        n += s->children[i].pid ? 1 : 0;
        n += s->children[i].retiring ? 1 : 0;
    }
    return n;
}

void supervisor_drain(struct supervisor *s)
{
    if (!s->draining) {
        s->draining = true;
        restart_stop(s, "the supervisor was told to stop");
        s->kill_ms =
            supervisor_now_ms() + (uint64_t)s->cfg->drain.timeout_s * 1000 + DRAIN_EXTRA_MS;
        systemd_notify("STOPPING=1\nSTATUS=draining: %u workers are left", children_running(s));
        log_info("supervisor", "draining", LOG_F(log_uint("workers", children_running(s))));
        sockets_close_public(s);
        children_signal(s, WORKER_DRAIN_SIGNAL);
    }
}

/* ---------------------------------------------------------------- their end */

/* An exit code for the way a child ended. A signal of ours that came before it listened to signals
 * is no failure. */
static int supervisor_children_code_of(const struct supervisor *s, int status)
{
    if (WIFEXITED(status)) {
        return WEXITSTATUS(status);
    }
    int signum = WTERMSIG(status);
    bool ours = s->draining && (signum == WORKER_DRAIN_SIGNAL || signum == WORKER_STOP_SIGNAL);
    return ours ? 0 : EX_SOFTWARE;
}

static void plan_restart(struct supervisor *s, unsigned number, int code)
{
    struct child *c = &s->children[number];
    uint64_t now = supervisor_now_ms();
    bool healthy = now - c->started_ms >= HEALTHY_MS || c->backoff_ms == 0 || code == 0;
    c->backoff_ms = healthy ? BACKOFF_MIN_MS : c->backoff_ms * 2;
    c->backoff_ms = c->backoff_ms < BACKOFF_MAX_MS ? c->backoff_ms : BACKOFF_MAX_MS;
    c->due_ms = now + c->backoff_ms;
    if (number && !healthy) {
        sockets_close_slot(s, number); /* it may take a while */
    }
}

static void log_end(unsigned number, int status)
{
    const char *who = number ? "worker ended" : "admin process ended";
    if (WIFSIGNALED(status)) {
        log_error("supervisor", who,
                  LOG_F(log_uint("number", number), log_int("signal", WTERMSIG(status))));
    } else {
        log_error("supervisor", who,
                  LOG_F(log_uint("number", number), log_int("code", WEXITSTATUS(status))));
    }
}

static void worsen(struct supervisor *s, int code)
{
    s->code = code > s->code ? code : s->code;
}

static void on_retired(struct supervisor *s, unsigned number, int status)
{
    s->children[number].retiring = 0;
    if (!WIFEXITED(status) || WEXITSTATUS(status)) {
        log_end(number, status); /* its clients resume at others either way */
    }
    worsen(s, s->draining ? supervisor_children_code_of(s, status) : 0);
}

static void on_end(struct supervisor *s, unsigned number, int status)
{
    struct child *c = &s->children[number];
    int code = supervisor_children_code_of(s, status);
    if (number) {
        struct worker_state *st = &s->shared->workers[number - 1];
        c->served = c->served || st->ready_pid == c->pid;
        st->pid = 0;
    }
    c->pid = 0;
    if (s->draining) {
        worsen(s, number ? code : 0);
        return;
    }
    if (number == 0 && s->admin.fd < 0) { /* the new configuration has none */
        return;
    }
    if (number == 0 && (code == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM))) {
        c->due_ms = supervisor_now_ms(); /* it was asked to, perhaps before it listened to that */
        return;
    }
    log_end(number, status);
    if (s->roll.stage == ROLL_STARTING && number == s->roll.number) {
        restart_child_ended(s, code);
    } else if (number && !c->served && code && WIFEXITED(status)) {
        worsen(s, code); /* the others would fail alike, or already do */
        (void)snprintf(s->gave_up, sizeof s->gave_up, "%s", s->shared->gave_up[number - 1]);
        supervisor_drain(s);
    } else {
        plan_restart(s, number, code);
    }
}

void children_reap(struct supervisor *s)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == s->roll.check_pid) {
            restart_check_ended(s, status);
            continue;
        }
        quota_table_process_ended(s->area.quotas,
                                  (int)pid); /* before another one may have its pid */
        for (unsigned i = 0; i <= WORKERS_MAX; i++) {
            if (s->children[i].pid == pid) {
                on_end(s, i, status);
            } else if (s->children[i].retiring == pid) {
                on_retired(s, i, status);
            }
        }
    }
}

/* The admin process goes last: until then it tells how far the workers are. */
void children_end_admin(struct supervisor *s)
{
    struct child *c = &s->children[0];
    int status;
    if (c->pid) {
        (void)kill(c->pid, SIGTERM);
        for (int i = 0; i < 200 && c->pid; i++) {
            if (waitpid(c->pid, &status, WNOHANG) == c->pid) {
                c->pid = 0;
            } else {
                (void)nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
            }
        }
        if (c->pid) {
            (void)kill(c->pid, SIGKILL);
            (void)waitpid(c->pid, &status, 0);
            c->pid = 0;
        }
    }
}
