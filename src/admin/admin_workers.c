/* The admin service of several workers: what is asked, and whether it may be. gather.c answers. */
#include "admin/admin_workers.h"

#include "admin/admin_explain.h"
#include "admin/admin_json.h"
#include "admin/admin_policy.h"
#include "admin/admin_reply.h"
#include "admin/gather.h"
#include "base/logging.h"
#include "net/http/http_query.h"

#include <string.h>
#include <uv.h>

static void get_connections(struct admin_workers *a, struct stream *s, struct slice query)
{
    struct http_query q;
    uint64_t limit = ADMIN_CONNECTIONS_DEFAULT;
    if (http_query_parse(&q, query) != 0) {
        admin_refuse(s, 400, slice_str("The query is not well-formed."), NULL);
        return;
    }
    struct slice asked = http_query_get(&q, "limit");
    bool good = !asked.p || (admin_parse_number(asked, ADMIN_CONNECTIONS_MAX, &limit) && limit);
    http_query_clear(&q);
    if (!good) {
        admin_refuse(s, 400, slice_str("limit: expected a number from 1 to 10000"), NULL);
        return;
    }
    gather_connections(a, s, limit);
}

static void log_operator(const struct peer_address *client, const char *what, struct slice id)
{
    char from[ADDRESS_TEXT_MAX];
    peer_address_text(client, from);
    log_info("admin", what,
             id.p ? LOG_F(log_str("client", from), log_slice("connection", id))
                  : LOG_F(log_str("client", from)));
}

/* WORKER-ID; `worker` from 0. */
static bool parse_connection(const struct admin_workers *a, struct slice text, unsigned *worker,
                             uint64_t *id)
{
    const char *dash = text.n ? memchr(text.p, '-', text.n) : NULL;
    size_t n = dash ? (size_t)(dash - text.p) : 0;
    uint64_t number = 0;
    if (!dash || !admin_parse_number(slice_of(text.p, n), a->count, &number) || number == 0) {
        return false;
    }
    *worker = (unsigned)number - 1;
    return admin_parse_number(slice_of(dash + 1, text.n - n - 1), UINT64_MAX, id);
}

static void refuse_connection(struct stream *s)
{
    admin_refuse(s, 404,
                 slice_str("A connection's id is WORKER-NUMBER, as GET /connections lists it."),
                 NULL);
}

static void delete_connection(struct admin_workers *a, struct stream *s, struct slice text,
                              const struct peer_address *client)
{
    unsigned worker = 0;
    uint64_t id = 0;
    if (parse_connection(a, text, &worker, &id)) {
        log_operator(client, "stream closed by an operator", text);
        gather_delete(a, s, worker, id);
    } else {
        refuse_connection(s);
    }
}

/* WORKER-ID/resubscribe, WORKER-ID/explain */
static void post_connection(struct admin_workers *a, struct stream *s, struct slice text,
                            const struct http_request *rq, const struct peer_address *client)
{
    unsigned worker = 0;
    uint64_t id = 0;
    bool review = admin_cut_action(&text, "/resubscribe");
    bool explain = !review && admin_cut_action(&text, "/explain");
    if ((!review && !explain) || !parse_connection(a, text, &worker, &id)) {
        refuse_connection(s);
    } else if (review) {
        log_operator(client, "asking the policy again about a stream", text);
        gather_review(a, s, worker, id);
    } else {
        gather_explain_given(a, s, worker, id, rq);
    }
}

static void get_connection(struct admin_workers *a, struct stream *s, struct slice text,
                           const struct http_request *rq)
{
    unsigned worker = 0;
    uint64_t id = 0, event = 0;
    if (!admin_cut_action(&text, "/explain") || !parse_connection(a, text, &worker, &id)) {
        refuse_connection(s);
    } else if (admin_explain_query(s, rq, &event)) {
        gather_explain(a, s, worker, id, event);
    }
}

static void post_reload(struct admin_workers *a, struct stream *s, const struct http_request *rq,
                        const struct peer_address *client)
{
    struct policy_order order;
    if (admin_policy_order(s, rq, &order)) {
        log_operator(client, "reload of the policy asked for by an operator", (struct slice){0});
        gather_reload(a, s, order.dry_run, order.force);
    }
}

static void post_rollback(struct admin_workers *a, struct stream *s,
                          const struct peer_address *client)
{
    log_operator(client, "an operator wants the policy before back", (struct slice){0});
    gather_order(a, s, "/policy/rollback");
}

static void post_resubscribe(struct admin_workers *a, struct stream *s,
                             const struct peer_address *client)
{
    log_operator(client, "asking the policy again about all streams", (struct slice){0});
    gather_order(a, s, "/policy/resubscribe");
}

static void post_drain(struct admin_workers *a, struct stream *s, const struct peer_address *client)
{
    log_operator(client, "drain asked for by an operator", (struct slice){0});
    admin_answer(s, 202, "application/json", slice_str("{\"draining\":true}\n"));
    a->order_drain(a->ctx);
}

