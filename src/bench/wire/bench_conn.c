#include "bench/wire/bench_conn.h"

#include "base/alloc.h"
#include "base/require.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { READ_BUFFER_BYTES = 256 * 1024, TLS_PART_BYTES = 64 * 1024 };

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

void bench_net_init(struct bench_net *n, uv_loop_t *loop, const struct sockaddr_storage *to,
                    unsigned sources)
{
    *n = (struct bench_net){.loop = loop, .to = *to, .sources = sources};
    n->buffer = xmalloc(READ_BUFFER_BYTES);
}

int bench_net_use_tls(struct bench_net *n, bool resume)
{
    n->plain = xmalloc(READ_BUFFER_BYTES);
    n->tls = bench_tls_context_new(resume);
    return n->tls ? 0 : UV_ENOMEM;
}

void bench_net_clear(struct bench_net *n)
{
    bench_tls_context_free(n->tls);
    free(n->plain);
    free(n->buffer);
}

static void bench_conn_on_closed(uv_handle_t *h)
{
    struct bench_conn *c = h->data;
    c->state = BENCH_CONN_IDLE;
    bench_tls_end(&c->tls);
    if (c->ops->closed) {
        c->ops->closed(c);
    }
}

void bench_conn_close(struct bench_conn *c)
{
    if (c->state == BENCH_CONN_OPENING || c->state == BENCH_CONN_OPEN) {
        c->state = BENCH_CONN_CLOSING;
        uv_close((uv_handle_t *)&c->tcp, bench_conn_on_closed);
    }
}

static void bench_conn_end(struct bench_conn *c, int rc)
{
    bench_conn_close(c);
    c->ops->ended(c, rc);
}

static void bench_conn_on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    struct bench_conn *c = h->data;
    (void)suggested;
    *buf = uv_buf_init(c->net->buffer, READ_BUFFER_BYTES);
}

/* ---------------------------------------------------------------- TLS */

struct bench_conn_rest {
    uv_write_t rq;
    struct bench_conn *c;
    char bytes[];
};

static void on_rest_written(uv_write_t *rq, int rc)
{
    struct bench_conn_rest *rest = rq->data;
    rest->c->writing = false;
    if (rc && rc != UV_ECANCELED && rest->c->state != BENCH_CONN_CLOSING) {
        bench_conn_end(rest->c, rc);
    }
    free(rest);
}

/* Sends what TLS has to say. Ciphertext cannot be asked for twice, so libuv keeps what the kernel does not take. */
static int bench_conn_flush(struct bench_conn *c)
{
    struct slice out = bench_tls_output(&c->tls);
    if (out.n == 0) {
        return 0;
    }
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t)out.p, (unsigned)out.n);
    int n = c->writing ? UV_EAGAIN : uv_try_write((uv_stream_t *)&c->tcp, &buf, 1);
    if (n < 0 && n != UV_EAGAIN) {
        return n;
    }
    size_t taken = n > 0 ? (size_t)n : 0;
    if (taken < out.n) {
        struct bench_conn_rest *rest = xmalloc(sizeof *rest + out.n - taken);
        rest->c = c;
        rest->rq.data = rest;
        memcpy(rest->bytes, out.p + taken, out.n - taken);
        buf = uv_buf_init(rest->bytes, (unsigned)(out.n - taken));
        int rc = uv_write(&rest->rq, (uv_stream_t *)&c->tcp, &buf, 1, on_rest_written);
        if (rc) {
            free(rest);
            return rc;
        }
        c->writing = true;
    }
    bench_tls_sent(&c->tls);
    return 0;
}

static void bench_conn_on_records(struct bench_conn *c, struct slice bytes)
{
    int rc = bench_tls_feed(&c->tls, bytes);
    rc = rc ? rc : bench_conn_flush(c);
    bool shaken = rc == 0 && c->state == BENCH_CONN_OPENING && c->tls.state == BENCH_TLS_OPEN;
    if (shaken && c->h2 && !bench_tls_is_h2(&c->tls)) {
        rc = UV_EPROTONOSUPPORT;
    } else if (shaken) {
        c->state = BENCH_CONN_OPEN;
        c->ops->opened(c);
    }
    while (rc == 0 && c->state == BENCH_CONN_OPEN) {
        size_t n = bench_tls_read(&c->tls, c->net->plain, READ_BUFFER_BYTES);
        if (n == 0) {
            break;
        }
        c->ops->data(c, slice_of(c->net->plain, n));
    }
    bool over = c->tls.state == BENCH_TLS_ENDED || c->tls.state == BENCH_TLS_BROKEN;
    if (c->state != BENCH_CONN_CLOSING && (rc || over)) {
        bench_conn_end(c, rc ? rc : c->tls.state == BENCH_TLS_ENDED ? UV_EOF : UV_EPROTO);
    }
}

