/* See tls_info.h. */
#include "net/tls/tls_info.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

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
    bool fits = n >= 0 && n < TLS_INFO_TEXT_BYTES && (n == 0 || !memchr(text, '\0', (size_t)n));
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
    if (n < 0 || n * 2 >= TLS_INFO_SERIAL_BYTES) {
        return false;
    }
    tls_info_hex(out, ASN1_STRING_get0_data(serial), (size_t)n);
    return true;
}

static bool tls_info_digest(const X509 *cert, char *out)
{
    unsigned char md[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (X509_digest(cert, EVP_sha256(), md, &n) != 1 || n * 2 >= TLS_INFO_SHA256_BYTES) {
        return false;
    }
    tls_info_hex(out, md, n);
    return true;
}

static bool tls_info_add_name(struct tls_info *out, enum tls_name_kind kind,
                              const ASN1_STRING *name)
{
    size_t n = (size_t)ASN1_STRING_length(name);
    const char *text = (const char *)ASN1_STRING_get0_data(name);
    if (memchr(text, '\0', n) || out->names_len + n + 2 > TLS_INFO_NAMES_BYTES) {
        return false;
    }
    out->names[out->names_len++] = (char)kind;
    memcpy(out->names + out->names_len, text, n);
    out->names_len += n;
    out->names[out->names_len++] = '\0';
    return true;
}

static bool tls_info_names(struct tls_info *out, const X509 *cert)
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

static bool tls_info_client(struct tls_info *out, X509 *cert)
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

void tls_info_of(const struct tls_conn *t, struct tls_info *out)
{
    const SSL *ssl = tls_conn_ssl(t);
    const unsigned char *alpn;
    unsigned n;
    out->names_len = 0;
    out->version = SSL_get_version(ssl);
    out->cipher = SSL_CIPHER_get_name(SSL_get_current_cipher(ssl));
    out->sni = tls_context_sni(ssl);
    SSL_get0_alpn_selected(ssl, &alpn, &n);
    out->alpn = slice_of((const char *)alpn, n);
    out->resumed = tls_conn_resumed(t);
    X509 *cert = SSL_get0_peer_certificate(ssl);
    out->has_client = cert && SSL_get_verify_result(ssl) == X509_V_OK && tls_info_client(out, cert);
    ERR_clear_error();
}
