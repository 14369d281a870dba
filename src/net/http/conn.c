/* See conn.h. In this order: sending, the end, deadlines, receiving, birth.
 *
 * A write that the kernel takes in full costs one system call and nothing else; only the rest of one
 * that it does not take is handed to libuv, one at a time, so that a slow client holds at most that
 * and one queued frame. */
#include "net/http/conn.h"

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/logging.h"
#include "base/require.h"
#include "base/uninitialized.h"
#include "net/address_limit.h"

#include <errno.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>

enum {
    LINGER_MS = 2000,
    WRITE_IOV_MAX = 1024, /* IOV_MAX of Linux */
};

static const char conn_refused_text[] =
    "a later request may work: this address holds as many connections as "
    "limits.max_connections_per_address allows";

void conn_wait_over(struct conn *c)
{
    deadline_disarm(&c->deadline);
    c->wait = CONN_WAIT_NOTHING;
}

/* ---------------------------------------------------------------- sending */

static void conn_write_out(struct conn *c);

struct conn_write {
    uv_write_t req;
    struct conn *conn;
    char *bytes;         /* owned; or */
    struct frame *frame; /* a reference */
};

static void conn_write_free(struct conn_write *w)
{
    frame_unref(w->frame);
    free(w->bytes);
    free(w);
}

/* Releases what writes still hold: the handle has closed. */
static void conn_write_clear(struct conn *c)
{
    frame_unref(c->queued);
    c->queued = NULL;
    strbuf_clear(&c->out);
}

static void conn_on_written(uv_write_t *req, int status)
{
    struct conn_write *w = container_of(req, struct conn_write, req);
    struct conn *c = w->conn;
    c->write = NULL;
    conn_write_free(w);
    if (c->closing) {
        return; /* libuv cancels writes before the close callback */
    }
    if (status < 0) {
        conn_close(c, close_reason_of(status));
        return;
    }
    conn_wait_over(c); /* a further write has its own time to make progress */
    conn_write_out(c);
    if (!c->closing && !c->write) {
        c->protocol->writable(c);
    }
    conn_progress(c);
}

void conn_write_start(struct conn *c, char *bytes, struct frame *frame, size_t from, size_t to)
{
    struct conn_write *w = xcalloc(1, sizeof *w);
    w->conn = c;
    w->bytes = bytes;
    w->frame = frame;
    char *base = (frame ? frame->bytes : bytes) + from;
    uv_buf_t buf = uv_buf_init(base, (unsigned)(to - from));
    c->write = w;
    c->server->metrics->writes_blocked++;
    int rc = uv_write(&w->req, &c->handle.stream, &buf, 1, conn_on_written);
    if (rc) {
        c->write = NULL;
        conn_write_free(w);
        conn_close_when_written(c, close_reason_of(rc)); /* not now: the caller may be an owner */
    }
}

/* What uv_try_write() does when nothing is queued, but through the system calls of sockets:
 * write(2) visits the file's inode and its watchers on the way, which are cold for each of many
 * clients. */
ssize_t conn_send(const struct conn *c, const uv_buf_t *bufs, unsigned count)
{
    uv_os_fd_t fd;
    int rc = uv_fileno(&c->handle.any, &fd);
    if (rc) {
        return rc;
    }
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)bufs, /* as <uv/unix.h> allows */
                       .msg_iovlen = count};
    ssize_t n;
    do {
        n = count == 1 ? send(fd, bufs->base, bufs->len, MSG_NOSIGNAL)
                       : sendmsg(fd, &m, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n < 0) { /* ENOBUFS: a Unix socket, when the kernel is short of memory */
        return errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS
                   ? UV_EAGAIN
                   : uv_translate_sys_error(errno);
    }
    return n;
}

