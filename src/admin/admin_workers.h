/* The admin service of several workers: asks each one's own and makes one answer of theirs. Same
 * routes as admin.h; ids of connections are WORKER-ID. */
#ifndef ADMIN_ADMIN_WORKERS_H
#define ADMIN_ADMIN_WORKERS_H

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

/* http_handler; ctx is the struct admin_workers. */
void admin_workers_request(void *ctx, struct stream *s, const struct http_request *rq,
                           const struct peer_address *client);

#endif
