/* See bench_tls.h. Memory BIOs: the sockets are libuv's. */
#include "bench/wire/bench_tls.h"

#include "base/alloc.h"

#include <limits.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <uv.h>

struct bench_tls_context {
    SSL_CTX *ctx; /* owned */
    bool resume;
};

static int bench_tls_on_session(SSL *ssl, SSL_SESSION *session)
{
    struct bench_tls *t = SSL_get_app_data(ssl);
    SSL_SESSION_free(t->session);
    t->session = session;
    return 1; /* it is ours now */
}

struct bench_tls_context *bench_tls_context_new(bool resume)
{
    struct bench_tls_context *x = xcalloc(1, sizeof *x);
    x->resume = resume;
    x->ctx = SSL_CTX_new(TLS_client_method());
    if (!x->ctx) {
        free(x);
        return NULL;
    }
    SSL_CTX_set_verify(x->ctx, SSL_VERIFY_NONE, NULL);
    (void)SSL_CTX_set_mode(x->ctx, SSL_MODE_RELEASE_BUFFERS);
    if (resume) {
        (void)SSL_CTX_set_session_cache_mode(x->ctx,
                                             SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(x->ctx, bench_tls_on_session);
    }
    return x;
}

void bench_tls_context_free(struct bench_tls_context *x)
{
    if (x) {
        SSL_CTX_free(x->ctx);
        free(x);
    }
}

/* A handshake or a read that did not go through. */
static void bench_tls_look(struct bench_tls *t)
{
    switch (SSL_get_error(t->ssl, 0)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        break;
    case SSL_ERROR_ZERO_RETURN:
        t->state = BENCH_TLS_ENDED;
        break;
    default:
        t->state = BENCH_TLS_BROKEN;
    }
    ERR_clear_error();
}

static void bench_tls_shake(struct bench_tls *t)
{
    if (t->state == BENCH_TLS_HANDSHAKE) {
        ERR_clear_error();
        int rc = SSL_do_handshake(t->ssl);
        if (rc == 1) {
            t->state = BENCH_TLS_OPEN;
        } else {
            bench_tls_look(t);
        }
    }
}

int bench_tls_begin(struct bench_tls *t, struct bench_tls_context *x, bool h2)
{
    static const unsigned char protocols[] = {2, 'h', '2'};
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    t->ssl = SSL_new(x->ctx);
    if (!in || !out || !t->ssl) {
        BIO_free(in);
        BIO_free(out);
        bench_tls_end(t);
        return UV_ENOMEM;
    }
    SSL_set_bio(t->ssl, in, out);
    if (!SSL_set_app_data(t->ssl, t) || (t->session && !SSL_set_session(t->ssl, t->session)) ||
        (h2 && SSL_set_alpn_protos(t->ssl, protocols, sizeof protocols))) {
        bench_tls_end(t);
        return UV_ENOMEM;
    }
    SSL_set_connect_state(t->ssl);
    t->state = BENCH_TLS_HANDSHAKE;
    bench_tls_shake(t);
    return 0;
}

bool bench_tls_is_h2(const struct bench_tls *t)
{
    const unsigned char *p = NULL;
    unsigned n = 0;
    SSL_get0_alpn_selected(t->ssl, &p, &n);
    return n == 2 && p[0] == 'h' && p[1] == '2';
}

int bench_tls_feed(struct bench_tls *t, struct slice bytes)
{
    size_t n = 0;
    if (BIO_write_ex(SSL_get_rbio(t->ssl), bytes.p, bytes.n, &n) != 1 || n != bytes.n) {
        return UV_ENOMEM;
    }
    bench_tls_shake(t);
    return 0;
}

size_t bench_tls_read(struct bench_tls *t, char *into, size_t most)
{
    size_t got = 0, n = 0;
    while (got < most && t->state == BENCH_TLS_OPEN) {
        ERR_clear_error();
        if (SSL_read_ex(t->ssl, into + got, most - got, &n) != 1) {
            bench_tls_look(t);
            break;
        }
        got += n;
    }
    return got;
}

int bench_tls_write(struct bench_tls *t, struct slice bytes)
{
    size_t n = 0;
    ERR_clear_error();
    return SSL_write_ex(t->ssl, bytes.p, bytes.n, &n) == 1 && n == bytes.n ? 0 : UV_EPROTO;
}

struct slice bench_tls_output(struct bench_tls *t)
{
    char *p = NULL;
    long n = BIO_get_mem_data(SSL_get_wbio(t->ssl), &p);
    return slice_of(p, n > 0 ? (size_t)n : 0);
}

void bench_tls_sent(struct bench_tls *t)
{
    (void)BIO_reset(SSL_get_wbio(t->ssl));
}

void bench_tls_end(struct bench_tls *t)
{
    if (t->ssl) { /* else OpenSSL takes the ticket of a connection that was cut for a bad one */
        SSL_set_shutdown(t->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    }
    SSL_free(t->ssl);
    t->ssl = NULL;
}

void bench_tls_clear(struct bench_tls *t)
{
    bench_tls_end(t);
    SSL_SESSION_free(t->session);
    t->session = NULL;
}
