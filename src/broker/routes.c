/* Method and path -> subscribe, publish, preflight, the try-out page. The first thing that happens
 * to a request of the public server. */
#include "base/embedded.h"
#include "broker/broker_state.h"
#include "broker/kept.h"
#include "broker/publisher.h"
#include "broker/refusal.h"
#include "broker/resume.h"
#include "broker/subscriber.h"

#include <stdio.h>
#include <stdlib.h>

#define EVENTS_METHODS "GET, HEAD, POST, OPTIONS"
#define PAGE_METHODS "GET, HEAD, OPTIONS"
#define PAGE_FILE "scripts/page/index.html"

enum { CORS_MAX_BYTES = 2048, RESUME_TEXT_MAX = 256, PAGE_MAX_BYTES = 64 * 1024 };
enum { KEPT_QUERY_MAX_BYTES = 1 << 20 }; /* limits.target_bytes is what bounds it */

/* ---------------------------------------------------------------- subscribe */

/* What a subscriber asked for, while the policy decides: owns its stream. */
struct subscribe {
    struct broker *b;
    struct stream *stream;
    struct strbuf cors, resume_text, resume_unknown, kept_query;
    uint32_t policy_epoch; /* of the policy that was asked */
    struct resume resume;
    struct peer_address client;
    bool sse; /* the client says it is an EventSource: a refusal must not be final */
};

static void subscribe_free(struct subscribe *w)
{
    strbuf_clear(&w->cors);
    strbuf_clear(&w->resume_text);
    strbuf_clear(&w->resume_unknown);
    strbuf_clear(&w->kept_query);
    free(w);
}

static void on_closed(struct stream *s, enum close_reason why)
{
    struct subscribe *w = s->owner;
    (void)why;
    w->b->policy->ops->cancel(w->b->policy, s->id);
    subscribe_free(w);
}

static void on_writable(struct stream *s)
{
    (void)s; /* nothing is queued on a stream that is not open */
}

/* stream_open() would refuse it, too: who wants to read a stream keeps its connection open. */
static void on_half_closed(struct stream *s)
{
    on_closed(s, CLOSE_CLIENT_CLOSED);
    stream_set_owner(s, NULL, NULL);
    stream_close(s, CLOSE_CLIENT_CLOSED);
}

static const struct stream_events subscribe_events = {
    .writable = on_writable, .half_closed = on_half_closed, .closed = on_closed};

static void on_verdict(void *ctx, uint64_t token, const struct verdict *v)
{
    struct broker *b = ctx;
    struct stream *s = http_server_stream(b->server, token);
    if (!s || s->events != &subscribe_events) {
        return; /* the client left while the policy decided */
    }
    struct subscribe *w = s->owner;
    struct slice cors = strbuf_slice(&w->cors);
    stream_set_owner(s, NULL, NULL);
    if (b->draining) {
        refuse_transient(b, s, cors, w->sse, CLOSE_DRAINING, "the broker is shutting down");
    } else if (v->kind == VERDICT_DENY) {
        refuse_denied(b, s, cors, v->status, v->reason);
    } else if (v->kind == VERDICT_TRANSIENT) {
        refuse_transient(b, s, cors, w->sse, CLOSE_TRANSIENT, "the policy could not decide");
    } else {
        struct subscribe_start start = {.resume = w->resume,
                                        .cors = cors,
                                        .client = w->client,
                                        .kept_query = strbuf_slice(&w->kept_query),
                                        .policy_epoch = w->policy_epoch,
                                        .sse = w->sse};
        subscriber_start(b, s, v, &start);
    }
    subscribe_free(w);
}

/* Cuts the part before `separator` off *rest, without surrounding white space. */
static struct slice cut(struct slice *rest, char separator)
{
    const char *at = memchr(rest->p, separator, rest->n);
    struct slice item = slice_of(rest->p, at ? (size_t)(at - rest->p) : rest->n);
    size_t used = item.n + (at ? 1 : 0);
    *rest = slice_of(rest->p + used, rest->n - used);
    while (item.n && (*item.p == ' ' || *item.p == '\t')) {
        item.p++;
        item.n--;
    }
    while (item.n && (item.p[item.n - 1] == ' ' || item.p[item.n - 1] == '\t')) {
        item.n--;
    }
    return item;
}

/* "q=0", "q=0.000": not acceptable (RFC 9110, 12.4.2). */
static bool is_excluded(struct slice parameters)
{
    while (parameters.n) {
        struct slice p = cut(&parameters, ';');
        if (p.n > 2 && (*p.p == 'q' || *p.p == 'Q') && p.p[1] == '=') {
            return strspn(p.p + 2, "0.") >= p.n - 2;
        }
    }
    return false;
}

/* What the Accept fields of a request say about the answers there are. */
struct accept {
    bool given;
    bool stream, no_stream; /* text/event-stream is named, and excluded (q=0) */
    bool text, any;         /* text with any subtype, anything */
    bool json;              /* what a publisher is answered with */
};

