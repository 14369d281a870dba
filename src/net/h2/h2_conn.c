/* See h2_conn.h. In this order: what the owners are told, requests, what nghttp2 reports, birth and
 * end, the protocol. */
#include "net/h2/h2_conn.h"

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/logging.h"
#include "base/require.h"
#include "net/h2/h2_memory.h"
#include "net/h2/h2_session.h"
#include "net/h2/h2_stream.h"
#include "net/http/http_dispatch.h"
#include "net/message/http_head.h"

#include <stdlib.h>

enum {
    TINY_WINDOW_BYTES = 64, /* a client that grants so little wants many small frames */
    /* Of request bodies. All of one connection have this much at a time, together no more than
     * limits.body_bytes beyond their first window each ... */
    STREAM_WINDOW_BYTES = 16 * 1024,
    /* ... and the oldest has this much, whatever the others hold: so each gets its turn. */
    BODY_WINDOW_BYTES = 256 * 1024,
    ACKS_MAX = 64, /* answers to SETTINGS and PING that may wait */
    /* What a header block may unpack to, in heads: a little more than fits is answered, but a field
     * of the table costs one byte to name, and time to check however often it was named before. */
    BLOCK_HEADS = 4,
    /* nghttp2 counts each piece of a frame header that comes alone; h2_frames.h counts frames */
    CONTINUATIONS_MAX = 9 * H2_FLOOD_AT_ONCE,
};

struct h2_conn {
    struct conn conn;
    struct h2 *h2; /* owned; NULL: it could not begin, or has ended */
};

static struct h2 *h2_of(const struct conn *c)
{
    return container_of((struct conn *)(uintptr_t)c, struct h2_conn, conn)->h2;
}

/* Says why it ends, then ends. */
static void h2_end(struct h2 *h, uint32_t code, enum close_reason why)
{
    if (h->failed) {
        return;
    }
    if (nghttp2_session_terminate_session(h->ng, code) == 0 && !h->conn->write) {
        h2_pump(h);
    }
    h2_fail(h, why);
}

static void h2_flooded(struct h2 *h)
{
    h2_flood_note(h->conn);
    h2_end(h, NGHTTP2_ENHANCE_YOUR_CALM, CLOSE_FLOOD);
}

/* ---------------------------------------------------------------- what the owners are told */

static void h2_request_ready(struct h2_stream *s)
{
    if (!list_linked(&s->turn)) {
        list_add_tail(&s->h2->ready, &s->turn);
    }
}

static bool h2_body_wanted(const struct h2_stream *s)
{
    return s->asked && !s->asking;
}

/* What was taken of a body may come again. Errors: it is being reset, or memory is short, and its
 * deadline runs. */
static void h2_give_window(struct h2_stream *s)
{
    struct h2 *h = s->h2;
    size_t n = s->rq->unconsumed;
    if (h->body != s) {
        size_t most = h->conn->server->opt.limits.body_bytes;
        size_t room = h->given < most ? most - h->given : 0;
        n = n < room ? n : room;
        h->given += n;
        s->rq->given += n;
    }
    s->rq->unconsumed -= n;
    (void)nghttp2_session_consume_stream(h->ng, s->id, n);
}

/* It waits for no other: what it has does not count any more. */
static void h2_make_oldest(struct h2_stream *s)
{
    struct h2 *h = s->h2;
    h->body = s;
    h->given -= s->rq->given;
    s->rq->given = 0;
    (void)nghttp2_session_set_local_window_size(h->ng, NGHTTP2_FLAG_NONE, s->id, BODY_WINDOW_BYTES);
}

/* Those whose body is wanted may send more than their first window. Those whose body came before it was
 * wanted are complete now. */
static void h2_go_on_with_bodies(struct h2 *h)
{
    bool any = false; /* body is still to come */
    list_for_each (it, &h->streams) {
        struct h2_stream *s = container_of(it, struct h2_stream, node);
        if (s->gone || !s->rq || !h2_body_wanted(s)) {
            continue;
        }
        if (s->rq->http.state == HTTP_COMPLETE) {
            h2_request_ready(s);
            continue;
        }
        any = true;
        if (!h->body) {
            h2_make_oldest(s);
        }
        if (s->rq->unconsumed) {
            h2_give_window(s);
        }
    }
    h->bodies = any;
}

