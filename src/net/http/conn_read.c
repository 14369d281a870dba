/* The receiving half of a connection: bytes -> requests -> exchanges, in the order and number that
 * pipelining allows, and what follows when the last answer is out. */
#include "base/logging.h"
#include "base/xalloc.h"
#include "net/http/conn.h"
#include "net/http/exchange.h"
#include "net/http/forwarded.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

enum {
    /* answers waiting for a slow reader: no further request is read meanwhile */
    OUT_PAUSE_BYTES = 64 * 1024,
};

/* The answer is complete but the client may still be sending: closing at once would reset the
 * connection and could take the answer with it (RFC 9112, 9.6). */
static void linger(struct conn *c)
{
    int fd;
    c->lingering = true;
    strbuf_clear(&c->backlog);
    if (uv_fileno((uv_handle_t *)&c->handle, &fd) || shutdown(fd, SHUT_WR)) {
        conn_close(c, c->close_why);
    }
}

void conn_refuse(struct conn *c, int status, const char *text, enum close_reason why)
{
    struct strbuf body;
    strbuf_init(&body, 4096);
    struct http_response r = {.status = status, .content_type = HTTP_PROBLEM_TYPE};
    int rc = http_problem(&body, status, slice_str(text), slice_of(NULL, 0));
    r.body = strbuf_slice(&body);
    if (rc == 0) {
        rc = http_response_render(&r, (struct http_framing){0}, &c->out);
    }
    strbuf_clear(&body);
    if (rc) {
        conn_close(c, CLOSE_NO_MEMORY);
        return;
    }
    conn_request_drop(c);
    strbuf_clear(&c->backlog);
    conn_close_when_written(c, why);
}

static void dispatch(struct conn *c)
{
    struct http_server *s = c->server;
    struct http_request *rq = c->rq;
    struct peer_address client;
    client_address(&c->peer, rq->headers, rq->header_count, s->opt.trusted_proxies,
                   s->opt.trusted_proxy_count, &client);
    c->rq = NULL; /* the handler may close the connection */
    c->continue_sent = false;
    c->barrier = rq->method != HTTP_POST;
    c->last = !rq->keep_alive; /* RFC 9112, 9.6 */
    c->served = true;
    if (c->wait != CONN_WAIT_PEER) {
        conn_wait_over(c); /* what comes behind this request has its full time */
    }
    s->metrics->requests++;
    struct exchange *ex = exchange_new(c, rq);
    s->handler(s->handler_ctx, exchange_stream(ex), rq, &client);
    http_request_clear(rq);
    free(rq);
}

/* May the request that is complete be handled now? Publishes of one connection run side by side;
 * anything else waits for all before it, and holds up all behind it. */
static bool may_dispatch(const struct conn *c)
{
    if (c->exchange_count == 0) {
        return true;
    }
    return c->rq->method == HTTP_POST && !c->barrier && c->exchange_count < c->server->opt.pipeline;
}

static bool may_parse(const struct conn *c)
{
    if (c->closing || c->streaming || c->last || c->close_when_written || c->lingering) {
        return false;
    }
    if (c->rq && (c->rq->state == HTTP_COMPLETE || c->rq->state == HTTP_FAILED)) {
        return false;
    }
    bool full = c->exchange_count &&
                (c->barrier || c->server->draining || c->exchange_count >= c->server->opt.pipeline);
    return !full && !c->write && c->out.len < OUT_PAUSE_BYTES;
}

/* What the parser says, and for a limit how much it is. */
static void failure_text(const struct http_limits *l, const struct http_failure *f, char *out,
                         size_t size)
{
    switch (f->status) {
    case 413:
        snprintf(out, size, "%s: at most %zu bytes are taken", f->text, l->body_bytes);
        break;
    case 414:
        snprintf(out, size, "%s: at most %zu bytes are taken", f->text, l->target_bytes);
        break;
    case 431:
        snprintf(out, size, "%s: at most %zu bytes and %zu fields are taken", f->text,
                 l->head_bytes, l->headers);
        break;
    default:
        snprintf(out, size, "%s", f->text);
        break;
    }
}

static void parse_failed(struct conn *c)
{
    if (c->exchange_count) {
        return; /* answered after those before it: conn_progress() comes back */
    }
    c->server->metrics->bad_requests++;
    struct http_failure f = c->rq->fail;
    char text[160];
    failure_text(&c->server->opt.limits, &f, text, sizeof text);
    log_debug("http", "refused request",
              LOG_F(log_uint("conn", c->id), log_int("status", f.status), log_str("why", f.text)));
    conn_refuse(c, f.status, text, CLOSE_REFUSED_REQUEST);
}

