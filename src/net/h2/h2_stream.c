#include "net/h2/h2_stream.h"

#include "base/container_of.h"
#include "base/logging.h"
#include "base/prefetch.h"
#include "base/require.h"
#include "net/h2/h2_response.h"
#include "net/h2/h2_session.h"

static struct h2_stream *h2_stream_of(struct stream *s)
{
    return container_of(s, struct h2_stream, stream);
}

static void h2_stream_flush(const struct h2_stream *s)
{
    loop_defer(s->h2->conn->server->loop, &s->h2->conn->flush);
}

static int h2_stream_set_fields(struct stream *stream, struct slice fields)
{
    struct h2_stream *s = h2_stream_of(stream);
    frame_unref(s->fields);
    s->fields = fields.n ? frame_copy(fields) : NULL;
    return fields.n && !s->fields ? UV_ENOMEM : 0;
}

static struct slice h2_stream_fields(const struct h2_stream *s)
{
    return s->fields ? slice_of(s->fields->bytes, s->fields->len) : slice_of(NULL, 0);
}

static void h2_stream_request_id(const struct stream *stream, struct request_id *out)
{
    const struct h2_stream *s = h2_stream_of((struct stream *)(uintptr_t)stream);
    http_server_request_id(s->h2->conn->server, stream->id, h2_stream_fields(s), out);
}

/* Hands the head to nghttp2; what follows comes from h2_stream_source(). */
static int h2_stream_submit(struct h2_stream *s, const struct http_response *r,
                            struct http_framing framing)
{
    struct h2_response head;
    struct http_response whole = *r;
    const struct conn *c = s->h2->conn;
    struct request_id own;
    whole.more_fields = h2_stream_fields(s);
    http_server_finish(c->server, s->stream.id, c->layer != NULL, &own, &whole);
    int rc = h2_response_of(&whole, framing, &head);
    if (rc == 0 && head.send_body) {
        s->queued = r->frame ? frame_ref(r->frame) : frame_copy(r->body);
        rc = s->queued ? 0 : UV_ENOMEM;
    }
    if (rc == 0) {
        nghttp2_data_provider source = h2_stream_source(s);
        bool follows = head.send_body || framing.event_stream;
        rc = nghttp2_submit_response(s->h2->ng, s->id, head.nv, head.n, follows ? &source : NULL);
        rc = rc ? UV_ENOMEM : 0;
    }
    frame_unref(s->fields);
    s->fields = NULL;
    s->answering = rc == 0;
    return rc;
}

static int h2_stream_respond(struct stream *stream, const struct http_response *r)
{
    struct h2_stream *s = h2_stream_of(stream);
    if (s->gone) {
        h2_stream_free(s);
        return UV_EPIPE;
    }
    h2_stream_drop_request(s); /* the rest of its body is not wanted */
    int rc = h2_stream_submit(s, r, (struct http_framing){.head_only = s->head_only});
    h2_stream_disown(s); /* not before: the answer names the request by the id of the stream */
    s->ended = true;
    if (rc) {
        log_warn("http", "answer does not fit",
                 LOG_F(log_uint("conn", s->h2->conn->id), log_int("status", r->status),
                       log_uint("limit_fields", H2_RESPONSE_FIELDS_MAX)));
        h2_stream_reset(s, NGHTTP2_INTERNAL_ERROR);
        return rc;
    }
    if (s->queued) {
        h2_stream_arm(s);
    }
    h2_stream_flush(s);
    return 0;
}

static int h2_stream_open(struct stream *stream, const struct http_response *head)
{
    struct h2_stream *s = h2_stream_of(stream);
    if (s->gone) {
        return UV_EPIPE;
    }
    int rc = h2_stream_submit(s, head, (struct http_framing){.event_stream = true});
    h2_stream_flush(s);
    return rc;
}

