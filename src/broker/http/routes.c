/* Method and path -> subscribe, publish, preflight, the try-out page. The first thing that happens
 * to a request of the public server. */
#include "broker/http/routes.h"

#include "base/logging.h"
#include "base/program/embedded.h"
#include "base/require.h"
#include "broker/broker.h"
#include "broker/broker_parts.h"
#include "broker/http/accept_field.h"
#include "broker/http/acme_challenge.h"
#include "broker/http/cross_site.h"
#include "broker/http/event_page.h"
#include "broker/http/https_redirect.h"
#include "broker/http/page.h"
#include "broker/http/publish.h"
#include "broker/http/query_names.h"
#include "broker/http/subscribe.h"
#include "broker/refusal.h"
#include "event/last_event_id.h"
#include "event/window.h"
#include "net/message/http_origin.h"

#include <stdio.h>

#define EVENTS_METHODS "GET, HEAD, POST, OPTIONS"
#define PAGE_METHODS "GET, HEAD, OPTIONS"

enum { CORS_MAX_BYTES = 8192 };

static void route_answer(struct stream *s, int status, const char *type, struct slice body,
                         struct strbuf *fields)
{
    struct http_response r = {
        .status = status, .content_type = type, .body = body, .fields = strbuf_slice(fields)};
    (void)stream_respond(s, &r); /* on failure the connection is closed: nothing more to do */
}

/* The broker's own path, for events, as a route. */
static const struct public_route route_own = {.publish = PUBLISH_ENVELOPE, .subscribe = true};

/* Which route a request is for, and what its path says. */
struct route_place {
    const struct public_route *route; /* NULL: none */
    struct http_query params;         /* to be cleared */
    int rc;                           /* not 0: of what the path says */
};

static struct route_place route_find(const struct broker *b, struct slice path)
{
    struct route_place at = {.route = &route_own};
    if (!slice_is(path, b->opt.events_path)) {
        at.route = public_route_find(&b->opt.routes, path, &at.params, &at.rc);
    }
    return at;
}

static bool route_is_publish(const struct http_request *rq)
{
    return rq->method == HTTP_POST || rq->method == HTTP_DELETE;
}

static const char *route_methods(const struct public_route *r)
{
    return r->deletes
               ? (r->subscribe ? "GET, HEAD, POST, DELETE, OPTIONS" : "POST, DELETE, OPTIONS")
           : !r->subscribe             ? "POST, OPTIONS"
           : r->publish == PUBLISH_NOT ? "GET, HEAD, OPTIONS"
                                       : EVENTS_METHODS;
}

static bool route_takes(const struct public_route *r, enum http_method method)
{
    bool reads = method == HTTP_GET || method == HTTP_HEAD_METHOD;
    return reads                   ? r->subscribe
           : method == HTTP_DELETE ? r->deletes
                                   : method == HTTP_POST && r->publish != PUBLISH_NOT;
}

/* The handshake of CloudEvents web hooks (HTTP 1.1 Web Hooks for Event Delivery, section 4): may that sender send?
 * *granted: it is told so. */
static int route_webhook(struct broker *b, struct stream *s, const struct http_request *rq,
                         struct strbuf *fields, bool *granted)
{
    struct slice origin = http_request_header(rq, "WebHook-Request-Origin");
    for (size_t i = 0; origin.n && i < b->opt.webhook_origin_count && !*granted; i++) {
        const char *one = b->opt.webhook_origins[i];
        *granted = strcmp(one, "*") == 0 || slice_is_nocase(origin, one);
    }
    if (!*granted) {
        if (origin.n) {
            refusal_note_webhook(b->refusals, s, origin,
                                 http_request_header(rq, "WebHook-Request-Callback"));
        }
        return 0;
    }
    int rc = strbuf_append_str(fields, "WebHook-Allowed-Origin: ");
    rc = rc ? rc : strbuf_append(fields, origin.p, origin.n);
    rc = rc ? rc : strbuf_append_str(fields, "\r\nWebHook-Allowed-Rate: ");
    rc = rc                       ? rc
         : b->opt.webhook_per_min ? strbuf_append_decimal(fields, b->opt.webhook_per_min)
                                  : strbuf_append_str(fields, "*");
    return rc ? rc : strbuf_append_str(fields, "\r\n");
}