/* Writes `out` first. Not inlined: the buffers would be on the stack of every delivery. */
static __attribute__((noinline)) ssize_t conn_write_behind_out(struct conn *c, const uv_buf_t *bufs,
                                                               unsigned count)
{
    UNINITIALIZED uv_buf_t all[WRITE_IOV_MAX];
    size_t head = c->out.len;
    if (count > WRITE_IOV_MAX - 1) {
        count = WRITE_IOV_MAX - 1;
    }
    all[0] = uv_buf_init(c->out.data, (unsigned)head);
    if (count) {
        memcpy(all + 1, bufs, count * sizeof *bufs);
    }
    ssize_t n = conn_send(c, all, count + 1);
    if (n == UV_EAGAIN) {
        n = 0;
    } else if (n < 0) {
        return n;
    }
    c->server->metrics->bytes_out += (uint64_t)n;
    if ((size_t)n >= head) {
        strbuf_clear(&c->out);
        return (ssize_t)((size_t)n - head);
    }
    strbuf_consume(&c->out, (size_t)n);
    size_t len = c->out.len;
    conn_write_start(c, strbuf_detach(&c->out), NULL, 0, len);
    return 0;
}

ssize_t conn_write_now(struct conn *c, const uv_buf_t *bufs, unsigned count)
{
    if (c->layer) {
        return c->layer->ops->write(c, bufs, count);
    }
    c->server->metrics->writes++;
    if (c->out.len) {
        return conn_write_behind_out(c, bufs, count);
    }
    ssize_t n = conn_send(c, bufs, count);
    if (n < 0) {
        return n == UV_EAGAIN ? 0 : n;
    }
    c->server->metrics->bytes_out += (uint64_t)n;
    return n;
}

/* The queued frame, behind `out`. A layer takes all of it unless a write is in flight then. */
static void conn_write_queued(struct conn *c)
{
    uv_buf_t buf = uv_buf_init(c->queued->bytes + c->queued_offset,
                               (unsigned)(c->queued->len - c->queued_offset));
    ssize_t n = conn_write_now(c, &buf, 1);
    if (n < 0) {
        conn_close(c, close_reason_of(n));
        return;
    }
    c->queued_offset += (uint32_t)n;
    if (c->queued_offset == c->queued->len) {
        frame_unref(c->queued);
        c->queued = NULL;
    }
}

/* Writes `out` as far as it goes; the rest, and a queued frame, when the peer takes it. */
static void conn_write_out(struct conn *c)
{
    if (c->write || c->closing) {
        return;
    }
    if (c->protocol->gather) {
        c->protocol->gather(c);
    }
    if (c->out.len && c->queued && !c->layer) {
        conn_write_queued(c); /* the two with one system call */
    } else if (c->out.len || c->layer_waits) {
        ssize_t n = conn_write_now(c, NULL, 0);
        if (n < 0) {
            conn_close(c, close_reason_of(n));
        }
    }
    if (c->closing) {
        return;
    }
    if (!c->write && c->queued && c->layer) {
        conn_write_queued(c);
    } else if (!c->write && c->queued) {
        struct frame *f = c->queued;
        c->queued = NULL;
        conn_write_start(c, NULL, f, c->queued_offset, f->len);
    }
}

/* ---------------------------------------------------------------- the end */

static void conn_on_closed(uv_handle_t *h)
{
    struct conn *c = h->data;
    struct http_server *s = c->server;
    conn_write_clear(c);
    if (c->layer) {
        c->layer->ops->free(c);
    }
    list_del(&c->node);
    s->conn_count--;
    free(c);
    loop_defer(s->loop, &s->accept_again);
}

void conn_close(struct conn *c, enum close_reason why)
{
    if (c->closing) {
        return;
    }
    c->closing = true;
    deadline_disarm(&c->deadline);
    task_cancel(&c->flush);
    c->protocol->closed(c, why);
    strbuf_clear(&c->backlog);
    if (c->counted) {
        address_limit_release(c->server->addresses, &c->peer, 1);
    }
    c->server->metrics->closed[why]++;
    c->server->metrics->connections--;
    log_debug("http", "closed",
              LOG_F(log_uint("conn", c->id), log_str("reason", close_reason_name(why))));
    uv_close((uv_handle_t *)&c->handle, conn_on_closed);
}

void conn_close_when_written(struct conn *c, enum close_reason why)
{
    if (c->closing) {
        return;
    }
    c->close_when_written = true;
    c->close_why = why;
    loop_defer(c->server->loop, &c->flush);
}

/* ---------------------------------------------------------------- deadlines */

static void conn_timed_out(struct conn *c, enum close_reason why)
{
    if (c->protocol->timed_out) {
        c->protocol->timed_out(c, why);
    } else {
        conn_close(c, why);
    }
}

