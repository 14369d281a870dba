/* See http1.h. In this order: the exchanges and their answers, the end, deadlines, requests, the
 * protocol as conn.c sees it. */
#include "net/http/http1.h"

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/logging.h"
#include "net/http/http_dispatch.h"
#include "net/http/http_foreign.h"
#include "net/message/http_body.h"
#include "net/message/http_chunk.h"
#include "net/message/http_parser.h"

#include <stdlib.h>

enum {
    /* answers waiting for a slow reader: no further request is read meanwhile */
    OUT_PAUSE_BYTES = 64 * 1024,
    /* most blank lines that a stream ends with */
    FILL_MAX_BYTES = 4096,
};

static const char preface_begin[] = "PRI * HTTP/";

static struct http1 *http1_of(struct conn *c)
{
    return container_of(c, struct http1, conn);
}

static const struct http1 *http1_of_const(const struct conn *c)
{
    return container_of((struct conn *)(uintptr_t)c, struct http1, conn);
}

/* ---------------------------------------------------------------- exchanges */

/* A request is about to be handled. Never NULL. */
static struct exchange *http1_exchange_new(struct http1 *h, const struct http_request *rq)
{
    struct http_server *s = h->conn.server;
    struct peer_address client;
    bool counts = http_dispatch_counts(&h->conn, rq, &client);
    struct exchange *ex = xcalloc(1, sizeof *ex + (counts ? sizeof client : 0));
    if (counts) {
        ex->client[0] = client;
        ex->counted =
            address_limit_take(s->addresses, &client, 1, s->opt.max_connections_per_address);
        ex->refused = !ex->counted;
    }
    ex->stream.ops = s->exchange_ops;
    ex->stream.id = slots_add(&s->streams, &ex->stream);
    ex->http1 = h;
    ex->framing.keep_alive = rq->keep_alive;
    ex->framing.head_only = rq->method == HTTP_HEAD_METHOD;
    ex->framing.chunks = rq->minor > 0;
    strbuf_init(&ex->out, CONN_OUT_MAX_BYTES);
    list_init(&ex->node);
    list_add_tail(&h->exchanges, &ex->node);
    h->exchange_count++;
    return ex;
}

static void http1_exchange_free(struct exchange *ex)
{
    list_del(&ex->node);
    ex->http1->exchange_count--;
    slots_del(&ex->http1->conn.server->streams, ex->stream.id);
    if (ex->counted) {
        address_limit_release(ex->http1->conn.server->addresses, &ex->client[0], 1);
    }
    strbuf_clear(&ex->out);
    free(ex);
}

bool http1_receives(const struct http1 *h, const struct exchange *ex)
{
    return h->receiving && h->exchanges.prev == &ex->node;
}

bool http1_is_streaming(const struct http1 *h)
{
    return h->streaming && !h->conn.close_when_written;
}

int http1_release_answers(struct http1 *h)
{
    while (!list_empty(&h->exchanges)) {
        struct exchange *ex = list_first(&h->exchanges, struct exchange, node);
        if (!ex->done) {
            return 0;
        }
        if (ex->out.len && strbuf_append(&h->conn.out, ex->out.data, ex->out.len)) {
            return UV_ENOBUFS;
        }
        bool keep_alive = ex->framing.keep_alive;
        http1_exchange_free(ex);
        if (!keep_alive) {
            conn_close_when_written(&h->conn, CLOSE_ANSWERED);
            return 0;
        }
    }
    return 0;
}

static struct exchange *http1_first_exchange(const struct http1 *h)
{
    return list_empty(&h->exchanges) ? NULL : list_first(&h->exchanges, struct exchange, node);
}

/* The queued frame has left, and with it the last byte of its chunk. */
static int http1_end_chunk(struct http1 *h, struct exchange *ex)
{
    if (!ex->chunk_ends) {
        return 0;
    }
    ex->chunk_ends = false;
    loop_defer(h->conn.server->loop, &h->conn.flush);
    return strbuf_append(&h->conn.out, HTTP_CHUNK_END, sizeof HTTP_CHUNK_END - 1);
}

