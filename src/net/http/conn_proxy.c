/* See conn_proxy.h. */
#include "net/http/conn_proxy.h"

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/logging.h"
#include "net/http/conn_tls.h"
#include "net/proxy_header.h"

#include <stdlib.h>

enum { IN_MAX_BYTES = PROXY_HEADER_2_MAX_BYTES + LOOP_READ_BUFFER_BYTES };

struct proxy_hello {
    struct conn conn;
    struct tls_context *context; /* a reference; NULL: HTTP comes next */
    struct strbuf *in;           /* what has come so far; owned, NULL: nothing */
};

static struct proxy_hello *proxy_hello_of(const struct conn *c)
{
    return container_of((struct conn *)(uintptr_t)c, struct proxy_hello, conn);
}

static void proxy_hello_free(struct strbuf *in)
{
    if (in) {
        strbuf_clear(in);
        free(in);
    }
}

static void proxy_hello_log(struct conn *c, const char *error)
{
    struct http_server *s = c->server;
    char peer[ADDRESS_TEXT_MAX], at[ADDRESS_LISTEN_TEXT_MAX];
    s->metrics->proxy_refused++;
    if (!log_pace_take(&s->proxy_pace, loop_now(s->loop))) {
        return;
    }
    peer_address_text(&c->peer, peer);
    local_address_text(&c->handle.stream, at);
    log_warn("http", "refused a connection on a listener with proxy_protocol",
             LOG_F(log_str("address", at), log_str("peer", peer), log_str("error", error),
                   log_uint("refused", s->metrics->proxy_refused)));
}

/* A client that expects HTTP gets the reason; before TLS there is no way to say it. */
static void proxy_hello_fail(struct conn *c, const char *error)
{
    bool can_say = !proxy_hello_of(c)->context;
    proxy_hello_log(c, error);
    if (can_say && http_response_refusal(400, slice_str(error), &c->out) == 0) {
        net_metrics_count_answer(c->server->metrics, 400);
        conn_close_when_written(c, CLOSE_REFUSED_REQUEST);
    } else {
        conn_close(c, CLOSE_REFUSED_REQUEST);
    }
}

static void proxy_hello_done(struct conn *c, const struct proxy_header *header, size_t used)
{
    struct proxy_hello *p = proxy_hello_of(c);
    struct tls_context *context = p->context;
    struct strbuf *in = p->in;
    conn_set_protocol(c, c->server->protocol);
    int rc = context ? conn_tls_start(c, context) : 0;
    tls_context_unref(context);
    if (rc) {
        conn_close(c, CLOSE_NO_MEMORY);
    } else if (conn_admit(c, header->has_client ? &header->client : NULL) && in->len > used) {
        conn_received(c, in->data + used, in->len - used);
    }
    proxy_hello_free(in);
}

static size_t proxy_hello_take(struct conn *c, const char *data, size_t len)
{
    struct proxy_hello *p = proxy_hello_of(c);
    struct proxy_header header;
    if (c->server->opt.trusted_proxy_count && !c->trusted) {
        proxy_hello_fail(c, "this listener is for the proxies in trusted_proxies");
        return len;
    }
    if (!p->in) {
        p->in = xmalloc(sizeof *p->in);
        strbuf_init(p->in, IN_MAX_BYTES);
    }
    if (strbuf_append(p->in, data, len)) {
        conn_close(c, CLOSE_NO_MEMORY);
        return len;
    }
    ssize_t n = proxy_header_parse(p->in->data, p->in->len, &header);
    if (n < 0) {
        proxy_hello_fail(c, header.error);
    } else if (n > 0) {
        proxy_hello_done(c, &header, (size_t)n);
    }
    return len;
}

static void proxy_hello_eof(struct conn *c)
{
    conn_close(c, CLOSE_CLIENT_CLOSED);
}

static bool proxy_hello_wants_bytes(const struct conn *c)
{
    return !c->close_when_written;
}

static bool proxy_hello_idle(const struct conn *c)
{
    (void)c;
    return true;
}

static enum conn_wait proxy_hello_waits_for(const struct conn *c)
{
    (void)c;
    return CONN_WAIT_HEAD;
}

static void proxy_hello_refuse(struct conn *c, int status, const char *text)
{
    (void)status, (void)text;
    conn_close(c, CLOSE_REFUSED_REQUEST);
}

static void proxy_hello_closed(struct conn *c, enum close_reason why)
{
    struct proxy_hello *p = proxy_hello_of(c);
    (void)why;
    tls_context_unref(p->context);
    p->context = NULL;
    proxy_hello_free(p->in);
    p->in = NULL;
}

static void proxy_hello_nothing(struct conn *c)
{
    (void)c;
}

static const struct conn_protocol proxy_hello_protocol = {.name = "proxy",
                                                          .size = sizeof(struct proxy_hello),
                                                          .init = proxy_hello_nothing,
                                                          .take = proxy_hello_take,
                                                          .eof = proxy_hello_eof,
                                                          .writable = proxy_hello_nothing,
                                                          .progress = proxy_hello_nothing,
                                                          .wants_bytes = proxy_hello_wants_bytes,
                                                          .idle = proxy_hello_idle,
                                                          .waits_for = proxy_hello_waits_for,
                                                          .refuse = proxy_hello_refuse,
                                                          .closed = proxy_hello_closed};

void conn_proxy_start(struct conn *c, struct tls_context *context)
{
    conn_set_protocol(c, &proxy_hello_protocol);
    c->proxied = true;
    proxy_hello_of(c)->context = context ? tls_context_ref(context) : NULL;
}
