/* What the supervisor gives each of several workers, what they tell it, and how they wake one
 * another. */
#ifndef SERVER_WORKER_H
#define SERVER_WORKER_H

#include "broker/store.h"
#include "net/listen_socket.h"
#include "net/loop.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

enum {
    WORKERS_MAX = 64,
    /* what the supervisor sends: end streams and answer what is under way; end now */
    WORKER_DRAIN_SIGNAL = SIGTERM,
    WORKER_STOP_SIGNAL = SIGINT,
};

/* One place for a worker; its process changes. */
struct worker_state {
    atomic_int pid;        /* of the newest process; 0: it does not run. By the supervisor */
    atomic_int ready_pid;  /* who serves; by that worker itself */
    atomic_int retire_pid; /* whose place another one has taken: its drain ends its admin service as
                              well. By the supervisor */
    atomic_uint starts;    /* by the supervisor */
};

enum restart_phase { RESTART_NONE, RESTART_RUNNING, RESTART_DONE, RESTART_FAILED };

/* In memory that all processes share: each member is written by one of them. Workers of another
 * version of this program may have it mapped: members are only ever added at the end. */
struct workers_shared {
    struct worker_state workers[WORKERS_MAX]; /* by number - 1 */
    atomic_uint count;                        /* workers there should be */
    atomic_int restart;                       /* enum restart_phase, of the last one asked for */
    atomic_uint restarts;                     /* how often one was asked for */
    char restart_error[512];                  /* complete before `restart` says RESTART_FAILED */
};

struct worker {
    unsigned number; /* from 1 */
    struct listen_socket *listen;
    size_t listen_count;
    struct listen_socket *admin; /* of its own, for the admin process; fd -1: none */
    const int *wake_fds;         /* an eventfd for each place, by number - 1 */
    struct workers_shared *shared;
};

/* A worker that has committed wakes the others: the kernel's file watch would tell them too early,
 * when the log file changes, which is before the commit in it counts. */
struct worker_wake {
    const struct worker *worker; /* NULL: it is not one of several */
    struct store *store;         /* NULL: not started */
    const uint64_t *commits;     /* ours, counted by the store */
    uint64_t told;
    uv_poll_t poll;
    bool active;
};

/* Before anything else that wants to know of flush steps, so that the others start on what is new
 * while this one does. Borrows all for the life of the loop. No effect where `worker` is NULL. */
void worker_wake_init(struct worker_wake *w, const struct worker *worker, struct loop *loop,
                      const uint64_t *commits);
/* From now on `store` looks at once when another worker has committed. 0 or a negative UV_E*. */
int worker_wake_start(struct worker_wake *w, struct loop *loop, struct store *store);
/* Looks no more, goes on telling. Asynchronous; no effect when it is not active. */
void worker_wake_stop(struct worker_wake *w);

/* This process serves. */
void worker_ready(const struct worker *w);
/* Has another process taken the place of this one? */
bool worker_is_retired(const struct worker *w);

#endif
