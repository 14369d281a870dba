/* The routes of the admin service: one table for the service of a worker and for the one in front of
 * several. Finds the route of a request, or refuses the request. */
#ifndef ADMIN_ADMIN_ROUTER_H
#define ADMIN_ADMIN_ROUTER_H

#include "admin/answers/connection_filter.h"
#include "net/address.h"
#include "net/http/stream.h"
#include "net/message/http_request.h"

enum admin_action {
    ADMIN_HEALTHZ,
    ADMIN_READYZ,
    ADMIN_METRICS,
    ADMIN_STATUS,
    ADMIN_CONNECTIONS,
    ADMIN_DISCONNECT,
    ADMIN_DISCONNECT_SOME,
    ADMIN_RESUBSCRIBE_SOME,
    ADMIN_RESUBSCRIBE_ONE,
    ADMIN_EXPLAIN_STORED,
    ADMIN_EXPLAIN_GIVEN,
    ADMIN_RELOAD,
    ADMIN_ROLLBACK,
    ADMIN_RESUBSCRIBE_ALL,
    ADMIN_DRAIN,
    ADMIN_RESTART,
    ADMIN_ERASE,
};

/* How several workers answer. */
enum admin_scope {
    ADMIN_HERE,  /* the process that got the request answers alone */
    ADMIN_MERGE, /* all workers answer; their answers are merged */
    ADMIN_ONE,   /* the worker that has the connection answers */
    ADMIN_ANY,   /* any one worker does it */
    ADMIN_ALL,   /* all workers do it; the answer names those that failed */
};

struct admin_route {
    const char *path; /* {id}: of a connection */
    enum http_method method;
    enum admin_action action;
    enum admin_scope scope;
    const char *log; /* the line to log; NULL: none */
};

/* One request; everything is borrowed for the call. */
struct admin_call {
    struct stream *stream;
    const struct http_request *rq;
    const struct peer_address *client;
    const struct admin_route *route;
    struct slice id; /* as written in the path; absent: the route has none */
    unsigned worker; /* of `id`, from 0; if there are several workers */
    uint64_t connection;
};

/* Calls `run`, or refuses the request. `workers` 0: ids of connections are numbers; else they are
 * WORKER-NUMBER, with a worker from 1 to `workers`; with one worker a number will do as well. */
void admin_route(unsigned workers, struct stream *s, const struct http_request *rq,
                 const struct peer_address *client,
                 void (*run)(void *ctx, const struct admin_call *c), void *ctx);

/* What an address that strangers reach may be asked: to read the health and the metrics. Refuses anything
 * else, and answers false. */
bool admin_route_probe(struct stream *s, const struct http_request *rq);

/* Logs the request and the client, if the route has a log line. */
void admin_call_log(const struct admin_call *c);
/* What is asked of the list of connections, or which of them an order is about, to be cleared; false: it is wrong, and was answered with 400. */
bool admin_call_filter(const struct admin_call *c, const struct identity_shown *shown,
                       struct connection_filter *out);

#endif
