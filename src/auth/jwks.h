/* The set of keys of one source, immutable. Either all of its keys are secrets or all are public. So a
 * public key can never be used as a secret: code that verifies with one kind never gets a set of the
 * other. */
#ifndef AUTH_JWKS_H
#define AUTH_JWKS_H

#include "auth/jwk.h"
#include "base/err.h"
#include "base/slice.h"

#include <stdbool.h>

enum {
    JWKS_MAX_BYTES = 256 * 1024,
    JWKS_MAX_KEYS = 100,
};

struct jwks {
    bool symmetric;
    unsigned algs; /* of all its keys together */
    size_t n;
    struct jwk *keys; /* owned */
};

/* Reads a JWK Set (RFC 7517, section 5). As that section requires, keys that cannot be used are left
 * out, each with a warning that names `source`. UV_EINVAL with the reason in `e`: the text is not
 * such a set, no key is left, or keys contradict each other (secrets beside public keys, one `kid`
 * for two keys with an algorithm in common). `algs`, JWA_BIT(): the keys may be used with these only;
 * without a bit of jwa_symmetric() secrets cannot be used. */
int jwks_parse(struct slice text, unsigned algs, const char *source, struct jwks **out,
               struct err *e);
/* The same for public keys in PEM ("PUBLIC KEY" blocks, one or more). */
int jwks_from_pem(struct slice text, unsigned algs, struct jwks **out, struct err *e);
/* The same for one secret. */
int jwks_from_secret(struct slice secret, unsigned algs, struct jwks **out, struct err *e);
/* NULL is fine. */
void jwks_free(struct jwks *s);

#endif
