/* The admin service: routes of the admin server. Who answers later finds the stream by its id, so
 * nothing is kept here. */
#include "admin/admin.h"

#include "admin/admin_explain.h"
#include "admin/admin_json.h"
#include "admin/admin_policy.h"
#include "admin/admin_reply.h"
#include "admin/metrics.h"
#include "base/logging.h"
#include "net/http/http_query.h"
#include "net/http/http_response.h"

#include <inttypes.h>
#include <stdio.h>
#include <uv.h>

struct call {
    const struct admin *admin;
    struct stream *stream;
    const struct http_request *rq;
    const struct peer_address *client;
    struct slice rest; /* of the path, behind the route's */
};

static void get_healthz(const struct call *c)
{
    admin_answer(c->stream, 200, "text/plain; charset=utf-8", slice_str("ok\n"));
}

/* What keeps this worker from serving, appended as text; nothing when it is ready. */
static int not_ready(const struct admin *a, const struct admin_state *st, struct strbuf *why)
{
    int rc = 0;
    if (st->draining) {
        rc = strbuf_append_str(why, "draining; ");
    }
    if (rc == 0 && !st->policy_file) {
        rc = strbuf_append_str(why, "no policy is loaded; ");
    }
    if (rc == 0 && !a->store) {
        rc = strbuf_append_str(why, "the store is not open yet; ");
    }
    if (rc == 0 && a->store) {
        struct store_health h = a->store->ops->health(a->store);
        rc = h.ok ? 0 : strbuf_printf(why, "the store is not healthy: %s; ", h.detail);
    }
    return rc;
}

static void get_readyz(const struct call *c)
{
    struct admin_state st = {0};
    struct strbuf why;
    c->admin->state(c->admin->ctx, &st);
    strbuf_init(&why, 4096);
    int rc = not_ready(c->admin, &st, &why);
    if (rc == 0 && why.len == 0) {
        admin_answer(c->stream, 200, "text/plain; charset=utf-8", slice_str("ready\n"));
    } else if (why.len > 2) {
        admin_refuse(c->stream, 503, slice_of(why.data, why.len - 2), NULL);
    } else {
        admin_refuse(c->stream, 503, slice_str("not ready, and memory is too short to say why"),
                     NULL);
    }
    strbuf_clear(&why);
}

static void get_metrics(const struct call *c)
{
    const struct admin *a = c->admin;
    struct admin_state st = {0};
    struct strbuf body, why;
    struct store_health health;
    strbuf_init(&body, 256 * 1024);
    strbuf_init(&why, 4096);
    a->state(a->ctx, &st);
    int unready = not_ready(a, &st, &why);
    struct process_stats process = metrics_process((double)a->start_ms / 1e3);
    struct metrics_view view = {.net = a->net,
                                .broker = a->metrics,
                                .auth = a->auth,
                                .process = &process,
                                .version = TIDEGATE_VERSION,
                                .policy_version = st.policy_version,
                                .policy_label = st.policy_label,
                                .ready = unready == 0 && why.len == 0,
                                .draining = st.draining};
    if (a->store) {
        health = a->store->ops->health(a->store);
        view.store = &health;
    }
    admin_answer_built(c->stream, metrics_render(&view, &body), METRICS_CONTENT_TYPE, &body);
    strbuf_clear(&why);
}

static void get_status(const struct call *c)
{
    struct strbuf body;
    strbuf_init(&body, ADMIN_JSON_MAX_BYTES);
    admin_answer_built(c->stream, admin_json_status(c->admin, &body), "application/json", &body);
}

static void get_connections(const struct call *c)
{
    static const char expected[] = "limit: expected a number from 1 to 10000";
    struct http_query q;
    uint64_t limit = ADMIN_CONNECTIONS_DEFAULT;
    if (http_query_parse(&q, c->rq->query) != 0) {
        admin_refuse(c->stream, 400, slice_str("The query is not well-formed."), NULL);
        return;
    }
    struct slice asked = http_query_get(&q, "limit");
    bool good = !asked.p || (admin_parse_number(asked, ADMIN_CONNECTIONS_MAX, &limit) && limit > 0);
    http_query_clear(&q);
    if (!good) {
        admin_refuse(c->stream, 400, slice_str(expected), NULL);
        return;
    }
    struct strbuf body;
    strbuf_init(&body, ADMIN_JSON_MAX_BYTES);
    admin_answer_built(c->stream, admin_json_connections(c->admin, (size_t)limit, &body),
                       "application/json", &body);
}

static void log_operator(const struct call *c, const char *what, struct slice id)
{
    char from[ADDRESS_TEXT_MAX];
    peer_address_text(c->client, from);
    log_info("admin", what,
             id.p ? LOG_F(log_str("client", from), log_slice("connection", id))
                  : LOG_F(log_str("client", from)));
}

static void delete_connection(const struct call *c)
{
    uint64_t id;
    if (!admin_parse_number(c->rest, UINT64_MAX, &id)) {
        admin_refuse(c->stream, 404,
                     slice_str("A connection's id is a number, as GET /connections lists it."),
                     NULL);
    } else if (!broker_disconnect(c->admin->broker, id)) {
        admin_refuse(c->stream, 404, slice_str("No open event stream has that id."), NULL);
    } else {
        log_operator(c, "stream closed by an operator", c->rest);
        admin_answer(c->stream, 204, NULL, (struct slice){0});
    }
}

