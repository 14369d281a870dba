/* Handshakes on other threads than the loop's: each costs as much as some hundred deliveries, and when a thousand
 * clients come back at once, those that stayed must not wait for them.
 *
 * A handshake is a job for each of its flights. While a job runs, nobody else touches the TLS of that
 * connection; the connection may end meanwhile. Owned by an http_server. */
#ifndef NET_TLS_TLS_POOL_H
#define NET_TLS_TLS_POOL_H

#include "net/job_pool.h"
#include "net/tls/tls_conn.h"
#include "net/tls/tls_threads.h"

struct tls_pool;

struct tls_handshake {
    /* what came of the last feed; valid in `stepped` */
    int result; /* as of tls_conn_handshake(); or UV_ETIMEDOUT, UV_ECANCELED */
    struct tls_failure failure;
    struct slice rest;    /* came behind the handshake; borrowed for the call */
    struct strbuf out;    /* to be sent */
    struct tls_conn *tls; /* owned, unless the owner takes it and leaves NULL. NULL at first */
    /* private to tls_pool.c */
    struct tls_context *context; /* a reference */
    struct job job;
    struct tls_work work;
    struct tls_pool *pool;
    void *owner; /* NULL: nobody waits for it any more */
    struct strbuf in;
    bool busy;
};

/* `stepped`: a feed was worked through; from the flush step, never from inside a call. It ends with another
 * feed, tls_handshake_free(), or waits. The gauges are borrowed. */
struct tls_pool *tls_pool_new(struct loop *loop, uint64_t *queued, uint64_t *active,
                              void (*stepped)(struct tls_handshake *h, void *owner));
/* Asynchronous: gives up what waits. NULL is fine. */
void tls_pool_close(struct tls_pool *p);
/* After the end of the loop, and of all connections that came of it. NULL is fine. */
void tls_pool_free(struct tls_pool *p);

/* NULL: no memory. */
struct tls_handshake *tls_handshake_new(struct tls_pool *p, struct tls_context *context,
                                        void *owner);
/* Bytes of the peer. Not while an earlier feed is being worked on. */
void tls_handshake_feed(struct tls_handshake *h, struct slice bytes);
bool tls_handshake_busy(const struct tls_handshake *h);
/* Also while it is busy: `stepped` is not called any more. NULL is fine. */
void tls_handshake_free(struct tls_handshake *h);

#endif