static void h2_refuse_request(struct h2_stream *s)
{
    struct conn *c = s->h2->conn;
    char text[160];
    int status = s->rq->http.fail.status;
    http_failure_text(&s->rq->http, text, sizeof text);
    h2_stream_tell(s, CLOSE_REFUSED_REQUEST);
    c->server->metrics->bad_requests++;
    http_head_salvage(&s->rq->http);
    http_dispatch_refuse(c, &s->stream, &s->rq->http, status, text);
}

/* Behind a proxy each request counts for its own client. False: that has too many. */
static bool h2_count_client(struct h2_stream *s, struct http_request *rq)
{
    const struct conn *c = s->h2->conn;
    const struct http_server *server = c->server;
    struct peer_address client;
    if (!http_dispatch_counts(c, rq, &client)) {
        return true;
    }
    s->client = xmalloc(sizeof client);
    *s->client = client;
    s->client_counted =
        address_limit_take(server->addresses, &client, 1, server->opt.max_connections_per_address);
    return s->client_counted;
}

/* The request that is complete, or its head, goes to the handler. It is not the stream's meanwhile: the
 * handler may answer it, or close the connection. */
static void h2_dispatch(struct h2_stream *s)
{
    struct h2 *h = s->h2;
    struct conn *c = h->conn;
    struct h2_request *rq = s->rq;
    bool complete = rq->http.state == HTTP_COMPLETE, first = !s->stream.id;
    if (first) {
        s->stream.id = slots_add(&c->server->streams, &s->stream);
    }
    if (rq->http.state == HTTP_FAILED) {
        h2_refuse_request(s);
        return;
    }
    bool room = !first || h2_count_client(s, &rq->http);
    s->rq = NULL;
    h->given -= rq->given;
    h->body = h->body == s ? NULL : h->body;
    h->dispatching = s;
    if (complete) {
        deadline_disarm(&s->deadline);
    } else {
        s->asked = s->asking = true;
    }
    if (!room) {
        http_dispatch_refuse_many(c, &s->stream, &rq->http);
    } else if (complete) {
        http_dispatch_request(c, &s->stream, &rq->http);
    } else {
        http_dispatch_head(c, &s->stream, &rq->http);
    }
    bool receives = !complete && !c->closing && h->dispatching && !s->answering && !s->ended;
    if (receives) {
        s->rq = rq;
        h->given += rq->given;
    } else {
        h2_request_free(rq);
    }
    if (!c->closing) {
        h->dispatching = NULL;
    }
}

/* Tells owners what has happened, and hands requests over. The connection may close meanwhile. */
static void h2_settle(struct conn *c)
{
    struct h2 *h = h2_of(c);
    REQUIRE(!h->busy);
    while (!c->closing && !list_empty(&h->gone)) {
        struct h2_stream *s = list_first(&h->gone, struct h2_stream, turn);
        list_del(&s->turn);
        c->server->metrics->closed[s->why] +=
            s->stream.events != NULL; /* it counts as a connection */
        h2_stream_tell(s, s->why);
        if (!c->closing) {
            h2_stream_free(s);
        }
    }
    while (!c->closing && !list_empty(&h->drained)) {
        struct h2_stream *s = list_first(&h->drained, struct h2_stream, turn);
        list_del(&s->turn);
        if (s->stream.events) {
            s->stream.events->writable(&s->stream);
        }
    }
    if (!c->closing && h->bodies) {
        h2_go_on_with_bodies(h);
    }
    while (!c->closing && !list_empty(&h->ready)) {
        struct h2_stream *s = list_first(&h->ready, struct h2_stream, turn);
        list_del(&s->turn);
        h2_dispatch(s);
    }
}

/* ---------------------------------------------------------------- what nghttp2 reports */

