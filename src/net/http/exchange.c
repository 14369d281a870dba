#include "net/http/exchange.h"

#include "base/logging.h"
#include "base/prefetch.h"
#include "base/xalloc.h"

#include <stdlib.h>

struct exchange {
    struct stream stream;
    struct conn *conn;
    struct list node; /* in conn->exchanges */
    struct http_framing framing;
    bool done;         /* answered, waiting for those before it */
    struct strbuf out; /* the answer, while it waits */
};

static struct exchange *exchange_of(struct stream *s)
{
    return container_of(s, struct exchange, stream);
}

static const struct exchange *exchange_of_const(const struct stream *s)
{
    return container_of((struct stream *)(uintptr_t)s, struct exchange, stream);
}

static void exchange_free(struct exchange *ex)
{
    list_del(&ex->node);
    ex->conn->exchange_count--;
    slots_del(&ex->conn->server->streams, ex->stream.id);
    strbuf_clear(&ex->out);
    free(ex);
}

static bool is_oldest(const struct exchange *ex)
{
    return ex->conn->exchanges.next == &ex->node;
}

/* Moves the answers whose turn has come to the connection, in order. */
static int release_answers(struct conn *c)
{
    while (!list_empty(&c->exchanges)) {
        struct exchange *ex = list_first(&c->exchanges, struct exchange, node);
        if (!ex->done) {
            return 0;
        }
        if (ex->out.len && strbuf_append(&c->out, ex->out.data, ex->out.len)) {
            return UV_ENOBUFS;
        }
        bool keep_alive = ex->framing.keep_alive;
        exchange_free(ex);
        if (!keep_alive) {
            conn_close_when_written(c, CLOSE_ANSWERED);
            return 0;
        }
    }
    return 0;
}

static int exchange_respond(struct stream *s, const struct http_response *r)
{
    struct exchange *ex = exchange_of(s);
    struct conn *c = ex->conn;
    if (c->server->draining && c->exchanges.prev == &ex->node) {
        ex->framing.keep_alive = false; /* not those before it: all under way are answered */
        c->last = true;
    }
    s->events = NULL;
    ex->done = true;
    int rc = http_response_render(r, ex->framing, is_oldest(ex) ? &c->out : &ex->out);
    if (rc == 0 && is_oldest(ex)) {
        rc = release_answers(c);
    }
    if (rc) {
        log_warn("http", "answer does not fit",
                 LOG_F(log_uint("conn", c->id), log_int("status", r->status),
                       log_uint("limit_bytes", CONN_OUT_MAX_BYTES)));
        conn_close(c, CLOSE_NO_MEMORY);
        return rc;
    }
    loop_defer(c->server->loop, &c->flush);
    return 0;
}

static int exchange_open(struct stream *s, const struct http_response *head)
{
    struct exchange *ex = exchange_of(s);
    struct conn *c = ex->conn;
    REQUIRE(is_oldest(ex) && c->exchange_count == 1); /* GET waits its turn: conn_progress() */
    if (c->eof) {
        return UV_EPIPE; /* a client that stopped sending before its stream began has left */
    }
    ex->framing.keep_alive = false;
    ex->framing.event_stream = true;
    c->streaming = true;
    strbuf_clear(&c->backlog);
    int rc = http_response_render(head, ex->framing, &c->out);
    if (rc == 0) {
        loop_defer(c->server->loop, &c->flush);
    }
    return rc;
}

static ssize_t exchange_write(struct stream *s, const uv_buf_t *bufs, unsigned count)
{
    struct conn *c = exchange_of(s)->conn;
    REQUIRE(c->streaming && !c->queued);
    if (c->write) {
        return 0; /* the head has not left yet */
    }
    return conn_write_now(c, bufs, count);
}

static void exchange_prefetch(const struct stream *s)
{
    const struct conn *c = exchange_of_const(s)->conn;
    prefetch(c, sizeof *c);
}

static int exchange_queue(struct stream *s, struct frame *f, size_t offset)
{
    struct conn *c = exchange_of(s)->conn;
    REQUIRE(!c->queued && offset < f->len);
    c->queued = frame_ref(f);
    c->queued_offset = offset;
    loop_defer(c->server->loop, &c->flush);
    return 0;
}

static void exchange_close(struct stream *s, enum close_reason why)
{
    struct conn *c = exchange_of(s)->conn;
    s->events = NULL;
    if (c->streaming && c->write && why != CLOSE_DRAINING && why != CLOSE_TRANSIENT) {
        conn_close(c, why); /* the peer takes nothing: what waits for it would wait long */
    } else {
        conn_close_when_written(c, why);
    }
}

static struct stream *exchange_next(const struct stream *s, bool forward)
{
    const struct exchange *from = exchange_of_const(s);
    struct list *it = forward ? from->node.next : from->node.prev;
    while (it != &from->conn->exchanges) {
        struct exchange *ex = container_of(it, struct exchange, node);
        if (ex->stream.events) {
            return &ex->stream;
        }
        it = forward ? it->next : it->prev;
    }
    return NULL;
}

static const struct stream_ops exchange_ops = {
    .respond = exchange_respond,
    .open = exchange_open,
    .write = exchange_write,
    .queue = exchange_queue,
    .close = exchange_close,
    .next = exchange_next,
    .prefetch = exchange_prefetch,
};

struct exchange *exchange_new(struct conn *c, const struct http_request *rq)
{
    struct exchange *ex = xcalloc(1, sizeof *ex);
    ex->stream.ops = &exchange_ops;
    ex->stream.id = slots_add(&c->server->streams, &ex->stream);
    ex->conn = c;
    ex->framing.keep_alive = rq->keep_alive;
    ex->framing.head_only = rq->method == HTTP_HEAD_METHOD;
    strbuf_init(&ex->out, CONN_OUT_MAX_BYTES);
    list_init(&ex->node);
    list_add_tail(&c->exchanges, &ex->node);
    c->exchange_count++;
    return ex;
}

struct stream *exchange_stream(struct exchange *ex)
{
    return &ex->stream;
}

struct stream *exchange_streaming(const struct conn *c)
{
    if (!c->streaming || list_empty(&c->exchanges)) {
        return NULL;
    }
    return &list_first(&c->exchanges, struct exchange, node)->stream;
}

void exchange_half_closed(struct conn *c)
{
    list_for_each_safe (it, next, &c->exchanges) {
        struct stream *s = &container_of(it, struct exchange, node)->stream;
        if (s->events && s->events->half_closed) {
            s->events->half_closed(s);
        }
        if (c->closing) {
            return; /* all of them are gone */
        }
    }
}

void exchange_close_all(struct conn *c, enum close_reason why)
{
    while (!list_empty(&c->exchanges)) {
        struct exchange *ex = list_first(&c->exchanges, struct exchange, node);
        if (ex->stream.events) {
            ex->stream.events->closed(&ex->stream, why);
        }
        exchange_free(ex);
    }
}
