#include "net/http/http_dispatch.h"

#include "base/logging.h"
#include "net/message/forwarded.h"
#include "net/message/http_origin.h"

#include <stdio.h>

/* A proxy that speaks the PROXY protocol passes bytes on: where its header names nobody, all fields may be those
 * of a client that it does not know. */
static size_t http_dispatch_believed(const struct conn *c)
{
    return c->nameless ? 0 : c->server->opt.trusted_proxy_count;
}

static void http_dispatch_address(const struct conn *c, const struct http_request *rq,
                                  struct peer_address *client)
{
    client_address(&c->peer, rq->headers, rq->header_count, c->server->opt.trusted_proxies,
                   http_dispatch_believed(c), client);
}

static void http_dispatch_client(const struct conn *c, struct http_request *rq,
                                 struct peer_address *client)
{
    rq->redirect = c->redirects;
    rq->tls = c->layer ? c->layer->ops->facts(c) : NULL;
    rq->secure =
        c->layer || client_is_secure(&c->peer, rq->headers, rq->header_count,
                                     c->server->opt.trusted_proxies, http_dispatch_believed(c));
    http_dispatch_address(c, rq, client);
}

/* A trusted proxy has named the request: its log and ours are to tell of it by one name. */
static void http_dispatch_name(const struct conn *c, struct stream *stream, struct http_request *rq)
{
    char field[sizeof REQUEST_ID_FIELD + REQUEST_ID_MAX + 2];
    if (rq->request_id.n) {
        return; /* with its head */
    }
    rq->request_id = c->trusted && !c->nameless ? request_id_given(rq) : slice_of(NULL, 0);
    if (rq->request_id.n) {
        int n = snprintf(field, sizeof field, REQUEST_ID_FIELD "%.*s\r\n", (int)rq->request_id.n,
                         rq->request_id.p);
        if (stream_set_fields(stream, slice_of(field, (size_t)n))) {
            rq->request_id = slice_of(NULL, 0); /* memory is short: it gets one of ours */
        }
    }
}

/* What the answer to a request has besides, which the handlers are not asked for: its name first (request_id.h). */
void http_dispatch_refused_fields(const struct conn *c, const struct http_request *rq,
                                  struct strbuf *out)
{
    enum { FIELDS_MAX_BYTES = 2048 };
    const struct http_handlers *h = &c->server->handlers;
    strbuf_init(out, FIELDS_MAX_BYTES);
    int rc = request_id_put(rq, out); /* fails where memory is short */
    if (rc == 0 && h->refused) {
        h->refused(h->ctx, rq, out);
    }
}

void http_dispatch_note(const struct conn *c, const char *request_id, int status, const char *why)
{
    log_debug("http", "refused request",
              LOG_F(log_uint("conn", c->id), log_str("request", request_id),
                    log_int("status", status), log_str("why", why)));
}

void http_dispatch_refuse(const struct conn *c, struct stream *stream,
                          const struct http_request *rq, int status, const char *detail)
{
    struct strbuf body, fields;
    struct request_id id;
    http_dispatch_refused_fields(c, rq, &fields);
    if (stream_set_fields(stream, strbuf_slice(&fields))) {
        log_debug("http", "memory is short: a browser will hide an answer from its page",
                  LOG_F(log_uint("conn", c->id)));
    }
    strbuf_clear(&fields);
    stream_request_id(stream, &id);
    http_dispatch_note(c, id.text, status, detail);
    struct http_response r = http_response_of_refusal(status, slice_str(detail), id.text, &body);
    (void)stream_respond(stream, &r); /* on failure the connection is closed */
    strbuf_clear(&body);
}

/* A page whose name was made to point to this machine (DNS rebinding) asks for that name. A
 * trusted proxy passes on the name that its client asked for, and by TLS the certificate proves the name. */
