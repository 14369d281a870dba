/* See tls_info.h. */
#include "net/tls/tls_info.h"

#include "base/alloc.h"
#include "net/tls/tls_context.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    TEXT_BYTES = 1024,
    NAMES_BYTES = 4096,
    SERIAL_BYTES = 80, /* 20 octets (RFC 5280, 4.1.2.2), in hexadecimal */
    SHA256_BYTES = 65,
};

/* As small as can be: each open connection has them. `text` has, each with its '\0': the server's name; and of a
 * client its subject, issuer, serial number, hash, the alternative names, and then the end of its validity. */
struct tls_facts {
    const SSL_CIPHER *cipher; /* OpenSSL's own, which it never frees */
    uint16_t names_n, text_n;
    bool v13 : 1, alpn : 1, h2 : 1, resumed : 1, has_client : 1;
    char text[];
};

/* A client's certificate, on its way. */
struct tls_client_facts {
    int64_t not_after;
    char subject[TEXT_BYTES], issuer[TEXT_BYTES], serial[SERIAL_BYTES], sha256[SHA256_BYTES];
    char names[NAMES_BYTES];
    size_t names_n;
};

/* ---------------------------------------------------------------- a client's certificate */

static void tls_info_hex(char *out, const unsigned char *bytes, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        *out++ = digits[bytes[i] >> 4];
        *out++ = digits[bytes[i] & 15];
    }
    *out = '\0';
}

static bool tls_info_name(X509_NAME *name, char *out)
{
    BIO *bio = BIO_new(BIO_s_mem());
    const char *text = NULL;
    long n = -1;
    if (bio && X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) >= 0) {
        n = BIO_get_mem_data(bio, &text);
    }
    bool fits = n >= 0 && n < TEXT_BYTES && (n == 0 || !memchr(text, '\0', (size_t)n));
    if (fits && n) {
        memcpy(out, text, (size_t)n);
    }
    out[fits ? n : 0] = '\0';
    BIO_free(bio);
    return fits;
}

static bool tls_info_serial(X509 *cert, char *out)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);
    int n = ASN1_STRING_length(serial);
    if (n < 0 || n * 2 >= SERIAL_BYTES) {
        return false;
    }
    tls_info_hex(out, ASN1_STRING_get0_data(serial), (size_t)n);
    return true;
}

static bool tls_info_digest(const X509 *cert, char *out)
{
    unsigned char md[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (X509_digest(cert, EVP_sha256(), md, &n) != 1 || n * 2 >= SHA256_BYTES) {
        return false;
    }
    tls_info_hex(out, md, n);
    return true;
}

static bool tls_info_add_name(struct tls_client_facts *out, enum tls_name_kind kind,
                              const ASN1_STRING *name)
{
    size_t n = (size_t)ASN1_STRING_length(name);
    const char *text = (const char *)ASN1_STRING_get0_data(name);
    if (memchr(text, '\0', n) || out->names_n + n + 2 > NAMES_BYTES) {
        return false;
    }
    out->names[out->names_n++] = (char)kind;
    memcpy(out->names + out->names_n, text, n);
    out->names_n += n;
    out->names[out->names_n++] = '\0';
    return true;
}

static bool tls_info_names(struct tls_client_facts *out, const X509 *cert)
{
    bool fits = true;
    GENERAL_NAMES *all = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(all) && fits; i++) {
        const GENERAL_NAME *one = sk_GENERAL_NAME_value(all, i);
        if (one->type == GEN_DNS) {
            fits = tls_info_add_name(out, TLS_NAME_DNS, one->d.dNSName);
        } else if (one->type == GEN_URI) {
            fits = tls_info_add_name(out, TLS_NAME_URI, one->d.uniformResourceIdentifier);
        } else if (one->type == GEN_EMAIL) {
            fits = tls_info_add_name(out, TLS_NAME_EMAIL, one->d.rfc822Name);
        }
    }
    GENERAL_NAMES_free(all);
    return fits;
}

