/* See tls_context.h. Each certificate has an SSL_CTX of its own; all of a listener are otherwise alike, so that
 * a client gains nothing by naming another host. */
#include "net/tls/tls_context.h"

#include "base/alloc.h"
#include "base/require.h"
#include "net/tls/tls_pair.h"
#include "net/tls/tls_secrets.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uv.h>

enum {
    TICKETS_EACH = 1,
    TICKET_LIFE_S = TLS_TICKET_KEY_S, /* the key before the current one is at least that old */
    VERIFY_DEPTH = 8,
    SID_BYTES = 32,
    NAME_MAX_BYTES = 255,
};

struct tls_name {
    char *text; /* owned; lower case */
    size_t certificate;
};

struct tls_certificate {
    SSL_CTX *ctx;
    int64_t not_after;
};

struct tls_context {
    atomic_uint refs;
    bool h2, compact;
    struct tls_ticket_chain *tickets;
    struct tls_certificate *certificates;
    size_t count;
    struct tls_name *names;
    size_t name_count;
};

/* ---------------------------------------------------------------- names */

static void tls_context_add_name(struct tls_context *c, const char *name, size_t certificate)
{
    char *text = xstrdup(name);
    for (char *p = text; *p; p++) {
        *p = (char)tolower((unsigned char)*p);
    }
    c->names = xrealloc(c->names, (c->name_count + 1) * sizeof *c->names);
    c->names[c->name_count++] = (struct tls_name){text, certificate};
}

struct tls_adding {
    struct tls_context *context;
    size_t certificate;
};

static void tls_context_on_name(void *ctx, const char *name)
{
    const struct tls_adding *a = ctx;
    tls_context_add_name(a->context, name, a->certificate);
}

/* Exactly that name; else "*." in the place of its first label; else the first certificate. */
static const struct tls_certificate *tls_context_find(const struct tls_context *c, const char *name)
{
    const char *dot = strchr(name, '.');
    const struct tls_name *wild = NULL;
    for (size_t i = 0; i < c->name_count; i++) {
        const struct tls_name *n = &c->names[i];
        if (strcmp(n->text, name) == 0) {
            return &c->certificates[n->certificate];
        }
        if (!wild && dot && n->text[0] == '*' && strcmp(n->text + 1, dot) == 0) {
            wild = n;
        }
    }
    return &c->certificates[wild ? wild->certificate : 0];
}

/* The host_name of the ClientHello (RFC 6066, 3), in lower case; "": none. */
static void tls_context_hello_name(SSL *ssl, char out[NAME_MAX_BYTES + 1])
{
    const unsigned char *p;
    size_t n;
    out[0] = '\0';
    if (!SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &p, &n) || n < 5) {
        return;
    }
    size_t list = (size_t)p[0] << 8 | p[1], len = (size_t)p[3] << 8 | p[4];
    if (list + 2 != n || p[2] != TLSEXT_NAMETYPE_host_name || len + 5 != n ||
        len > NAME_MAX_BYTES) {
        return; /* OpenSSL judges it later */
    }
    for (size_t i = 0; i < len; i++) {
        if (p[5 + i] == '\0') {
            out[0] = '\0';
            return;
        }
        out[i] = (char)tolower(p[5 + i]);
        out[i + 1] = '\0';
    }
}

/* Before anything else is made of the ClientHello, above all of a ticket in it: a ticket is good for the
 * certificate that it was given for alone (see CVE-2025-23419 of nginx). */
static int tls_context_on_hello(SSL *ssl, int *alert, void *arg)
{
    const struct tls_context *c = arg;
    char name[NAME_MAX_BYTES + 1];
    tls_context_hello_name(ssl, name);
    const struct tls_certificate *found = tls_context_find(c, name);
    if (found->ctx != SSL_get_SSL_CTX(ssl) && !SSL_set_SSL_CTX(ssl, found->ctx)) {
        *alert = SSL_AD_INTERNAL_ERROR;
        return SSL_CLIENT_HELLO_ERROR;
    }
    return SSL_CLIENT_HELLO_SUCCESS;
}

/* With a callback OpenSSL keeps the name in sessions, and tells the client that it was heeded. */
static int tls_context_on_name_seen(SSL *ssl, int *alert, void *arg)
{
    (void)ssl, (void)alert, (void)arg;
    return SSL_TLSEXT_ERR_OK;
}

const char *tls_context_sni(const SSL *ssl)
{
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    return name ? name : "";
}

/* ---------------------------------------------------------------- protocols and tickets */

