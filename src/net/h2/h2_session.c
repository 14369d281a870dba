#include "net/h2/h2_session.h"

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/logging.h"
#include "base/require.h"

#include <stdlib.h>

enum {
    /* What may wait in `out`. A page of history leaves room for the live events of others. */
    OUT_BULK_BYTES = 64 * 1024,
    OUT_BYTES = 256 * 1024,
    BULK_BYTES = 16 * 1024,
    LINGER_MS = 2000,
};

/* ---------------------------------------------------------------- streams */

struct h2_stream *h2_stream_new(struct h2 *h, int32_t id)
{
    struct h2_stream *s = xcalloc(1, sizeof *s);
    struct http_server *server = h->conn->server;
    s->h2 = h;
    s->id = id;
    list_init(&s->node);
    list_init(&s->turn);
    deadline_init(&s->deadline);
    list_add_tail(&h->streams, &s->node);
    s->counted = h->stream_count > 0;
    server->h2_stream_count += s->counted ? 1 : 0;
    h->stream_count++;
    server->metrics->h2_streams++;
    return s;
}

void h2_stream_disown(struct h2_stream *s)
{
    s->stream.events = NULL;
    if (s->stream.id) {
        slots_del(&s->h2->conn->server->streams, s->stream.id);
        s->stream.id = 0;
    }
}

void h2_stream_tell(struct h2_stream *s, enum close_reason why)
{
    const struct stream_events *ev = s->stream.events;
    s->stream.events = NULL;
    if (ev) {
        ev->closed(&s->stream, why);
    }
}

void h2_stream_drop_request(struct h2_stream *s)
{
    s->h2->given -= s->rq ? s->rq->given : 0;
    h2_request_free(s->rq);
    s->rq = NULL;
    if (s->h2->body == s) {
        s->h2->body = NULL;
    }
}

static void h2_stream_drop_queued(struct h2_stream *s)
{
    frame_unref(s->queued);
    s->queued = NULL;
    deadline_disarm(&s->deadline);
}

void h2_stream_free(struct h2_stream *s)
{
    struct h2 *h = s->h2;
    struct http_server *server = h->conn->server;
    REQUIRE(h->offer.stream != s);
    h->dispatching = h->dispatching == s ? NULL : h->dispatching;
    h2_stream_disown(s);
    if (!s->gone) {
        (void)nghttp2_session_set_stream_user_data(h->ng, s->id, NULL); /* gone there: as good */
    }
    list_del(&s->node);
    list_del(&s->turn);
    deadline_disarm(&s->deadline);
    frame_unref(s->queued);
    frame_unref(s->fields);
    h2_stream_drop_request(s);
    if (s->peer_counted) {
        address_limit_release(server->addresses, &h->conn->peer, 1);
    }
    if (s->client_counted) {
        address_limit_release(server->addresses, s->client, 1);
    }
    free(s->client);
    h->stream_count--;
    server->h2_stream_count -= s->counted ? 1 : 0;
    server->metrics->h2_streams--;
    free(s);
}

void h2_stream_reset(struct h2_stream *s, uint32_t code)
{
    h2_stream_drop_queued(s);
    h2_stream_drop_request(s);
    s->ended = true;
    if (s->gone) {
        h2_stream_free(s);
        return;
    }
    list_del(&s->turn);
    if (nghttp2_submit_rst_stream(s->h2->ng, NGHTTP2_FLAG_NONE, s->id, code)) {
        h2_fail(s->h2, CLOSE_NO_MEMORY);
        return;
    }
    loop_defer(s->h2->conn->server->loop, &s->h2->conn->flush);
}

/* ---------------------------------------------------------------- deadlines */

static void h2_stream_on_deadline(struct deadline *d)
{
    struct h2_stream *s = container_of(d, struct h2_stream, deadline);
    struct conn *c = s->h2->conn;
    if (!s->rq && c->write) {
        h2_stream_arm(s); /* the connection takes nothing: it has a deadline of its own */
        return;
    }
    if (s->lingering) {
        h2_stream_reset(s, NGHTTP2_NO_ERROR); /* the rest is not wanted (RFC 9113 8.1) */
        return;
    }
    enum close_reason why = s->rq ? CLOSE_BODY_TIMEOUT : CLOSE_DEAD_PEER;
    log_debug("http", "reset a stream",
              LOG_F(log_uint("conn", c->id), log_uint("stream", (uint64_t)s->id),
                    log_str("reason", close_reason_name(why))));
    if (s->stream.events) {
        c->server->metrics->closed[why]++; /* it counts as a connection, once */
    }
    h2_stream_tell(s, why);
    h2_stream_disown(s);
    h2_stream_reset(s, NGHTTP2_CANCEL);
}

void h2_stream_arm(struct h2_stream *s)
{
    const struct http_server *server = s->h2->conn->server;
    uint64_t ms = s->lingering ? LINGER_MS
                  : s->rq      ? server->opt.body_timeout_ms
                               : server->opt.dead_peer_ms;
    deadline_arm(loop_deadline_class(server->loop, ms, h2_stream_on_deadline), &s->deadline);
}