/* What is promised is filled with blank lines, which mean nothing behind an event. */
static int http1_fill_chunk(struct http1 *h, struct exchange *ex)
{
    struct strbuf *out = &h->conn.out;
    size_t n = ex->chunk_left;
    int rc = n ? strbuf_reserve(out, n) : 0;
    if (rc || n == 0) {
        return rc;
    }
    memset(out->data + out->len, '\n', n);
    out->len += n;
    ex->chunk_left = 0;
    return strbuf_append(out, HTTP_CHUNK_END, sizeof HTTP_CHUNK_END - 1);
}

void http1_end_stream(struct http1 *h)
{
    struct conn *c = &h->conn;
    struct exchange *ex = http1_first_exchange(h);
    h->stream_ends = c->write || c->queued;
    if (h->stream_ends || !ex->framing.chunks || ex->cut_event || ex->chunk_left > FILL_MAX_BYTES) {
        return; /* later; or its end is that of the connection */
    }
    loop_defer(c->server->loop, &c->flush);
    int rc = http1_end_chunk(h, ex);
    rc = rc ? rc : http1_fill_chunk(h, ex);
    rc = rc ? rc : strbuf_append(&c->out, HTTP_CHUNK_LAST, sizeof HTTP_CHUNK_LAST - 1);
    if (rc) {
        log_debug("http", "no memory for the end of a stream", LOG_F(log_uint("conn", c->id)));
    }
}

/* The peer sends no more. Tells the owners of streams that want to know. */
static void http1_half_closed(struct http1 *h)
{
    list_for_each_safe (it, next, &h->exchanges) {
        struct stream *s = &container_of(it, struct exchange, node)->stream;
        if (s->events && s->events->half_closed) {
            s->events->half_closed(s);
        }
        if (h->conn.closing) {
            return; /* all of them are gone */
        }
    }
}

/* ---------------------------------------------------------------- the end */

/* Forgets the request being read. */
static void http1_request_drop(struct http1 *h)
{
    if (h->rq) {
        http_request_clear(h->rq);
        free(h->rq);
        h->rq = NULL;
    }
    h->continue_sent = false;
}

void http1_drop_body(struct http1 *h)
{
    h->receiving = h->asking = false;
    h->last = true;
    http1_request_drop(h);
}

/* Everyone who owns a stream of it hears `closed`. */
static void http1_closed(struct conn *c, enum close_reason why)
{
    struct http1 *h = http1_of(c);
    while (!list_empty(&h->exchanges)) {
        struct exchange *ex = list_first(&h->exchanges, struct exchange, node);
        if (ex->stream.events) {
            ex->stream.events->closed(&ex->stream, why);
        }
        http1_exchange_free(ex);
    }
    http1_request_drop(h);
}

/* Of the stream with that id. `fields` come besides those that every refusal has. */
static void http1_refuse_with(struct conn *c, uint64_t stream, int status, const char *text,
                              struct slice fields)
{
    struct strbuf body;
    struct request_id id, own;
    http_server_request_id(c->server, stream, fields, &id);
    http_dispatch_note(c, id.text, status, text);
    struct http_response r = http_response_of_refusal(status, slice_str(text), id.text, &body);
    r.more_fields = fields;
    http_server_finish(c->server, stream, c->layer != NULL, &own, &r);
    int rc = http_response_render(&r, (struct http_framing){0}, &c->out);
    strbuf_clear(&body);
    if (rc) {
        conn_close(c, CLOSE_NO_MEMORY);
        return;
    }
    http1_request_drop(http1_of(c));
    strbuf_clear(&c->backlog);
    conn_close_when_written(c, CLOSE_REFUSED_REQUEST);
}

/* For a request that has not become a stream: an id that no stream has. Its connection ends with it. */
static uint64_t http1_no_stream(const struct conn *c)
{
    return ~c->id;
}

