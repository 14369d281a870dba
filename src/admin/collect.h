/* Asks several workers, and makes one answer of theirs. Each of these answers the stream later,
 * unless it has gone by then. */
#ifndef ADMIN_COLLECT_H
#define ADMIN_COLLECT_H

#include "admin/admin_router.h"
#include "admin/metrics_sum.h"
#include "net/http/http_server.h"

#include <sys/types.h>

/* What only the supervisor knows of a worker. */
struct admin_worker_info {
    pid_t pid;       /* 0: it does not run */
    bool ready;      /* it serves: is started, and has its policy and its store */
    unsigned starts; /* times it was started */
};

/* The last rolling restart that was asked for. */
struct admin_restart {
    const char *phase; /* "none", "running", "done", "failed" */
    unsigned count;    /* how often one was asked for */
    const char *error; /* of "failed"; else NULL */
};

/* Filled by the composition root; everything is borrowed for the life of the admin server. */
struct admin_workers {
    struct loop *loop;
    struct http_server *server; /* whose handler this is */
    unsigned count;
    uint64_t load_timeout_ms; /* for a policy to be loaded, set up and tried */
    struct list calls;        /* to workers, under way: see backend_calls_end() */
    struct metrics_sum *sum;
    const struct address *(*where)(void *ctx, unsigned index); /* a worker's own service is */
    struct admin_worker_info (*info)(void *ctx, unsigned index);
    struct admin_restart (*restart)(void *ctx);
    /* all of them; called after the answer was given */
    void (*order_drain)(void *ctx);
    void (*order_restart)(void *ctx);
    void *ctx;
};

void collect_ready(struct admin_workers *a, struct stream *s);
void collect_metrics(struct admin_workers *a, struct stream *s);
void collect_status(struct admin_workers *a, struct stream *s);
/* At most `limit` of all. */
void collect_connections(struct admin_workers *a, struct stream *s, uint64_t limit);
/* Hands a request about a connection to the worker that has it, and its answer back. */
void collect_one(struct admin_workers *a, const struct admin_call *c);
/* The same order (a POST) to all. */
void collect_order(struct admin_workers *a, struct stream *s, const char *target);
/* A reload: only when all of them would. */
void collect_reload(struct admin_workers *a, struct stream *s, bool dry_run, bool force);

#endif
