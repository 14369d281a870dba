/* See tls_suite.h. */
#include "net/tls/tls_suite.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>

enum { SUITES = 3, LABEL_MAX = 16, DERIVED = 64 };

/* Of one connection that has sent something lately. */
struct tls_derived {
    const struct tls_peer_keys *of; /* NULL: none. Cleared before that ends */
    unsigned char iv[TLS_IV_BYTES];
    unsigned char key[TLS_KEY_MAX];
};

struct tls_suite {
    uint16_t number;
    size_t key_bytes, secret_bytes;
    const EVP_MD *md;
    EVP_CIPHER_CTX *seal, *open; /* owned; keys are set for each record */
    struct tls_derived *derived; /* owned; DERIVED of them, each connection has one place */
};

struct tls_suites {
    struct tls_suite v[SUITES];
};

/* ---------------------------------------------------------------- what there is */

static EVP_CIPHER_CTX *tls_suite_context(EVP_CIPHER *cipher, bool encrypts)
{
    EVP_CIPHER_CTX *c = cipher ? EVP_CIPHER_CTX_new() : NULL;
    if (!c || EVP_CipherInit_ex(c, cipher, NULL, NULL, NULL, encrypts) != 1) {
        EVP_CIPHER_CTX_free(c);
        return NULL;
    }
    return c;
}

struct tls_suites *tls_suites_new(void)
{
    static const struct {
        uint16_t number;
        const char *cipher;
        size_t key_bytes, secret_bytes;
    } known[SUITES] = {
        {0x1301, "AES-128-GCM", 16, 32},
        {0x1302, "AES-256-GCM", 32, 48},
        {0x1303, "ChaCha20-Poly1305", 32, 32},
    };
    struct tls_suites *s = calloc(1, sizeof *s);
    for (size_t i = 0; i < SUITES && s; i++) {
        EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, known[i].cipher, NULL);
        s->v[i] = (struct tls_suite){
            .number = known[i].number,
            .key_bytes = known[i].key_bytes,
            .secret_bytes = known[i].secret_bytes,
            .md = known[i].secret_bytes == TLS_SECRET_MAX ? EVP_sha384() : EVP_sha256(),
            .seal = tls_suite_context(cipher, true),
            .open = tls_suite_context(cipher, false),
        };
        EVP_CIPHER_free(cipher); /* the contexts have references */
        s->v[i].derived = calloc(DERIVED, sizeof *s->v[i].derived);
    }
    ERR_clear_error();
    return s;
}

void tls_suites_free(struct tls_suites *s)
{
    for (size_t i = 0; i < SUITES && s; i++) {
        EVP_CIPHER_CTX_free(s->v[i].seal);
        EVP_CIPHER_CTX_free(s->v[i].open);
        if (s->v[i].derived) {
            OPENSSL_cleanse(s->v[i].derived, DERIVED * sizeof *s->v[i].derived);
            free(s->v[i].derived);
        }
    }
    free(s);
}

const struct tls_suite *tls_suites_find(const struct tls_suites *s, uint16_t number)
{
    for (size_t i = 0; i < SUITES; i++) {
        if (s->v[i].number == number && s->v[i].seal && s->v[i].open && s->v[i].derived) {
            return &s->v[i];
        }
    }
    return NULL;
}

size_t tls_suite_secret_bytes(const struct tls_suite *suite)
{
    return suite->secret_bytes;
}

/* ---------------------------------------------------------------- keys */

/* HKDF-Expand-Label without a context (RFC 8446, 7.1). What is asked for is never longer than one hash, so that
 * it is the beginning of one HMAC (RFC 5869, 2.3). */
static bool tls_suite_expand(const struct tls_suite *suite, const unsigned char *secret,
                             const char *label, unsigned char *out, size_t n)
{
    unsigned char info[4 + 6 + LABEL_MAX], block[EVP_MAX_MD_SIZE];
    size_t label_n = strlen(label), at = 0;
    info[at++] = 0;
    info[at++] = (unsigned char)n;
    info[at++] = (unsigned char)(6 + label_n);
    memcpy(info + at, "tls13 ", 6);
    memcpy(info + at + 6, label, label_n);
    at += 6 + label_n;
    info[at++] = 0;
    info[at++] = 1; /* the number of the block */
    bool ok = HMAC(suite->md, secret, (int)suite->secret_bytes, info, at, block, NULL) != NULL;
    if (ok) {
        memcpy(out, block, n);
    }
    OPENSSL_cleanse(block, sizeof block);
    return ok;
}

static bool tls_suite_keys(const struct tls_suite *suite, const unsigned char *secret,
                           unsigned char *key, unsigned char *iv)
{
    return tls_suite_expand(suite, secret, "key", key, suite->key_bytes) &&
           tls_suite_expand(suite, secret, "iv", iv, TLS_IV_BYTES);
}