static void http1_refuse(struct conn *c, int status, const char *text)
{
    http1_refuse_with(c, http1_no_stream(c), status, text, slice_of(NULL, 0));
}

/* ---------------------------------------------------------------- deadlines */

static enum conn_wait http1_waits_for(const struct conn *c)
{
    const struct http1 *h = http1_of_const(c);
    if (h->rq && h->rq->state == HTTP_BODY) {
        return CONN_WAIT_BODY;
    }
    if (h->rq && h->rq->state == HTTP_HEAD && h->rq->head.len) {
        return CONN_WAIT_HEAD;
    }
    if (h->exchange_count || h->rq) {
        return CONN_WAIT_NOTHING;
    }
    return h->served ? CONN_WAIT_IDLE : CONN_WAIT_HEAD;
}

/* ---------------------------------------------------------------- requests */

/* Publishes of one connection run side by side, unless one may be answered with a stream. */
static bool http1_is_barrier(const struct http1 *h, const struct http_request *rq)
{
    const struct http_handlers *handlers = &h->conn.server->handlers;
    return rq->method != HTTP_POST || (handlers->streams && handlers->streams(handlers->ctx, rq));
}

/* The head of a request whose body takes longer: the handler may refuse it, or think about it. */
static void http1_dispatch_head(struct http1 *h)
{
    struct conn *c = &h->conn;
    struct http_request *rq = h->rq;
    struct exchange *ex = http1_exchange_new(h, rq);
    ex->framing.keep_alive = false; /* where the answer comes before the body has */
    h->rq = NULL;                   /* the handler may answer, or close the connection */
    h->receiving = h->asking = true;
    h->barrier = http1_is_barrier(h, rq);
    if (ex->refused) {
        http_dispatch_refuse_many(c, &ex->stream, rq);
    } else {
        http_dispatch_head(c, &ex->stream, rq);
    }
    if (h->receiving && !c->closing) {
        h->rq = rq;
    } else {
        http_request_clear(rq);
        free(rq);
    }
}

static void http1_dispatch(struct http1 *h)
{
    struct conn *c = &h->conn;
    struct http_request *rq = h->rq;
    struct exchange *ex = h->receiving ? container_of(h->exchanges.prev, struct exchange, node)
                                       : http1_exchange_new(h, rq);
    ex->framing.keep_alive = rq->keep_alive;
    h->rq = NULL; /* the handler may close the connection */
    h->receiving = false;
    h->continue_sent = false;
    h->barrier = http1_is_barrier(h, rq);
    h->last = !rq->keep_alive; /* RFC 9112, 9.6 */
    h->served = true;
    if (c->wait != CONN_WAIT_PEER) {
        conn_wait_over(c); /* what comes behind this request has its full time */
    }
    if (ex->refused) {
        http_dispatch_refuse_many(c, &ex->stream, rq);
    } else {
        http_dispatch_request(c, &ex->stream, rq);
    }
    http_request_clear(rq);
    free(rq);
}

/* May the request that is complete, or its head, be handled now? Publishes run side by side; anything else
 * waits for all before it, and holds up all behind it. None behind the answer that says close, which it may
 * have come to say while the request waited: the broker drains. */
static bool http1_may_dispatch(const struct http1 *h)
{
    if (h->last || h->conn.close_when_written) {
        return false;
    }
    if (h->exchange_count == 0) {
        return true;
    }
    return !h->barrier && !http1_is_barrier(h, h->rq) &&
           h->exchange_count < h->conn.server->opt.pipeline;
}

static bool http1_may_parse(const struct http1 *h)
{
    const struct conn *c = &h->conn;
    if (c->closing || h->streaming || h->last || c->close_when_written || c->lingering ||
        h->asking || h->late) {
        return false;
    }
    if (h->rq && h->rq->state != HTTP_HEAD && !h->receiving) {
        return false; /* it waits for its turn */
    }
    bool full = h->exchange_count && !h->receiving &&
                (h->barrier || c->server->draining || h->exchange_count >= c->server->opt.pipeline);
    return !full && !c->write && c->out.len < OUT_PAUSE_BYTES && !c->queued;
}

