/* The TLS of one client connection, bytes in and bytes out; tickets for the next one. Certificates are not verified:
 * the generator measures whom it was sent to. */
#ifndef BENCH_WIRE_BENCH_TLS_H
#define BENCH_WIRE_BENCH_TLS_H

#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>

struct bench_tls_context;

enum bench_tls_state { BENCH_TLS_HANDSHAKE, BENCH_TLS_OPEN, BENCH_TLS_ENDED, BENCH_TLS_BROKEN };

/* All zero at first. */
struct bench_tls {
    struct ssl_st *ssl;             /* owned; NULL: not begun */
    struct ssl_session_st *session; /* owned; the newest ticket, kept over connections */
    enum bench_tls_state state;
};

/* `resume`: connections that are opened again show the ticket of their last one. NULL: no memory. */
struct bench_tls_context *bench_tls_context_new(bool resume);
void bench_tls_context_free(struct bench_tls_context *x); /* NULL is fine */

/* `h2`: offers HTTP/2, and nothing else (ALPN). 0, or UV_ENOMEM. */
int bench_tls_begin(struct bench_tls *t, struct bench_tls_context *x, bool h2);
/* After the handshake: HTTP/2 was agreed on. */
bool bench_tls_is_h2(const struct bench_tls *t);
/* What came from the server. Goes on with the handshake. */
int bench_tls_feed(struct bench_tls *t, struct slice bytes);
/* The next plain bytes of it, 0: none now; `state` says whether more will come. */
size_t bench_tls_read(struct bench_tls *t, char *into, size_t most);
/* 0, or UV_EPROTO. */
int bench_tls_write(struct bench_tls *t, struct slice bytes);
/* What is to be sent to the server; valid until the next call. Then bench_tls_sent(). */
struct slice bench_tls_output(struct bench_tls *t);
void bench_tls_sent(struct bench_tls *t);
/* The connection is gone; the ticket stays. */
void bench_tls_end(struct bench_tls *t);
void bench_tls_clear(struct bench_tls *t);

#endif
