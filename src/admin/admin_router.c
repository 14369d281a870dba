#include "admin/admin_router.h"

#include "admin/admin_reply.h"
#include "base/decimal.h"
#include "base/logging.h"
#include "net/message/http_origin.h"

#include <string.h>

static const struct admin_route routes[] = {
    {"/healthz", HTTP_GET, ADMIN_HEALTHZ, ADMIN_HERE, NULL},
    {"/readyz", HTTP_GET, ADMIN_READYZ, ADMIN_MERGE, NULL},
    {"/metrics", HTTP_GET, ADMIN_METRICS, ADMIN_MERGE, NULL},
    {"/status", HTTP_GET, ADMIN_STATUS, ADMIN_MERGE, NULL},
    {"/connections", HTTP_GET, ADMIN_CONNECTIONS, ADMIN_MERGE, NULL},
    {"/connections", HTTP_DELETE, ADMIN_DISCONNECT_SOME, ADMIN_ALL,
     "streams closed by an operator"},
    {"/connections/resubscribe", HTTP_POST, ADMIN_RESUBSCRIBE_SOME, ADMIN_ALL,
     "resubscribe of streams requested by an operator"},
    {"/connections/{id}", HTTP_DELETE, ADMIN_DISCONNECT, ADMIN_ONE, "stream closed by an operator"},
    {"/connections/{id}/resubscribe", HTTP_POST, ADMIN_RESUBSCRIBE_ONE, ADMIN_ONE,
     "resubscribe of a stream requested by an operator"},
    {"/connections/{id}/explain", HTTP_GET, ADMIN_EXPLAIN_STORED, ADMIN_ONE, NULL},
    {"/connections/{id}/explain", HTTP_POST, ADMIN_EXPLAIN_GIVEN, ADMIN_ONE, NULL},
    {"/policy/reload", HTTP_POST, ADMIN_RELOAD, ADMIN_ALL,
     "policy reload requested by an operator"},
    {"/policy/rollback", HTTP_POST, ADMIN_ROLLBACK, ADMIN_ALL,
     "policy rollback requested by an operator"},
    {"/policy/resubscribe", HTTP_POST, ADMIN_RESUBSCRIBE_ALL, ADMIN_ALL,
     "resubscribe of all streams requested by an operator"},
    {"/erase", HTTP_POST, ADMIN_ERASE, ADMIN_ANY, NULL}, /* logged when it has ended */
    {"/drain", HTTP_POST, ADMIN_DRAIN, ADMIN_HERE, "drain requested by an operator"},
    {"/restart", HTTP_POST, ADMIN_RESTART, ADMIN_HERE, "restart requested by an operator"},
};
enum { ROUTE_COUNT = sizeof routes / sizeof *routes };

/* `id` gets what stands for {id}. */
static bool path_matches(const struct admin_route *r, struct slice path, struct slice *id)
{
    const char *hole = strchr(r->path, '{');
    if (!hole) {
        *id = slice_of(NULL, 0);
        return slice_is(path, r->path);
    }
    size_t before = (size_t)(hole - r->path);
    struct slice after = slice_str(hole + strlen("{id}"));
    if (path.n <= before || memcmp(path.p, r->path, before) != 0) {
        return false;
    }
    const char *slash = memchr(path.p + before, '/', path.n - before);
    size_t end = slash ? (size_t)(slash - path.p) : path.n;
    *id = slice_of(path.p + before, end - before);
    return slice_eq(slice_of(path.p + end, path.n - end), after);
}

/* The methods that the path takes, for Allow. */
static void put_allow(struct slice path, struct strbuf *out)
{
    struct slice id;
    int rc = 0;
    for (size_t i = 0; i < ROUTE_COUNT && rc == 0; i++) {
        if (path_matches(&routes[i], path, &id)) {
            const char *method = routes[i].method == HTTP_GET      ? "GET, HEAD"
                                 : routes[i].method == HTTP_DELETE ? "DELETE"
                                                                   : "POST";
            rc = strbuf_printf(out, "%s%s", out->len ? ", " : "", method);
        }
    }
    if (rc) {
        strbuf_reset(out); /* memory is short: the status says it */
    }
}