static void http1_parse_failed(struct http1 *h)
{
    struct conn *c = &h->conn;
    uint64_t stream = http1_no_stream(c);
    if (h->exchange_count > h->receiving) {
        return; /* answered after those before it: http1_progress() comes back */
    }
    if (h->receiving) {
        struct exchange *ex = container_of(h->exchanges.prev, struct exchange, node);
        stream = ex->stream.id;
        if (ex->stream.events) {
            ex->stream.events->closed(&ex->stream, CLOSE_REFUSED_REQUEST);
        }
        http1_exchange_free(ex);
        h->receiving = false;
    }
    c->server->metrics->bad_requests++;
    char text[160];
    http_failure_text(h->rq, text, sizeof text);
    struct strbuf fields;
    http_dispatch_refused_fields(c, h->rq, &fields);
    http1_refuse_with(c, stream, h->rq->fail.status, text, strbuf_slice(&fields));
    strbuf_clear(&fields);
}

/* The client speaks HTTP/2: `data` follows what the parser has read of its preface. */
static size_t http1_hand_over(struct http1 *h, const char *data, size_t len)
{
    struct conn *c = &h->conn;
    http1_request_drop(h);
    conn_set_protocol(c, c->server->opt.h2);
    if (!c->closing) {
        c->protocol->take(c, preface_begin, sizeof preface_begin - 1);
    }
    return c->closing ? len : c->protocol->take(c, data, len);
}

/* Is what was read, all of it, the beginning of HTTP/2's preface (RFC 9113 3.4)? The parser stops at
 * its version. */
static bool http1_is_preface(const struct http1 *h)
{
    return h->conn.server->opt.h2 && !h->served && !h->exchange_count &&
           slice_is(strbuf_slice(&h->rq->head), preface_begin);
}

/* The body of an answer has yet to leave: nothing may come between it and its head. */
static bool http1_is_answering(const struct http1 *h)
{
    return h->conn.queued && !h->streaming;
}

/* The request that is complete, or its head, goes to the handler if it is its turn. */
static void http1_dispatch_next(struct http1 *h)
{
    enum http_state state = h->rq->state;
    if (state == HTTP_COMPLETE && (h->receiving || http1_may_dispatch(h))) {
        http1_dispatch(h);
    } else if (state == HTTP_BODY && !h->receiving && http1_may_dispatch(h)) {
        http1_dispatch_head(h);
    }
}

/* Parses what it may of `data`; returns how much was used. */
static size_t http1_parse(struct http1 *h, const char *data, size_t len)
{
    size_t used = 0;
    while (used < len && http1_may_parse(h)) {
        if (!h->rq) {
            h->rq = xmalloc(sizeof *h->rq);
            http_request_init(h->rq, &h->conn.server->opt.limits);
        }
        used += http_parser_feed(h->rq, data + used, len - used);
        if (h->rq->state == HTTP_FAILED && http1_is_preface(h)) {
            return used + http1_hand_over(h, data + used, len - used);
        }
        http_body_count(h->rq);
        if (h->rq->state == HTTP_FAILED) {
            http1_parse_failed(h);
            return len; /* nothing behind a malformed request can be trusted */
        }
        http1_dispatch_next(h);
    }
    return used;
}

static void http1_send_continue(struct http1 *h)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct conn *c = &h->conn;
    if (h->rq && h->rq->state == HTTP_BODY && h->rq->expect_continue && !h->continue_sent &&
        h->receiving && !h->asking && h->exchange_count == 1) {
        h->continue_sent = true;
        if (strbuf_append(&c->out, text, sizeof text - 1)) {
            conn_close(c, CLOSE_NO_MEMORY);
            return;
        }
        loop_defer(c->server->loop, &c->flush);
    }
}

/* ---------------------------------------------------------------- the protocol */

static void http1_init(struct conn *c)
{
    list_init(&http1_of(c)->exchanges);
}