static struct h2_stream *h2_stream_by_id(nghttp2_session *ng, int32_t id)
{
    return nghttp2_session_get_stream_user_data(ng, id);
}

/* Each stream but the first of a connection counts as a connection. `counts`: it does for its address. */
static bool h2_has_room(const struct h2 *h, bool *counts)
{
    const struct conn *c = h->conn;
    struct http_server *s = c->server;
    bool places = s->conn_count + s->h2_stream_count < s->opt.max_connections;
    *counts = places && c->counted &&
              address_limit_take(s->addresses, &c->peer, 1, s->opt.max_connections_per_address);
    if (places && (*counts || !c->counted)) {
        return true;
    }
    if (places) {
        conn_note_too_many(c, &c->peer);
    }
    s->metrics->h2_streams_refused++;
    log_debug(
        "http", "refused a stream",
        LOG_F(log_uint("conn", c->id), log_str("why", places ? "limits.max_connections_per_address"
                                                             : "limits.max_connections")));
    return false;
}

static int h2_on_begin_headers(nghttp2_session *ng, const nghttp2_frame *frame, void *user)
{
    struct h2 *h = user;
    const struct http_server *server = h->conn->server;
    h->block_bytes = 0;
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return 0; /* trailers: nothing here uses them */
    }
    int32_t id = frame->hd.stream_id;
    bool counts = false;
    if (h->stream_count && !h2_has_room(h, &counts)) {
        h->flood.glitches++;
        int rc = nghttp2_submit_rst_stream(ng, NGHTTP2_FLAG_NONE, id, NGHTTP2_REFUSED_STREAM);
        return rc ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
    }
    struct h2_stream *s = h2_stream_new(h, id);
    s->peer_counted = counts;
    s->rq = h2_request_new(&server->opt.limits);
    return nghttp2_session_set_stream_user_data(ng, id, s) ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static int h2_on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name,
                        size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                        void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = h2_stream_by_id(ng, frame->hd.stream_id);
    (void)flags;
    h->block_bytes += name_len + value_len;
    if (h->block_bytes > BLOCK_HEADS * h->conn->server->opt.limits.head_bytes) {
        h->conn->server->metrics->bad_requests++;
        log_debug("http", "refused a frame",
                  LOG_F(log_uint("conn", h->conn->id), log_str("why", "the head is too long")));
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* the stream is reset, the rest passed over */
    }
    if (s && s->rq && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        h2_request_field(s->rq, slice_of((const char *)name, name_len),
                         slice_of((const char *)value, value_len));
    }
    return 0;
}