static int tls_context_on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_n,
                               const unsigned char *in, unsigned n, void *arg)
{
    static const unsigned char ours[] = "\x02h2\x08http/1.1";
    const struct tls_context *c = arg;
    size_t skip = c->h2 ? 0 : 3;
    unsigned char *chosen;
    (void)ssl;
    if (SSL_select_next_proto(&chosen, out_n, ours + skip, (unsigned)(sizeof ours - 1 - skip), in,
                              n) != OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static int tls_context_on_ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv,
                                     EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int encrypt)
{
    const struct tls_context *c = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    return tls_tickets_key(c->tickets, (uint64_t)time(NULL), name, iv, cipher, mac, encrypt);
}

/* A session must not outlive the client's certificate that is in it. */
static SSL_TICKET_RETURN tls_context_on_ticket(SSL *ssl, SSL_SESSION *session,
                                               const unsigned char *name, size_t n,
                                               SSL_TICKET_STATUS status, void *arg)
{
    (void)ssl, (void)name, (void)n, (void)arg;
    X509 *peer = session ? SSL_SESSION_get0_peer(session) : NULL;
    bool expired = peer && X509_cmp_current_time(X509_get0_notAfter(peer)) <= 0;
    switch (status) {
    case SSL_TICKET_SUCCESS:
        return expired ? SSL_TICKET_RETURN_IGNORE_RENEW : SSL_TICKET_RETURN_USE;
    case SSL_TICKET_SUCCESS_RENEW:
        return expired ? SSL_TICKET_RETURN_IGNORE_RENEW : SSL_TICKET_RETURN_USE_RENEW;
    case SSL_TICKET_EMPTY:
    case SSL_TICKET_NO_DECRYPT:
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    default:
        return SSL_TICKET_RETURN_IGNORE;
    }
}

static int tls_context_gen_ticket(SSL *ssl, void *arg)
{
    (void)ssl, (void)arg;
    return 1;
}

/* ---------------------------------------------------------------- loading */

static int tls_context_fail(struct err *e, const char *what)
{
    unsigned long why = ERR_get_error();
    const char *text = why ? ERR_reason_error_string(why) : NULL;
    ERR_clear_error();
    return err_set(e, UV_EINVAL, "%s: %s", what, text ? text : "OpenSSL failed");
}

/* The authorities whose clients are let in, and the list of certificates that they took back. */
static int tls_context_load_authorities(const struct tls_listener_options *opt, X509_STORE **store,
                                        STACK_OF(X509_NAME) * *names, struct err *e)
{
    *store = X509_STORE_new();
    *names = SSL_load_client_CA_file(opt->client_ca);
    if (!*store) {
        return err_set(e, UV_ENOMEM, "no memory");
    }
    if (!*names || X509_STORE_load_file(*store, opt->client_ca) != 1) {
        ERR_clear_error();
        return err_set(e, UV_EINVAL,
                       "client_ca: \"%s\": expected a readable file of certificates in PEM",
                       opt->client_ca);
    }
    if (!opt->client_crl) {
        return 0;
    }
    X509_LOOKUP *lookup = X509_STORE_add_lookup(*store, X509_LOOKUP_file());
    if (!lookup || X509_load_crl_file(lookup, opt->client_crl, X509_FILETYPE_PEM) < 1) {
        ERR_clear_error();
        return err_set(e, UV_EINVAL,
                       "client_crl: \"%s\": expected a readable file with -----BEGIN X509 CRL-----",
                       opt->client_crl);
    }
    (void)X509_STORE_set_flags(*store, X509_V_FLAG_CRL_CHECK); /* cannot fail */
    return 0;
}

int tls_context_check_authorities(const struct tls_listener_options *opt, struct err *e)
{
    X509_STORE *store = NULL;
    STACK_OF(X509_NAME) *names = NULL;
    int rc = tls_context_load_authorities(opt, &store, &names, e);
    X509_STORE_free(store);
    sk_X509_NAME_pop_free(names, X509_NAME_free);
    return rc;
}

static bool tls_context_hash_file(EVP_MD_CTX *md, const char *path)
{
    unsigned char buf[4096];
    size_t n;
    FILE *f = path ? fopen(path, "re") : NULL;
    bool ok = f != NULL || !path;
    while (f && (n = fread(buf, 1, sizeof buf, f)) > 0) {
        ok = ok && EVP_DigestUpdate(md, buf, n) == 1;
    }
    ok = ok && !(f && ferror(f));
    if (f) {
        (void)fclose(f);
    }
    return ok && EVP_DigestUpdate(md, "", 1) == 1;
}

/* What a ticket is bound to: the names of its certificate, and who may be a client. */
static int tls_context_session_id(const struct tls_listener_options *opt,
                                  const struct tls_context *c, size_t i, unsigned char *out,
                                  struct err *e)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    unsigned char mode = (unsigned char)opt->client;
    bool ok =
        md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
        EVP_DigestUpdate(md, &mode, 1) == 1 && tls_context_hash_file(md, opt->client_ca) &&
        tls_context_hash_file(md, opt->client_crl) &&
        EVP_DigestUpdate(md, opt->certificates[i].cert, strlen(opt->certificates[i].cert) + 1) == 1;
    for (size_t k = 0; k < c->name_count && ok; k++) {
        const char *text = c->names[k].text;
        ok = c->names[k].certificate != i || EVP_DigestUpdate(md, text, strlen(text) + 1) == 1;
    }
    ok = ok && EVP_DigestFinal_ex(md, out, NULL) == 1;
    EVP_MD_CTX_free(md);
    return ok ? 0 : tls_context_fail(e, "cannot hash the settings");
}