static void post_drain(const struct call *c)
{
    const struct admin *a = c->admin;
    log_operator(c, "drain asked for by an operator", (struct slice){0});
    admin_answer(c->stream, 202, "application/json", slice_str("{\"draining\":true}\n"));
    a->drain(a->ctx);
}

static void post_restart(const struct call *c)
{
    admin_refuse(c->stream, 409,
                 slice_str("There is one worker and no supervisor who could replace it: stop and "
                           "start it, or configure several `workers`."),
                 NULL);
}

/* The policy is asked again about one stream. */
static void review_connection(const struct call *c, struct slice text, uint64_t id)
{
    if (!broker_review(c->admin->broker, id)) {
        admin_refuse(c->stream, 404, slice_str("No open event stream has that id."), NULL);
    } else {
        log_operator(c, "asking the policy again about a stream", text);
        admin_answer(c->stream, 202, "application/json", slice_str("{\"streams\":1}\n"));
    }
}

static void post_connection(const struct call *c)
{
    struct slice text = c->rest;
    uint64_t id;
    bool review = admin_cut_action(&text, "/resubscribe");
    bool explain = !review && admin_cut_action(&text, "/explain");
    if ((!review && !explain) || !admin_parse_number(text, UINT64_MAX, &id)) {
        admin_refuse(c->stream, 404,
                     slice_str("There are /connections/{id}/resubscribe and "
                               "/connections/{id}/explain, with the id a number."),
                     NULL);
    } else if (review) {
        review_connection(c, text, id);
    } else {
        admin_explain_given(c->admin, c->stream, c->rq, id);
    }
}

static void get_connection(const struct call *c)
{
    struct slice text = c->rest;
    uint64_t id;
    if (!admin_cut_action(&text, "/explain") || !admin_parse_number(text, UINT64_MAX, &id)) {
        admin_refuse(c->stream, 404,
                     slice_str("There is /connections/{id}/explain?event=ID, with the id a "
                               "connection's as GET /connections lists it."),
                     NULL);
    } else {
        admin_explain_stored(c->admin, c->stream, c->rq, id);
    }
}

static void post_resubscribe(const struct call *c)
{
    char body[48];
    int n =
        snprintf(body, sizeof body, "{\"streams\":%u}\n", broker_stream_count(c->admin->broker));
    log_operator(c, "asking the policy again about all streams", (struct slice){0});
    broker_review_all(c->admin->broker);
    admin_answer(c->stream, 202, "application/json", slice_of(body, (size_t)n));
}

static void post_reload(const struct call *c)
{
    log_operator(c, "reload of the policy asked for by an operator", (struct slice){0});
    admin_policy_reload(c->admin, c->stream, c->rq);
}

static void post_rollback(const struct call *c)
{
    log_operator(c, "an operator wants the policy before back", (struct slice){0});
    admin_policy_rollback(c->admin, c->stream);
}

struct route {
    const char *path; /* ending in '/': a prefix, with something behind it */
    enum http_method method;
    const char *allow;
    void (*run)(const struct call *c);
};

static const struct route routes[] = {
    {"/healthz", HTTP_GET, "GET, HEAD", get_healthz},
    {"/readyz", HTTP_GET, "GET, HEAD", get_readyz},
    {"/metrics", HTTP_GET, "GET, HEAD", get_metrics},
    {"/status", HTTP_GET, "GET, HEAD", get_status},
    {"/connections", HTTP_GET, "GET, HEAD", get_connections},
    {"/connections/", HTTP_GET, "GET, HEAD, DELETE, POST", get_connection},
    {"/connections/", HTTP_DELETE, "GET, HEAD, DELETE, POST", delete_connection},
    {"/connections/", HTTP_POST, "GET, HEAD, DELETE, POST", post_connection},
    {"/policy/reload", HTTP_POST, "POST", post_reload},
    {"/policy/rollback", HTTP_POST, "POST", post_rollback},
    {"/policy/resubscribe", HTTP_POST, "POST", post_resubscribe},
    {"/drain", HTTP_POST, "POST", post_drain},
    {"/restart", HTTP_POST, "POST", post_restart},
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

void admin_request(void *ctx, struct stream *s, const struct http_request *rq,
                   const struct peer_address *client)
{
    struct call c = {.admin = ctx, .stream = s, .rq = rq, .client = client};
    enum http_method method = rq->method == HTTP_HEAD_METHOD ? HTTP_GET : rq->method;
    const struct route *r = find_route(rq->path, method, &c.rest);
    if (!r) {
        admin_refuse(c.stream, 404,
                     slice_str("The admin service has /healthz, /readyz, /metrics, /status, "
                               "/connections, /connections/{id}, /connections/{id}/resubscribe, "
                               "/connections/{id}/explain, /policy/reload, /policy/rollback, "
                               "/policy/resubscribe, /drain and /restart."),
                     NULL);
    } else if (method != r->method) {
        admin_refuse(c.stream, 405, slice_str("This path does not take that method; see Allow."),
                     r->allow);
    } else if (method != HTTP_GET && http_request_header(rq, "Origin").p) {
        /* Fetch, "`Origin` header": browsers send it with every POST and DELETE. A web page that an
         * operator has open must not be able to drain the broker on their own machine. */
        admin_refuse(c.stream, 403,
                     slice_str("The admin service takes no orders from web pages (Origin)."), NULL);
    } else {
        r->run(&c);
    }
}