static void conn_on_deadline(struct deadline *d)
{
    struct conn *c = container_of(d, struct conn, deadline);
    enum conn_wait wait = c->wait;
    c->wait = CONN_WAIT_NOTHING;
    switch (wait) {
    case CONN_WAIT_HEAD:
        conn_timed_out(c, CLOSE_HEAD_TIMEOUT);
        return;
    case CONN_WAIT_BODY:
        conn_timed_out(c, CLOSE_BODY_TIMEOUT);
        return;
    case CONN_WAIT_IDLE:
        conn_timed_out(c, CLOSE_IDLE_TIMEOUT);
        return;
    case CONN_WAIT_LINGER:
        conn_close(c, c->close_why);
        return;
    case CONN_WAIT_PEER:
        if (uv_stream_get_write_queue_size(&c->handle.stream) >= c->write_left) {
            conn_close(c, CLOSE_DEAD_PEER);
            return;
        }
        conn_progress(c); /* slow, but alive */
        return;
    case CONN_WAIT_NOTHING:
        return;
    }
}

static enum conn_wait conn_what_to_wait_for(const struct conn *c)
{
    if (c->write) {
        return CONN_WAIT_PEER;
    }
    if (c->lingering) {
        return CONN_WAIT_LINGER;
    }
    return c->protocol->waits_for(c);
}

/* Arms the right deadline for what it waits for now. */
static void conn_set_deadline(struct conn *c)
{
    enum conn_wait want = conn_what_to_wait_for(c);
    if (want == c->wait) {
        return;
    }
    const struct http_server_options *o = &c->server->opt;
    uint64_t ms = 0;
    c->wait = want;
    switch (want) {
    case CONN_WAIT_NOTHING:
        deadline_disarm(&c->deadline);
        return;
    case CONN_WAIT_HEAD:
        ms = o->head_timeout_ms;
        break;
    case CONN_WAIT_BODY:
        ms = o->body_timeout_ms;
        break;
    case CONN_WAIT_IDLE:
        ms = o->idle_timeout_ms;
        break;
    case CONN_WAIT_LINGER:
        ms = LINGER_MS;
        break;
    case CONN_WAIT_PEER:
        ms = o->dead_peer_ms;
        c->write_left = uv_stream_get_write_queue_size(&c->handle.stream);
        break;
    }
    deadline_arm(loop_deadline_class(c->server->loop, ms, conn_on_deadline), &c->deadline);
}

/* ---------------------------------------------------------------- receiving */

/* The answer is complete but the client may still be sending: closing at once would reset the
 * connection and could take the answer with it (RFC 9112, 9.6). */
static void conn_linger(struct conn *c)
{
    int fd;
    c->lingering = true;
    strbuf_clear(&c->backlog);
    if (uv_fileno((uv_handle_t *)&c->handle, &fd) || shutdown(fd, SHUT_WR)) {
        conn_close(c, c->close_why);
    }
}

static void conn_on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);

static void conn_on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    (void)suggested;
    struct conn *c = h->data;
    *buf = loop_read_buffer(c->server->loop);
    /* what cannot be parsed now must fit in there; behind a layer it may be more than one buffer */
    buf->len -= c->backlog.len < buf->len ? c->backlog.len : buf->len - 1;
}

/* Lingering connections are read to notice their end. */
static void conn_set_reading(struct conn *c)
{
    bool want = !c->eof && (c->lingering || c->protocol->wants_bytes(c));
    if (want == c->reading) {
        return;
    }
    c->reading = want;
    int rc = want ? uv_read_start(&c->handle.stream, conn_on_alloc, conn_on_read)
                  : uv_read_stop(&c->handle.stream);
    if (rc) {
        conn_close(c, CLOSE_CLIENT_ERROR);
    }
}

static void conn_finish_if_done(struct conn *c)
{
    if (c->write || c->out.len || c->queued || c->lingering || c->layer_waits) {
        return;
    }
    bool over = (c->eof || c->server->draining) && c->protocol->idle(c);
    if (c->layer && (c->close_when_written || over)) {
        c->layer->ops->end(c);
    }
    if (c->close_when_written) {
        bool unread = c->close_why == CLOSE_REFUSED_REQUEST || c->close_why == CLOSE_ANSWERED ||
                      c->close_why == CLOSE_TLS_HANDSHAKE || c->close_why == CLOSE_FLOOD;
        if (unread && !c->eof) {
            conn_linger(c);
        } else {
            conn_close(c, c->close_why);
        }
    } else if (over) {
        conn_close(c, c->eof ? CLOSE_CLIENT_CLOSED : CLOSE_DRAINING);
    }
}