/* Its first bytes have come, by a way that does not pace those who come: a handshake of TLS does. */
static bool http1_is_new(const struct http1 *h)
{
    return !h->served && !h->rq && !h->exchange_count && !h->conn.layer && !h->late;
}

static size_t http1_take(struct conn *c, const char *data, size_t len)
{
    struct http1 *h = http1_of(c);
    bool first = !h->served && !h->rq;
    enum http_foreign foreign = first ? http_foreign_of(c, data, len) : HTTP_FOREIGN_COUNT;
    if (foreign != HTTP_FOREIGN_COUNT) {
        const char *text;
        int status = http_foreign_note(c, foreign, &text);
        http1_refuse(c, status, text);
        return len;
    }
    if (http1_is_new(h) && !loop_admit(c->server->loop)) {
        h->late = true;
        loop_defer_late(c->server->loop, &c->flush);
        return 0;
    }
    return h->streaming ? len : http1_parse(h, data, len); /* nothing said there means anything */
}

static void http1_eof(struct conn *c)
{
    struct http1 *h = http1_of(c);
    if (http1_is_streaming(h)) {
        conn_close(c, CLOSE_CLIENT_CLOSED);
    } else {
        http1_half_closed(h);
    }
}

static void http1_writable(struct conn *c)
{
    struct http1 *h = http1_of(c);
    struct exchange *ex = http1_first_exchange(h);
    if (!http1_is_streaming(h) || !ex) {
        return;
    }
    if (http1_end_chunk(h, ex)) {
        conn_close(c, CLOSE_NO_MEMORY);
        return;
    }
    if (ex->stream.events) {
        ex->stream.events->writable(&ex->stream);
    }
}

static void http1_progress(struct conn *c)
{
    struct http1 *h = http1_of(c);
    h->late = h->late && list_linked(&c->flush.node);
    if (h->stream_ends) {
        http1_end_stream(h);
    }
    if (http1_is_answering(h)) {
        return;
    }
    if (h->rq && h->rq->state == HTTP_FAILED && !c->close_when_written) {
        http1_parse_failed(h);
    } else if (h->rq) {
        http1_dispatch_next(h);
    }
    if (!c->closing && c->backlog.len && http1_may_parse(h)) {
        size_t used = http1_parse(h, c->backlog.data, c->backlog.len);
        strbuf_consume(&c->backlog, used);
        if (c->backlog.len == 0) {
            strbuf_clear(&c->backlog);
        }
    }
    if (!c->closing && c->protocol == &http1_protocol) { /* else it was the preface of HTTP/2 */
        http1_send_continue(h);
    }
}

/* Streams are read to notice their end; others as far as their requests can be taken, and, while an
 * answer is awaited, as far as the backlog has room: the client may go. */
static bool http1_wants_bytes(const struct conn *c)
{
    const struct http1 *h = http1_of_const(c);
    bool awaited = (h->exchange_count || h->late) && c->backlog.len < LOOP_READ_BUFFER_BYTES &&
                   !c->close_when_written;
    return http1_is_streaming(h) || awaited || http1_may_parse(h);
}

/* A request is there in part, and what is missing may still come. */
static bool http1_awaits_rest(const struct http1 *h)
{
    bool ended = h->conn.eof && h->conn.backlog.len == 0;
    return h->rq && h->rq->state != HTTP_HEAD && !(h->rq->state == HTTP_BODY && ended);
}

static bool http1_idle(const struct conn *c)
{
    const struct http1 *h = http1_of_const(c);
    return h->exchange_count == h->receiving && !http1_is_streaming(h) && !http1_awaits_rest(h);
}

const struct conn_protocol http1_protocol = {
    .name = "HTTP/1.1",
    .size = sizeof(struct http1),
    .init = http1_init,
    .take = http1_take,
    .eof = http1_eof,
    .writable = http1_writable,
    .progress = http1_progress,
    .wants_bytes = http1_wants_bytes,
    .idle = http1_idle,
    .waits_for = http1_waits_for,
    .refuse = http1_refuse,
    .closed = http1_closed,
};
