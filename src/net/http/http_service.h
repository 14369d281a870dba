/* What all connections of one service share: limits, handler, the set of live streams. conn.c,
 * the protocols and listener.c stand on it; its functions are in http_server.h. */
#ifndef NET_HTTP_HTTP_SERVICE_H
#define NET_HTTP_HTTP_SERVICE_H

#include "base/container/list.h"
#include "base/container/slots.h"
#include "base/log_pace.h"
#include "net/address.h"
#include "net/address_limit.h"
#include "net/http/http_rate.h"
#include "net/http/stream.h"
#include "net/loop.h"
#include "net/message/http_request.h"
#include "net/metrics.h"

struct conn_protocol;

/* What begins a connection and is not HTTP/1.1 (http_foreign.h). */
enum http_foreign {
    HTTP_FOREIGN_TLS,
    HTTP_FOREIGN_PROXY,
    HTTP_FOREIGN_H2, /* where it is not served */
    HTTP_FOREIGN_COUNT,
};

struct http_server_options {
    const char *name; /* "public", "admin": in logs */
    struct http_limits limits;
    uint64_t head_timeout_ms; /* from accept, or from the first byte of a later request */
    uint64_t body_timeout_ms; /* from the head */
    uint64_t idle_timeout_ms; /* between requests */
    uint64_t dead_peer_ms;    /* a write that makes no progress */
    unsigned pipeline;        /* most requests of one connection in flight */
    unsigned max_connections; /* more wait in the kernel's backlog */
    unsigned max_connections_per_address; /* 0: no cap; trusted proxies are exempt */
    bool local_exempt;                    /* from that: peers on this machine */
    bool gives_way;                       /* full: the oldest that waits for its client is closed */
    const struct network *trusted_proxies; /* borrowed for the server's life */
    size_t trusted_proxy_count;
    int send_buffer_bytes; /* SO_SNDBUF; 0: the system's default */
    char *const *hosts;    /* names that loopback addresses answer to besides; borrowed */
    size_t host_count;
    bool any_host; /* loopback addresses answer to every name: what is served is no secret */
    size_t bodies_bytes, bodies_bytes_per_address; /* under way; 0: no bound */
    struct http_rate_options connection_rate;      /* of new ones; trusted proxies are exempt */
    struct http_rate_options publish_rate;         /* the same for POST requests */
    struct http_rate_options request_rate;         /* of all requests, of whoever asks */
    unsigned hsts_s;                /* max-age of Strict-Transport-Security, by TLS only; 0: none */
    const struct conn_protocol *h2; /* spoken with clients that ask for HTTP/2; NULL: not served */
    unsigned h2_streams;            /* most of one connection at a time */
};

/* `client` is borrowed for the call, and so is `rq`, but for http_request_move(). */
typedef void (*http_handler)(void *ctx, struct stream *s, struct http_request *rq,
                             const struct peer_address *client);

struct http_handlers {
    /* The head of a request is complete, its body is still to come. `s` may be answered or closed:
     * then the body is not taken. Otherwise, now or later (by id), stream_take_body(). NULL: every
     * body is taken. */
    http_handler head;
    /* A complete request. `s` must be answered, opened or closed, now or later (by id). It has the
     * owner that it got with its head. */
    http_handler request;
    /* The server refuses a request by itself, perhaps before its head is complete: appends the fields that the
     * answer has besides, for the sake of pages. NULL: none. */
    void (*refused)(void *ctx, const struct http_request *rq, struct strbuf *fields);
    /* May this POST be answered with an event stream, which has a connection of HTTP/1.1 to itself? NULL: none is. */
    bool (*streams)(const void *ctx, const struct http_request *rq);
    void *ctx;
};

struct conn_tls_service;

struct http_server {
    struct loop *loop;
    struct http_server_options opt;
    struct http_handlers handlers;
    struct net_metrics *metrics;           /* borrowed; one for each server */
    const struct conn_protocol *protocol;  /* of a fresh connection: HTTP/1.1 */
    const struct stream_ops *exchange_ops; /* of its exchanges: exchange.c's */
    struct list conns;                     /* struct conn, by their node */
    unsigned conn_count;
    unsigned h2_stream_count; /* besides the first of each connection: they count as connections */
    struct slots streams;     /* id -> struct stream */
    struct hash_key request_key; /* of the ids of requests */
    struct address_limit *addresses;
    struct http_bodies bodies;
    struct http_rate connections; /* new ones, and requests but publishes behind trusted proxies */
    struct http_rate publishes;
    struct http_rate requests;
    struct log_pace proxy_pace;    /* of lines about refused headers of proxies, */
    struct log_pace too_many_pace; /* clients that hold too many, */
    struct log_pace flood_pace;    /* floods of HTTP/2, */
    struct log_pace foreign_pace[HTTP_FOREIGN_COUNT]; /* what is not HTTP, */
    struct log_pace misdirected_pace;                 /* requests for another host, */
    struct log_pace gave_way_pace;                    /* and connections that gave way */
    struct conn_tls_service *tls; /* what TLS connections share; NULL: there is no such listener */
    struct list listeners;        /* struct listener, by their node */
    struct task accept_again;     /* a connection has gone: takes those who wait for its place */
    char first_address[ADDRESS_LISTEN_TEXT_MAX]; /* of the first listener, as text */
    uint64_t last_conn_id;
    bool draining; /* answers close their connection; idle connections are closed */
};

/* What a stream of this server says as X-Request-Id, when it has those fields (stream_set_fields()). */
static inline void http_server_request_id(const struct http_server *s, uint64_t stream,
                                          struct slice fields, struct request_id *out)
{
    struct slice given = request_id_of_fields(fields);
    if (given.p) {
        memcpy(out->text, given.p, given.n); /* at most REQUEST_ID_MAX: request_id_given() */
        out->text[given.n] = '\0';
    } else {
        request_id_make(&s->request_key, stream, out);
    }
}

/* An answer leaves: it is counted, and gets what the server adds to all of them. `own` is the caller's. */
static inline void http_server_finish(const struct http_server *s, uint64_t stream, bool secure,
                                      struct request_id *own, struct http_response *r)
{
    net_metrics_count_answer(s->metrics, r->status);
    r->hsts_s = secure ? s->opt.hsts_s : 0;
    if (!request_id_of_fields(r->more_fields).p) {
        request_id_make(&s->request_key, stream, own);
        r->request_id = own->text;
    }
}

#endif
