/* See tls_pair.h. */
#include "net/tls/tls_pair.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <uv.h>

enum { CHAIN_MAX = 16 };

/* A key with a passphrase must fail, not ask at the terminal. */
static int tls_pair_no_passphrase(char *buf, int size, int writing, void *ctx)
{
    (void)buf, (void)size, (void)writing, (void)ctx;
    return -1;
}

static FILE *tls_pair_open(const char *path, struct stat *st, struct err *e)
{
    FILE *f = fopen(path, "re");
    if (!f) {
        err_set(e, UV_EINVAL, "\"%s\": cannot read it: %s%s", path, uv_strerror(-errno),
                errno == EACCES ? ": let the user that runs the broker read it" : "");
    } else if (fstat(fileno(f), st) || !S_ISREG(st->st_mode)) {
        err_set(e, UV_EINVAL, "\"%s\": expected a regular file", path);
        (void)fclose(f);
        f = NULL;
    }
    return f;
}

static int tls_pair_read_certificates(struct tls_pair *p, const char *path, struct err *e)
{
    struct stat st;
    FILE *f = tls_pair_open(path, &st, e);
    if (!f) {
        return UV_EINVAL;
    }
    p->leaf = PEM_read_X509(f, NULL, tls_pair_no_passphrase, NULL);
    p->chain = sk_X509_new_null();
    int rc = 0;
    if (!p->leaf || !p->chain) {
        rc = err_set(e, UV_EINVAL,
                     "\"%s\": expected a certificate in PEM (-----BEGIN CERTIFICATE-----), with "
                     "those that issued it behind it (certbot: fullchain.pem)",
                     path);
    }
    while (rc == 0) {
        X509 *next = PEM_read_X509(f, NULL, tls_pair_no_passphrase, NULL);
        if (!next) {
            unsigned long why = ERR_peek_last_error();
            if (why && ERR_GET_REASON(why) != PEM_R_NO_START_LINE) {
                rc = err_set(e, UV_EINVAL, "\"%s\": certificate %d is damaged", path,
                             sk_X509_num(p->chain) + 2);
            }
            break;
        }
        if (sk_X509_num(p->chain) >= CHAIN_MAX || !sk_X509_push(p->chain, next)) {
            X509_free(next);
            rc = err_set(e, UV_EINVAL, "\"%s\": more than %d certificates", path, CHAIN_MAX);
        }
    }
    ERR_clear_error();
    (void)fclose(f);
    return rc;
}

static int tls_pair_read_key(struct tls_pair *p, const char *path, struct err *e)
{
    struct stat st;
    FILE *f = tls_pair_open(path, &st, e);
    if (!f) {
        return UV_EINVAL;
    }
    p->key_is_open = (st.st_mode & S_IROTH) != 0;
    p->key = PEM_read_PrivateKey(f, NULL, tls_pair_no_passphrase, NULL);
    int rc = 0;
    if (!p->key) {
        unsigned long why = ERR_peek_last_error();
        bool locked = ERR_GET_REASON(why) == PEM_R_BAD_PASSWORD_READ ||
                      ERR_GET_REASON(why) == PEM_R_PROBLEMS_GETTING_PASSWORD;
        rc = err_set(e, UV_EINVAL,
                     locked ? "\"%s\": the key has a passphrase, and nobody is there to type it: "
                              "store it without (openssl pkey -in OLD -out NEW), readable by the "
                              "broker alone"
                            : "\"%s\": expected a private key in PEM (-----BEGIN PRIVATE KEY-----)",
                     path);
    } else if (EVP_PKEY_get_base_id(p->key) == EVP_PKEY_RSA && EVP_PKEY_get_bits(p->key) < 2048) {
        rc = err_set(e, UV_EINVAL, "\"%s\": RSA of %d bits: clients refuse less than 2048", path,
                     EVP_PKEY_get_bits(p->key));
    }
    ERR_clear_error();
    (void)fclose(f);
    return rc;
}

static int64_t tls_pair_time(const ASN1_TIME *t)
{
    struct tm tm;
    return ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

int tls_pair_load(struct tls_pair *out, const char *cert_file, const char *key_file, struct err *e)
{
    *out = (struct tls_pair){0};
    int rc = tls_pair_read_certificates(out, cert_file, e);
    rc = rc ? rc : tls_pair_read_key(out, key_file, e);
    if (rc == 0 && X509_check_private_key(out->leaf, out->key) != 1) {
        rc =
            err_set(e, UV_EINVAL,
                    "\"%s\" is not the key of the first certificate in \"%s\": the file must begin "
                    "with the server's own certificate",
                    key_file, cert_file);
        ERR_clear_error();
    }
    if (rc) {
        tls_pair_clear(out);
        return rc;
    }
    out->not_before = tls_pair_time(X509_get0_notBefore(out->leaf));
    out->not_after = tls_pair_time(X509_get0_notAfter(out->leaf));
    return 0;
}

void tls_pair_clear(struct tls_pair *p)
{
    X509_free(p->leaf);
    sk_X509_pop_free(p->chain, X509_free);
    EVP_PKEY_free(p->key);
    *p = (struct tls_pair){0};
}

int tls_pair_check_chain(const struct tls_pair *p, struct err *e)
{
    X509 *below = p->leaf;
    char name[256];
    for (int i = 0; i < sk_X509_num(p->chain); i++) {
        X509 *above = sk_X509_value(p->chain, i);
        if (X509_check_issued(above, below) != X509_V_OK) {
            return err_set(e, UV_EINVAL,
                           "certificate %d did not issue certificate %d: put each behind the one "
                           "that it issued",
                           i + 2, i + 1);
        }
        if (X509_cmp_current_time(X509_get0_notAfter(above)) < 0) {
            return err_set(e, UV_EINVAL, "certificate %d (%s) has expired", i + 2,
                           X509_NAME_oneline(X509_get_subject_name(above), name, sizeof name));
        }
        below = above;
    }
    if (sk_X509_num(p->chain) == 0 && X509_check_issued(p->leaf, p->leaf) != X509_V_OK) {
        return err_set(
            e, UV_EINVAL,
            "the certificate stands alone, and most clients cannot verify it without the "
            "one that issued it: append that (certbot: use fullchain.pem)");
    }
    return 0;
}

bool tls_pair_covers(const struct tls_pair *p, const char *name)
{
    char sample[300];
    if (name[0] == '*' && name[1] == '.') { /* whatever it stands for */
        snprintf(sample, sizeof sample, "any%s", name + 1);
        name = sample;
    }
    return X509_check_host(p->leaf, name, strlen(name), X509_CHECK_FLAG_NEVER_CHECK_SUBJECT,
                           NULL) == 1;
}

void tls_pair_names(const struct tls_pair *p, void (*each)(void *ctx, const char *name), void *ctx)
{
    GENERAL_NAMES *all = X509_get_ext_d2i(p->leaf, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(all); i++) {
        const GENERAL_NAME *one = sk_GENERAL_NAME_value(all, i);
        if (one->type != GEN_DNS) {
            continue;
        }
        const char *text = (const char *)ASN1_STRING_get0_data(one->d.dNSName);
        char name[256];
        int n = ASN1_STRING_length(one->d.dNSName);
        if (n > 0 && n < (int)sizeof name && !memchr(text, '\0', (size_t)n)) {
            memcpy(name, text, (size_t)n);
            name[n] = '\0';
            each(ctx, name);
        }
    }
    GENERAL_NAMES_free(all);
}