static void route_preflight(struct broker *b, struct stream *s, const struct http_request *rq,
                            const char *methods)
{
    struct strbuf fields;
    bool granted = false;
    strbuf_init(&fields, CORS_MAX_BYTES);
    int rc = strbuf_printf(&fields, "Allow: %s\r\n", methods);
    rc = rc ? rc : http_cors_preflight(&b->opt.cors, rq, methods, &fields);
    if (rc == 0 && strstr(methods, "POST")) {
        rc = route_webhook(b, s, rq, &fields, &granted);
    }
    if (rc) {
        stream_close(s, CLOSE_NO_MEMORY);
    } else {
        route_answer(s, granted ? 200 : 204, NULL, slice_of(NULL, 0), &fields);
    }
    strbuf_clear(&fields);
}

static void route_head(struct broker *b, struct stream *s, const struct http_request *rq)
{
    struct accept accept = accept_of(rq);
    struct http_response r = {.status = 200,
                              .content_type = !accept_page(&accept) ? b->opt.content_type
                                              : accept.json         ? "application/json"
                                                                    : "application/x-ndjson",
                              .no_length = true,
                              .fields = slice_str(BROKER_STREAM_FIELDS)};
    (void)stream_respond(s, &r); /* on failure the connection is closed: nothing more to do */
}

/* To others than those the page is for, and to what balancers ask by default. */
static void route_no_page(const struct broker *b, struct stream *s)
{
    char text[300];
    int n = snprintf(text, sizeof text, "events are at %s\n", b->opt.events_path);
    struct http_response r = {.status = 200,
                              .content_type = "text/plain; charset=utf-8",
                              .body = slice_of(text, (size_t)n),
                              .fields = slice_str(HTTP_ANSWER_FIELDS)};
    (void)stream_respond(s, &r); /* on failure the connection is closed: nothing more to do */
}

/* For load balancers: nothing of it is logged. Answers, or returns false. */
static bool route_health(struct broker *b, struct stream *s, const struct http_request *rq)
{
    if (!b->opt.health_path || !slice_is(rq->path, b->opt.health_path)) {
        return false;
    }
    if (rq->method != HTTP_GET && rq->method != HTTP_HEAD_METHOD) {
        refuse_method(b->refusals, s, "GET, HEAD");
        return true;
    }
    bool ready = b->opt.ready(b->opt.ready_ctx);
    struct http_response r = {.status = ready ? 200 : 503,
                              .content_type = "text/plain; charset=utf-8",
                              .body = slice_str(ready ? "ready\n" : "not ready\n"),
                              .fields = slice_str(HTTP_ANSWER_FIELDS)};
    (void)stream_respond(s, &r); /* on failure the connection is closed: nothing more to do */
    return true;
}

static void route_root(struct broker *b, struct stream *s, const struct http_request *rq,
                       const struct peer_address *client)
{
    /* who comes through a proxy that is not trusted looks local, too */
    bool here = peer_address_is_local(client) && !peer_address_is_unix(client) &&
                !http_request_header(rq, "X-Forwarded-For").p;
    if (rq->method == HTTP_OPTIONS) {
        route_preflight(b, s, rq, PAGE_METHODS);
    } else if (rq->method != HTTP_GET && rq->method != HTTP_HEAD_METHOD) {
        refuse_method(b->refusals, s, PAGE_METHODS);
    } else if (b->opt.page && (b->opt.page_public || here)) {
        page_answer(b, s);
    } else {
        route_no_page(b, s);
    }
}

/* A publication that is answered with a stream, to who takes none. */
static bool route_excludes_stream(const struct route_place *at, const struct http_request *rq)
{
    struct accept a = accept_of(rq);
    return at->route->answer == ANSWER_STREAM && rq->method == HTTP_POST &&
           !accept_takes_stream(&a);
}

