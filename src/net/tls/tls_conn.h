/* TLS of one connection, on bytes: what came from the socket goes in, what is to go to the socket comes out.
 *
 * OpenSSL shakes hands. A connection of TLS 1.3 is compact afterwards: OpenSSL's state, 14 KB of it, is freed, and
 * tls_record.h goes on with the keys. One of TLS 1.2, or of a context that is not to be compact, stays OpenSSL's.
 *
 * Keeps no buffer while it is idle: input and output are the caller's (shared by all connections of a loop),
 * and OpenSSL frees its own (SSL_MODE_RELEASE_BUFFERS). No function blocks, none calls back. One thread at a
 * time: the handshake may run on another one than the rest. */
#ifndef NET_TLS_TLS_CONN_H
#define NET_TLS_TLS_CONN_H

#include "base/slice.h"
#include "base/strbuf.h"
#include "net/tls/tls_context.h"
#include "net/tls/tls_info.h"
#include "net/tls/tls_record.h"
#include "net/tls_failure.h"

#include <uv.h>

struct tls_failure {
    enum tls_failure_kind kind;
    char text[160]; /* OpenSSL's words */
};

struct tls_conn;

/* How OpenSSL reaches the bytes: made once for all connections, freed with BIO_meth_free() after the last. NULL:
 * no memory. */
BIO_METHOD *tls_conn_bio_method(void);

/* Keeps a reference of `context`, of which it needs no more than the handshake takes when it is compact then.
 * `method` and `suites` are borrowed for its life. NULL: no memory. */
struct tls_conn *tls_conn_new(struct tls_context *context, const BIO_METHOD *method,
                              const struct tls_suites *suites);
void tls_conn_free(struct tls_conn *t); /* NULL is fine */

/* After the handshake, on the thread that it stays with: takes `t`, and returns memory for free() with `before` bytes,
 * all 0, a multiple of 8, for what the caller keeps of the connection, and behind them what takes the place of `t`. It is one
 * piece because there are so many, and none of the handshake's threads, so that nothing keeps the pages they have used. */
void *tls_conn_settle(struct tls_conn *t, size_t before);
static inline struct tls_conn *tls_conn_behind(void *block, size_t before)
{
    return (struct tls_conn *)(void *)((char *)block + before);
}
void tls_conn_clear(struct tls_conn *t); /* of one that has settled, instead of tls_conn_free() */

/* Goes on with the handshake. *in moves past what was used; output is appended to `out`, also when it fails (an
 * alert). 1: done; 0: more bytes are needed; UV_EPROTO: failed, `f` says why. */
int tls_conn_handshake(struct tls_conn *t, struct slice *in, struct strbuf *out,
                       struct tls_failure *f);

/* Decrypts all of `in` to `plain`, which has room for as many bytes and a record; *got is set. 0; UV_EOF: the
 * peer has ended its side properly; UV_EPROTO: a forged or broken record. `out` may get an answer, also when it
 * fails (an alert). */
int tls_conn_open(struct tls_conn *t, struct slice in, char *plain, size_t room, size_t *got,
                  struct strbuf *out);
/* Encrypts `n` bytes, at most a record, as one record. 0, UV_EPROTO or UV_ENOMEM: the connection cannot be
 * used any more. */
int tls_conn_seal(struct tls_conn *t, const char *plain, size_t n, struct strbuf *out);
/* The end of what we send (close_notify), so that the peer can tell it from a cut. */
void tls_conn_end(struct tls_conn *t, struct strbuf *out);

/* After the handshake. */
bool tls_conn_is_compact(const struct tls_conn *t);
/* Borrowed. */
const struct tls_facts *tls_conn_facts(const struct tls_conn *t);

#endif