static struct accept accept_of(const struct http_request *rq)
{
    struct accept a = {0};
    for (size_t i = 0; i < rq->header_count; i++) {
        struct slice list = rq->headers[i].value;
        if (!slice_is_nocase(rq->headers[i].name, "Accept")) {
            continue;
        }
        a.given = true;
        while (list.n) {
            struct slice parameters = cut(&list, ',');
            struct slice type = parameters.n ? cut(&parameters, ';') : parameters;
            bool excluded = is_excluded(parameters);
            if (slice_is_nocase(type, "text/event-stream")) {
                a.stream |= !excluded;
                a.no_stream |= excluded;
            }
            a.any |= !excluded && slice_is(type, "*/*");
            a.text |= !excluded && slice_is_nocase(type, "text/*");
            a.json |= !excluded && (slice_is_nocase(type, "application/json") ||
                                    slice_is_nocase(type, "application/*"));
        }
    }
    a.stream = a.stream && !a.no_stream;
    return a;
}

/* Copies a text of the request, which ends before the policy has decided. */
static int keep(struct strbuf *out, struct slice *text)
{
    size_t n = text->n < RESUME_TEXT_MAX ? text->n : RESUME_TEXT_MAX;
    int rc = n ? strbuf_append(out, text->p, n) : 0;
    *text = n ? strbuf_slice(out) : slice_of(NULL, 0);
    return rc;
}

static void subscribe(struct broker *b, struct stream *s, const struct policy_request *prq,
                      const struct peer_address *client, struct slice cors)
{
    struct accept accept = accept_of(prq->http);
    bool sse = accept.stream;
    if (accept.given && (accept.no_stream || !(sse || accept.text || accept.any))) {
        refuse(b, s, cors, 406,
               slice_str("this path answers text/event-stream, which Accept excludes"));
        return;
    }
    if (b->draining) {
        refuse_transient(b, s, cors, sse, CLOSE_DRAINING, "the broker is shutting down");
        return;
    }
    struct subscribe *w = xcalloc(1, sizeof *w);
    w->b = b;
    w->stream = s;
    w->sse = sse;
    w->client = *client;
    w->resume = resume_parse(prq->http, prq->query);
    strbuf_init(&w->cors, CORS_MAX_BYTES);
    strbuf_init(&w->resume_text, RESUME_TEXT_MAX);
    strbuf_init(&w->resume_unknown, RESUME_TEXT_MAX);
    strbuf_init(&w->kept_query, KEPT_QUERY_MAX_BYTES);
    w->policy_epoch = b->policy_epoch;
    const struct kept_rules rules = {b->opt.credential_params, b->opt.credential_param_count};
    if (strbuf_append(&w->cors, cors.p ? cors.p : "", cors.n) ||
        keep(&w->resume_text, &w->resume.text) || keep(&w->resume_unknown, &w->resume.unknown) ||
        kept_pack(&w->kept_query, prq->query, &rules)) {
        subscribe_free(w);
        refuse_transient(b, s, cors, sse, CLOSE_NO_MEMORY, "memory is short");
        return;
    }
    stream_set_owner(s, &subscribe_events, w);
    b->policy->ops->subscribe(b->policy, prq, on_verdict, b, s->id);
}

/* ---------------------------------------------------------------- the rest */

static void answer(struct stream *s, int status, const char *type, struct slice body,
                   struct strbuf *fields)
{
    struct http_response r = {
        .status = status, .content_type = type, .body = body, .fields = strbuf_slice(fields)};
    (void)stream_respond(s, &r); /* on failure the connection is closed: nothing more to do */
}

static void preflight(struct broker *b, struct stream *s, const struct http_request *rq,
                      const char *methods)
{
    struct strbuf fields;
    strbuf_init(&fields, CORS_MAX_BYTES);
    int rc = strbuf_printf(&fields, "Allow: %s\r\n", methods);
    rc = rc ? rc : http_cors_preflight(&b->opt.cors, rq, methods, &fields);
    if (rc) {
        stream_close(s, CLOSE_NO_MEMORY);
    } else {
        answer(s, 204, NULL, slice_of(NULL, 0), &fields);
    }
    strbuf_clear(&fields);
}

static void head(struct broker *b, struct stream *s, struct slice cors)
{
    struct strbuf fields;
    strbuf_init(&fields, CORS_MAX_BYTES + 1024);
    if (broker_stream_fields(&fields, cors)) {
        stream_close(s, CLOSE_NO_MEMORY);
    } else {
        struct http_response r = {.status = 200,
                                  .content_type = b->opt.content_type,
                                  .no_length = true,
                                  .fields = strbuf_slice(&fields)};
        (void)stream_respond(s, &r); /* on failure the connection is closed: nothing more to do */
    }
    strbuf_clear(&fields);
}

