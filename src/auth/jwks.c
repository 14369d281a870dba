#include "auth/jwks.h"

#include "base/alloc.h"
#include "base/logging.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <uv.h>

static struct jwks *new_set(size_t keys)
{
    struct jwks *s = xcalloc(1, sizeof *s);
    s->keys = xcalloc(keys, sizeof *s->keys);
    return s;
}

/* Is there no second key to choose from where a token names `kid` and an algorithm? */
static int check_unambiguous(const struct jwks *s, const struct jwk *k, struct err *e)
{
    for (size_t i = 0; k->kid && i < s->n; i++) {
        const struct jwk *other = &s->keys[i];
        if (other->kid && strcmp(other->kid, k->kid) == 0 && (other->algs & k->algs)) {
            return err_set(e, UV_EINVAL, "an earlier key has the \"kid\" \"%s\", too", k->kid);
        }
    }
    return 0;
}

/* Takes `k`, also on failure. */
static int add_key(struct jwks *s, struct jwk *k, struct err *e)
{
    bool symmetric = k->type == JWK_OCT;
    int rc = 0;
    if (s->n > 0 && symmetric != s->symmetric) {
        rc = err_set(e, UV_EINVAL,
                     "secrets (\"oct\") and public keys cannot share a set: give each its own");
    }
    if (rc) {
        jwk_clear(k);
        return rc;
    }
    s->symmetric = symmetric;
    s->algs |= k->algs;
    s->keys[s->n++] = *k;
    return 0;
}

/* Hands out the set, unless something was wrong. Takes `s`. */
static int jwks_finish(struct jwks *s, int rc, struct jwks **out, struct err *e)
{
    ERR_clear_error(); /* what OpenSSL thought of keys that were refused */
    if (rc == 0 && s->n == 0) {
        rc = err_set(e, UV_EINVAL, "holds no key that can be used");
    }
    if (rc) {
        jwks_free(s);
        return rc;
    }
    *out = s;
    return 0;
}

/* ---------------------------------------------------------------- JWK Set */

static void warn_skipped(const char *source, size_t at, const json_t *json, const struct err *e)
{
    const json_t *kid = json_object_get(json, "kid");
    struct slice text = {0};
    if (json_is_string(kid)) {
        text = slice_of(json_string_value(kid), json_string_length(kid));
    }
    log_warn("keys", "a key is left out",
             LOG_F(log_str("keys", source), log_uint("number", at + 1), log_slice("kid", text),
                   log_str("why", e->text)));
}

static int parse_keys(const json_t *list, unsigned algs, const char *source, struct jwks *s,
                      struct err *e)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *json = json_array_get(list, i);
        struct jwk k;
        struct err why;
        if (jwk_parse(&k, json, algs, &why)) {
            warn_skipped(source, i, json, &why);
            continue;
        }
        if (check_unambiguous(s, &k, &why)) { /* RFC 7517, 4.5: they should differ */
            warn_skipped(source, i, json, &why);
            jwk_clear(&k);
            continue;
        }
        int rc = add_key(s, &k, e);
        if (rc) {
            return rc;
        }
    }
    return 0;
}

int jwks_parse(struct slice text, unsigned algs, const char *source, struct jwks **out,
               struct err *e)
{
    json_error_t why;
    if (text.n > JWKS_MAX_BYTES) {
        return err_set(e, UV_EINVAL, "is longer than %d bytes", (int)JWKS_MAX_BYTES);
    }
    json_t *root = json_loadb(text.p ? text.p : "", text.n, JSON_REJECT_DUPLICATES, &why);
    if (!root) {
        return err_set(e, UV_EINVAL, "is not JSON: line %d, column %d", why.line, why.column);
    }
    const json_t *list = json_object_get(root, "keys");
    int rc;
    if (!json_is_array(list)) {
        rc = err_set(e, UV_EINVAL, "is not a JWK Set: expected {\"keys\": [...]}");
    } else if (json_array_size(list) > JWKS_MAX_KEYS) {
        rc = err_set(e, UV_EINVAL, "holds %zu keys, at most %d were expected",
                     json_array_size(list), (int)JWKS_MAX_KEYS);
    } else {
        struct jwks *s = new_set(json_array_size(list));
        rc = jwks_finish(s, parse_keys(list, algs, source, s, e), out, e);
    }
    json_decref(root);
    return rc;
}

/* ---------------------------------------------------------------- PEM, secrets */

static const char pem_block[] = "-----BEGIN PUBLIC KEY-----";

static size_t count_blocks(struct slice text)
{
    size_t n = 0;
    const char *end = text.p + text.n;
    for (const char *p = text.p;
         (p = memmem(p, (size_t)(end - p), pem_block, sizeof pem_block - 1)); p++) {
        n++;
    }
    return n;
}

static int read_pem(BIO *bio, size_t blocks, unsigned algs, struct jwks *s, struct err *e)
{
    for (size_t i = 0; i < blocks; i++) {
        struct jwk k;
        EVP_PKEY *key = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);
        if (!key) {
            return err_set(e, UV_EINVAL, "key %zu cannot be read", i + 1);
        }
        int rc = jwk_from_public(&k, key, algs, e);
        EVP_PKEY_free(key);
        rc = rc ? err_context(e, "key %zu", i + 1) : add_key(s, &k, e);
        if (rc) {
            return rc;
        }
    }
    return 0;
}

int jwks_from_pem(struct slice text, unsigned algs, struct jwks **out, struct err *e)
{
    if (text.n > JWKS_MAX_BYTES) {
        return err_set(e, UV_EINVAL, "is longer than %d bytes", (int)JWKS_MAX_BYTES);
    }
    if (text.n && memmem(text.p, text.n, "PRIVATE KEY-----", 16)) {
        return err_set(e, UV_EINVAL,
                       "holds a private key: make a file of the public one with "
                       "`openssl pkey -in FILE -pubout`");
    }
    size_t blocks = text.n ? count_blocks(text) : 0;
    if (blocks == 0 || blocks > JWKS_MAX_KEYS) {
        return err_set(e, UV_EINVAL, "holds %zu blocks \"%s\": 1 to %d were expected", blocks,
                       pem_block, (int)JWKS_MAX_KEYS);
    }
    BIO *bio = BIO_new_mem_buf(text.p, (int)text.n);
    if (!bio) {
        return err_set(e, UV_ENOMEM, "cannot be read: memory is short");
    }
    struct jwks *s = new_set(blocks);
    int rc = jwks_finish(s, read_pem(bio, blocks, algs, s, e), out, e);
    BIO_free(bio);
    return rc;
}

int jwks_from_secret(struct slice secret, unsigned algs, struct jwks **out, struct err *e)
{
    struct jwk k;
    int rc = jwk_from_secret(&k, secret, algs & jwa_symmetric(), e);
    if (rc) {
        return rc;
    }
    struct jwks *s = new_set(1);
    return jwks_finish(s, add_key(s, &k, e), out, e);
}

/* ---------------------------------------------------------------- life */

void jwks_free(struct jwks *s)
{
    if (!s) {
        return;
    }
    for (size_t i = 0; i < s->n; i++) {
        jwk_clear(&s->keys[i]);
    }
    free(s->keys);
    free(s);
}