/* Parses what it may of `data`; returns how much was used. */
static size_t parse(struct conn *c, const char *data, size_t len)
{
    size_t used = 0;
    while (used < len && may_parse(c)) {
        if (!c->rq) {
            c->rq = xmalloc(sizeof *c->rq);
            http_request_init(c->rq, &c->server->opt.limits);
        }
        used += http_request_feed(c->rq, data + used, len - used);
        if (c->rq->state == HTTP_FAILED) {
            parse_failed(c);
            return len; /* nothing behind a malformed request can be trusted */
        }
        if (c->rq->state == HTTP_COMPLETE && may_dispatch(c)) {
            dispatch(c);
        }
    }
    return used;
}

static void send_continue(struct conn *c)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    if (c->rq && c->rq->state == HTTP_BODY && c->rq->expect_continue && !c->continue_sent &&
        c->exchange_count == 0) {
        c->continue_sent = true;
        if (strbuf_append(&c->out, text, sizeof text - 1)) {
            conn_close(c, CLOSE_NO_MEMORY);
            return;
        }
        loop_defer(c->server->loop, &c->flush);
    }
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    (void)suggested;
    struct conn *c = h->data;
    *buf = loop_read_buffer(c->server->loop);
    buf->len -= c->backlog.len; /* what cannot be parsed now must fit in there */
}

/* Streams and lingering connections are read to notice their end; others as far as their requests
 * can be taken, and, while an answer is awaited, as far as the backlog has room: the client may go.
 */
static void set_reading(struct conn *c)
{
    bool awaited =
        c->exchange_count && c->backlog.len < LOOP_READ_BUFFER_BYTES && !c->close_when_written;
    bool want = !c->eof && (c->streaming || c->lingering || awaited || may_parse(c));
    if (want == c->reading) {
        return;
    }
    c->reading = want;
    int rc = want ? uv_read_start(&c->handle.stream, on_alloc, on_read)
                  : uv_read_stop(&c->handle.stream);
    if (rc) {
        conn_close(c, CLOSE_CLIENT_ERROR);
    }
}

/* A request is there in part, and what is missing may still come. */
static bool awaits_rest(const struct conn *c)
{
    return c->rq && c->rq->state != HTTP_HEAD && !(c->rq->state == HTTP_BODY && c->eof);
}

static void finish_if_done(struct conn *c)
{
    if (c->write || c->out.len || c->queued || c->lingering) {
        return;
    }
    if (c->close_when_written) {
        bool unread = c->close_why == CLOSE_REFUSED_REQUEST || c->close_why == CLOSE_ANSWERED;
        if (unread && !c->eof) {
            linger(c);
        } else {
            conn_close(c, c->close_why);
        }
    } else if (c->exchange_count == 0 && !c->streaming && (c->eof || c->server->draining) &&
               !awaits_rest(c)) {
        conn_close(c, c->eof ? CLOSE_CLIENT_CLOSED : CLOSE_DRAINING);
    }
}

void conn_progress(struct conn *c)
{
    if (c->closing) {
        return;
    }
    if (c->rq && c->rq->state == HTTP_COMPLETE && may_dispatch(c)) {
        dispatch(c);
    } else if (c->rq && c->rq->state == HTTP_FAILED && !c->close_when_written) {
        parse_failed(c);
    }
    if (!c->closing && c->backlog.len && may_parse(c)) {
        size_t used = parse(c, c->backlog.data, c->backlog.len);
        strbuf_consume(&c->backlog, used);
        if (c->backlog.len == 0) {
            strbuf_clear(&c->backlog);
        }
    }
    if (!c->closing) {
        send_continue(c);
    }
    if (!c->closing) {
        finish_if_done(c);
    }
    if (!c->closing) {
        set_reading(c);
    }
    if (!c->closing) {
        conn_set_deadline(c);
    }
}

void conn_on_flush(struct task *t)
{
    struct conn *c = container_of(t, struct conn, flush);
    conn_write_out(c);
    conn_progress(c);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct conn *c = stream->data;
    if (n == 0) {
        return;
    }
    if (n < 0) {
        if (n != UV_EOF || c->streaming || c->lingering) {
            enum close_reason why = n == UV_EOF ? CLOSE_CLIENT_CLOSED : close_reason_of(n);
            conn_close(c, c->lingering ? c->close_why : why);
            return;
        }
        c->eof = true;
        exchange_half_closed(c);
        conn_progress(c);
        return;
    }
    c->server->metrics->bytes_in += (uint64_t)n;
    if (c->streaming || c->lingering || c->close_when_written) {
        return; /* nothing a client says here means anything */
    }
    size_t used = parse(c, buf->base, (size_t)n);
    if (!c->closing && used < (size_t)n &&
        strbuf_append(&c->backlog, buf->base + used, (size_t)n - used)) {
        conn_close(c, CLOSE_NO_MEMORY);
        return;
    }
    conn_progress(c);
}