/* The page as in the tree, but for the path it subscribes at: /events there, the configured one
 * here. */
static int render_page(const struct broker *b, struct strbuf *out)
{
    static const char marker[] = "name=\"events-path\" content=\"/events\"";
    const struct embedded *file = embedded_find(PAGE_FILE);
    const char *at = file ? strstr(file->data, marker) : NULL;
    REQUIRE(at != NULL);
    int rc = strbuf_append(out, file->data, (size_t)(at - file->data));
    rc = rc ? rc : strbuf_printf(out, "name=\"events-path\" content=\"%s\"", b->opt.events_path);
    at += sizeof marker - 1;
    return rc ? rc : strbuf_append(out, at, file->size - (size_t)(at - file->data));
}

static void page(struct broker *b, struct stream *s)
{
    static const char fields_text[] =
        "Cache-Control: no-store\r\n"
        "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; "
        "script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'\r\n"
        "X-Content-Type-Options: nosniff\r\n";
    struct strbuf body;
    strbuf_init(&body, PAGE_MAX_BYTES);
    if (render_page(b, &body)) {
        stream_close(s, CLOSE_NO_MEMORY);
    } else {
        struct http_response r = {.status = 200,
                                  .content_type = "text/html; charset=utf-8",
                                  .body = strbuf_slice(&body),
                                  .fields = slice_of(fields_text, sizeof fields_text - 1)};
        (void)stream_respond(s, &r);
    }
    strbuf_clear(&body);
}

static void page_request(struct broker *b, struct stream *s, const struct http_request *rq)
{
    if (rq->method == HTTP_OPTIONS) {
        preflight(b, s, rq, PAGE_METHODS);
    } else if (rq->method == HTTP_GET || rq->method == HTTP_HEAD_METHOD) {
        page(b, s);
    } else {
        refuse_method(b, s, slice_of(NULL, 0), PAGE_METHODS);
    }
}

/* Some EventSource libraries send whatever method they are given, again and again: each time would
 * publish the body once more. */
static bool expects_stream(const struct http_request *rq)
{
    struct accept a = accept_of(rq);
    return a.stream && !a.any && !a.json;
}

static void events_request(struct broker *b, struct stream *s, const struct http_request *rq,
                           const struct peer_address *client, struct slice cors)
{
    struct http_query query;
    int rc = http_query_parse(&query, rq->query);
    if (rc) {
        refuse(b, s, cors, 400,
               slice_str(rc == UV_E2BIG ? "the query has more than 256 parameters"
                                        : "the query has a bad %-escape, or is not UTF-8"));
        return;
    }
    struct resume r = resume_parse(rq, &query);
    struct policy_request prq = {
        .id = s->id, .http = rq, .query = &query, .client = *client, .last_event_id = r.text};
    struct slice given;
    const char *meant;
    if (rq->method == HTTP_POST && expects_stream(rq)) {
        refuse(b, s, cors, 406,
               slice_str("POST publishes, and is answered with application/json, which Accept "
                         "excludes; subscribe with GET to get text/event-stream"));
    } else if (rq->method == HTTP_GET && resume_misspelt(&query, &given, &meant)) {
        char detail[160];
        snprintf(detail, sizeof detail, "the query has \"%.*s\": did you mean \"%s\"?",
                 given.n < 64 ? (int)given.n : 64, given.p, meant);
        refuse(b, s, cors, 400, slice_str(detail));
    } else if (rq->method == HTTP_POST) {
        publisher_request(b, s, &prq, cors);
    } else {
        subscribe(b, s, &prq, client, cors);
    }
    http_query_clear(&query);
}

void broker_request(void *ctx, struct stream *s, const struct http_request *rq,
                    const struct peer_address *client)
{
    struct broker *b = ctx;
    struct strbuf cors;
    strbuf_init(&cors, CORS_MAX_BYTES);
    if (http_cors_fields(&b->opt.cors, rq, &cors)) {
        strbuf_reset(&cors);
    }
    struct slice fields = strbuf_slice(&cors);
    if (slice_is(rq->path, b->opt.events_path)) {
        if (rq->method == HTTP_OPTIONS) {
            preflight(b, s, rq, EVENTS_METHODS);
        } else if (rq->method == HTTP_HEAD_METHOD) {
            head(b, s, fields);
        } else if (rq->method == HTTP_GET || rq->method == HTTP_POST) {
            events_request(b, s, rq, client, fields);
        } else {
            refuse_method(b, s, fields, EVENTS_METHODS);
        }
    } else if (b->opt.page && slice_is(rq->path, "/")) {
        page_request(b, s, rq);
    } else {
        char detail[300];
        snprintf(detail, sizeof detail, "nothing is here; events are at %s", b->opt.events_path);
        refuse(b, s, fields, 404, slice_str(detail));
    }
    strbuf_clear(&cors);
}
