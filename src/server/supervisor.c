/* See supervisor.h. No event loop, no thread: a child is forked from a process that has nothing a
 * child must not inherit, at the start as well as years later. All it does is wait for signals.
 *
 * supervisor_sockets.c binds what the workers share, supervisor_children.c starts them and sees to
 * their end, supervisor_restart.c replaces them one by one, supervisor_handover.c this program. */
#include "server/supervisor.h"

#include "base/alloc.h"
#include "base/logging.h"
#include "base/program/build_info.h"
#include "policy/policy.h"
#include "server/server.h"
#include "server/supervisor_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

enum {
    STOP_GRACE_MS = 2000, /* after a second signal, before workers are killed */
    RELOAD_MS = POLICY_READY_TIMEOUT_MS + 30000,
    ROLL_TICK_MS = 20, /* workers that get ready, or have ended, during a restart */
    RETRY_S = 1,
    HANG_MIN_MS = 5000, /* a worker that is silent for less than that may only be busy */
};

uint64_t supervisor_now_ms(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

const char *supervisor_serving(struct supervisor *s)
{
    (void)snprintf(s->serving, sizeof s->serving, "%u worker%s", s->count,
                   s->count == 1 ? " serves" : "s serve");
    return s->serving;
}

/* ---------------------------------------------------------------- signals */

static void catch_signals(struct supervisor *s)
{
    static const int ours[] = {SIGTERM, SIGINT, SIGHUP, SIGCHLD, SIGUSR1, SIGUSR2};
    (void)sigemptyset(&s->signals);
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        (void)sigaddset(&s->signals, ours[i]);
    }
    (void)sigprocmask(SIG_BLOCK, &s->signals, &s->before);
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        (void)sigdelset(&s->before, ours[i]); /* a program before this one blocked them */
    }
}

static void supervisor_on_stop(struct supervisor *s, int signum)
{
    if (!s->draining) {
        supervisor_drain(s);
        return;
    }
    log_warn("supervisor", "stopping now", LOG_F(log_int("signal", signum)));
    s->kill_ms = supervisor_now_ms() + STOP_GRACE_MS;
    children_signal(s, WORKER_STOP_SIGNAL);
}

/* Until when nothing is due; UINT64_MAX: nothing is. */
static uint64_t next_due(const struct supervisor *s)
{
    uint64_t due = s->kill_ms ? s->kill_ms : UINT64_MAX;
    for (unsigned i = 0; i <= s->count && !s->draining; i++) {
        uint64_t at = s->children[i].due_ms;
        due = at && at < due ? at : due;
    }
    due = s->watchdog_ms && s->watchdog_ms < due ? s->watchdog_ms : due;
    bool waits = restart_active(s) || (!s->told_serving && !s->draining) || s->reload.until_ms != 0;
    uint64_t tick = waits ? supervisor_now_ms() + ROLL_TICK_MS : UINT64_MAX;
    return tick < due ? tick : due;
}

static int wait_for_signal(const struct supervisor *s)
{
    uint64_t now = supervisor_now_ms(), due = next_due(s);
    uint64_t wait = due > now ? due - now : 0;
    struct timespec ts = {.tv_sec = (time_t)(wait / 1000),
                          .tv_nsec = (long)(wait % 1000) * 1000000};
    return due == UINT64_MAX ? sigwaitinfo(&s->signals, NULL)
                             : sigtimedwait(&s->signals, NULL, &ts);
}

/* Each worker reloads its policy. */
static void supervisor_on_hangup(struct supervisor *s)
{
    if (s->told_ready && !s->draining && !restart_active(s)) {
        systemd_notify_reloading("loading the policy");
        s->reload.until_ms = supervisor_now_ms() + RELOAD_MS;
        for (unsigned i = 0; i < WORKERS_MAX; i++) {
            s->reload.pids[i] = s->children[i + 1].pid;
            s->reload.before[i] = s->shared->reloads[i];
        }
    }
    children_signal(s, SIGHUP);
}

static void supervisor_on_signal(struct supervisor *s, int signum)
{
    switch (signum) {
    case SIGCHLD:
        children_reap(s);
        break;
    case SIGHUP:
        supervisor_on_hangup(s);
        break;
    case SIGUSR1:
        supervisor_drain(s);
        break;
    case SIGUSR2:
        restart_begin(s);
        break;
    default:
        supervisor_on_stop(s, signum);
    }
}

/* ---------------------------------------------------------------- the service manager */