static int h2_on_data(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *data,
                      size_t len, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = h2_stream_by_id(ng, id);
    (void)flags;
    if (nghttp2_session_consume_connection(ng, len)) {
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    if (!s || !s->rq || s->rq->http.state != HTTP_BODY) {
        return 0; /* it is refused already */
    }
    h2_request_body(s->rq, (const char *)data, len);
    if (s->rq->http.state == HTTP_FAILED) {
        h2_request_ready(s);
    } else {
        s->rq->unconsumed += len;
        h->bodies = true;
        if (h2_body_wanted(s)) {
            h2_give_window(s);
        }
    }
    return 0;
}

/* The fields of a request are complete. */
static void h2_on_head(struct h2_stream *s, bool ended)
{
    const struct http_request *rq = &s->rq->http;
    h2_request_head_done(s->rq, ended);
    s->stream.ops = &h2_stream_ops;
    s->head_only = s->rq->head;
    s->expects_continue = rq->state == HTTP_BODY && rq->expect_continue;
    s->h2->flood.glitches += rq->state == HTTP_FAILED;
    if (!ended) {
        h2_stream_arm(s);
    }
    h2_request_ready(s);
}

static int h2_on_frame(nghttp2_session *ng, const nghttp2_frame *frame, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = h2_stream_by_id(ng, frame->hd.stream_id);
    bool ended = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    switch (frame->hd.type) {
    case NGHTTP2_WINDOW_UPDATE:
        h->flood.glitches += frame->window_update.window_size_increment < TINY_WINDOW_BYTES;
        return 0;
    case NGHTTP2_RST_STREAM:
        h->conn->server->metrics->h2_resets_received++;
        return 0;
    case NGHTTP2_DATA:
        h->flood.glitches += !ended && frame->hd.length && frame->hd.length == frame->data.padlen;
        break;
    case NGHTTP2_HEADERS:
        if (s && s->rq && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
            h2_on_head(s, ended);
        }
        break;
    default:
        return 0;
    }
    if (s && s->rq && ended && s->rq->http.state != HTTP_FAILED) {
        h2_request_end(s->rq);
        if (!s->asking) {
            h2_request_ready(s);
        }
    }
    return 0;
}

static int h2_on_invalid_frame(nghttp2_session *ng, const nghttp2_frame *frame, int code,
                               void *user)
{
    struct h2 *h = user;
    (void)ng;
    h->flood.glitches++; /* now: a client that reads nothing is never sent the answer */
    h->conn->server->metrics->bad_requests++;
    log_debug("http", "refused a frame",
              LOG_F(log_uint("conn", h->conn->id), log_uint("type", frame->hd.type),
                    log_str("why", nghttp2_strerror(code))));
    return 0;
}

static int h2_on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = h2_stream_by_id(ng, id);
    if (s) {
        s->gone = true;
        s->why = code == NGHTTP2_NO_ERROR || code == NGHTTP2_CANCEL ? CLOSE_CLIENT_CLOSED
                                                                    : CLOSE_CLIENT_ERROR;
        list_del(&s->turn);
        list_add_tail(&h->gone, &s->turn);
    }
    return 0;
}

static int h2_on_frame_sent(nghttp2_session *ng, const nghttp2_frame *frame, void *user)
{
    struct h2 *h = user;
    switch (frame->hd.type) {
    case NGHTTP2_RST_STREAM:
        h->conn->server->metrics->h2_resets_sent++;
        /* CANCEL and NO_ERROR are the broker's own wish; what it refuses was counted then */
        h->flood.glitches += frame->rst_stream.error_code != NGHTTP2_CANCEL &&
                             frame->rst_stream.error_code != NGHTTP2_REFUSED_STREAM &&
                             frame->rst_stream.error_code != NGHTTP2_NO_ERROR;
        return 0;
    case NGHTTP2_GOAWAY:
        h->goaway = true;
        h->error = frame->goaway.error_code != NGHTTP2_NO_ERROR;
        return 0;
    case NGHTTP2_DATA:
    case NGHTTP2_HEADERS:
        break;
    default:
        return 0;
    }
    if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) &&
        nghttp2_session_get_stream_remote_close(ng, frame->hd.stream_id) == 0) {
        h2_stream_linger(h2_stream_by_id(ng, frame->hd.stream_id));
    }
    return 0;
}

static int h2_on_error(nghttp2_session *ng, int code, const char *text, size_t len, void *user)
{
    const struct h2 *h = user;
    (void)ng;
    log_debug("http", "HTTP/2 error",
              LOG_F(log_uint("conn", h->conn->id), log_int("code", code),
                    log_slice("why", slice_of(text, len))));
    return 0;
}

/* ---------------------------------------------------------------- birth and end */

static int h2_session_begin(struct h2 *h)
{
    nghttp2_session_callbacks *cb = NULL;
    nghttp2_option *opt = NULL;
    if (nghttp2_session_callbacks_new(&cb) || nghttp2_option_new(&opt)) {
        nghttp2_session_callbacks_del(cb);
        return UV_ENOMEM;
    }
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, h2_on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, h2_on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, h2_on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, h2_on_frame);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(cb, h2_on_invalid_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, h2_on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, h2_on_frame_sent);
    nghttp2_session_callbacks_set_send_data_callback(cb, h2_on_send_data);
    nghttp2_session_callbacks_set_error_callback2(cb, h2_on_error);
    nghttp2_option_set_no_closed_streams(opt, 1);
    nghttp2_option_set_no_auto_window_update(opt, 1);
    nghttp2_option_set_max_deflate_dynamic_table_size(opt, 0);
    nghttp2_option_set_max_outbound_ack(opt, ACKS_MAX);
    nghttp2_option_set_max_continuations(opt, CONTINUATIONS_MAX);
    nghttp2_mem mem = h2_memory(); /* nghttp2 keeps a copy */
    int rc = nghttp2_session_server_new3(&h->ng, cb, h, opt, &mem);
    nghttp2_option_del(opt);
    nghttp2_session_callbacks_del(cb);
    return rc ? UV_ENOMEM : 0;
}

