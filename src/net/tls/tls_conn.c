/* See tls_conn.h. */
#include "net/tls/tls_conn.h"

#include "base/alloc.h"
#include "base/require.h"
#include "net/tls/tls_secrets.h"

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* OpenSSL's part, which a compact connection is rid of. */
struct tls_session {
    SSL *ssl;
    struct tls_context *context;
    const struct tls_suites *suites;
    struct slice in;            /* during a call */
    struct strbuf *out;         /* during a call */
    struct tls_secrets secrets; /* until the handshake is done */
};

struct tls_conn {
    struct tls_session *session; /* NULL: the connection is compact, */
    struct tls_record record;    /* and this is in use */
    struct tls_facts *facts;     /* after the handshake; owned, once settled it lies behind this */
};

/* With what the caller keeps (conn_tls.c: 16 bytes) and the facts (13, and the server's name) one of the allocator's
 * sizes, 256. */
_Static_assert(sizeof(struct tls_conn) <= 200, "ten thousand streams would take a megabyte more");

/* ---------------------------------------------------------------- OpenSSL's way to the bytes */

static int tls_bio_read(BIO *bio, char *to, int n)
{
    struct tls_session *t = BIO_get_data(bio);
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
    const struct tls_session *t = BIO_get_data(bio);
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

static void tls_session_free(struct tls_session *s)
{
    if (s) {
        SSL_free(s->ssl);
        tls_secrets_clear(&s->secrets);
        tls_context_unref(s->context);
        free(s);
    }
}

static struct tls_session *tls_session_new(struct tls_context *context, const BIO_METHOD *method,
                                           const struct tls_suites *suites)
{
    struct tls_session *s = calloc(1, sizeof *s);
    BIO *bio = s ? BIO_new(method) : NULL;
    SSL *ssl = bio ? tls_context_ssl(context) : NULL;
    if (!ssl) {
        BIO_free(bio);
        free(s);
        ERR_clear_error();
        return NULL;
    }
    BIO_set_data(bio, s);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio); /* one reference serves both */
    SSL_set_accept_state(ssl);
    tls_secrets_watch(ssl, &s->secrets);
    s->ssl = ssl;
    s->context = tls_context_ref(context);
    s->suites = suites;
    return s;
}

struct tls_conn *tls_conn_new(struct tls_context *context, const BIO_METHOD *method,
                              const struct tls_suites *suites)
{
    struct tls_conn *t = calloc(1, sizeof *t);
    if (t) {
        t->session = tls_session_new(context, method, suites);
    }
    if (t && !t->session) {
        free(t);
        t = NULL;
    }
    return t;
}

void tls_conn_clear(struct tls_conn *t)
{
    tls_session_free(t->session);
    tls_record_clear(&t->record);
}

