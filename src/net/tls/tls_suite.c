/* See tls_suite.h. */
#include "net/tls/tls_suite.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>

enum { SUITES = 3, LABEL_MAX = 16 };

struct tls_suite {
    uint16_t number;
    size_t key_bytes, secret_bytes;
    const EVP_MD *md;
    EVP_CIPHER_CTX *seal, *open; /* owned; keys are set for each record */
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
    }
    ERR_clear_error();
    return s;
}

void tls_suites_free(struct tls_suites *s)
{
    for (size_t i = 0; i < SUITES && s; i++) {
        EVP_CIPHER_CTX_free(s->v[i].seal);
        EVP_CIPHER_CTX_free(s->v[i].open);
    }
    free(s);
}

const struct tls_suite *tls_suites_find(const struct tls_suites *s, uint16_t number)
{
    for (size_t i = 0; i < SUITES; i++) {
        if (s->v[i].number == number && s->v[i].seal && s->v[i].open) {
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

bool tls_suite_derive(const struct tls_suite *suite, struct tls_keys *k)
{
    k->seq = 0;
    return tls_suite_expand(suite, k->secret, "key", k->key, suite->key_bytes) &&
           tls_suite_expand(suite, k->secret, "iv", k->iv, TLS_IV_BYTES);
}

bool tls_suite_next(const struct tls_suite *suite, struct tls_keys *k)
{
    unsigned char next[TLS_SECRET_MAX];
    bool ok = tls_suite_expand(suite, k->secret, "traffic upd", next, suite->secret_bytes);
    if (ok) {
        memcpy(k->secret, next, suite->secret_bytes);
    }
    OPENSSL_cleanse(next, sizeof next);
    return ok && tls_suite_derive(suite, k);
}

/* ---------------------------------------------------------------- records */

/* RFC 8446, 5.3 */
static void tls_suite_nonce(const struct tls_keys *k, unsigned char *nonce)
{
    memcpy(nonce, k->iv, TLS_IV_BYTES);
    for (unsigned i = 0; i < 8; i++) {
        nonce[TLS_IV_BYTES - 1 - i] ^= (unsigned char)(k->seq >> (8 * i));
    }
}

bool tls_suite_seal(const struct tls_suite *suite, struct tls_keys *k, const unsigned char *header,
                    struct slice plain, unsigned char type, char *to)
{
    EVP_CIPHER_CTX *c = suite->seal;
    unsigned char nonce[TLS_IV_BYTES], *out = (unsigned char *)to;
    int n;
    tls_suite_nonce(k, nonce);
    k->seq++;
    return EVP_EncryptInit_ex(c, NULL, NULL, k->key, nonce) == 1 &&
           EVP_EncryptUpdate(c, NULL, &n, header, TLS_HEADER_BYTES) == 1 &&
           (plain.n == 0 ||
            EVP_EncryptUpdate(c, out, &n, (const unsigned char *)plain.p, (int)plain.n) == 1) &&
           EVP_EncryptUpdate(c, out + plain.n, &n, &type, 1) == 1 &&
           EVP_EncryptFinal_ex(c, out + plain.n + 1, &n) == 1 &&
           EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, TLS_TAG_BYTES, out + plain.n + 1) == 1;
}

bool tls_suite_open(const struct tls_suite *suite, struct tls_keys *k, const unsigned char *header,
                    struct slice sealed, char *to)
{
    EVP_CIPHER_CTX *c = suite->open;
    unsigned char nonce[TLS_IV_BYTES], tag[TLS_TAG_BYTES], *out = (unsigned char *)to;
    size_t len = sealed.n - TLS_TAG_BYTES;
    int n;
    tls_suite_nonce(k, nonce);
    k->seq++;
    memcpy(tag, sealed.p + len, sizeof tag);
    bool ok = EVP_DecryptInit_ex(c, NULL, NULL, k->key, nonce) == 1 &&
              EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, TLS_TAG_BYTES, tag) == 1 &&
              EVP_DecryptUpdate(c, NULL, &n, header, TLS_HEADER_BYTES) == 1 &&
              EVP_DecryptUpdate(c, out, &n, (const unsigned char *)sealed.p, (int)len) == 1 &&
              EVP_DecryptFinal_ex(c, out + len, &n) == 1;
    if (!ok) {
        ERR_clear_error();
    }
    return ok;
}
