/* The signature algorithms of tokens (RFC 7518, section 3; RFC 8037, section 3.1) and the one type
 * of key that each of them takes. There is no row for "none". */
#ifndef AUTH_JWA_H
#define AUTH_JWA_H

#include "base/slice.h"

#include <stddef.h>

enum jwk_type { JWK_OCT, JWK_RSA, JWK_P256, JWK_P384, JWK_ED25519 };

/* X(name, type of key, digest as OpenSSL names it, bytes of the digest) */
#define JWT_ALGS(X)                                                                                \
    X(HS256, JWK_OCT, "SHA256", 32)                                                                \
    X(HS384, JWK_OCT, "SHA384", 48)                                                                \
    X(HS512, JWK_OCT, "SHA512", 64)                                                                \
    X(RS256, JWK_RSA, "SHA256", 32)                                                                \
    X(RS384, JWK_RSA, "SHA384", 48)                                                                \
    X(RS512, JWK_RSA, "SHA512", 64)                                                                \
    X(PS256, JWK_RSA, "SHA256", 32)                                                                \
    X(PS384, JWK_RSA, "SHA384", 48)                                                                \
    X(PS512, JWK_RSA, "SHA512", 64)                                                                \
    X(ES256, JWK_P256, "SHA256", 32)                                                               \
    X(ES384, JWK_P384, "SHA384", 48)                                                               \
    X(EdDSA, JWK_ED25519, NULL, 0)

enum jwt_alg {
#define X(name, type, digest, bytes) JWT_##name,
    JWT_ALGS(X)
#undef X
        JWT_ALG_COUNT
};

/* A set of algorithms: JWA_BIT(JWT_RS256) | ... */
#define JWA_BIT(alg) (1U << (unsigned)(alg))

struct jwa {
    const char *name;
    enum jwk_type type;
    const char *digest; /* NULL: part of the algorithm */
    size_t digest_bytes;
};

extern const struct jwa jwa_table[JWT_ALG_COUNT];

/* The algorithm of that name, exactly as spelled; < 0: none. */
int jwa_find(struct slice name);
/* Every algorithm a key of that type can be used with. */
unsigned jwa_of_type(enum jwk_type type);
/* Those of secrets (HMAC); all others are of public keys. */
unsigned jwa_symmetric(void);
unsigned jwa_asymmetric(void);

#endif