void conn_progress(struct conn *c)
{
    if (c->closing) {
        return;
    }
    c->protocol->progress(c);
    if (!c->closing) {
        conn_finish_if_done(c);
    }
    if (!c->closing) {
        conn_set_reading(c);
    }
    if (!c->closing) {
        conn_set_deadline(c);
    }
}

static void conn_on_eof(struct conn *c)
{
    c->eof = true;
    c->protocol->eof(c);
}

/* What came before the end has been taken, as far as that goes. */
static void conn_on_end(struct conn *c)
{
    c->ended = false;
    if (c->lingering) {
        conn_close(c, c->close_why);
    } else if (c->broke) {
        conn_close(c, c->broke_why);
    } else {
        conn_on_eof(c);
        conn_progress(c);
    }
}

static void conn_on_flush(struct task *t)
{
    struct conn *c = container_of(t, struct conn, flush);
    bool queued = c->queued != NULL;
    conn_write_out(c);
    if (queued && !c->queued && !c->write && !c->closing) {
        c->protocol->writable(c); /* the layer got rid of it at once */
    }
    conn_progress(c);
    if (c->ended && !c->closing) {
        conn_on_end(c);
    }
}

static void conn_take(struct conn *c, const char *data, size_t len)
{
    /* what came before comes first, though the protocol may be ready for more by now: its progress() has
     * not run since */
    size_t used = c->backlog.len ? 0 : c->protocol->take(c, data, len);
    if (!c->closing && used < len && strbuf_append(&c->backlog, data + used, len - used)) {
        conn_close(c, CLOSE_NO_MEMORY);
    }
}

void conn_received(struct conn *c, const char *data, size_t len)
{
    struct slice plain = slice_of(data, len);
    int rc = c->layer ? c->layer->ops->decrypt(c, data, len, &plain) : 0;
    if (plain.n && !c->lingering && !c->close_when_written) {
        conn_take(c, plain.p, plain.n);
    } /* else nothing a client says here means anything */
    if (c->closing) {
        return;
    }
    if (rc == UV_EOF && !c->eof) {
        conn_on_eof(c);
    } else if (rc < 0 && rc != UV_EOF) {
        conn_close(c, CLOSE_CLIENT_ERROR);
    }
    conn_progress(c);
}

/* A read that fills the buffer: there is more. libuv would go on to read, up to 32 times; a client that sends
 * a lot gets one read a turn like all others. */
static void conn_yield(struct conn *c)
{
    int rc = uv_read_stop(&c->handle.stream);
    (void)rc; /* is always 0 */
    c->reading = false;
    loop_defer(c->server->loop, &c->flush); /* conn_progress() reads again */
}

static void conn_on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct conn *c = stream->data;
    if (n == 0) {
        return;
    }
    if (n < 0) { /* of thousands at once, perhaps: a server they came from has ended */
        c->ended = true;
        c->broke = n != UV_EOF;
        c->broke_why = close_reason_of(n);
        loop_defer_late(c->server->loop, &c->flush);
        return;
    }
    c->server->metrics->bytes_in += (uint64_t)n;
    bool full = (size_t)n == buf->len;
    if (!c->lingering && !c->close_when_written) { /* else nothing a client says means anything */
        conn_received(c, buf->base, (size_t)n);
    }
    if (full && !c->closing && c->reading) {
        conn_yield(c);
    }
}

/* ---------------------------------------------------------------- birth */

struct conn *conn_new(struct http_server *server, bool is_unix)
{
    struct conn *c = calloc(1, server->protocol->size);
    if (!c) {
        return NULL;
    }
    uv_loop_t *uv = loop_uv(server->loop);
    int rc = is_unix ? uv_pipe_init(uv, &c->handle.pipe, 0) : uv_tcp_init(uv, &c->handle.tcp);
    if (rc) {
        free(c);
        return NULL;
    }
    c->handle.stream.data = c;
    c->server = server;
    c->protocol = server->protocol;
    list_init(&c->node);
    task_init(&c->flush, conn_on_flush);
    deadline_init(&c->deadline);
    /* one read may land here in full while an earlier request is being answered */
    strbuf_init(&c->backlog, LOOP_READ_BUFFER_BYTES);
    strbuf_init(&c->out, CONN_OUT_MAX_BYTES);
    c->protocol->init(c);
    list_add_tail(&server->conns, &c->node);
    server->conn_count++;
    server->metrics->connections++;
    server->metrics->accepted++;
    return c;
}

