/* One key. Its type and the algorithms it may verify with are fixed when it is made; a token can only
 * choose among these. RFC 7517, RFC 7518 section 6, RFC 8037. */
#ifndef AUTH_JWK_H
#define AUTH_JWK_H

#include "auth/jwa.h"
#include "base/err.h"
#include "base/slice.h"

#include <jansson.h>
#include <openssl/types.h>

enum {
    JWK_RSA_MIN_BITS = 2048,
    JWK_RSA_MAX_BITS = 8192, /* verifying costs the square */
    JWK_SECRET_MAX_BYTES = 1024,
    JWK_KID_MAX_BYTES = 256,
};

struct jwk {
    enum jwk_type type;
    unsigned algs;         /* never 0 */
    char *kid;             /* owned; NULL: has none */
    EVP_PKEY *public;      /* owned; NULL of a secret */
    unsigned char *secret; /* owned, of JWK_OCT */
    size_t secret_n;
};

/* 0, or UV_EINVAL with the reason in `e`: the key cannot be used (unknown type, another use,
 * malformed, too weak); nothing is left to free then. The key may be used with those of `algs` that
 * match its type, its "alg" and, for a secret, its length. */
int jwk_parse(struct jwk *out, const json_t *json, unsigned algs, struct err *e);
/* The same for a public key that OpenSSL has read; takes its own reference. */
int jwk_from_public(struct jwk *out, EVP_PKEY *key, unsigned algs, struct err *e);
/* The same for the bytes of a secret, which are copied. */
int jwk_from_secret(struct jwk *out, struct slice secret, unsigned algs, struct err *e);
void jwk_clear(struct jwk *k);

#endif
