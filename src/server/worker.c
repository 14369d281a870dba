#include "server/worker.h"

#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct worker_wake *w = poll->data;
    uint64_t times;
    (void)events;
    /* nothing to read: the one that leaves this place took it; looking does no harm */
    ssize_t ignored = read(w->worker->wake_fds[w->worker->number - 1], &times, sizeof times);
    (void)ignored;
    if (status == 0 && w->store->ops->wake) {
        w->store->ops->wake(w->store);
    }
    if (status == 0) {
        w->woken(w->ctx);
    }
}

void worker_tell(const struct worker *w, uint64_t workers)
{
    const uint64_t once = 1;
    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        if (workers >> i & 1) {
            /* a full counter has woken it already */
            ssize_t ignored = write(w->wake_fds[i], &once, sizeof once);
            (void)ignored;
        }
    }
}

static void wake_others(const struct worker_wake *w)
{
    unsigned count = w->worker->shared->count;
    uint64_t all = count < WORKERS_MAX ? (UINT64_C(1) << count) - 1 : UINT64_MAX;
    worker_tell(w->worker, all & ~(UINT64_C(1) << (w->worker->number - 1)));
}

static bool on_flush(void *ctx)
{
    struct worker_wake *w = ctx;
    if (w->store && w->told != *w->commits) {
        w->told = *w->commits;
        wake_others(w);
    }
    return false;
}

void worker_wake_init(struct worker_wake *w, const struct worker *worker, struct loop *loop,
                      const uint64_t *commits)
{
    *w = (struct worker_wake){.worker = worker, .commits = commits};
    if (worker) {
        loop_on_flush(loop, on_flush, w);
    }
}

int worker_wake_start(struct worker_wake *w, struct loop *loop, struct store *store,
                      void (*woken)(void *ctx), void *ctx)
{
    if (!w->worker) {
        return 0;
    }
    int rc = uv_poll_init(loop_uv(loop), &w->poll, w->worker->wake_fds[w->worker->number - 1]);
    if (rc) {
        return rc;
    }
    w->active = true;
    w->store = store;
    w->woken = woken;
    w->ctx = ctx;
    w->poll.data = w;
    return uv_poll_start(&w->poll, UV_READABLE, on_readable);
}

void worker_wake_stop(struct worker_wake *w)
{
    if (w->active) {
        w->active = false;
        uv_close((uv_handle_t *)&w->poll, NULL);
    }
}

void worker_ready(const struct worker *w)
{
    w->shared->workers[w->number - 1].ready_pid = (int)getpid();
}

void worker_gives_up(const struct worker *w, const char *why)
{
    char *to = w->shared->gave_up[w->number - 1];
    (void)snprintf(to, sizeof w->shared->gave_up[0], "%s", why);
}

void worker_waits(const struct worker *w)
{
    w->shared->waiting_pid[w->number - 1] = (int)getpid();
}

void worker_beats(const struct worker *w)
{
    struct worker_beat *beat = &w->shared->beats[w->number - 1];
    beat->count++;
    beat->pid = (int)getpid();
}

bool worker_is_successor(const struct worker *w)
{
    return w->shared->restart == RESTART_RUNNING;
}

void worker_reloaded(const struct worker *w, bool refused)
{
    w->shared->refused[w->number - 1] = refused;
    w->shared->reloads[w->number - 1]++;
}

bool worker_is_retired(const struct worker *w)
{
    return w->shared->workers[w->number - 1].retire_pid == (int)getpid();
}
