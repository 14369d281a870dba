#include "net/http/exchange.h"

#include "base/container_of.h"
#include "base/logging.h"
#include "base/prefetch.h"
#include "base/require.h"
#include "base/uninitialized.h"
#include "net/http/http1.h"
#include "net/message/http_chunk.h"

enum { FRAME_MIN_BYTES = 16 << 10 }; /* a body that is smaller is copied behind its head */

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

static void exchange_request_id(const struct stream *s, struct request_id *out)
{
    const struct exchange *ex = exchange_of_const(s);
    bool open = ex->done || ex->framing.event_stream; /* then `out` is no longer those fields */
    http_server_request_id(ex->http1->conn.server, s->id,
                           open ? slice_of(NULL, 0) : strbuf_slice(&ex->out), out);
}

/* To the connection when it is its turn; else it waits in the exchange. */
static int exchange_render(struct exchange *ex, const struct http_response *r)
{
    struct strbuf fields = ex->out;
    struct http_response whole = *r;
    struct request_id own;
    whole.more_fields = strbuf_slice(&fields);
    const struct conn *c = &ex->http1->conn;
    http_server_finish(c->server, ex->stream.id, c->layer != NULL, &own, &whole);
    strbuf_init(&ex->out, CONN_OUT_MAX_BYTES);
    bool oldest = exchange_is_oldest(ex);
    struct http_framing framing = ex->framing;
    bool apart = r->frame && r->frame->len >= FRAME_MIN_BYTES && oldest && !framing.head_only;
    framing.head_only = framing.head_only || apart;
    int rc = http_response_render(&whole, framing, oldest ? &ex->http1->conn.out : &ex->out);
    if (rc == 0 && apart) { /* nothing is answered behind it before it has left */
        REQUIRE(!ex->http1->conn.queued);
        ex->http1->conn.queued = frame_ref(r->frame);
        ex->http1->conn.queued_offset = 0;
    }
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
            h->exchange_count == 1); /* it has waited its turn: http1_is_barrier() */
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

/* What has to leave before anything else does. */
static int exchange_send_first(struct conn *c, struct slice bytes)
{
    loop_defer(c->server->loop, &c->flush);
    return strbuf_append(&c->out, bytes.p, bytes.n);
}

static uv_buf_t exchange_buf(struct slice s)
{
    return uv_buf_init((char *)(uintptr_t)s.p, (unsigned)s.n);
}

/* Puts what makes chunks of the bytes between them; returns the number of buffers. */
static unsigned exchange_lay_out(const struct stream_bytes *bytes, const struct http_chunk_write *w,
                                 uv_buf_t *out)
{
    unsigned n = 0;
    size_t before = w->before;
    bool middle = w->middle.n > 0;
    for (unsigned i = 0; i < bytes->count; i++) {
        uv_buf_t buf = bytes->bufs[i];
        if (middle && before < buf.len) {
            if (before) {
                out[n++] = uv_buf_init(buf.base, (unsigned)before);
            }
            out[n++] = exchange_buf(w->middle);
            buf = uv_buf_init(buf.base + before, (unsigned)(buf.len - before));
            middle = false;
        }
        before -= middle ? buf.len : 0;
        out[n++] = buf;
    }
    if (middle) {
        out[n++] = exchange_buf(w->middle);
    }
    if (w->tail.n) {
        out[n++] = exchange_buf(w->tail);
    }
    return n;
}

/* The kernel took `n` bytes of that write. */
static ssize_t exchange_written(struct exchange *ex, const struct http_chunk_write *w, size_t n)
{
    struct slice rest;
    size_t taken = http_chunk_taken(w, n, &ex->chunk_left, &rest);
    ex->cut_event = taken > 0 && taken < w->total;
    int rc = rest.n ? exchange_send_first(&ex->http1->conn, rest) : 0;
    return rc ? rc : (ssize_t)taken;
}

