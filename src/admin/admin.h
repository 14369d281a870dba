/* The admin service: what operators and their tools ask of a running worker. http_handler of a
 * server of its own, on a loopback address or a Unix socket: it knows no users, whoever reaches it
 * may use it.
 *
 *   GET /healthz /readyz /metrics /status /connections[?limit=n]
 *   DELETE /connections/{id}    POST /drain
 *
 * Of several workers each has its own, which only admin_workers.h talks to. */
#ifndef ADMIN_ADMIN_H
#define ADMIN_ADMIN_H

#include "broker/broker.h"
#include "net/address.h"
#include "net/http_request.h"
#include "net/loop.h"
#include "net/stream.h"

/* What only the composition root knows. Strings are borrowed until the next loop turn. */
struct admin_state {
    bool draining;
    const char *policy_file;    /* NULL: no policy is loaded */
    const char *policy_version; /* NULL: unknown */
};

/* Filled by the composition root; everything is borrowed for the life of the admin server. */
struct admin {
    struct loop *loop;
    struct broker *broker;
    struct store *store; /* NULL while it opens */
    const struct net_metrics *net;
    const struct broker_metrics *metrics;
    int64_t start_ms; /* Unix time at which the process started */
    void (*state)(void *ctx, struct admin_state *out);
    void (*drain)(void *ctx); /* as SIGTERM does; called after the answer was given */
    void *ctx;
};

/* http_handler; ctx is the struct admin. */
void admin_request(void *ctx, struct stream *s, const struct http_request *rq,
                   const struct peer_address *client);

#endif
