#include "net/http/exchange.h"

#include "base/container_of.h"
#include "base/logging.h"
#include "base/prefetch.h"
#include "base/require.h"
#include "net/http/http1.h"

static struct exchange *exchange_of(struct stream *s)
{
    return container_of(s, struct exchange, stream);
}

static const struct exchange *exchange_of_const(const struct stream *s)
{
    return container_of((struct stream *)(uintptr_t)s, struct exchange, stream);
}

static bool exchange_is_oldest(const struct exchange *ex)
{
    return ex->http1->exchanges.next == &ex->node;
}

static int exchange_set_fields(struct stream *s, struct slice fields)
{
    struct exchange *ex = exchange_of(s);
    strbuf_reset(&ex->out);
    return fields.n ? strbuf_append(&ex->out, fields.p, fields.n) : 0;
}

/* To the connection when it is its turn; else it waits in the exchange. */
static int exchange_render(struct exchange *ex, const struct http_response *r)
{
    struct strbuf fields = ex->out;
    struct http_response whole = *r;
    whole.more_fields = strbuf_slice(&fields);
    strbuf_init(&ex->out, CONN_OUT_MAX_BYTES);
    int rc = http_response_render(&whole, ex->framing,
                                  exchange_is_oldest(ex) ? &ex->http1->conn.out : &ex->out);
    strbuf_clear(&fields);
    return rc;
}

static int exchange_respond(struct stream *s, const struct http_response *r)
{
    struct exchange *ex = exchange_of(s);
    struct http1 *h = ex->http1;
    struct conn *c = &h->conn;
    if (c->server->draining && h->exchanges.prev == &ex->node) {
        ex->framing.keep_alive = false; /* not those before it: all under way are answered */
        h->last = true;
    }
    s->events = NULL;
    ex->done = true;
    if (http1_receives(h, ex)) {
        http1_drop_body(h);
    }
    int rc = exchange_render(ex, r);
    if (rc == 0 && exchange_is_oldest(ex)) {
        rc = http1_release_answers(h);
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
    struct http1 *h = ex->http1;
    struct conn *c = &h->conn;
    REQUIRE(exchange_is_oldest(ex) &&
            h->exchange_count == 1); /* GET waits its turn: http1_progress() */
    if (c->eof) {
        return UV_EPIPE; /* a client that stopped sending before its stream began has left */
    }
    ex->framing.keep_alive = false;
    ex->framing.event_stream = true;
    h->streaming = true;
    strbuf_clear(&c->backlog);
    int rc = exchange_render(ex, head);
    if (rc == 0) {
        loop_defer(c->server->loop, &c->flush);
    }
    return rc;
}

static ssize_t exchange_write(struct stream *s, const struct stream_bytes *bytes)
{
    struct http1 *h = exchange_of(s)->http1;
    struct conn *c = &h->conn;
    REQUIRE(h->streaming && !c->queued);
    if (c->write) {
        return 0; /* the head has not left yet */
    }
    return conn_write_now(c, bytes->bufs, bytes->count);
}

static void exchange_prefetch(const struct stream *s)
{
    const struct http1 *h = exchange_of_const(s)->http1;
    prefetch(h, sizeof *h);
}

static int exchange_queue(struct stream *s, struct frame *f, size_t offset)
{
    struct conn *c = &exchange_of(s)->http1->conn;
    REQUIRE(!c->queued && offset < f->len);
    c->queued = frame_ref(f);
    c->queued_offset = (uint32_t)offset;
    loop_defer(c->server->loop, &c->flush);
    return 0;
}

static void exchange_close(struct stream *s, enum close_reason why)
{
    struct http1 *h = exchange_of(s)->http1;
    struct conn *c = &h->conn;
    s->events = NULL;
    if (http1_receives(h, exchange_of(s))) {
        http1_drop_body(h);
    }
    if (http1_is_streaming(h) && c->write && why != CLOSE_DRAINING && why != CLOSE_TRANSIENT) {
        conn_close(c, why); /* the peer takes nothing: what waits for it would wait long */
    } else {
        conn_close_when_written(c, why);
    }
}

static void exchange_take_body(struct stream *s)
{
    struct http1 *h = exchange_of(s)->http1;
    REQUIRE(http1_receives(h, exchange_of(s)) && h->asking);
    h->asking = false;
    loop_defer(h->conn.server->loop, &h->conn.flush); /* what has come meanwhile is parsed then */
}

static struct stream *exchange_next(const struct stream *s, bool forward)
{
    const struct exchange *from = exchange_of_const(s);
    struct list *it = forward ? from->node.next : from->node.prev;
    while (it != &from->http1->exchanges) {
        struct exchange *ex = container_of(it, struct exchange, node);
        if (ex->stream.events) {
            return &ex->stream;
        }
        it = forward ? it->next : it->prev;
    }
    return NULL;
}

const struct stream_ops exchange_ops = {
    .set_fields = exchange_set_fields,
    .respond = exchange_respond,
    .open = exchange_open,
    .write = exchange_write,
    .queue = exchange_queue,
    .close = exchange_close,
    .next = exchange_next,
    .prefetch = exchange_prefetch,
    .take_body = exchange_take_body,
};