static int tls_context_verify_clients(SSL_CTX *ctx, const struct tls_listener_options *opt,
                                      struct err *e)
{
    X509_STORE *store = NULL;
    STACK_OF(X509_NAME) *names = NULL;
    if (opt->client == TLS_CLIENT_NONE) {
        return 0;
    }
    int rc = tls_context_load_authorities(opt, &store, &names, e);
    if (rc == 0) {
        SSL_CTX_set_cert_store(ctx, store);
        SSL_CTX_set_client_CA_list(ctx, names);
        SSL_CTX_set_verify_depth(ctx, VERIFY_DEPTH);
        SSL_CTX_set_verify(
            ctx,
            SSL_VERIFY_PEER |
                (opt->client == TLS_CLIENT_REQUIRED ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
            NULL);
        return 0;
    }
    X509_STORE_free(store);
    sk_X509_NAME_pop_free(names, X509_NAME_free);
    return rc;
}

static SSL_CTX *tls_context_make(struct tls_context *c)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (!ctx || SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_cipher_list(ctx, "ECDHE+AESGCM:ECDHE+CHACHA20") != 1 ||
        SSL_CTX_set_num_tickets(ctx, TICKETS_EACH) != 1 ||
        SSL_CTX_set_session_ticket_cb(ctx, tls_context_gen_ticket, tls_context_on_ticket, NULL) !=
            1 ||
        SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, tls_context_on_ticket_key) != 1) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    (void)SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                       SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    (void)SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    (void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    (void)SSL_CTX_set_timeout(ctx, TICKET_LIFE_S);
    (void)SSL_CTX_set_app_data(ctx, c);
    SSL_CTX_set_client_hello_cb(ctx, tls_context_on_hello, c);
    (void)SSL_CTX_set_tlsext_servername_callback(ctx, tls_context_on_name_seen);
    SSL_CTX_set_alpn_select_cb(ctx, tls_context_on_alpn, c);
    SSL_CTX_set_keylog_callback(ctx, c->compact ? tls_secrets_on_line : NULL);
    return ctx;
}

static int tls_context_load_one(struct tls_context *c, const struct tls_listener_options *opt,
                                size_t i, struct err *e)
{
    const struct tls_certificate_files *files = &opt->certificates[i];
    struct tls_pair pair;
    unsigned char sid[SID_BYTES];
    int rc = tls_pair_load(&pair, files->cert, files->key, e);
    if (rc) {
        return rc;
    }
    struct tls_certificate *one = &c->certificates[i];
    one->not_after = pair.not_after;
    for (size_t k = 0; k < files->name_count; k++) {
        tls_context_add_name(c, files->names[k], i);
    }
    if (files->name_count == 0) {
        tls_pair_names(&pair, tls_context_on_name, &(struct tls_adding){c, i});
    }
    one->ctx = tls_context_make(c);
    c->count++;
    if (!one->ctx) {
        rc = tls_context_fail(e, "cannot set TLS up");
    } else if (SSL_CTX_use_cert_and_key(one->ctx, pair.leaf, pair.key, pair.chain, 1) != 1) {
        rc = tls_context_fail(e, files->cert);
    }
    tls_pair_clear(&pair);
    rc = rc ? rc : tls_context_verify_clients(one->ctx, opt, e);
    rc = rc ? rc : tls_context_session_id(opt, c, i, sid, e);
    if (rc == 0 && SSL_CTX_set_session_id_context(one->ctx, sid, sizeof sid) != 1) {
        rc = tls_context_fail(e, "cannot set TLS up");
    }
    return rc;
}

int tls_context_load(const struct tls_listener_options *opt, struct tls_ticket_chain *tickets,
                     struct tls_context **out, struct err *e)
{
    REQUIRE(opt->count > 0);
    struct tls_context *c = xcalloc(1, sizeof *c);
    atomic_init(&c->refs, 1);
    c->h2 = opt->h2;
    c->compact = opt->compact;
    c->tickets = tickets;
    c->certificates = xcalloc(opt->count, sizeof *c->certificates);
    int rc = 0;
    for (size_t i = 0; i < opt->count && rc == 0; i++) {
        rc = tls_context_load_one(c, opt, i, e);
    }
    if (rc) {
        tls_context_unref(c);
        return rc;
    }
    *out = c;
    return 0;
}

struct tls_context *tls_context_ref(struct tls_context *c)
{
    (void)atomic_fetch_add(&c->refs, 1);
    return c;
}

void tls_context_unref(struct tls_context *c)
{
    if (!c || atomic_fetch_sub(&c->refs, 1) > 1) {
        return;
    }
    for (size_t i = 0; i < c->count; i++) {
        SSL_CTX_free(c->certificates[i].ctx);
    }
    for (size_t i = 0; i < c->name_count; i++) {
        free(c->names[i].text);
    }
    free(c->certificates);
    free(c->names);
    free(c);
}

SSL *tls_context_ssl(struct tls_context *c)
{
    return SSL_new(c->certificates[0].ctx);
}

size_t tls_context_count(const struct tls_context *c)
{
    return c->count;
}

int64_t tls_context_not_after(const struct tls_context *c, size_t i)
{
    return c->certificates[i].not_after;
}