/* ---------------------------------------------------------------- sockets */

static void bench_conn_on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    struct bench_conn *c = s->data;
    if (n > 0 && c->net->tls) {
        bench_conn_on_records(c, slice_of(buf->base, (size_t)n));
    } else if (n > 0) {
        c->ops->data(c, slice_of(buf->base, (size_t)n));
    } else if (n < 0) {
        bench_conn_end(c, (int)n);
    }
}

static void on_connect(uv_connect_t *rq, int rc)
{
    struct bench_conn *c = rq->handle->data;
    if (c->state != BENCH_CONN_OPENING) {
        return; /* closed meanwhile: UV_ECANCELED */
    }
    if (rc == 0) {
        rc = uv_read_start((uv_stream_t *)&c->tcp, bench_conn_on_alloc, bench_conn_on_read);
    }
    if (rc == 0 && c->net->tls) {
        rc = bench_tls_begin(&c->tls, c->net->tls, c->h2);
        rc = rc ? rc : bench_conn_flush(c);
    }
    if (rc) {
        bench_conn_end(c, rc);
    } else if (!c->net->tls) {
        c->state = BENCH_CONN_OPEN;
        c->ops->opened(c);
    }
}

/* A socket bound to the next source address. The port is chosen at connect(2), where one that
 * leads elsewhere may be used again (ip(7)). */
static int open_bound(struct bench_conn *c)
{
    struct bench_net *n = c->net;
    struct sockaddr_in from = {.sin_family = AF_INET};
    int one = 1, rc = 0;
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + n->next_source++ % n->sources);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one) ||
        bind(fd, (const struct sockaddr *)&from, sizeof from)) {
        rc = -errno;
    } else {
        rc = uv_tcp_open(&c->tcp, fd);
    }
    if (rc) {
        close(fd);
    }
    return rc;
}

void bench_conn_open(struct bench_conn *c, struct bench_net *n, const struct bench_conn_ops *ops)
{
    REQUIRE(c->state == BENCH_CONN_IDLE);
    c->net = n;
    c->ops = ops;
    REQUIRE(uv_tcp_init(n->loop, &c->tcp) == 0); /* makes no socket yet */
    c->tcp.data = c;
    c->state = BENCH_CONN_OPENING;
    int rc = n->sources ? open_bound(c) : 0;
    if (rc == 0) {
        rc = uv_tcp_connect(&c->connect, &c->tcp, (const struct sockaddr *)&n->to, on_connect);
    }
    if (rc == 0) {
        rc = uv_tcp_nodelay(&c->tcp, 1);
    }
    if (rc) {
        bench_conn_end(c, rc);
    }
}

void bench_conn_pause(struct bench_conn *c, bool on)
{
    if (c->state == BENCH_CONN_OPEN) {
        int rc =
            on ? uv_read_stop((uv_stream_t *)&c->tcp)
               : uv_read_start((uv_stream_t *)&c->tcp, bench_conn_on_alloc, bench_conn_on_read);
        if (rc) {
            bench_conn_end(c, rc);
        }
    }
}

int bench_conn_write(struct bench_conn *c, struct slice bytes)
{
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t)bytes.p, (unsigned)bytes.n);
    if (c->state != BENCH_CONN_OPEN) {
        return UV_ENOTCONN;
    }
    if (c->net->tls) {
        struct slice part = slice_of(bytes.p, bytes.n < TLS_PART_BYTES ? bytes.n : TLS_PART_BYTES);
        int rc = c->writing || part.n == 0 ? 0 : bench_tls_write(&c->tls, part);
        if (rc || c->writing) {
            return rc;
        }
        rc = bench_conn_flush(c);
        return rc ? rc : (int)part.n;
    }
    int n = uv_try_write((uv_stream_t *)&c->tcp, &buf, 1);
    return n == UV_EAGAIN ? 0 : n;
}

void bench_conn_clear(struct bench_conn *c)
{
    bench_tls_clear(&c->tls);
}
