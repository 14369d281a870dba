/* Jobs that others do for this process: they wait, run, and are done, each with a time limit
 * that holds for all of it. One timer serves the earliest limit of all; what is done is delivered from
 * the flush step, never from inside the call that asked.
 *
 * Embedded in its user (net/client/http_client.c, lookup/query_pool.c), as jobs are. A job belongs to
 * the user who added it: the pool links it, names it by an id, and never frees it.
 *
 *   QUEUED --start()--> ACTIVE --job_pool_done()--> DONE --deliver()--> the user's again
 *      \_________________________________________________^  job_pool_done() when it is given up */
#ifndef NET_JOB_POOL_H
#define NET_JOB_POOL_H

#include "base/container/slots.h"
#include "net/loop.h"

enum job_state { JOB_QUEUED, JOB_ACTIVE, JOB_DONE };

struct job_pool;

struct job {
    struct list node; /* in the pool's list of its state */
    struct job_pool *pool;
    uint64_t id;     /* 0: it has no caller any more */
    uint64_t due_ms; /* loop time */
    enum job_state state;
    bool own; /* goes first, and no cap counts it */
};

struct job_pool_ops {
    /* `j` is ACTIVE already: begins it, or answers false when there is no place for it now. May end
     * it with job_pool_done() when it cannot even begin. */
    bool (*start)(struct job_pool *p, struct job *j);
    /* Somebody waits for `j` still, but no longer: UV_ETIMEDOUT, or UV_ECANCELED when the pool closes.
     * Ends it with job_pool_done(), or, where it cannot be stopped, with job_pool_forget(). */
    void (*give_up)(struct job_pool *p, struct job *j, int code);
    /* The job is done and unlinked: tells who waits, frees it. */
    void (*deliver)(struct job_pool *p, struct job *j);
    /* Everything was given up and delivered: closes what the user has open, then calls
     * job_pool_closed(). */
    void (*close)(struct job_pool *p);
};

struct job_pool_options {
    unsigned max_active;           /* not counting `own` ones */
    uint64_t *queued_n, *active_n; /* gauges; borrowed */
};

struct job_pool {
    const struct job_pool_ops *ops;
    struct job_pool_options opt;
    struct loop *loop;
    struct slots ids;
    struct list queued, active, done;
    unsigned queued_count, active_count, own_active; /* the last: of `active_count` */
    struct task deliver;
    uv_timer_t timer;
    uint64_t timer_due; /* the earliest due_ms of all that are queued or active; 0: off */
    bool closing, is_closed;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

void job_pool_init(struct job_pool *p, const struct job_pool_ops *ops,
                   const struct job_pool_options *opt, struct loop *loop);
/* Queues it and starts what can be started: it may be done when this returns, but is not delivered.
 * Not when the pool is closing. */
void job_pool_add(struct job_pool *p, struct job *j, bool own, uint64_t timeout_ms);
/* A job may be started at once, as far as the cap is concerned. */
bool job_pool_has_room(const struct job_pool *p);
/* A place is free: starts what waits. */
void job_pool_pump(struct job_pool *p);
/* To be delivered in the flush step. */
void job_pool_done(struct job *j);
/* Nobody waits for it any more: its id is void, its time limit, too. */
void job_pool_forget(struct job *j);
/* Forgets it and takes it out: the user's again. */
void job_pool_remove(struct job *j);
/* Milliseconds left for the job, at least 1. */
unsigned job_left_ms(const struct job *j);
/* What was added is given up and delivered in a later turn than this call, then ops->close() is
 * called, and `closed` (may be NULL) behind job_pool_closed(). */
void job_pool_close(struct job_pool *p, void (*closed)(void *ctx), void *ctx);
/* No handle of the user is left, no job is active. */
void job_pool_closed(struct job_pool *p);
/* After `closed`, or the end of the loop. */
void job_pool_clear(struct job_pool *p);

#endif
