/* The admin service of one worker. Who answers later finds the stream by its id, so nothing is kept
 * here. */
#include "admin/admin.h"

#include "admin/admin_explain.h"
#include "admin/admin_policy.h"
#include "admin/admin_reply.h"
#include "admin/admin_router.h"
#include "admin/answers/admin_json.h"
#include "admin/answers/admin_ready.h"
#include "admin/answers/worker_json.h"
#include "admin/metrics/metrics.h"
#include "base/alloc.h"
#include "erase/erase_json.h"
#include "net/http/http_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

static void get_readyz(const struct admin *a, const struct admin_call *c)
{
    struct admin_state st = {0};
    struct strbuf text;
    a->state(a->ctx, &st);
    strbuf_init(&text, 8192);
    if (admin_not_ready(a, &st, &text)) {
        admin_refuse(c->stream, 503, slice_str("not ready, and memory is too short to say why"),
                     NULL);
    } else if (text.len) {
        admin_refuse(c->stream, 503, strbuf_slice(&text), NULL);
    } else if (strbuf_append_str(&text, "ready\n") || admin_degraded(a, &text)) {
        admin_answer(c->stream, 200, "text/plain; charset=utf-8", slice_str("ready\n"));
    } else {
        admin_answer(c->stream, 200, "text/plain; charset=utf-8", strbuf_slice(&text));
    }
    strbuf_clear(&text);
}

/* The gauges of what all workers share. */
static void quota_gauges(const struct admin *a, struct quota_metrics *m)
{
    struct quota_figures f;
    uint32_t keys, most;
    *m = *a->metrics.quota;
    if (a->area) {
        quota_table_figures(a->area->quotas, &f);
        rate_table_figures(a->area->rates, &keys, &most);
        m->quota_streams = f.places;
        m->quota_keys = f.keys;
        m->rate_keys = keys;
    }
}

static void get_metrics(const struct admin *a, const struct admin_call *c)
{
    struct admin_state st = {0};
    struct strbuf body, why;
    struct store_health health = {.ok = false}; /* not open is not healthy */
    strbuf_init(&body, 256 * 1024);
    strbuf_init(&why, 4096);
    a->state(a->ctx, &st);
    int unready = admin_not_ready(a, &st, &why);
    struct process_stats process = metrics_process((double)a->start_ms / 1e3);
    struct metrics_view view = {.from = a->metrics,
                                .process = &process,
                                .policy_version = st.policy_version,
                                .policy_label = st.policy_label,
                                .store = &health,
                                .ready = unready == 0 && why.len == 0,
                                .draining = st.draining};
    struct quota_metrics quota;
    quota_gauges(a, &quota);
    view.from.quota = &quota;
    if (a->store) {
        health = a->store->ops->health(a->store);
    }
    admin_answer_built(c->stream, metrics_render(&view, &body), METRICS_CONTENT_TYPE, &body);
    strbuf_clear(&why);
}

static void get_status(const struct admin *a, const struct admin_call *c)
{
    struct strbuf body;
    strbuf_init(&body, ADMIN_JSON_MAX_BYTES);
    admin_answer_built(c->stream, worker_json_status(a, &body), "application/json", &body);
}

static void get_connections(const struct admin *a, const struct admin_call *c)
{
    struct connection_filter filter;
    struct strbuf body;
    if (admin_call_filter(c, &a->identity_shown, &filter)) {
        strbuf_init(&body, ADMIN_JSON_MAX_BYTES);
        admin_answer_built(c->stream, admin_json_connections(a, &filter, &body), "application/json",
                           &body);
        connection_filter_clear(&filter);
    }
}

static void refuse_stream(const struct admin_call *c)
{
    admin_refuse(c->stream, 404,
                 slice_str("No open event stream has that id; `tidegate connections` lists them."),
                 NULL);
}

static void delete_connection(const struct admin *a, const struct admin_call *c)
{
    if (!broker_disconnect(a->broker, c->connection)) {
        refuse_stream(c);
        return;
    }
    admin_call_log(c);
    admin_answer(c->stream, 204, NULL, (struct slice){0});
}

static void post_drain(const struct admin *a, const struct admin_call *c)
{
    admin_call_log(c);
    admin_answer(c->stream, 202, "application/json", slice_str("{\"draining\":true}\n"));
    a->drain(a->ctx);
}

/* The policy is asked again about one stream. */
static void post_resubscribe_one(const struct admin *a, const struct admin_call *c)
{
    if (!broker_resubscribe(a->broker, c->connection)) {
        refuse_stream(c);
        return;
    }
    admin_call_log(c);
    admin_answer(c->stream, 202, "application/json", slice_str("{\"streams\":1}\n"));
}

/* How many streams an order is about. */
static void answer_streams(const struct admin *a, const struct admin_call *c, size_t streams)
{
    char body[128];
    int n = a->alone ? snprintf(body, sizeof body,
                                "{\"streams\":%zu,\"workers\":[{\"worker\":1,\"streams\":%zu}]}\n",
                                streams, streams)
                     : snprintf(body, sizeof body, "{\"streams\":%zu}\n", streams);
    admin_answer(c->stream, 202, "application/json", slice_of(body, (size_t)n));
}

static void post_resubscribe_all(const struct admin *a, const struct admin_call *c)
{
    unsigned streams = broker_stream_count(a->broker);
    admin_call_log(c);
    broker_resubscribe_all(a->broker);
    answer_streams(a, c, streams);
}