/* Some clients lose an answer when a reset comes with it. */
void h2_stream_linger(struct h2_stream *s)
{
    if (s) {
        s->lingering = true;
        h2_stream_arm(s);
    }
}

/* ---------------------------------------------------------------- turns */

size_t h2_room(const struct h2 *h, size_t n)
{
    size_t most = n > BULK_BYTES ? OUT_BULK_BYTES : OUT_BYTES;
    if (h->conn->write || h->conn->close_when_written || h->failed) {
        return 0;
    }
    return h->conn->out.len < most ? most - h->conn->out.len : 0;
}

void h2_stream_wait(struct h2_stream *s)
{
    if (!s->gone && !list_linked(&s->turn)) {
        list_add_tail(&s->h2->waiting, &s->turn);
    }
}

void h2_serve_waiting(struct h2 *h)
{
    struct list turns;
    list_init(&turns);
    list_splice_tail(&turns, &h->waiting);
    while (!list_empty(&turns)) {
        struct h2_stream *s = list_first(&turns, struct h2_stream, turn);
        list_del(&s->turn);
        /* an error: it waits for a window as well, or its head has not left */
        (void)nghttp2_session_resume_data(h->ng, s->id);
    }
}

void h2_fail(struct h2 *h, enum close_reason why)
{
    h->failed = true;
    conn_close_when_written(h->conn, why);
}

void h2_pump(struct h2 *h)
{
    const uint8_t *bytes;
    ssize_t n = 0;
    REQUIRE(!h->busy);
    h->busy = true;
    while (!h->failed && (n = nghttp2_session_mem_send(h->ng, &bytes)) > 0) {
        if (strbuf_append(&h->conn->out, (const char *)bytes, (size_t)n)) {
            n = NGHTTP2_ERR_NOMEM;
            break;
        }
    }
    h->busy = false;
    if (n < 0) {
        log_warn("http", "HTTP/2 cannot go on",
                 LOG_F(log_uint("conn", h->conn->id), log_str("why", nghttp2_strerror((int)n))));
        h2_fail(h, CLOSE_NO_MEMORY);
    }
}

/* ---------------------------------------------------------------- bytes */

static size_t h2_stream_left(const struct h2_stream *s)
{
    if (s->h2->offer.stream == s) {
        return s->h2->offer.left;
    }
    return s->queued ? s->queued->len - s->queued_offset : 0;
}

static ssize_t h2_on_read_source(nghttp2_session *ng, int32_t id, uint8_t *buf, size_t length,
                                 uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = source->ptr;
    (void)ng;
    (void)id;
    (void)buf; /* h2_on_send_data() writes to `out` instead */
    size_t n = h2_stream_left(s);
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (n == 0 && !s->ended) {
        return NGHTTP2_ERR_DEFERRED;
    }
    if (n) {
        size_t room = h2_room(h, h->offer.stream == s ? h->offer.total : n);
        size_t most = room < length ? room : length;
        if (most == 0) {
            h2_stream_wait(s);
            return NGHTTP2_ERR_DEFERRED;
        }
        if (n > most) {
            return (ssize_t)most;
        }
    }
    if (s->ended) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)n;
}

nghttp2_data_provider h2_stream_source(struct h2_stream *s)
{
    return (nghttp2_data_provider){.source = {.ptr = s}, .read_callback = h2_on_read_source};
}

static int h2_send_offer(struct h2 *h, size_t n)
{
    h->offer.left -= n;
    while (n) {
        const uv_buf_t *b = h->offer.bufs;
        size_t part = b->len - h->offer.offset < n ? b->len - h->offer.offset : n;
        if (strbuf_append(&h->conn->out, b->base + h->offer.offset, part)) {
            return UV_ENOMEM;
        }
        n -= part;
        h->offer.offset += part;
        if (h->offer.offset == b->len) {
            h->offer.bufs++;
            h->offer.offset = 0;
        }
    }
    return 0;
}

static int h2_send_queued(struct h2_stream *s, size_t n)
{
    struct h2 *h = s->h2;
    if (strbuf_append(&h->conn->out, s->queued->bytes + s->queued_offset, n)) {
        return UV_ENOMEM;
    }
    s->queued_offset += (uint32_t)n;
    if (s->queued_offset < s->queued->len) {
        h2_stream_arm(s);
        return 0;
    }
    h2_stream_drop_queued(s);
    if (!s->ended) {
        list_del(&s->turn);
        list_add_tail(&h->drained, &s->turn);
    }
    return 0;
}

int h2_on_send_data(nghttp2_session *ng, nghttp2_frame *frame, const uint8_t *header, size_t n,
                    nghttp2_data_source *source, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = source->ptr;
    (void)ng;
    (void)frame; /* no padding is asked for */
    int rc = strbuf_append(&h->conn->out, (const char *)header, 9);
    if (rc == 0 && n) {
        rc = h->offer.stream == s ? h2_send_offer(h, n) : h2_send_queued(s, n);
    }
    return rc ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}