bool tls_suite_derive(const struct tls_suite *suite, struct tls_keys *k)
{
    k->seq = 0;
    return tls_suite_keys(suite, k->secret, k->key, k->iv);
}

static bool tls_suite_advance(const struct tls_suite *suite, unsigned char *secret)
{
    unsigned char next[TLS_SECRET_MAX];
    bool ok = tls_suite_expand(suite, secret, "traffic upd", next, suite->secret_bytes);
    if (ok) {
        memcpy(secret, next, suite->secret_bytes);
    }
    OPENSSL_cleanse(next, sizeof next);
    return ok;
}

bool tls_suite_next(const struct tls_suite *suite, struct tls_keys *k)
{
    return tls_suite_advance(suite, k->secret) && tls_suite_derive(suite, k);
}

bool tls_suite_next_of_peer(const struct tls_suite *suite, struct tls_peer_keys *k)
{
    tls_suite_forget(suite, k);
    k->seq = 0;
    return tls_suite_advance(suite, k->secret);
}

/* Connections lie some 256 bytes apart. */
static struct tls_derived *tls_suite_place(const struct tls_suite *suite,
                                           const struct tls_peer_keys *k)
{
    uintptr_t at = (uintptr_t)k;
    return &suite->derived[(at >> 8 ^ at >> 14) % DERIVED];
}

void tls_suite_forget(const struct tls_suite *suite, const struct tls_peer_keys *k)
{
    struct tls_derived *d = tls_suite_place(suite, k);
    if (d->of == k) {
        OPENSSL_cleanse(d, sizeof *d);
    }
}

/* NULL: libcrypto failed. */
static const struct tls_derived *tls_suite_derived(const struct tls_suite *suite,
                                                   const struct tls_peer_keys *k)
{
    struct tls_derived *d = tls_suite_place(suite, k);
    if (d->of != k) {
        OPENSSL_cleanse(d, sizeof *d);
        if (!tls_suite_keys(suite, k->secret, d->key, d->iv)) {
            OPENSSL_cleanse(d, sizeof *d); /* one of the two may be there */
            return NULL;
        }
        d->of = k;
    }
    return d;
}

/* ---------------------------------------------------------------- records */

/* RFC 8446, 5.3 */
static void tls_suite_nonce(const unsigned char *iv, uint64_t seq, unsigned char *nonce)
{
    memcpy(nonce, iv, TLS_IV_BYTES);
    for (unsigned i = 0; i < 8; i++) {
        nonce[TLS_IV_BYTES - 1 - i] ^= (unsigned char)(seq >> (8 * i));
    }
}

bool tls_suite_seal(const struct tls_suite *suite, struct tls_keys *k, const unsigned char *header,
                    struct slice plain, unsigned char type, char *to)
{
    EVP_CIPHER_CTX *c = suite->seal;
    unsigned char nonce[TLS_IV_BYTES], *out = (unsigned char *)to;
    int n;
    tls_suite_nonce(k->iv, k->seq, nonce);
    k->seq++;
    return EVP_EncryptInit_ex(c, NULL, NULL, k->key, nonce) == 1 &&
           EVP_EncryptUpdate(c, NULL, &n, header, TLS_HEADER_BYTES) == 1 &&
           (plain.n == 0 ||
            EVP_EncryptUpdate(c, out, &n, (const unsigned char *)plain.p, (int)plain.n) == 1) &&
           EVP_EncryptUpdate(c, out + plain.n, &n, &type, 1) == 1 &&
           EVP_EncryptFinal_ex(c, out + plain.n + 1, &n) == 1 &&
           EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, TLS_TAG_BYTES, out + plain.n + 1) == 1;
}

bool tls_suite_open(const struct tls_suite *suite, struct tls_peer_keys *k,
                    const unsigned char *header, struct slice sealed, char *to)
{
    EVP_CIPHER_CTX *c = suite->open;
    unsigned char nonce[TLS_IV_BYTES], tag[TLS_TAG_BYTES], *out = (unsigned char *)to;
    size_t len = sealed.n - TLS_TAG_BYTES;
    int n;
    const struct tls_derived *d = tls_suite_derived(suite, k);
    if (!d) {
        ERR_clear_error();
        return false;
    }
    tls_suite_nonce(d->iv, k->seq, nonce);
    k->seq++;
    memcpy(tag, sealed.p + len, sizeof tag);
    bool ok = EVP_DecryptInit_ex(c, NULL, NULL, d->key, nonce) == 1 &&
              EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, TLS_TAG_BYTES, tag) == 1 &&
              EVP_DecryptUpdate(c, NULL, &n, header, TLS_HEADER_BYTES) == 1 &&
              EVP_DecryptUpdate(c, out, &n, (const unsigned char *)sealed.p, (int)len) == 1 &&
              EVP_DecryptFinal_ex(c, out + len, &n) == 1;
    if (!ok) {
        ERR_clear_error();
    }
    return ok;
}