static int h2_session_greet(struct h2 *h)
{
    const struct http_server_options *o = &h->conn->server->opt;
    /* HEADER_TABLE_SIZE stays at its 4096 bytes: some clients (Go before 1.20) ignore another value,
     * and then their requests cannot be decoded */
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, o->h2_streams},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)o->limits.head_bytes},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
    };
    int rc = nghttp2_submit_settings(h->ng, NGHTTP2_FLAG_NONE, settings,
                                     sizeof settings / sizeof *settings);
    rc = rc ? rc
            : nghttp2_session_set_local_window_size(h->ng, NGHTTP2_FLAG_NONE, 0, BODY_WINDOW_BYTES);
    return rc ? UV_ENOMEM : 0;
}

static void h2_init(struct conn *c)
{
    struct h2 *h = xcalloc(1, sizeof *h);
    container_of(c, struct h2_conn, conn)->h2 = h;
    h->conn = c;
    list_init(&h->streams);
    list_init(&h->waiting);
    list_init(&h->drained);
    list_init(&h->ready);
    list_init(&h->gone);
    h2_flood_init(&h->flood, loop_now(c->server->loop));
    h2_frames_init(&h->frames);
    c->server->metrics->h2_connections++;
    if (h2_session_begin(h) || h2_session_greet(h)) {
        conn_close(c, CLOSE_NO_MEMORY);
        return;
    }
    loop_defer(c->server->loop, &c->flush);
}

static void h2_closed(struct conn *c, enum close_reason why)
{
    struct h2_conn *hc = container_of(c, struct h2_conn, conn);
    struct h2 *h = hc->h2;
    REQUIRE(!h->busy);
    while (!list_empty(&h->streams)) {
        struct h2_stream *s = list_first(&h->streams, struct h2_stream, node);
        list_del(&s->node);
        h2_stream_tell(s, s->gone ? s->why : why);
        h2_stream_free(s);
    }
    nghttp2_session_del(h->ng);
    c->server->metrics->h2_connections--;
    hc->h2 = NULL;
    free(h);
}

/* ---------------------------------------------------------------- the protocol */

static size_t h2_take(struct conn *c, const char *data, size_t len)
{
    struct h2 *h = h2_of(c);
    uint64_t whole = h->frames.whole;
    if (h->failed) {
        return len;
    }
    size_t unusual = h2_frames_feed(&h->frames, (const unsigned char *)data, len);
    if (unusual && !h2_flood_take(&h->flood, c, unusual)) {
        h2_flooded(h);
        return len;
    }
    if (h->frames.whole != whole && c->wait == CONN_WAIT_HEAD) {
        conn_wait_over(c); /* what has begun since has its full time */
    }
    h->busy = true;
    ssize_t rc = nghttp2_session_mem_recv(h->ng, (const uint8_t *)data, len);
    h->busy = false;
    if (rc == NGHTTP2_ERR_FLOODED || rc == NGHTTP2_ERR_TOO_MANY_CONTINUATIONS) {
        h2_flooded(h);
    } else if (rc < 0 || h->frames.broken) {
        log_debug("http", "refused an HTTP/2 connection",
                  LOG_F(log_uint("conn", c->id), log_str("why", rc < 0 ? nghttp2_strerror((int)rc)
                                                                       : "PRIORITY of stream 0")));
        c->server->metrics->bad_requests++;
        h2_end(h, rc == NGHTTP2_ERR_NOMEM ? NGHTTP2_INTERNAL_ERROR : NGHTTP2_PROTOCOL_ERROR,
               rc == NGHTTP2_ERR_NOMEM ? CLOSE_NO_MEMORY : CLOSE_REFUSED_REQUEST);
    }
    h2_settle(c);
    return len;
}

