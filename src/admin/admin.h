/* The admin service: what operators and their tools ask of a running worker. http_handler of a
 * server of its own, on a loopback address or a Unix socket: it knows no users, whoever reaches it
 * may use it.
 *
 *   GET /healthz /readyz /metrics /status /connections[?limit=n]
 *   DELETE /connections/{id}    POST /connections/{id}/resubscribe
 *   GET /connections/{id}/explain?event=ID    POST /connections/{id}/explain
 *   POST /policy/reload[?dry_run=1][&force=1]
 *   POST /policy/rollback    POST /policy/resubscribe    POST /drain
 *
 * Of several workers each has its own, which only admin_workers.h talks to. */
#ifndef ADMIN_ADMIN_H
#define ADMIN_ADMIN_H

#include "admin/policy_report.h"
#include "auth/metrics.h"
#include "broker/broker.h"
#include "net/address.h"
#include "net/http/http_request.h"
#include "net/http/stream.h"
#include "net/loop.h"

/* What only the composition root knows. Strings are borrowed until the next loop turn. */
struct admin_state {
    bool draining;
    const char *policy_file;                       /* NULL: no policy is loaded */
    const char *policy_version;                    /* hash; NULL: none is loaded yet */
    const char *policy_label;                      /* what it calls itself; NULL: nothing */
    const char *previous_version, *previous_label; /* of the one that could be taken back to */
};

/* Filled by the composition root; everything is borrowed for the life of the admin server. */
struct admin {
    struct loop *loop;
    struct broker *broker;
    struct store *store; /* NULL while it opens */
    const struct net_metrics *net;
    const struct broker_metrics *metrics;
    const struct auth_metrics *auth;
    int64_t start_ms; /* Unix time at which the process started */
    void (*state)(void *ctx, struct admin_state *out);
    void (*drain)(void *ctx); /* as SIGTERM does; called after the answer was given */
    struct http_server
        *server; /* the admin server itself: who waits for an answer is found there */
    void (*reload)(void *ctx, const struct policy_order *order, policy_report_cb cb, void *cb_ctx,
                   uint64_t token);
    void (*take_back)(void *ctx, policy_report_cb cb, void *cb_ctx, uint64_t token);
    void *ctx;
};

/* http_handler; ctx is the struct admin. */
void admin_request(void *ctx, struct stream *s, const struct http_request *rq,
                   const struct peer_address *client);

#endif
