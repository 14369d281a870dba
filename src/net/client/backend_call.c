/* See backend_call.h. By hand and not by http_client.c, which would take more than it gives: its
 * users are the admin process and two commands, and each would have to start libcurl with its TLS
 * and close a client asynchronously. http_client.c would need any method, Unix sockets, and the
 * answer of a service that closes before it has taken all of a body, where libcurl may report the
 * failed write instead. Answers come from this program's own admin service: what is read of HTTP
 * here is what that sends. */
#include "net/client/backend_call.h"

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/require.h"
#include "base/strbuf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEAD_MAX_BYTES = 1024 }; /* without target and type */

struct call {
    struct list node;
    union {
        uv_stream_t stream;
        uv_pipe_t pipe;
        uv_tcp_t tcp;
    } handle;
    uv_connect_t connect;
    uv_write_t write;
    struct deadline deadline;
    struct loop *loop;
    struct strbuf request, answer;
    bool failed, closing;
    unsigned worker;
    backend_call_cb cb;
    void *ctx;
};

/* "HTTP/1.1 200 ...", fields, Content-Length bytes: what the service of a worker sends. */
static int backend_call_parse(const struct strbuf *answer, struct slice *body)
{
    static const char line[] = "HTTP/1.1 ", end[] = "\r\n\r\n", length[] = "Content-Length: ";
    const char *text = answer->data;
    const char *at = answer->len ? memmem(text, answer->len, end, sizeof end - 1) : NULL;
    if (!at || strncmp(text, line, sizeof line - 1) != 0) { /* strbuf ends in NUL */
        return 0;
    }
    int status = (int)strtol(text + sizeof line - 1, NULL, 10); /* stops at the space */
    size_t head = (size_t)(at - text) + sizeof end - 1;
    *body = slice_of(text + head, answer->len - head);
    const char *field = memmem(text, head, length, sizeof length - 1);
    if (field && strtoull(field + sizeof length - 1, NULL, 10) != body->n) {
        return 0; /* cut short */
    }
    return status;
}

static void backend_call_on_closed(uv_handle_t *h)
{
    struct call *c = h->data;
    struct slice body = {0};
    int status = c->failed ? 0 : backend_call_parse(&c->answer, &body);
    c->cb(c->ctx, c->worker, status, body);
    list_del(&c->node);
    strbuf_clear(&c->request);
    strbuf_clear(&c->answer);
    free(c);
}

static void backend_call_finish(struct call *c, bool failed)
{
    if (!c->closing) {
        c->closing = true;
        c->failed = failed;
        deadline_disarm(&c->deadline);
        uv_close((uv_handle_t *)&c->handle, backend_call_on_closed);
    }
}

static void on_deadline(struct deadline *d)
{
    backend_call_finish(container_of(d, struct call, deadline), true);
}

static void backend_call_on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    struct call *c = h->data;
    (void)suggested;
    *buf = loop_read_buffer(c->loop);
}

static void backend_call_on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct call *c = stream->data;
    if (n == UV_EOF) {
        backend_call_finish(c, false);
    } else if (n < 0 || (n > 0 && strbuf_append(&c->answer, buf->base, (size_t)n))) {
        backend_call_finish(c, true);
    }
}

/* A service that refuses a body answers, and closes, before it has all of it: the end of what is
 * read decides. */
static void on_written(uv_write_t *w, int status)
{
    (void)w;
    (void)status;
}

static void on_connected(uv_connect_t *connect, int status)
{
    struct call *c = connect->data;
    uv_buf_t buf = uv_buf_init(c->request.data, (unsigned)c->request.len);
    c->write.data = c;
    if (status || uv_write(&c->write, &c->handle.stream, &buf, 1, on_written) ||
        uv_read_start(&c->handle.stream, backend_call_on_alloc, backend_call_on_read)) {
        backend_call_finish(c, true);
    }
}

static int put_request(struct strbuf *out, const struct backend_request *rq)
{
    int rc = strbuf_printf(out,
                           "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n"
                           "Connection: close\r\n",
                           rq->method, rq->target, rq->body.n);
    if (rc == 0 && rq->type.p) {
        rc = strbuf_printf(out, "Content-Type: %.*s\r\n", (int)rq->type.n, rq->type.p);
    }
    rc = rc ? rc : strbuf_append_str(out, "\r\n");
    return rc ? rc : strbuf_append(out, rq->body.p ? rq->body.p : "", rq->body.n);
}

void backend_call(struct loop *loop, const struct address *where, const struct backend_request *rq,
                  unsigned worker, backend_call_cb cb, void *ctx)
{
    struct call *c = xcalloc(1, sizeof *c);
    uv_loop_t *uv = loop_uv(loop);
    c->loop = loop;
    c->worker = worker;
    c->cb = cb;
    c->ctx = ctx;
    strbuf_init(&c->answer, BACKEND_CALL_ANSWER_MAX_BYTES);
    deadline_init(&c->deadline);
    list_init(&c->node);
    if (rq->open) {
        list_add_tail(rq->open, &c->node);
    }
    REQUIRE((where->is_unix ? uv_pipe_init(uv, &c->handle.pipe, 0)
                            : uv_tcp_init(uv, &c->handle.tcp)) == 0);
    c->handle.stream.data = c->connect.data = c;
    strbuf_init(&c->request, HEAD_MAX_BYTES + strlen(rq->target) + rq->type.n + rq->body.n);
    REQUIRE(put_request(&c->request, rq) == 0);
    deadline_arm(loop_deadline_class(
                     loop, rq->timeout_ms ? rq->timeout_ms : BACKEND_CALL_TIMEOUT_MS, on_deadline),
                 &c->deadline);
    if (where->is_unix) { /* errors come to on_connected */
        uv_pipe_connect(&c->connect, &c->handle.pipe, where->path, on_connected);
    } else if (uv_tcp_connect(&c->connect, &c->handle.tcp, (const struct sockaddr *)&where->tcp,
                              on_connected)) {
        backend_call_finish(c, true);
    }
}

void backend_calls_end(struct list *open)
{
    list_for_each (it, open) {
        backend_call_finish(container_of(it, struct call, node), true);
    }
}