/* Some EventSource libraries send whatever method they are given, again and again: each time would
 * publish the body once more. */
static bool route_expects_stream(const struct http_request *rq)
{
    struct accept a = accept_of(rq);
    return a.stream && !a.any && !a.json;
}

/* A POST: where its body is still to come, what the head tells comes first. Takes `rq` and `query` of a
 * complete one. */
static void route_publish(struct broker *b, struct stream *s, struct http_request *rq,
                          struct http_query *query, const struct route_place *at,
                          const struct peer_address *client)
{
    const struct publish_terms terms = {.query = query,
                                        .route = at->route == &route_own ? NULL : at->route,
                                        .limits = &b->opt.publish};
    struct err e = {0};
    int status = 0;
    if (route_excludes_stream(at, rq)) {
        refuse(b->refusals, s, 406,
               slice_str("POST is answered with text/event-stream here, which Accept excludes"));
    } else if (at->route->answer != ANSWER_STREAM && route_expects_stream(rq)) {
        refuse(b->refusals, s, 406,
               slice_str("POST publishes, and is answered with application/json, which Accept "
                         "excludes; subscribe with GET to get text/event-stream"));
    } else if (rq->state == HTTP_COMPLETE) {
        const struct publish_path path = {terms.route, &at->params};
        publish_request(b, s, rq, query, &path, client);
    } else if ((status = publish_body_check_head(rq, &terms, &e)) != 0) {
        refuse(b->refusals, s, status, slice_str(e.text));
    } else {
        struct request_id id;
        stream_request_id(s, &id);
        struct policy_request prq = {.id = s->id,
                                     .request_id = slice_str(id.text),
                                     .http = rq,
                                     .query = query,
                                     .params = &at->params,
                                     .client = *client};
        publish_head(b, s, &prq);
    }
}

static void route_subscribe(struct broker *b, struct stream *s, const struct http_request *rq,
                            const struct http_query *query, const struct route_place *at,
                            const struct peer_address *client)
{
    struct last_event_id r = last_event_id_parse(rq, query);
    struct request_id id;
    stream_request_id(s, &id);
    struct policy_request prq = {.id = s->id,
                                 .request_id = slice_str(id.text),
                                 .http = rq,
                                 .query = query,
                                 .params = &at->params,
                                 .client = *client,
                                 .last_event_id = r.text,
                                 .mark = r.mark};
    struct slice given;
    const char *meant;
    struct window window;
    char why[240];
    struct accept accept = accept_of(rq);
    bool fits = window_parse(
        query, b->opt.query_params, b->opt.query_param_count, loop_unix_ms(b->loop),
        accept_page(&accept) ? EVENT_PAGE_LIMIT_MAX : WINDOW_LIMIT_MAX, &window, why, sizeof why);
    if (!fits) {
        refuse(b->refusals, s, 400, slice_str(why));
    } else if (last_event_id_misspelt(query, &given, &meant)) {
        char detail[160];
        snprintf(detail, sizeof detail, "the query has \"%.*s\": did you mean \"%s\"?",
                 given.n < 64 ? (int)given.n : 64, given.p, meant);
        refuse(b->refusals, s, 400, slice_str(detail));
    } else {
        if (accept_page(&accept)) {
            event_page_request(b, s, &prq, &r, &window, !accept.json);
        } else {
            subscribe_request(b, s, &prq, &r, &window, at->route == &route_own ? NULL : at->route);
        }
    }
}

/* Two readers of these could differ: a proxy in front may judge another one than the policy, or the broker. Answers,
 * or returns false. */
static bool route_refuse_twice(struct broker *b, struct stream *s, const struct http_request *rq)
{
    static const char *const single[] = {"Authorization", "Content-Type", "Idempotency-Key",
                                         "Origin"};
    char detail[128];
    for (size_t k = 0; k < sizeof single / sizeof *single; k++) {
        unsigned n = 0;
        for (size_t i = 0; i < rq->header_count; i++) {
            n += slice_is_nocase(rq->headers[i].name, single[k]);
        }
        if (n > 1) {
            snprintf(detail, sizeof detail,
                     "more than one %s field: which of them counts is not defined", single[k]);
            refuse(b->refusals, s, 400, slice_str(detail));
            return true;
        }
    }
    return false;
}