static void post_restart(struct admin_workers *a, struct stream *s,
                         const struct peer_address *client)
{
    if (strcmp(a->restart(a->ctx).phase, "running") == 0) {
        admin_refuse(s, 409, slice_str("A restart is under way; GET /status tells how far it is."),
                     NULL);
        return;
    }
    log_operator(client, "restart asked for by an operator", (struct slice){0});
    admin_answer(s, 202, "application/json", slice_str("{\"restarting\":true}\n"));
    a->order_restart(a->ctx);
}

static void get_healthz(struct stream *s)
{
    admin_answer(s, 200, "text/plain; charset=utf-8", slice_str("ok\n"));
}

/* ---------------------------------------------------------------- routes */

enum route_kind {
    ROUTE_HERE,
    ROUTE_ASK,
    ROUTE_CONNECTIONS,
    ROUTE_DELETE,
    ROUTE_EXPLAIN,
    ROUTE_POST, /* about one connection */
    ROUTE_RELOAD,
    ROUTE_ORDER,
};

struct route {
    const char *path; /* ending in '/': a prefix, with something behind it */
    enum http_method method;
    enum route_kind kind;
    void (*ask)(struct admin_workers *a, struct stream *s); /* of ROUTE_ASK */
    void (*order)(struct admin_workers *a, struct stream *s, const struct peer_address *client);
};

static const struct route routes[] = {
    {"/healthz", HTTP_GET, ROUTE_HERE, NULL, NULL},
    {"/readyz", HTTP_GET, ROUTE_ASK, gather_ready, NULL},
    {"/metrics", HTTP_GET, ROUTE_ASK, gather_metrics, NULL},
    {"/status", HTTP_GET, ROUTE_ASK, gather_status, NULL},
    {"/connections", HTTP_GET, ROUTE_CONNECTIONS, NULL, NULL},
    {"/connections/", HTTP_GET, ROUTE_EXPLAIN, NULL, NULL},
    {"/connections/", HTTP_DELETE, ROUTE_DELETE, NULL, NULL},
    {"/connections/", HTTP_POST, ROUTE_POST, NULL, NULL},
    {"/policy/reload", HTTP_POST, ROUTE_RELOAD, NULL, NULL},
    {"/policy/rollback", HTTP_POST, ROUTE_ORDER, NULL, post_rollback},
    {"/policy/resubscribe", HTTP_POST, ROUTE_ORDER, NULL, post_resubscribe},
    {"/drain", HTTP_POST, ROUTE_ORDER, NULL, post_drain},
    {"/restart", HTTP_POST, ROUTE_ORDER, NULL, post_restart},
};

/* Where only the method does not fit, one that does not. */
static const struct route *find_route(struct slice path, enum http_method method,
                                      struct slice *rest)
{
    const struct route *near = NULL;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        size_t n = strlen(routes[i].path);
        bool prefix = routes[i].path[n - 1] == '/';
        if (path.n >= n + prefix && memcmp(path.p, routes[i].path, n) == 0 &&
            (prefix || path.n == n)) {
            *rest = slice_of(path.p + n, path.n - n);
            near = &routes[i];
            if (near->method == method) {
                return near;
            }
        }
    }
    return near;
}

static void run(const struct route *r, struct admin_workers *a, struct stream *s,
                const struct http_request *rq, const struct peer_address *client, struct slice rest)
{
    switch (r->kind) {
    case ROUTE_HERE:
        get_healthz(s);
        break;
    case ROUTE_ASK:
        r->ask(a, s);
        break;
    case ROUTE_CONNECTIONS:
        get_connections(a, s, rq->query);
        break;
    case ROUTE_DELETE:
        delete_connection(a, s, rest, client);
        break;
    case ROUTE_EXPLAIN:
        get_connection(a, s, rest, rq);
        break;
    case ROUTE_POST:
        post_connection(a, s, rest, rq, client);
        break;
    case ROUTE_RELOAD:
        post_reload(a, s, rq, client);
        break;
    case ROUTE_ORDER:
        r->order(a, s, client);
        break;
    }
}

void admin_workers_request(void *ctx, struct stream *s, const struct http_request *rq,
                           const struct peer_address *client)
{
    struct slice rest;
    enum http_method method = rq->method == HTTP_HEAD_METHOD ? HTTP_GET : rq->method;
    const struct route *r = find_route(rq->path, method, &rest);
    if (!r) {
        admin_refuse(s, 404,
                     slice_str("The admin service has /healthz, /readyz, /metrics, /status, "
                               "/connections, /connections/{id}, /connections/{id}/resubscribe, "
                               "/connections/{id}/explain, /policy/reload, /policy/rollback, "
                               "/policy/resubscribe, /drain and /restart."),
                     NULL);
    } else if (method != r->method) {
        admin_refuse(s, 405, slice_str("This path does not take that method; see Allow."),
                     strcmp(r->path, "/connections/") == 0 ? "GET, HEAD, DELETE, POST"
                     : r->method == HTTP_GET               ? "GET, HEAD"
                                                           : "POST");
    } else if (method != HTTP_GET && http_request_header(rq, "Origin").p) { /* see admin.c */
        admin_refuse(s, 403,
                     slice_str("The admin service takes no orders from web pages (Origin)."), NULL);
    } else {
        run(r, ctx, s, rq, client, rest);
    }
}