void tls_conn_free(struct tls_conn *t)
{
    if (t) {
        tls_conn_clear(t);
        alloc_free_to_arena(t->facts);
        alloc_free_to_arena(t);
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
static void tls_conn_explain(const struct tls_session *t, struct tls_failure *f)
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

/* Nothing that the record layer would not know of: nothing read of what came behind the handshake, nothing asked
 * for, nothing on its way. */
static bool tls_session_is_at_rest(const struct tls_session *s)
{
    return SSL_version(s->ssl) == TLS1_3_VERSION && SSL_is_init_finished(s->ssl) &&
           !SSL_has_pending(s->ssl) && SSL_get_shutdown(s->ssl) == 0 &&
           SSL_get_key_update_type(s->ssl) == SSL_KEY_UPDATE_NONE && s->secrets.client.records == 0;
}

/* From now on without OpenSSL, if that can be. */
static void tls_conn_make_compact(struct tls_conn *t)
{
    struct tls_session *s = t->session;
    struct tls_record *r = &t->record;
    const struct tls_secret *ours = &s->secrets.server, *theirs = &s->secrets.client;
    uint16_t number = SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(s->ssl));
    const struct tls_suite *suite = tls_suites_find(s->suites, number);
    size_t n = suite ? tls_suite_secret_bytes(suite) : 0;
    if (!suite || ours->n != n || theirs->n != n || !tls_session_is_at_rest(s)) {
        return;
    }
    r->suite = suite;
    memcpy(r->write.secret, ours->bytes, n);
    memcpy(r->read.secret, theirs->bytes, n);
    if (tls_record_begin(r, ours->records, theirs->records)) {
        t->session = NULL;
        tls_session_free(s);
    } else {
        OPENSSL_cleanse(r, sizeof *r);
    }
}

int tls_conn_handshake(struct tls_conn *t, struct slice *in, struct strbuf *out,
                       struct tls_failure *f)
{
    struct tls_session *s = t->session;
    REQUIRE(s != NULL);
    ERR_clear_error();
    s->in = *in;
    s->out = out;
    int rc = SSL_do_handshake(s->ssl);
    int why = rc == 1 ? SSL_ERROR_NONE : SSL_get_error(s->ssl, rc);
    *in = s->in;
    s->in = slice_of(NULL, 0);
    s->out = NULL;
    if (rc == 1) {
        t->facts = tls_facts_of(s->ssl);
        tls_conn_make_compact(t);
        if (t->session) {
            tls_secrets_clear(&s->secrets);
        }
        return 1;
    }
    if (why == SSL_ERROR_WANT_READ) {
        return 0;
    }
    tls_conn_explain(s, f);
    ERR_clear_error();
    return UV_EPROTO;
}

void *tls_conn_settle(struct tls_conn *t, size_t before)
{
    size_t facts_n = tls_facts_bytes(t->facts);
    void *block = xmalloc(before + sizeof *t + facts_n);
    struct tls_conn *to = tls_conn_behind(block, before);
    *to = *t;
    to->facts = memcpy(to + 1, t->facts, facts_n);
    t->session = NULL;
    OPENSSL_cleanse(&t->record, sizeof t->record);
    tls_conn_free(t);
    return memset(block, 0, before);
}

/* ---------------------------------------------------------------- OpenSSL's records */

static int tls_session_open(struct tls_session *t, struct slice in, char *plain, size_t room,
                            size_t *got, struct strbuf *out)
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

static int tls_session_seal(struct tls_session *t, const char *plain, size_t n, struct strbuf *out)
{
    size_t written = 0;
    ERR_clear_error();
    t->out = out;
    int rc = SSL_write_ex(t->ssl, plain, n, &written);
    t->out = NULL;
    ERR_clear_error();
    return rc == 1 && written == n ? 0 : UV_EPROTO;
}

static void tls_session_end(struct tls_session *t, struct strbuf *out)
{
    ERR_clear_error();
    t->out = out;
    (void)SSL_shutdown(t->ssl); /* best effort: the connection ends either way */
    t->out = NULL;
    ERR_clear_error();
}

/* ---------------------------------------------------------------- with OpenSSL, or without */

int tls_conn_open(struct tls_conn *t, struct slice in, char *plain, size_t room, size_t *got,
                  struct strbuf *out)
{
    if (t->session) {
        return tls_session_open(t->session, in, plain, room, got, out);
    }
    REQUIRE(room >= in.n + TLS_RECORD_BYTES);
    return tls_record_open(&t->record, in, plain, got, out);
}

int tls_conn_seal(struct tls_conn *t, const char *plain, size_t n, struct strbuf *out)
{
    return t->session ? tls_session_seal(t->session, plain, n, out)
                      : tls_record_seal(&t->record, plain, n, out);
}

void tls_conn_end(struct tls_conn *t, struct strbuf *out)
{
    if (t->session) {
        tls_session_end(t->session, out);
    } else {
        tls_record_end(&t->record, out);
    }
}

bool tls_conn_is_compact(const struct tls_conn *t)
{
    return t->session == NULL;
}

const struct tls_facts *tls_conn_facts(const struct tls_conn *t)
{
    return t->facts;
}