/* There may be as many as fill a head with cookies of ordinary length: a policy that reads them makes a table of
 * them. Answers, or returns false. */
static bool route_refuse_cookies(struct broker *b, struct stream *s, const struct http_request *rq)
{
    enum { COOKIE_BYTES = 64 };
    size_t most = rq->limits->head_bytes / COOKIE_BYTES;
    size_t cookies = 0;
    for (size_t i = 0; i < rq->header_count; i++) {
        const struct http_header *h = &rq->headers[i];
        if (slice_is_nocase(h->name, "Cookie")) {
            cookies++;
            for (size_t at = 0; at < h->value.n; at++) {
                cookies += h->value.p[at] == ';';
            }
        }
    }
    if (cookies > most) {
        char detail[120];
        snprintf(detail, sizeof detail,
                 "more than %zu cookies: one for each %d bytes of limits.head_bytes", most,
                 COOKIE_BYTES);
        refuse(b->refusals, s, 431, slice_str(detail));
    }
    return cookies > most;
}

/* Answers, or returns false. */
static bool route_refuse_names(const struct broker *b, struct stream *s,
                               const struct http_request *rq, const struct http_query *query,
                               const struct route_place *at)
{
    char detail[300];
    const struct query_names names = {
        .params = b->opt.query_params,
        .param_count = b->opt.query_param_count,
        .credentials = b->opt.credential_params,
        .credential_count = b->opt.credential_param_count,
    };
    bool publish = route_is_publish(rq);
    bool own =
        at->route == &route_own; /* others know other names, and their topics may have commas */
    bool bad = ((own || names.param_count) &&
                query_names_bad(&names, query, publish, detail, sizeof detail)) ||
               (own && !publish && query_names_topic_list(rq->query, detail, sizeof detail));
    if (bad) {
        refuse(b->refusals, s, 400, slice_str(detail));
    }
    return bad;
}

/* The broker has been started while its store is away. Answers, or returns false. */
static bool route_refuse_storeless(struct broker *b, struct stream *s,
                                   const struct http_request *rq)
{
    bool post = route_is_publish(rq);
    if (!b->store) {
        refuse_transient(b->refusals, s, !post && accept_of(rq).stream, REFUSAL_STORE,
                         post ? "the event store is unavailable; nothing was stored"
                              : "the event store is unavailable");
    }
    return !b->store;
}

/* What lets a page of another origin read the answer, whatever it will be. */
static void route_allow_origin(struct broker *b, struct stream *s, const struct http_request *rq)
{
    struct strbuf cors;
    strbuf_init(&cors, CORS_MAX_BYTES);
    int rc = request_id_put(rq, &cors);
    rc = rc ? rc : http_cors_fields(&b->opt.cors, rq, &cors);
    if (rc || stream_set_fields(s, strbuf_slice(&cors))) {
        log_warn("broker", "memory is short: a browser will hide an answer from its page",
                 LOG_F(log_uint("stream", s->id)));
    }
    strbuf_clear(&cors);
}

/* A page that cannot read the answer tells nobody why. */
static void route_note_origin(struct broker *b, const struct stream *s,
                              const struct http_request *rq)
{
    struct slice origin = http_request_header(rq, "Origin");
    if (origin.n && rq->state == HTTP_COMPLETE &&
        http_origin_site(&b->opt.cors, rq) == HTTP_SITE_FOREIGN &&
        !http_cors_allows(&b->opt.cors, rq)) {
        refusal_note_origin(b->refusals, s, origin);
    }
}

