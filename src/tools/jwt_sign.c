#include "tools/jwt_sign.h"

#include "base/alloc.h"
#include "base/require.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

struct jwt_signer {
    enum jwk_type type;
    EVP_PKEY *key;           /* owned; NULL of a secret */
    struct jwt_bytes secret; /* of JWK_OCT */
};

/* ---------------------------------------------------------------- keys */

static EVP_PKEY *new_key(enum jwk_type type)
{
    switch (type) {
    case JWK_RSA:
        return EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)JWT_SIGN_RSA_BITS);
    case JWK_P256:
        return EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    case JWK_P384:
        return EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-384");
    case JWK_ED25519:
        return EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    case JWK_OCT:
    default:
        return NULL;
    }
}

static bool set_secret(struct jwt_bytes *out, struct slice secret)
{
    REQUIRE(secret.n <= sizeof out->data);
    if (secret.p) {
        out->n = secret.n;
        memcpy(out->data, secret.p, secret.n);
        return true;
    }
    out->n = JWT_SIGN_SECRET_BYTES;
    return RAND_bytes(out->data, (int)out->n) == 1;
}

struct jwt_signer *jwt_signer_new(enum jwk_type type, struct slice secret)
{
    struct jwt_signer *s = xcalloc(1, sizeof *s);
    s->type = type;
    s->key = new_key(type);
    if (type == JWK_OCT ? !set_secret(&s->secret, secret) : !s->key) {
        jwt_signer_free(s);
        s = NULL;
    }
    ERR_clear_error();
    return s;
}

/* False: no algorithm of tokens takes it. */
static bool jwt_sign_type_of(EVP_PKEY *key, enum jwk_type *out)
{
    char group[32];
    size_t n = 0;
    switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_RSA:
        *out = JWK_RSA;
        return EVP_PKEY_get_bits(key) >= JWT_SIGN_RSA_BITS;
    case EVP_PKEY_ED25519:
        *out = JWK_ED25519;
        return true;
    case EVP_PKEY_EC:
        *out = EVP_PKEY_get_bits(key) == 256 ? JWK_P256 : JWK_P384;
        return EVP_PKEY_get_group_name(key, group, sizeof group, &n) == 1 &&
               (strcmp(group, "prime256v1") == 0 || strcmp(group, "secp384r1") == 0);
    default:
        return false;
    }
}

/* Instead of asking the terminal for it. */
static int jwt_sign_no_passphrase(char *buf, int size, int writing, void *ctx)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)ctx;
    return -1;
}

int jwt_signer_from_pem(struct slice text, struct jwt_signer **out, struct err *e)
{
    enum jwk_type type = JWK_RSA;
    BIO *bio = BIO_new_mem_buf(text.n ? text.p : "", (int)text.n);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, jwt_sign_no_passphrase, NULL) : NULL;
    BIO_free(bio);
    ERR_clear_error();
    if (!key) {
        return err_set(e, UV_EINVAL, "a private key in PEM, not encrypted, was expected");
    }
    if (!jwt_sign_type_of(key, &type)) {
        EVP_PKEY_free(key);
        return err_set(e, UV_EINVAL,
                       "RSA of at least %d bits, P-256, P-384 or Ed25519 was expected",
                       (int)JWT_SIGN_RSA_BITS);
    }
    *out = xcalloc(1, sizeof **out);
    (*out)->type = type;
    (*out)->key = key;
    return 0;
}

void jwt_signer_free(struct jwt_signer *s)
{
    if (s) {
        EVP_PKEY_free(s->key);
        OPENSSL_cleanse(&s->secret, sizeof s->secret);
        free(s);
    }
}

enum jwk_type jwt_signer_type(const struct jwt_signer *s)
{
    return s->type;
}

/* ---------------------------------------------------------------- signing */

static bool sign_hmac(const struct jwt_signer *s, const struct jwa *a, struct slice input,
                      struct jwt_bytes *out)
{
    return EVP_Q_mac(NULL, "HMAC", NULL, a->digest, NULL, s->secret.data, s->secret.n,
                     (const unsigned char *)input.p, input.n, out->data, sizeof out->data,
                     &out->n) != NULL;
}

static bool jwt_sign_use_pss(EVP_PKEY_CTX *ctx)
{
    return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) > 0 &&
           EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) > 0;
}

