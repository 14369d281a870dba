/* The interface between the supervisor and each of several workers, and how workers wake one
 * another. */
#ifndef SERVER_WORKER_H
#define SERVER_WORKER_H

#include "net/listen_socket.h"
#include "net/loop.h"
#include "net/tls/tls_tickets.h"
#include "quota/shared_area.h"
#include "store/store.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

enum {
    WORKERS_MAX = 64,
    /* sent by the supervisor: end streams and finish requests; end now */
    WORKER_DRAIN_SIGNAL = SIGTERM,
    WORKER_STOP_SIGNAL = SIGINT,
};

/* One place for a worker; its process changes. */
struct worker_state {
    atomic_int pid;        /* of the newest process; 0: it does not run. By the supervisor */
    atomic_int ready_pid;  /* the process that serves; by that process */
    atomic_int retire_pid; /* a process that has been replaced: its drain also ends its admin
                              service. By the supervisor */
    atomic_uint starts;    /* by the supervisor */
};

/* A worker's loop turns. By that worker */
struct worker_beat {
    atomic_int pid;
    atomic_uint count;
};

enum restart_phase { RESTART_NONE, RESTART_RUNNING, RESTART_DONE, RESTART_FAILED };

/* In memory that all processes share: each member is written by one of them. Workers of another
 * version of this program may have it mapped: members are only ever added at the end. */
struct workers_shared {
    struct worker_state workers[WORKERS_MAX]; /* by number - 1 */
    atomic_uint count;                        /* workers there should be */
    atomic_int restart;                       /* enum restart_phase, of the last restart */
    atomic_uint restarts;                     /* number of restarts requested */
    char restart_error[512];                  /* complete before `restart` says RESTART_FAILED */
    struct tls_ticket_chain tickets;          /* by any worker that needs the next key */
    atomic_uint reloads[WORKERS_MAX];         /* by SIGHUP, by number - 1; by that worker */
    atomic_int waiting_pid[WORKERS_MAX];      /* the process that listens and waits for its store,
                                                 which is away; by number - 1; by that process */
    atomic_uint beat_ms; /* between two beats; 0: nobody listens. By the supervisor */
    struct worker_beat beats[WORKERS_MAX]; /* by number - 1 */
    atomic_bool refused[WORKERS_MAX];      /* the last of `reloads`; complete before that counts */
    char gave_up[WORKERS_MAX]
                [512]; /* why it cannot start, by number - 1; complete when its process has ended */
};

struct worker {
    unsigned number; /* from 1 */
    struct listen_socket *listen;
    size_t listen_count;
    struct listen_socket *admin; /* of its own, for the admin process; fd -1: none */
    const int *wake_fds;         /* an eventfd for each place, by number - 1 */
    struct workers_shared *shared;
    const struct shared_area *area; /* in which they count */
};

/* A worker that has committed wakes the others. The kernel's file watch would wake them too early: the
 * log file changes before the commit in it is visible. */
struct worker_wake {
    const struct worker *worker; /* NULL: it is not one of several */
    struct store *store;         /* NULL: not started */
    const uint64_t *commits;     /* ours, counted by the store */
    uint64_t told;
    void (*woken)(void *ctx); /* by any worker; see worker_tell() */
    void *ctx;
    uv_poll_t poll;
    bool active;
};

/* Call it before any other loop_on_flush(), so that the other workers start on new events at the same
 * time as this one. Borrows all for the life of the loop. No effect if `worker` is NULL. */
void worker_wake_init(struct worker_wake *w, const struct worker *worker, struct loop *loop,
                      const uint64_t *commits);
/* From now on `store` looks for new events at once when another worker has committed, and `woken` is called when
 * one has said anything. 0 or a negative UV_E*. */
int worker_wake_start(struct worker_wake *w, struct loop *loop, struct store *store,
                      void (*woken)(void *ctx), void *ctx);
/* Wakes these (bit number - 1). */
void worker_tell(const struct worker *w, uint64_t workers);
/* Stops looking, but still wakes the others. Asynchronous; no effect when it is not active. */
void worker_wake_stop(struct worker_wake *w);

/* Tells the supervisor that this process serves. */
void worker_ready(const struct worker *w);
/* Tells it why this process cannot start, and ends. */
void worker_gives_up(const struct worker *w, const char *why);
/* Tells it that this process waits for its store. */
void worker_waits(const struct worker *w);
/* Its loop turns. Call it every `beat_ms`. */
void worker_beats(const struct worker *w);
/* Is it to replace a process that serves? Then it must not wait: the other one goes on. */
bool worker_is_successor(const struct worker *w);
/* Tells it that what SIGHUP asked for is done, or refused. */
void worker_reloaded(const struct worker *w, bool refused);
/* Has another process replaced this one? */
bool worker_is_retired(const struct worker *w);

#endif