static void route_events(struct broker *b, struct stream *s, struct http_request *rq,
                         const struct route_place *at, const struct peer_address *client)
{
    struct http_query query;
    bool post = route_is_publish(rq);
    route_allow_origin(b, s, rq);
    if (!post || b->opt.cross_site_publish) { /* others are refused, and logged */
        route_note_origin(b, s, rq);
    }
    if (!route_takes(at->route, rq->method)) {
        refuse_method(b->refusals, s, route_methods(at->route));
        return;
    }
    if (at->rc) {
        refuse(b->refusals, s, at->rc == UV_EINVAL ? 400 : 503,
               slice_str(at->rc == UV_EINVAL ? "the path has a bad %-escape, a NUL, or is not UTF-8"
                                             : "the broker is short of memory; try again"));
        return;
    }
    if (rq->method == HTTP_HEAD_METHOD) {
        route_head(b, s, rq);
        return;
    }
    if (route_refuse_twice(b, s, rq) || route_refuse_cookies(b, s, rq) ||
        (post && cross_site_refuse(b, s, rq)) || route_refuse_storeless(b, s, rq)) {
        return;
    }
    int rc = http_query_parse(&query, rq->query);
    if (rc) {
        refuse(b->refusals, s, 400,
               slice_str(rc == UV_E2BIG ? "the query has more than 256 parameters"
                                        : "the query has a bad %-escape, or is not UTF-8"));
        return;
    }
    if (route_refuse_names(b, s, rq, &query, at)) {
        /* it was answered */
    } else if (post) {
        route_publish(b, s, rq, &query, at, client);
    } else {
        route_subscribe(b, s, rq, &query, at, client);
    }
    http_query_clear(&query);
}

void routes_refused(void *ctx, const struct http_request *rq, struct strbuf *fields)
{
    const struct broker *b = ctx;
    if (http_cors_fields(&b->opt.cors, rq, fields)) {
        log_debug("broker", "memory is short: a browser will hide an answer from its page", NULL);
    }
}

bool routes_streams(const void *ctx, const struct http_request *rq)
{
    const struct broker *b = ctx;
    const struct public_route *route =
        slice_is(rq->path, b->opt.events_path)
            ? NULL
            : public_route_find(&b->opt.routes, rq->path, NULL, NULL);
    return route && route->answer == ANSWER_STREAM;
}

void routes_head(void *ctx, struct stream *s, struct http_request *rq,
                 const struct peer_address *client)
{
    struct broker *b = ctx;
    if (acme_challenge(b, s, rq) || https_redirect(b, s, rq)) {
        return;
    }
    if (rq->method == HTTP_GET || rq->method == HTTP_HEAD_METHOD || rq->method == HTTP_OPTIONS) {
        stream_take_body(s); /* it is dropped, and then they are answered */
        return;
    }
    struct route_place at = route_find(b, rq->path);
    if (at.route && rq->method == HTTP_POST) {
        route_events(b, s, rq, &at, client);
    } else if (at.route && rq->method == HTTP_DELETE && at.route->deletes) {
        stream_take_body(s); /* it is dropped */
    } else {
        routes_request(ctx, s, rq, client); /* it is refused, whatever the body is */
    }
    http_query_clear(&at.params);
}

void routes_request(void *ctx, struct stream *s, struct http_request *rq,
                    const struct peer_address *client)
{
    struct broker *b = ctx;
    if (route_health(b, s, rq) || acme_challenge(b, s, rq) || https_redirect(b, s, rq)) {
        return;
    }
    struct route_place at = route_find(b, rq->path);
    if (at.route && rq->method == HTTP_OPTIONS) {
        route_note_origin(b, s, rq);
        route_preflight(b, s, rq, route_methods(at.route));
    } else if (at.route) {
        route_events(b, s, rq, &at, client);
    } else if (slice_is(rq->path, "/")) {
        route_root(b, s, rq, client);
    } else {
        char detail[300];
        snprintf(detail, sizeof detail, "nothing is here; events are at %s", b->opt.events_path);
        route_allow_origin(b, s, rq);
        refuse(b->refusals, s, 404, slice_str(detail));
    }
    http_query_clear(&at.params);
}