static bool tls_info_client(struct tls_client_facts *out, X509 *cert)
{
    struct tm tm;
    if (ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm) != 1) {
        return false;
    }
    out->not_after = (int64_t)timegm(&tm);
    return tls_info_name(X509_get_subject_name(cert), out->subject) &&
           tls_info_name(X509_get_issuer_name(cert), out->issuer) &&
           tls_info_serial(cert, out->serial) && tls_info_digest(cert, out->sha256) &&
           tls_info_names(out, cert);
}

/* ---------------------------------------------------------------- all of it */

static char *tls_facts_put(char *to, const char *text)
{
    size_t n = strlen(text) + 1;
    memcpy(to, text, n);
    return to + n;
}

static struct tls_facts *tls_facts_new(const char *sni, const struct tls_client_facts *c)
{
    size_t n = strlen(sni) + 1;
    if (c) {
        n += strlen(c->subject) + strlen(c->issuer) + strlen(c->serial) + strlen(c->sha256) + 4 +
             c->names_n + sizeof c->not_after;
    }
    struct tls_facts *f = xcalloc(1, sizeof *f + n);
    f->text_n = (uint16_t)n;
    char *to = tls_facts_put(f->text, sni);
    if (c) {
        to = tls_facts_put(to, c->subject);
        to = tls_facts_put(to, c->issuer);
        to = tls_facts_put(to, c->serial);
        to = tls_facts_put(to, c->sha256);
        memcpy(to, c->names, c->names_n);
        memcpy(to + c->names_n, &c->not_after, sizeof c->not_after);
        f->has_client = true;
        f->names_n = (uint16_t)c->names_n;
    }
    return f;
}

/* One of the two that tls_context.c offers. */
static void tls_facts_take_alpn(struct tls_facts *f, const SSL *ssl)
{
    const unsigned char *name;
    unsigned n;
    SSL_get0_alpn_selected(ssl, &name, &n);
    f->alpn = n > 0;
    f->h2 = n > 0 && slice_is(slice_of((const char *)name, n), "h2");
}

struct tls_facts *tls_facts_of(const SSL *ssl)
{
    struct tls_client_facts client;
    X509 *cert = SSL_get0_peer_certificate(ssl);
    client.names_n = 0;
    bool shown = cert && SSL_get_verify_result(ssl) == X509_V_OK && tls_info_client(&client, cert);
    struct tls_facts *f = tls_facts_new(tls_context_sni(ssl), shown ? &client : NULL);
    f->v13 = SSL_version(ssl) == TLS1_3_VERSION;
    f->cipher = SSL_get_current_cipher(ssl);
    tls_facts_take_alpn(f, ssl);
    f->resumed = SSL_session_reused(ssl) == 1;
    ERR_clear_error();
    return f;
}

size_t tls_facts_bytes(const struct tls_facts *f)
{
    return offsetof(struct tls_facts, text) + f->text_n;
}

bool tls_facts_h2(const struct tls_facts *f)
{
    return f->h2;
}

bool tls_facts_resumed(const struct tls_facts *f)
{
    return f->resumed;
}

static const char *tls_facts_next(const char **at)
{
    const char *text = *at;
    *at += strlen(text) + 1;
    return text;
}

void tls_facts_read(const struct tls_facts *f, struct tls_info *out)
{
    const char *at = f->text;
    *out = (struct tls_info){.version = f->v13 ? "TLSv1.3" : "TLSv1.2", /* there is no other */
                             .cipher = SSL_CIPHER_get_name(f->cipher),
                             .alpn = f->h2     ? "h2"
                                     : f->alpn ? "http/1.1"
                                               : "",
                             .resumed = f->resumed,
                             .has_client = f->has_client};
    out->sni = tls_facts_next(&at);
    if (f->has_client) {
        out->subject = tls_facts_next(&at);
        out->issuer = tls_facts_next(&at);
        out->serial = tls_facts_next(&at);
        out->sha256 = tls_facts_next(&at);
        out->names = slice_of(at, f->names_n);
        memcpy(&out->not_after, at + f->names_n, sizeof out->not_after);
    }
}