static void refuse_path(struct stream *s)
{
    struct strbuf text;
    strbuf_init(&text, 4096);
    int rc = strbuf_append_str(&text, "The admin service has ");
    for (size_t i = 0; i < ROUTE_COUNT && rc == 0; i++) {
        if (i == 0 || strcmp(routes[i].path, routes[i - 1].path) != 0) {
            rc = strbuf_printf(&text, "%s%s", i ? ", " : "", routes[i].path);
        }
    }
    rc = rc ? rc : strbuf_append_str(&text, ".");
    admin_refuse(s, 404, rc ? slice_str("There is no such path.") : strbuf_slice(&text), NULL);
    strbuf_clear(&text);
}

static bool admin_router_parse_id(unsigned workers, struct admin_call *c)
{
    const char *dash = c->id.n ? memchr(c->id.p, '-', c->id.n) : NULL;
    size_t n = dash ? (size_t)(dash - c->id.p) : 0;
    uint64_t worker = 0;
    if (workers == 0 || (workers == 1 && !dash)) {
        return decimal_parse(c->id, UINT64_MAX, &c->connection);
    }
    if (!dash || !decimal_parse(slice_of(c->id.p, n), workers, &worker) || worker == 0) {
        return false;
    }
    c->worker = (unsigned)worker - 1;
    return decimal_parse(slice_of(dash + 1, c->id.n - n - 1), UINT64_MAX, &c->connection);
}

void admin_route(unsigned workers, struct stream *s, const struct http_request *rq,
                 const struct peer_address *client,
                 void (*run)(void *ctx, const struct admin_call *c), void *ctx)
{
    static const struct http_cors no_others = {.origins = NULL};
    struct admin_call c = {.stream = s, .rq = rq, .client = client};
    enum http_method method = rq->method == HTTP_HEAD_METHOD ? HTTP_GET : rq->method;
    bool path = false;
    for (size_t i = 0; i < ROUTE_COUNT && !c.route; i++) {
        bool here = path_matches(&routes[i], rq->path, &c.id);
        path = path || here;
        c.route = here && routes[i].method == method ? &routes[i] : NULL;
    }
    if (!path) {
        refuse_path(s);
    } else if (!c.route) {
        struct strbuf allow;
        strbuf_init(&allow, 256);
        put_allow(rq->path, &allow);
        admin_refuse(s, 405, slice_str("This path does not take that method; see Allow."),
                     allow.len ? allow.data : NULL);
        strbuf_clear(&allow);
    } else if ((method != HTTP_GET && http_request_header(rq, "Origin").p) ||
               http_origin_site(&no_others, rq) == HTTP_SITE_FOREIGN) {
        /* Fetch, "`Origin` header": browsers send it with every POST and DELETE. A web page that an
         * operator has open must not be able to drain the broker on their own machine, nor to
         * read what it says. */
        admin_refuse(
            s, 403,
            slice_str("The admin service refuses requests of web pages (Origin, Sec-Fetch-Site)."),
            NULL);
    } else if (c.id.p && !admin_router_parse_id(workers, &c)) {
        admin_refuse(s, 404,
                     workers ? slice_str("A connection's id is WORKER-NUMBER, as GET /connections "
                                         "lists it.")
                             : slice_str("A connection's id is a number, as GET /connections lists "
                                         "it."),
                     NULL);
    } else {
        run(ctx, &c);
    }
}

bool admin_route_probe(struct stream *s, const struct http_request *rq)
{
    bool known = slice_is(rq->path, "/healthz") || slice_is(rq->path, "/readyz") ||
                 slice_is(rq->path, "/metrics");
    bool reads = rq->method == HTTP_GET || rq->method == HTTP_HEAD_METHOD;
    if (!known) {
        admin_refuse(s, 404, slice_str("This address has /healthz, /readyz and /metrics."), NULL);
    } else if (!reads) {
        admin_refuse(s, 405, slice_str("This address can only be read."), "GET, HEAD");
    }
    return known && reads;
}

void admin_call_log(const struct admin_call *c)
{
    char from[ADDRESS_TEXT_MAX];
    peer_address_text(c->client, from);
    log_info("admin", c->route->log,
             c->id.p          ? LOG_F(log_str("client", from), log_slice("connection", c->id))
             : c->rq->query.n ? LOG_F(log_str("client", from), log_slice("query", c->rq->query))
                              : LOG_F(log_str("client", from)));
}

bool admin_call_filter(const struct admin_call *c, const struct identity_shown *shown,
                       struct connection_filter *out)
{
    struct err e = {0};
    bool order = c->route->action != ADMIN_CONNECTIONS;
    if (connection_filter_read(out, c->rq->query, shown, order, &e)) {
        admin_refuse(c->stream, 400, slice_str(e.text), NULL);
        return false;
    }
    return true;
}