static bool http_dispatch_misdirected(const struct conn *c, struct stream *stream,
                                      const struct http_request *rq)
{
    struct http_server *s = c->server;
    if (!c->loopback || s->opt.any_host || c->trusted || c->layer || !rq->host.n ||
        http_host_is_local(rq->host, s->opt.hosts, s->opt.host_count)) {
        return false;
    }
    char detail[512];
    struct slice host = slice_of(rq->host.p, rq->host.n < 100 ? rq->host.n : 100);
    snprintf(detail, sizeof detail,
             "this address of the machine answers to localhost, 127.0.0.1 and [::1], Host is "
             "\"%.*s\"; list that name in http.hosts, or, where a proxy passes it on, the proxy in "
             "trusted_proxies",
             (int)host.n, host.p);
    s->metrics->misdirected++;
    if (log_pace_take(&s->misdirected_pace, loop_now(s->loop))) {
        log_warn("http",
                 "refused a request for a name that is not in http.hosts; where a proxy passes it "
                 "on, list the proxy in trusted_proxies",
                 LOG_F(log_str("server", s->opt.name), log_uint("conn", c->id),
                       log_slice("host", host), log_uint("refused", s->metrics->misdirected)));
    }
    http_dispatch_refuse(c, stream, rq, 421, detail);
    return true;
}

bool http_dispatch_counts(const struct conn *c, const struct http_request *rq,
                          struct peer_address *client)
{
    const struct http_server_options *o = &c->server->opt;
    if (!c->trusted || !o->max_connections_per_address) {
        return false;
    }
    http_dispatch_address(c, rq, client);
    return memcmp(client, &c->peer, sizeof *client) != 0 &&
           !(o->local_exempt && peer_address_is_local(client));
}

void http_dispatch_refuse_many(const struct conn *c, struct stream *stream, struct http_request *rq)
{
    struct peer_address client = c->peer;
    http_dispatch_name(c, stream, rq);
    (void)http_dispatch_counts(c, rq, &client);
    conn_note_too_many(c, &client);
    http_dispatch_refuse(c, stream, rq, 429,
                         "a later request may work: this address has as many streams and requests "
                         "under way as limits.max_connections_per_address allows");
}

/* What comes on a connection of a client was counted when it came; one of a proxy carries many clients. */
static bool http_dispatch_too_fast(const struct conn *c, struct stream *stream,
                                   const struct http_request *rq, const struct peer_address *client)
{
    struct http_server *s = c->server;
    if (!http_rate_take(&s->requests, client, loop_now(s->loop))) {
        http_dispatch_refuse(c, stream, rq, 429,
                             "a later request may work: this address asks too often here");
        return true;
    }
    bool publish = rq->method == HTTP_POST || rq->method == HTTP_DELETE;
    struct http_rate *rate = publish ? &s->publishes : &s->connections;
    bool counts = c->trusted ? memcmp(client, &c->peer, sizeof *client) != 0 : publish;
    if (!counts || http_rate_take(rate, client, loop_now(s->loop))) {
        return false;
    }
    http_dispatch_refuse(c, stream, rq, 429,
                         publish ? "a later request may work: this address publishes more often "
                                   "than limits.publishes_per_address_per_s allows"
                                 : "a later request may work: this address asks more often than "
                                   "limits.new_connections_per_address_per_s allows");
    return true;
}

void http_dispatch_head(const struct conn *c, struct stream *stream, struct http_request *rq)
{
    struct http_server *s = c->server;
    struct peer_address client;
    http_dispatch_name(c, stream, rq);
    if (http_dispatch_misdirected(c, stream, rq)) {
        return;
    }
    http_dispatch_client(c, rq, &client);
    if (http_dispatch_too_fast(c, stream, rq, &client)) {
        return;
    }
    http_body_share_begin(&rq->share, &s->bodies, &client);
    if (!http_body_share_grow(&rq->share, rq->body.len)) {
        http_dispatch_refuse(c, stream, rq, 503, HTTP_BODIES_FULL);
    } else if (s->handlers.head) {
        s->handlers.head(s->handlers.ctx, stream, rq, &client);
    } else {
        stream_take_body(stream);
    }
}

void http_dispatch_request(const struct conn *c, struct stream *stream, struct http_request *rq)
{
    struct http_server *s = c->server;
    struct peer_address client;
    s->metrics->requests++;
    http_dispatch_name(c, stream, rq);
    http_dispatch_client(c, rq, &client);
    /* one whose head was let through has been asked already */
    if (!rq->share.all && (http_dispatch_misdirected(c, stream, rq) ||
                           http_dispatch_too_fast(c, stream, rq, &client))) {
        return;
    }
    s->handlers.request(s->handlers.ctx, stream, rq, &client);
}
