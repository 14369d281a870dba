#include "net/http/http_server.h"

#include "base/container_of.h"
#include "base/require.h"
#include "net/address_limit.h"
#include "net/http/conn_tls.h"
#include "net/http/exchange.h"
#include "net/http/http1.h"
#include "net/http/listener.h"

static void http_server_accept_again(struct task *t)
{
    listener_resume_all(container_of(t, struct http_server, accept_again));
}

void http_server_init(struct http_server *s, struct loop *l, const struct http_server_options *opt,
                      const struct http_handlers *handlers, struct net_metrics *metrics)
{
    *s = (struct http_server){.loop = l,
                              .opt = *opt,
                              .handlers = *handlers,
                              .metrics = metrics,
                              .protocol = &http1_protocol,
                              .exchange_ops = &exchange_ops};
    list_init(&s->conns);
    list_init(&s->listeners);
    task_init(&s->accept_again, http_server_accept_again);
    slots_init(&s->streams);
    hash_key_init(&s->request_key);
    s->addresses = address_limit_new();
    http_bodies_init(&s->bodies, metrics, opt->bodies_bytes, opt->bodies_bytes_per_address);
    http_rate_init(&s->connections, &opt->connection_rate, &metrics->too_fast_connections);
    http_rate_init(&s->publishes, &opt->publish_rate, &metrics->too_fast_publishes);
    http_rate_init(&s->requests, &opt->request_rate, &metrics->too_fast_requests);
}

void http_server_clear(struct http_server *s)
{
    REQUIRE(list_empty(&s->conns) && list_empty(&s->listeners));
    task_cancel(&s->accept_again);
    conn_tls_clear(s);
    slots_clear(&s->streams);
    address_limit_free(s->addresses);
    s->addresses = NULL;
    http_bodies_clear(&s->bodies);
    http_rate_clear(&s->connections);
    http_rate_clear(&s->publishes);
    http_rate_clear(&s->requests);
}

struct stream *http_server_stream(const struct http_server *s, uint64_t id)
{
    return slots_get(&s->streams, id);
}

void http_server_drain(struct http_server *s)
{
    s->draining = true;
    listener_close_all(s);
    list_for_each_safe (it, next, &s->conns) {
        conn_progress(container_of(it, struct conn, node));
    }
}

void http_server_close_all(struct http_server *s, enum close_reason why)
{
    listener_close_all(s);
    list_for_each_safe (it, next, &s->conns) {
        conn_close(container_of(it, struct conn, node), why);
    }
    conn_tls_close(s);
}