/* Not inlined: its buffers would be on the stack of every delivery. */
static __attribute__((noinline)) ssize_t exchange_write_chunk(struct exchange *ex,
                                                              const struct stream_bytes *bytes)
{
    struct http_chunk_write w;
    UNINITIALIZED uv_buf_t bufs[STREAM_MAX_BUFS + 4];
    REQUIRE(bytes->count <= STREAM_MAX_BUFS);
    http_chunk_plan(&w, ex->chunk_left, bytes->total);
    unsigned count = exchange_lay_out(bytes, &w, bufs);
    ssize_t n = conn_write_now(&ex->http1->conn, bufs, count);
    return n < 0 ? n : exchange_written(ex, &w, (size_t)n);
}

/* The common case: what makes a chunk lies around the bytes. */
static ssize_t exchange_write_made_chunk(struct exchange *ex, const struct stream_bytes *bytes)
{
    size_t whole = bytes->chunk_head + bytes->total + sizeof HTTP_CHUNK_END - 1;
    uv_buf_t buf = uv_buf_init(bytes->bufs->base - bytes->chunk_head, (unsigned)whole);
    ssize_t n = conn_write_now(&ex->http1->conn, &buf, 1);
    if (n == (ssize_t)whole) {
        ex->cut_event = false;
        return (ssize_t)bytes->total;
    }
    struct http_chunk_write w;
    http_chunk_plan(&w, 0, bytes->total);
    return n < 0 ? n : exchange_written(ex, &w, (size_t)n);
}

static ssize_t exchange_write(struct stream *s, const struct stream_bytes *bytes)
{
    struct exchange *ex = exchange_of(s);
    struct http1 *h = ex->http1;
    struct conn *c = &h->conn;
    REQUIRE(h->streaming && !c->queued);
    if (c->write) {
        return 0; /* the head has not left yet */
    }
    if (!ex->framing.chunks) {
        return conn_write_now(c, bytes->bufs, bytes->count);
    }
    if (bytes->chunk_head && ex->chunk_left == 0) {
        return exchange_write_made_chunk(ex, bytes);
    }
    return exchange_write_chunk(ex, bytes);
}

static void exchange_prefetch(const struct stream *s)
{
    const struct http1 *h = exchange_of_const(s)->http1;
    prefetch(h, sizeof *h);
}

/* The frame is about to be queued: what makes chunks of it goes before it, together with the bytes
 * that fill an earlier chunk when it is longer than they. */
static int exchange_frame_chunk(struct exchange *ex, const struct frame *f, size_t *offset)
{
    struct conn *c = &ex->http1->conn;
    struct http_chunk_write w;
    int rc = 0;
    http_chunk_plan(&w, ex->chunk_left, f->len - *offset);
    if (w.before < w.total) {
        rc = exchange_send_first(c, slice_of(f->bytes + *offset, w.before));
        rc = rc ? rc : exchange_send_first(c, w.middle);
        *offset += w.before;
    }
    ex->chunk_left = w.total < ex->chunk_left ? ex->chunk_left - (uint32_t)w.total : 0;
    ex->chunk_ends = ex->chunk_left == 0;
    ex->cut_event = false;
    return rc;
}

static int exchange_queue(struct stream *s, struct frame *f, size_t offset)
{
    struct exchange *ex = exchange_of(s);
    struct conn *c = &ex->http1->conn;
    REQUIRE(!c->queued && offset < f->len);
    int rc = ex->framing.chunks ? exchange_frame_chunk(ex, f, &offset) : 0;
    if (rc) {
        return rc;
    }
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
        return;
    }
    if (http1_is_streaming(h) && !close_reason_is_failure(why)) {
        http1_end_stream(h);
    }
    conn_close_when_written(c, why);
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
    .protocol = "HTTP/1.1",
    .set_fields = exchange_set_fields,
    .request_id = exchange_request_id,
    .respond = exchange_respond,
    .open = exchange_open,
    .write = exchange_write,
    .queue = exchange_queue,
    .close = exchange_close,
    .next = exchange_next,
    .prefetch = exchange_prefetch,
    .take_body = exchange_take_body,
};