/* The streams that an order is about, by id: it changes what there is. */
struct order {
    const struct connection_filter *filter;
    uint64_t *ids; /* owned, room for all */
    size_t n;
};

static void order_take(void *ctx, const struct broker_connection *c)
{
    struct order *o = ctx;
    if (connection_filter_matches(o->filter, c)) {
        o->ids[o->n++] = c->id;
    }
}

static void order_some(const struct admin *a, const struct admin_call *c)
{
    struct connection_filter f;
    if (!admin_call_filter(c, &a->identity_shown, &f)) {
        return;
    }
    struct order o = {.filter = &f};
    o.ids = xcalloc(broker_stream_count(a->broker) + 1, sizeof *o.ids);
    broker_each_connection(a->broker, order_take, &o);
    struct slice reason = f.reason.n ? f.reason : slice_str("closed by an operator");
    admin_call_log(c);
    if (c->route->action == ADMIN_DISCONNECT_SOME) {
        broker_end_streams(a->broker, f.tag, o.ids, o.n, reason);
    } else {
        broker_ask_again(a->broker, f.tag, o.ids, o.n);
    }
    answer_streams(a, c, o.n);
    free(o.ids);
    connection_filter_clear(&f);
}

/* The asker may have left: the log has the result. */
static void admin_on_erased(void *ctx, uint64_t token, const struct erase_report *r)
{
    const struct admin *a = ctx;
    struct stream *s = http_server_stream(a->server, token);
    struct strbuf body;
    struct err text = {0};
    if (s && r->rc) {
        (void)err_set(&text, r->rc, "%s. %llu events are erased. Order it again.", r->fault,
                      (unsigned long long)r->erased);
        admin_refuse(s, 503, slice_str(text.text), NULL);
    } else if (s) {
        strbuf_init(&body, ADMIN_JSON_MAX_BYTES);
        admin_answer_built(s, admin_json_dump(erase_json_report(r), 0, &body), "application/json",
                           &body);
    }
}

/* The admin process says for whom it asks. */
static void post_erase(const struct admin *a, const struct admin_call *c)
{
    char from[ADDRESS_TEXT_MAX];
    struct erase_order order;
    struct err e = {0};
    json_t *doc;
    struct eraser *eraser = broker_eraser(a->broker);
    peer_address_text(c->client, from);
    int rc = erase_json_order(strbuf_slice(&c->rq->body), &doc, &order, &e);
    order.client = a->alone ? slice_str(from) : c->rq->query;
    if (rc == 0 && !eraser) {
        rc = err_set(&e, UV_ENOTCONN, "The store is not open yet.");
    }
    rc =
        rc ? rc
           : eraser_start(eraser, &order, admin_on_erased, (void *)(uintptr_t)a, c->stream->id, &e);
    if (rc) {
        int status = rc == UV_EINVAL ? 400 : rc == UV_EBUSY ? 409 : 503;
        admin_refuse(c->stream, status, slice_str(e.text), NULL);
    }
    json_decref(doc);
}

static void admin_run(void *ctx, const struct admin_call *c)
{
    const struct admin *a = ctx;
    switch (c->route->action) {
    case ADMIN_HEALTHZ:
        admin_answer(c->stream, 200, "text/plain; charset=utf-8", slice_str("ok\n"));
        break;
    case ADMIN_READYZ:
        get_readyz(a, c);
        break;
    case ADMIN_METRICS:
        get_metrics(a, c);
        break;
    case ADMIN_STATUS:
        get_status(a, c);
        break;
    case ADMIN_CONNECTIONS:
        get_connections(a, c);
        break;
    case ADMIN_DISCONNECT:
        delete_connection(a, c);
        break;
    case ADMIN_DISCONNECT_SOME:
    case ADMIN_RESUBSCRIBE_SOME:
        order_some(a, c);
        break;
    case ADMIN_RESUBSCRIBE_ONE:
        post_resubscribe_one(a, c);
        break;
    case ADMIN_EXPLAIN_STORED:
        admin_explain_stored(a, c->stream, c->rq, c->connection);
        break;
    case ADMIN_EXPLAIN_GIVEN:
        admin_explain_given(a, c->stream, c->rq, c->connection);
        break;
    case ADMIN_RELOAD:
        admin_call_log(c);
        admin_policy_reload(a, c->stream, c->rq);
        break;
    case ADMIN_ROLLBACK:
        admin_call_log(c);
        admin_policy_rollback(a, c->stream);
        break;
    case ADMIN_RESUBSCRIBE_ALL:
        post_resubscribe_all(a, c);
        break;
    case ADMIN_DRAIN:
        post_drain(a, c);
        break;
    case ADMIN_ERASE:
        post_erase(a, c);
        break;
    case ADMIN_RESTART:
        admin_refuse(
            c->stream, 409,
            slice_str("The broker runs with --single: no supervisor can replace its worker. "
                      "Stop it and start it."),
            NULL);
        break;
    }
}

void admin_request(void *ctx, struct stream *s, struct http_request *rq,
                   const struct peer_address *client)
{
    const struct admin *a = ctx;
    admin_route(a->alone ? 1 : 0, s, rq, client, admin_run, ctx);
}

void admin_probe_request(void *ctx, struct stream *s, struct http_request *rq,
                         const struct peer_address *client)
{
    if (admin_route_probe(s, rq)) {
        admin_request(ctx, s, rq, client);
    }
}
