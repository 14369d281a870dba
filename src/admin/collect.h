/* Calls the admin services of several workers and merges their answers. Each function answers the
 * stream later, unless the client has disconnected by then. */
#ifndef ADMIN_COLLECT_H
#define ADMIN_COLLECT_H

#include "admin/admin_router.h"
#include "admin/metrics/metrics_sum.h"
#include "net/http/http_server.h"

#include <sys/types.h>

/* State of a worker that only the supervisor knows. */
struct admin_worker_info {
    pid_t pid;       /* 0: it does not run */
    bool ready;      /* it serves: it has loaded its policy and opened its store */
    unsigned starts; /* times it was started */
};

/* The last rolling restart. */
struct admin_restart {
    const char *phase; /* "none", "running", "done", "failed" */
    unsigned count;    /* of restarts since the start */
    const char *error; /* of "failed"; else NULL */
};

/* Filled by the composition root; everything is borrowed for the life of the admin server. */
struct admin_workers {
    struct loop *loop;
    struct http_server *server; /* whose handler this is */
    unsigned count;
    uint64_t load_timeout_ms; /* for a policy to be loaded, set up and dry run */
    struct list calls;        /* to workers, in progress: see backend_calls_end() */
    struct metrics_sum *sum;
    struct identity_shown identity_shown;
    const struct address *(*where)(void *ctx, unsigned index); /* address of a worker's service */
    struct admin_worker_info (*info)(void *ctx, unsigned index);
    struct admin_restart (*restart)(void *ctx);
    /* for all workers; called after the answer was sent */
    void (*order_drain)(void *ctx);
    void (*order_restart)(void *ctx);
    void *ctx;
};

void collect_ready(struct admin_workers *a, struct stream *s);
void collect_metrics(struct admin_workers *a, struct stream *s);
void collect_status(struct admin_workers *a, struct stream *s);
/* Of those that match at most as many as the filter says. */
void collect_connections(struct admin_workers *a, const struct admin_call *c,
                         const struct connection_filter *filter);
/* Forwards a request about a connection to the worker that has it, and returns that worker's answer. */
void collect_one(struct admin_workers *a, const struct admin_call *c);
/* Forwards an order that any one worker carries out, with the client in place of the query. */
void collect_any(struct admin_workers *a, const struct admin_call *c);
/* Sends the same order to all workers, with its query. */
void collect_order(struct admin_workers *a, const struct admin_call *c);
/* Reloads the policy if the dry run succeeds on all workers. */
void collect_reload(struct admin_workers *a, struct stream *s, bool dry_run, bool force);

#endif
