/* See conn.h. Birth, deadlines and the end of a connection; the receiving half is conn_read.c, the
 * sending half conn_write.c. */
#include "net/http/conn.h"

#include "base/logging.h"
#include "base/xalloc.h"
#include "net/address_limit.h"
#include "net/http/exchange.h"
#include "net/http/listener.h"

#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>

enum {
    LINGER_MS = 2000,
};

static const char refused_text[] =
    "a later request may work: this address holds as many connections as "
    "limits.max_connections_per_address allows";

/* ---------------------------------------------------------------- the end */

static void on_closed(uv_handle_t *h)
{
    struct conn *c = h->data;
    struct http_server *s = c->server;
    conn_write_clear(c);
    list_del(&c->node);
    s->conn_count--;
    free(c);
    listener_resume_all(s);
}

void conn_request_drop(struct conn *c)
{
    if (c->rq) {
        http_request_clear(c->rq);
        free(c->rq);
        c->rq = NULL;
    }
    c->continue_sent = false;
}

void conn_close(struct conn *c, enum close_reason why)
{
    if (c->closing) {
        return;
    }
    c->closing = true;
    deadline_disarm(&c->deadline);
    task_cancel(&c->flush);
    exchange_close_all(c, why);
    conn_request_drop(c);
    strbuf_clear(&c->backlog);
    if (c->counted) {
        address_limit_release(c->server->addresses, &c->peer);
    }
    c->server->metrics->closed[why]++;
    c->server->metrics->connections--;
    log_debug("http", "closed",
              LOG_F(log_uint("conn", c->id), log_str("reason", close_reason_name(why))));
    uv_close((uv_handle_t *)&c->handle, on_closed);
}

void conn_close_when_written(struct conn *c, enum close_reason why)
{
    if (c->closing) {
        return;
    }
    c->close_when_written = true;
    c->close_why = why;
    c->streaming = false;
    loop_defer(c->server->loop, &c->flush);
}

/* ---------------------------------------------------------------- deadlines */

void conn_wait_over(struct conn *c)
{
    deadline_disarm(&c->deadline);
    c->wait = CONN_WAIT_NOTHING;
}

static void on_deadline(struct deadline *d)
{
    struct conn *c = container_of(d, struct conn, deadline);
    enum conn_wait wait = c->wait;
    c->wait = CONN_WAIT_NOTHING;
    switch (wait) {
    case CONN_WAIT_HEAD:
        conn_close(c, CLOSE_HEAD_TIMEOUT);
        return;
    case CONN_WAIT_BODY:
        conn_close(c, CLOSE_BODY_TIMEOUT);
        return;
    case CONN_WAIT_IDLE:
        conn_close(c, CLOSE_IDLE_TIMEOUT);
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

static enum conn_wait what_to_wait_for(const struct conn *c)
{
    if (c->write) {
        return CONN_WAIT_PEER;
    }
    if (c->lingering) {
        return CONN_WAIT_LINGER;
    }
    if (c->rq && c->rq->state == HTTP_BODY) {
        return CONN_WAIT_BODY;
    }
    if (c->rq && c->rq->state == HTTP_HEAD && c->rq->head.len) {
        return CONN_WAIT_HEAD;
    }
    if (c->exchange_count || c->rq) {
        return CONN_WAIT_NOTHING;
    }
    return c->served ? CONN_WAIT_IDLE : CONN_WAIT_HEAD;
}

void conn_set_deadline(struct conn *c)
{
    enum conn_wait want = what_to_wait_for(c);
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
    deadline_arm(loop_deadline_class(c->server->loop, ms, on_deadline), &c->deadline);
}

/* ---------------------------------------------------------------- birth */

struct conn *conn_new(struct http_server *server, bool is_unix)
{
    struct conn *c = calloc(1, sizeof *c);
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
    list_init(&c->node);
    list_init(&c->exchanges);
    task_init(&c->flush, conn_on_flush);
    deadline_init(&c->deadline);
    /* one read may land here in full while an earlier request is being answered */
    strbuf_init(&c->backlog, LOOP_READ_BUFFER_BYTES);
    strbuf_init(&c->out, CONN_OUT_MAX_BYTES);
    list_add_tail(&server->conns, &c->node);
    server->conn_count++;
    server->metrics->connections++;
    server->metrics->accepted++;
    return c;
}

static void set_socket_options(struct conn *c)
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

static bool peer_is_trusted(const struct conn *c)
{
    const struct http_server_options *o = &c->server->opt;
    for (size_t i = 0; i < o->trusted_proxy_count; i++) {
        if (network_contains(&o->trusted_proxies[i], &c->peer)) {
            return true;
        }
    }
    return false;
}

void conn_start(struct conn *c)
{
    struct http_server *s = c->server;
    peer_address_of(&c->handle.stream, &c->peer);
    set_socket_options(c);
    c->id = ++s->last_conn_id;
    unsigned most = s->opt.max_connections_per_address;
    if (most && !peer_is_trusted(c)) {
        c->counted = address_limit_take(s->addresses, &c->peer, most);
        if (!c->counted) {
            conn_refuse(c, 429, refused_text, CLOSE_REFUSED_REQUEST);
            return;
        }
    }
    conn_progress(c);
}
