#include "auth/jwt_signature.h"

#include "base/require.h"

#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>

enum {
    COORDINATE_MAX_BYTES = 48,
    DER_MAX_BYTES = 2 * (COORDINATE_MAX_BYTES + 3) + 3, /* SEQUENCE of two INTEGERs */
};

static bool hmac_ok(const struct jwk *k, const struct jwa *a, struct slice input, struct slice sig)
{
    unsigned char mac[EVP_MAX_MD_SIZE];
    size_t n = 0;
    if (sig.n != a->digest_bytes) {
        return false;
    }
    const unsigned char *done =
        EVP_Q_mac(NULL, "HMAC", NULL, a->digest, NULL, k->secret, k->secret_n,
                  (const unsigned char *)input.p, input.n, mac, sizeof mac, &n);
    bool ok = done && n == sig.n && CRYPTO_memcmp(mac, sig.p, n) == 0;
    OPENSSL_cleanse(mac, sizeof mac);
    return ok;
}

/* r and s of `bytes` each, side by side (RFC 7518, section 3.4), as DER. 0: cannot be. */
static size_t ecdsa_der(struct slice sig, size_t bytes, unsigned char *out)
{
    const unsigned char *p = (const unsigned char *)sig.p;
    int n = 0;
    if (sig.n != 2 * bytes) {
        return 0;
    }
    ECDSA_SIG *both = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(p, (int)bytes, NULL), *s = BN_bin2bn(p + bytes, (int)bytes, NULL);
    if (both && r && s && ECDSA_SIG_set0(both, r, s)) {
        r = s = NULL; /* they belong to `both` now */
        n = i2d_ECDSA_SIG(both, NULL);
        n = n > 0 && n <= DER_MAX_BYTES ? i2d_ECDSA_SIG(both, &out) : 0;
    }
    BN_free(r);
    BN_free(s);
    ECDSA_SIG_free(both);
    return n > 0 ? (size_t)n : 0;
}

static bool jwt_signature_use_pss(EVP_PKEY_CTX *ctx)
{
    return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) > 0 &&
           EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) > 0;
}

static bool digest_ok(const struct jwk *k, enum jwt_alg alg, struct slice input, struct slice sig)
{
    EVP_PKEY_CTX *ctx = NULL; /* belongs to `md` */
    bool pss = alg == JWT_PS256 || alg == JWT_PS384 || alg == JWT_PS512;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool ok = md &&
              EVP_DigestVerifyInit_ex(md, &ctx, jwa_table[alg].digest, NULL, NULL, k->public,
                                      NULL) == 1 &&
              (!pss || jwt_signature_use_pss(ctx)) &&
              EVP_DigestVerify(md, (const unsigned char *)sig.p, sig.n,
                               (const unsigned char *)input.p, input.n) == 1;
    EVP_MD_CTX_free(md);
    ERR_clear_error();
    return ok;
}

bool jwt_signature_ok(const struct jwk *k, enum jwt_alg alg, struct slice input,
                      struct slice signature)
{
    unsigned char der[DER_MAX_BYTES];
    REQUIRE(k->algs & JWA_BIT(alg));
    switch (k->type) {
    case JWK_OCT:
        return hmac_ok(k, &jwa_table[alg], input, signature);
    case JWK_P256:
    case JWK_P384: {
        size_t n = ecdsa_der(signature, k->type == JWK_P256 ? 32 : 48, der);
        return n > 0 && digest_ok(k, alg, input, slice_of((const char *)der, n));
    }
    case JWK_RSA:
    case JWK_ED25519:
    default:
        return digest_ok(k, alg, input, signature);
    }
}