static ssize_t h2_stream_write(struct stream *stream, const struct stream_bytes *bytes)
{
    struct h2_stream *s = h2_stream_of(stream);
    struct h2 *h = s->h2;
    REQUIRE(s->answering && !s->queued);
    if (s->gone) {
        return UV_EPIPE;
    }
    size_t room = h->busy ? 0 : h2_room(h, bytes->total);
    if (bytes->total == 0 || room == 0) {
        return 0;
    }
    h->offer.stream = s;
    h->offer.bufs = bytes->bufs;
    h->offer.offset = 0;
    h->offer.left = h->offer.total = bytes->total;
    (void)nghttp2_session_resume_data(h->ng, s->id); /* an error: its head has not left yet */
    /* one allocation; without it the appends find out what they need */
    (void)!strbuf_reserve(&h->conn->out, bytes->total < room ? bytes->total : room);
    h2_pump(h);
    h->offer.stream = NULL;
    if (!s->gone) {
        list_del(&s->turn); /* what was left over is the caller's */
    }
    h2_stream_flush(s);
    return h->failed ? UV_ECONNABORTED : (ssize_t)(bytes->total - h->offer.left);
}

static int h2_stream_queue(struct stream *stream, struct frame *f, size_t offset)
{
    struct h2_stream *s = h2_stream_of(stream);
    REQUIRE(!s->queued && offset < f->len);
    if (s->gone) {
        return UV_EPIPE;
    }
    s->queued = frame_ref(f);
    s->queued_offset = (uint32_t)offset;
    h2_stream_wait(s);
    h2_stream_arm(s);
    h2_stream_flush(s);
    return 0;
}

static void h2_stream_close(struct stream *stream, enum close_reason why)
{
    struct h2_stream *s = h2_stream_of(stream);
    bool waits = why == CLOSE_DRAINING || why == CLOSE_TRANSIENT;
    s->h2->conn->server->metrics->closed[why]++; /* it counts as a connection */
    h2_stream_disown(s);
    if (s->gone) {
        h2_stream_free(s);
    } else if (!s->answering) {
        h2_stream_reset(s, why == CLOSE_CLIENT_CLOSED ? NGHTTP2_CANCEL : NGHTTP2_INTERNAL_ERROR);
    } else if (s->queued && !waits) {
        h2_stream_reset(s, NGHTTP2_CANCEL); /* what waits for the client would wait long */
    } else {
        s->ended = true;
        list_del(&s->turn);
        h2_stream_wait(s);
        h2_stream_arm(s); /* the end, too, needs a window that is not empty */
        h2_stream_flush(s);
    }
}

static int h2_stream_continue(const struct h2_stream *s)
{
    static const char name[] = ":status", value[] = "100";
    const nghttp2_nv nv = {.name = (uint8_t *)(uintptr_t)name,
                           .namelen = sizeof name - 1,
                           .value = (uint8_t *)(uintptr_t)value,
                           .valuelen = sizeof value - 1};
    return nghttp2_submit_headers(s->h2->ng, NGHTTP2_FLAG_NONE, s->id, NULL, &nv, 1, NULL);
}

static void h2_stream_take_body(struct stream *stream)
{
    struct h2_stream *s = h2_stream_of(stream);
    REQUIRE(s->asking);
    s->asking = false;
    if (s->gone) {
        return;
    }
    if (s->expects_continue && h2_stream_continue(s)) {
        h2_fail(s->h2, CLOSE_NO_MEMORY);
    }
    s->h2->bodies = true;
    h2_stream_flush(s); /* h2_settle() goes on, also with what has come meanwhile */
}

/* Requests of one connection are independent: a client that wants an order waits for the answer. */
static struct stream *h2_stream_next(const struct stream *stream, bool forward)
{
    (void)stream;
    (void)forward;
    return NULL;
}

static void h2_stream_prefetch(const struct stream *stream)
{
    const struct h2_stream *s = h2_stream_of((struct stream *)(uintptr_t)stream);
    prefetch(s, sizeof *s);
}

const struct stream_ops h2_stream_ops = {
    .protocol = "HTTP/2",
    .set_fields = h2_stream_set_fields,
    .request_id = h2_stream_request_id,
    .respond = h2_stream_respond,
    .open = h2_stream_open,
    .write = h2_stream_write,
    .queue = h2_stream_queue,
    .close = h2_stream_close,
    .next = h2_stream_next,
    .prefetch = h2_stream_prefetch,
    .take_body = h2_stream_take_body,
};