static bool sign_digest(const struct jwt_signer *s, enum jwt_alg alg, struct slice input,
                        struct jwt_bytes *out)
{
    EVP_PKEY_CTX *ctx = NULL; /* belongs to `md` */
    bool pss = alg == JWT_PS256 || alg == JWT_PS384 || alg == JWT_PS512;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    out->n = sizeof out->data;
    bool ok =
        md &&
        EVP_DigestSignInit_ex(md, &ctx, jwa_table[alg].digest, NULL, NULL, s->key, NULL) == 1 &&
        (!pss || jwt_sign_use_pss(ctx)) &&
        EVP_DigestSign(md, out->data, &out->n, (const unsigned char *)input.p, input.n) == 1;
    EVP_MD_CTX_free(md);
    return ok;
}

/* DER -> r and s of `bytes` each, side by side (RFC 7518, section 3.4). */
static bool ecdsa_raw(struct jwt_bytes *sig, int bytes)
{
    const unsigned char *p = sig->data;
    ECDSA_SIG *both = d2i_ECDSA_SIG(NULL, &p, (long)sig->n);
    bool ok = both && BN_bn2binpad(ECDSA_SIG_get0_r(both), sig->data, bytes) == bytes &&
              BN_bn2binpad(ECDSA_SIG_get0_s(both), sig->data + bytes, bytes) == bytes;
    sig->n = 2 * (size_t)bytes;
    ECDSA_SIG_free(both);
    return ok;
}

bool jwt_signer_sign(const struct jwt_signer *s, enum jwt_alg alg, struct slice input,
                     struct jwt_bytes *out)
{
    REQUIRE(jwa_table[alg].type == s->type);
    bool ok = s->type == JWK_OCT ? sign_hmac(s, &jwa_table[alg], input, out)
                                 : sign_digest(s, alg, input, out);
    if (ok && (s->type == JWK_P256 || s->type == JWK_P384)) {
        ok = ecdsa_raw(out, s->type == JWK_P256 ? 32 : 48);
    }
    ERR_clear_error();
    return ok;
}

/* ---------------------------------------------------------------- the public half */

/* `bytes`: how many, with leading zeros; 0: as many as it needs. */
static bool add_number(const struct jwt_signer *s, struct jwt_public *out, const char *name,
                       const char *param, int bytes)
{
    BIGNUM *n = NULL;
    struct jwt_bytes *v = &out->members[out->n].value;
    bool ok = EVP_PKEY_get_bn_param(s->key, param, &n) == 1;
    if (ok) {
        bytes = bytes ? bytes : BN_num_bytes(n);
        ok = bytes <= (int)sizeof v->data && BN_bn2binpad(n, v->data, bytes) == bytes;
        v->n = (size_t)bytes;
        out->members[out->n++].name = name;
    }
    BN_free(n);
    return ok;
}

static bool add_point(const struct jwt_signer *s, struct jwt_public *out, const char *crv,
                      int bytes)
{
    out->kty = "EC";
    out->crv = crv;
    return add_number(s, out, "x", OSSL_PKEY_PARAM_EC_PUB_X, bytes) &&
           add_number(s, out, "y", OSSL_PKEY_PARAM_EC_PUB_Y, bytes);
}

bool jwt_signer_public(const struct jwt_signer *s, struct jwt_public *out)
{
    struct jwt_bytes *first = &out->members[0].value;
    out->kty = "OKP";
    out->crv = NULL;
    out->n = 0;
    switch (s->type) {
    case JWK_P256:
        return add_point(s, out, "P-256", 32);
    case JWK_P384:
        return add_point(s, out, "P-384", 48);
    case JWK_RSA:
        out->kty = "RSA";
        return add_number(s, out, "n", OSSL_PKEY_PARAM_RSA_N, 0) &&
               add_number(s, out, "e", OSSL_PKEY_PARAM_RSA_E, 0);
    case JWK_ED25519:
        out->crv = "Ed25519";
        out->n = 1;
        out->members[0].name = "x";
        first->n = sizeof first->data;
        return EVP_PKEY_get_raw_public_key(s->key, first->data, &first->n) == 1;
    case JWK_OCT:
    default:
        out->kty = "oct";
        out->n = 1;
        out->members[0].name = "k";
        *first = s->secret;
        return true;
    }
}