/* All workers serve for the first time, or do what they can until their store is there. */
static void tell_ready(struct supervisor *s)
{
    unsigned ready = 0, waiting = 0;
    for (unsigned i = 1; i <= s->count && !s->told_serving && !s->draining; i++) {
        int pid = s->children[i].pid;
        bool serves = pid && s->shared->workers[i - 1].ready_pid == pid;
        ready += serves ? 1 : 0;
        waiting += !serves && pid && s->shared->waiting_pid[i - 1] == pid ? 1 : 0;
    }
    if (ready == s->count) {
        s->told_ready = s->told_serving = true;
        systemd_notify("READY=1\nSTATUS=%s", supervisor_serving(s));
    } else if (!s->told_ready && ready + waiting == s->count) { /* they answer, and will serve */
        s->told_ready = true;
        systemd_notify("READY=1\nSTATUS=waiting for the store: see the log, and /readyz");
    }
}

/* Who was there at the SIGHUP has done it, or was replaced by one that began with the new policy. */
static void tell_reloaded(struct supervisor *s)
{
    struct reload_wait *w = &s->reload;
    unsigned done = 0, refused = 0;
    for (unsigned i = 0; i < s->count && w->until_ms; i++) {
        pid_t pid = s->children[i + 1].pid;
        bool answered = pid == w->pids[i] && s->shared->reloads[i] != w->before[i];
        done += answered || (pid && pid != w->pids[i] && s->shared->workers[i].ready_pid == pid);
        refused += answered && s->shared->refused[i];
    }
    if (w->until_ms && (s->draining || done == s->count || supervisor_now_ms() >= w->until_ms)) {
        w->until_ms = 0;
        if (!s->draining) {
            systemd_notify("READY=1\nSTATUS=%s%s", supervisor_serving(s),
                           refused ? "; the last reload of the policy was refused, see the log"
                                   : "");
        }
    }
}

/* Ends a worker whose loop has not turned for as long as the service manager would wait. `late`: how much later
 * than it should the supervisor looks; what has held it up may have held up its workers, too. */
static void end_hung(struct supervisor *s, uint64_t now, uint64_t late)
{
    uint64_t most = 2 * systemd_watchdog_ms();
    most = most > HANG_MIN_MS ? most : HANG_MIN_MS;
    for (unsigned i = 0; i < WORKERS_MAX && !s->draining; i++) {
        const struct worker_beat *beat = &s->shared->beats[i];
        struct beat_seen *seen = &s->beats[i];
        int pid = s->children[i + 1].pid;
        if (pid == 0 || beat->pid != pid || seen->pid != pid || beat->count != seen->count) {
            *seen = (struct beat_seen){.pid = pid, .count = beat->count, .ms = now};
            continue;
        }
        seen->ms += late;
        if (now - seen->ms >= most) {
            log_error("supervisor", "a worker hangs: it is killed, and another one started",
                      LOG_F(log_uint("number", i + 1), log_int("pid", pid),
                            log_uint("silent_ms", now - seen->ms)));
            (void)kill(pid, SIGKILL);
            seen->ms = now;
        }
    }
}

/* Says that the supervisor is well, and sees to it that its workers are. */
static void tell_watchdog(struct supervisor *s)
{
    uint64_t now = supervisor_now_ms();
    if (s->watchdog_ms && now >= s->watchdog_ms) {
        uint64_t late = now - s->watchdog_ms;
        s->watchdog_ms = now + systemd_watchdog_ms();
        systemd_notify("WATCHDOG=1");
        end_hung(s, now, late);
    }
}

/* ---------------------------------------------------------------- the life of a supervisor */

/* True in a child. */
static bool start_due(struct supervisor *s, int *code)
{
    uint64_t now = supervisor_now_ms();
    for (unsigned i = 0; i <= s->count && !s->draining; i++) {
        struct child *c = &s->children[i];
        if (c->pid == 0 && c->due_ms && c->due_ms <= now && child_start(s, i, code)) {
            return true;
        }
    }
    return false;
}

/* True in a child. */
static bool supervise(struct supervisor *s, int *code)
{
    for (;;) {
        if (start_due(s, code) || restart_step(s, code)) {
            return true;
        }
        tell_ready(s);
        tell_reloaded(s);
        tell_watchdog(s);
        if (s->draining && children_running(s) == 0) {
            children_end_admin(s);
            *code = s->code;
            return false;
        }
        int signum = wait_for_signal(s);
        if (signum > 0) {
            supervisor_on_signal(s, signum);
        }
        if (s->kill_ms && supervisor_now_ms() >= s->kill_ms) {
            log_error("supervisor", "killing workers that do not end",
                      LOG_F(log_uint("workers", children_running(s))));
            children_signal(s, SIGKILL);
            s->kill_ms = 0;
        }
    }
}

