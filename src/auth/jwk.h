/* One key, bound for life to a type and to the algorithms it may verify with: what a token says
 * about itself can only choose among those. RFC 7517, RFC 7518 section 6, RFC 8037. */
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

/* 0, or UV_EINVAL with the reason in `e`: the key is of no use here (unknown type, another use,
 * malformed, too weak); nothing is left to free then. Of `algs` the key is bound to those that fit
 * its type, its "alg" and, of a secret, its length. */
int jwk_parse(struct jwk *out, const json_t *json, unsigned algs, struct err *e);
/* The same of a public key that OpenSSL has read; takes a reference of its own. */
int jwk_from_public(struct jwk *out, EVP_PKEY *key, unsigned algs, struct err *e);
/* The same of the bytes of a secret, which are copied. */
int jwk_from_secret(struct jwk *out, struct slice secret, unsigned algs, struct err *e);
void jwk_clear(struct jwk *k);

#endif