void conn_set_protocol(struct conn *c, const struct conn_protocol *p)
{
    REQUIRE(p->size <= c->server->protocol->size);
    memset(c + 1, 0, p->size - sizeof *c);
    c->protocol = p;
    p->init(c);
}

static void conn_set_socket_options(struct conn *c)
{
    int fd;
    if (c->handle.stream.type != UV_TCP || uv_fileno((uv_handle_t *)&c->handle, &fd)) {
        return;
    }
    /* Failures leave the defaults, with which everything works, only later or larger. */
    unsigned ms = (unsigned)c->server->opt.dead_peer_ms;
    (void)uv_tcp_nodelay(&c->handle.tcp, 1);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms);
    int bytes = c->server->opt.send_buffer_bytes;
    if (bytes) {
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    }
}

/* On a loopback address of this machine, whatever the listener's is. Not known: it is gone. */
static bool conn_is_loopback(const struct conn *c)
{
    struct address local = {.is_unix = false};
    int size = (int)sizeof local.tcp;
    return c->handle.stream.type == UV_TCP &&
           uv_tcp_getsockname(&c->handle.tcp, (struct sockaddr *)&local.tcp, &size) == 0 &&
           address_is_local(&local);
}

static bool conn_peer_is_trusted(const struct conn *c)
{
    const struct http_server_options *o = &c->server->opt;
    return networks_contain(o->trusted_proxies, o->trusted_proxy_count, &c->peer);
}

void conn_note_too_many(const struct conn *c, const struct peer_address *client)
{
    struct http_server *s = c->server;
    char text[ADDRESS_TEXT_MAX];
    s->metrics->too_many_per_address++;
    if (!log_pace_take(&s->too_many_pace, loop_now(s->loop))) {
        return;
    }
    peer_address_text(client, text);
    log_warn("http",
             "refused a client that holds too many; raise the limit if many share its address",
             LOG_F(log_str("client", text), log_str("limit", "limits.max_connections_per_address"),
                   log_uint("most", s->opt.max_connections_per_address),
                   log_uint("refused", s->metrics->too_many_per_address)));
}

static bool conn_count_address(struct conn *c)
{
    struct http_server *s = c->server;
    unsigned most = s->opt.max_connections_per_address;
    if (!c->trusted && !http_rate_take(&s->connections, &c->peer, loop_now(s->loop))) {
        /* Says nothing: that is cheap, and an EventSource comes back, which it does not after 429. */
        conn_close(c, CLOSE_REFUSED_REQUEST);
        return false;
    }
    if (most && !c->trusted && !(s->opt.local_exempt && peer_address_is_local(&c->peer))) {
        c->counted = address_limit_take(s->addresses, &c->peer, 1, most);
        if (!c->counted) {
            conn_note_too_many(c, &c->peer);
            c->protocol->refuse(c, 429, conn_refused_text);
            return false;
        }
    }
    return true;
}

bool conn_admit(struct conn *c, const struct peer_address *peer)
{
    c->proxied = false;
    c->nameless = !peer;
    c->loopback = false; /* no page makes a browser speak the PROXY protocol */
    if (peer) {
        c->peer = *peer;
        c->trusted = conn_peer_is_trusted(c);
    }
    return conn_count_address(c);
}

void conn_start(struct conn *c)
{
    struct http_server *s = c->server;
    peer_address_of(&c->handle.stream, &c->peer);
    conn_set_socket_options(c);
    c->id = ++s->last_conn_id;
    c->trusted = conn_peer_is_trusted(c);
    c->loopback = conn_is_loopback(c);
    /* a proxy will say whom to count; who is none will be refused, and counts until then */
    bool later = c->proxied && (c->trusted || !s->opt.trusted_proxy_count);
    if (later || conn_count_address(c)) {
        conn_progress(c);
    }
}