static void supervisor_begin(struct supervisor *s)
{
    for (unsigned i = s->admin.fd >= 0 ? 0 : 1; i <= s->count; i++) {
        s->children[i].due_ms = supervisor_now_ms();
    }
}

/* 0, or the exit code. */
static int set_up(struct supervisor *s)
{
    struct err e = {0};
    bool successor = handover_expected();
    int rc = successor ? handover_take(s, &e) : 0;
    if (rc) {
        log_error("supervisor", "cannot take over", LOG_F(log_str("error", e.text)));
        return EX_SOFTWARE;
    }
    rc = sockets_open(s, &e);
    if (rc && !(successor && s->shared)) {
        log_error("supervisor", "cannot start",
                  LOG_F(log_int("code", EX_UNAVAILABLE), log_str("error", e.text)));
        return EX_UNAVAILABLE;
    }
    s->shared->count = s->count;
    s->shared->beat_ms = (unsigned)(systemd_watchdog_ms() / 2);
    if (successor) {
        s->told_ready = s->told_serving = true;
        log_info(
            "supervisor", "took over",
            LOG_F(log_str("version", build_info.version), log_str("commit", build_info.commit)));
        restart_continue(s, rc ? &e : NULL);
    } else {
        supervisor_begin(s);
    }
    return 0;
}

static int run_supervised(const struct config *cfg, char **argv, unsigned count,
                          struct systemd_sockets *given)
{
    struct supervisor *s = xcalloc(1, sizeof *s);
    s->cfg = cfg;
    s->argv = argv;
    s->count = count;
    s->given = given;
    s->watchdog_ms = systemd_watchdog_ms() ? supervisor_now_ms() : 0;
    sockets_init(s);
    catch_signals(s);
    int code = set_up(s);
    bool began = code == 0;
    bool child = began && supervise(s, &code);
    sockets_clear(s, !child);
    if (!child) {
        (void)sigprocmask(SIG_SETMASK, &s->before, NULL);
        if (*s->gave_up) { /* the last line says why */
            log_error("supervisor", "stopped: a worker cannot start",
                      LOG_F(log_int("code", code), log_str("error", s->gave_up)));
        } else if (began) {
            log_info("supervisor", "stopped", LOG_F(log_int("code", code)));
        }
    }
    free(s);
    return code;
}

int supervisor_run(const struct config *cfg, char **argv, bool single)
{
    unsigned count = cfg->workers ? (unsigned)cfg->workers : uv_available_parallelism();
    struct systemd_sockets given;
    struct err e = {0};
    count = count < WORKERS_MAX ? count : WORKERS_MAX;
    if (systemd_sockets_take(cfg, handover_expected(), &given, &e)) {
        log_error("server", "cannot start",
                  LOG_F(log_int("code", EX_CONFIG), log_str("error", e.text)));
        return EX_CONFIG;
    }
    log_info("server", "starting",
             LOG_F(log_str("version", build_info.version), log_str("commit", build_info.commit),
                   log_str("date", build_info.date), log_uint("workers", single ? 1 : count)));
    bool alone = single && !handover_expected();
    if (alone && count > 1) {
        log_warn("server", "--single: one worker serves, and not as many as `workers` says",
                 LOG_F(log_uint("workers", count)));
    }
    int code = alone ? server_run(cfg, NULL, &given) : run_supervised(cfg, argv, count, &given);
    systemd_sockets_clear(&given);
    return code;
}

/* The signals are blocked since before the new program. A stop ends this process, and with it, by
 * their parent's death, the workers: they drain. */
bool supervisor_waits(void)
{
    struct timespec second = {.tv_sec = RETRY_S};
    sigset_t stop;
    (void)sigemptyset(&stop);
    (void)sigaddset(&stop, SIGTERM);
    (void)sigaddset(&stop, SIGINT);
    if (systemd_watchdog_ms() && handover_expected()) {
        systemd_notify("WATCHDOG=1"); /* the old workers serve meanwhile */
    }
    return handover_expected() && sigtimedwait(&stop, NULL, &second) < 0 && errno == EAGAIN;
}