/* Without the client's half there is no window and no answer to a PING: it has left. */
static void h2_eof(struct conn *c)
{
    conn_close(c, CLOSE_CLIENT_CLOSED);
}

static void h2_gather(struct conn *c)
{
    h2_pump(h2_of(c));
}

static void h2_writable(struct conn *c)
{
    (void)c; /* h2_progress() follows */
}

/* nghttp2 has nothing to say and listens no more. */
static bool h2_is_over(const struct h2 *h)
{
    return !nghttp2_session_want_read(h->ng) && !nghttp2_session_want_write(h->ng);
}

static void h2_progress(struct conn *c)
{
    struct h2 *h = h2_of(c);
    if (h->flood.glitches) {
        size_t n = h->flood.glitches;
        h->flood.glitches = 0;
        if (!h2_flood_take(&h->flood, c, n)) {
            h2_flooded(h);
        }
    }
    h2_settle(c);
    if (c->closing || h->failed) {
        return;
    }
    if (c->server->draining && !h->goaway) {
        h->goaway = true;
        if (nghttp2_submit_goaway(h->ng, NGHTTP2_FLAG_NONE,
                                  nghttp2_session_get_last_proc_stream_id(h->ng), NGHTTP2_NO_ERROR,
                                  NULL, 0)) {
            conn_close(c, CLOSE_NO_MEMORY);
            return;
        }
    }
    if (c->write) {
        return;
    }
    h2_serve_waiting(h);
    if (h2_is_over(h)) {
        h2_fail(h, h->error              ? CLOSE_REFUSED_REQUEST
                   : c->server->draining ? CLOSE_DRAINING
                                         : CLOSE_CLIENT_CLOSED);
    } else if (nghttp2_session_want_write(h->ng)) {
        loop_defer(c->server->loop, &c->flush);
    }
}

static bool h2_wants_bytes(const struct conn *c)
{
    return !c->close_when_written;
}

static bool h2_idle(const struct conn *c)
{
    const struct h2 *h = h2_of(c);
    return h->stream_count == 0 && !nghttp2_session_want_write(h->ng);
}

static enum conn_wait h2_waits_for(const struct conn *c)
{
    const struct h2 *h = h2_of(c);
    bool settled = h->frames.whole > 1; /* the preface, and SETTINGS behind it */
    if (!settled) {
        return CONN_WAIT_HEAD;
    }
    if (h->stream_count == 0) { /* other frames than a request do not make it less idle */
        return h2_frames_head_unfinished(&h->frames) ? CONN_WAIT_HEAD : CONN_WAIT_IDLE;
    }
    return h2_frames_unfinished(&h->frames) ? CONN_WAIT_HEAD : CONN_WAIT_NOTHING;
}

static void h2_timed_out(struct conn *c, enum close_reason why)
{
    h2_end(h2_of(c), NGHTTP2_NO_ERROR, why);
}

static void h2_refuse(struct conn *c, int status, const char *text)
{
    log_debug("http", "refused an HTTP/2 connection",
              LOG_F(log_uint("conn", c->id), log_int("status", status), log_str("why", text)));
    h2_end(h2_of(c), NGHTTP2_ENHANCE_YOUR_CALM, CLOSE_REFUSED_REQUEST);
}

const struct conn_protocol h2_protocol = {
    .name = "HTTP/2",
    .size = sizeof(struct h2_conn),
    .init = h2_init,
    .take = h2_take,
    .eof = h2_eof,
    .gather = h2_gather,
    .writable = h2_writable,
    .progress = h2_progress,
    .wants_bytes = h2_wants_bytes,
    .idle = h2_idle,
    .waits_for = h2_waits_for,
    .timed_out = h2_timed_out,
    .refuse = h2_refuse,
    .closed = h2_closed,
};
