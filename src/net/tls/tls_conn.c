/* See tls_conn.h. */
#include "net/tls/tls_conn.h"

#include "base/alloc.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tls_conn {
    SSL *ssl;
    struct tls_context *context;
    struct slice in;    /* during a call */
    struct strbuf *out; /* during a call */
};

/* ---------------------------------------------------------------- OpenSSL's way to the bytes */

static int tls_bio_read(BIO *bio, char *to, int n)
{
    struct tls_conn *t = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (t->in.n == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t len = t->in.n < (size_t)n ? t->in.n : (size_t)n;
    memcpy(to, t->in.p, len);
    t->in = slice_of(t->in.p + len, t->in.n - len);
    return (int)len;
}

static int tls_bio_write(BIO *bio, const char *from, int n)
{
    const struct tls_conn *t = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    return !t->out || strbuf_append(t->out, from, (size_t)n) ? -1 : n;
}

static long tls_bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    (void)bio, (void)num, (void)ptr;
    return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

BIO_METHOD *tls_conn_bio_method(void)
{
    BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "tidegate");
    if (!m || BIO_meth_set_read(m, tls_bio_read) != 1 ||
        BIO_meth_set_write(m, tls_bio_write) != 1 || BIO_meth_set_ctrl(m, tls_bio_ctrl) != 1) {
        BIO_meth_free(m);
        return NULL;
    }
    return m;
}

/* ---------------------------------------------------------------- life */

struct tls_conn *tls_conn_new(struct tls_context *context, const BIO_METHOD *method)
{
    struct tls_conn *t = calloc(1, sizeof *t);
    BIO *bio = t ? BIO_new(method) : NULL;
    SSL *ssl = bio ? tls_context_ssl(context) : NULL;
    if (!ssl) {
        BIO_free(bio);
        free(t);
        ERR_clear_error();
        return NULL;
    }
    BIO_set_data(bio, t);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio); /* one reference serves both */
    SSL_set_accept_state(ssl);
    t->ssl = ssl;
    t->context = tls_context_ref(context);
    return t;
}

void tls_conn_free(struct tls_conn *t)
{
    if (t) {
        SSL_free(t->ssl);
        tls_context_unref(t->context);
        free(t);
    }
}

/* ---------------------------------------------------------------- the handshake */

static enum tls_failure_kind tls_conn_failure_of(int reason)
{
    switch (reason) {
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
        return TLS_FAILURE_PLAIN_HTTP;
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_UNKNOWN_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
        return TLS_FAILURE_VERSION;
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
    case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
    case SSL_R_NO_SUITABLE_KEY_SHARE:
        return TLS_FAILURE_CIPHER;
    case SSL_R_NO_APPLICATION_PROTOCOL:
        return TLS_FAILURE_ALPN;
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
        return TLS_FAILURE_CLIENT_CERT;
    default:
        return reason >= SSL_AD_REASON_OFFSET ? TLS_FAILURE_ALERT : TLS_FAILURE_OTHER;
    }
}

/* What verification of a client's certificate says is worth more than that it failed. */
static void tls_conn_explain(const struct tls_conn *t, struct tls_failure *f)
{
    unsigned long why = ERR_peek_error();
    const char *text = why ? ERR_reason_error_string(why) : NULL;
    long verdict = SSL_get_verify_result(t->ssl);
    f->kind = tls_conn_failure_of(ERR_GET_REASON(why));
    if (f->kind == TLS_FAILURE_CLIENT_CERT && verdict != X509_V_OK) {
        text = X509_verify_cert_error_string(verdict);
    }
    snprintf(f->text, sizeof f->text, "%s", text ? text : "the connection broke");
}

int tls_conn_handshake(struct tls_conn *t, struct slice *in, struct strbuf *out,
                       struct tls_failure *f)
{
    ERR_clear_error();
    t->in = *in;
    t->out = out;
    int rc = SSL_do_handshake(t->ssl);
    int why = rc == 1 ? SSL_ERROR_NONE : SSL_get_error(t->ssl, rc);
    *in = t->in;
    t->in = slice_of(NULL, 0);
    t->out = NULL;
    if (rc == 1) {
        return 1;
    }
    if (why == SSL_ERROR_WANT_READ) {
        return 0;
    }
    tls_conn_explain(t, f);
    ERR_clear_error();
    return UV_EPROTO;
}

/* ---------------------------------------------------------------- records */

int tls_conn_open(struct tls_conn *t, struct slice in, char *plain, size_t room, size_t *got,
                  struct strbuf *out)
{
    int code = 0;
    *got = 0;
    t->in = in;
    t->out = out;
    while (*got < room && (t->in.n || SSL_has_pending(t->ssl))) {
        size_t n = 0;
        ERR_clear_error();
        if (SSL_read_ex(t->ssl, plain + *got, room - *got, &n) == 1) {
            *got += n;
            continue;
        }
        int why = SSL_get_error(t->ssl, 0);
        if (why != SSL_ERROR_WANT_READ) {
            code = why == SSL_ERROR_ZERO_RETURN ? UV_EOF : UV_EPROTO;
            break;
        }
        if (t->in.n == 0) {
            break;
        }
    }
    t->in = slice_of(NULL, 0);
    t->out = NULL;
    ERR_clear_error();
    return code;
}

int tls_conn_seal(struct tls_conn *t, const char *plain, size_t n, struct strbuf *out)
{
    size_t written = 0;
    ERR_clear_error();
    t->out = out;
    int rc = SSL_write_ex(t->ssl, plain, n, &written);
    t->out = NULL;
    ERR_clear_error();
    return rc == 1 && written == n ? 0 : UV_EPROTO;
}

void tls_conn_end(struct tls_conn *t, struct strbuf *out)
{
    ERR_clear_error();
    t->out = out;
    (void)SSL_shutdown(t->ssl); /* best effort: the connection ends either way */
    t->out = NULL;
    ERR_clear_error();
}

/* ---------------------------------------------------------------- facts */

bool tls_conn_is_h2(const struct tls_conn *t)
{
    const unsigned char *name;
    unsigned n;
    SSL_get0_alpn_selected(t->ssl, &name, &n);
    return n == 2 && memcmp(name, "h2", 2) == 0;
}

bool tls_conn_resumed(const struct tls_conn *t)
{
    return SSL_session_reused(t->ssl) == 1;
}

const SSL *tls_conn_ssl(const struct tls_conn *t)
{
    return t->ssl;
}
