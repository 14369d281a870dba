/* A set of keys as one source gave it, immutable. Either all of its
 * keys are secrets or all are public: a public key can never be taken for a secret, because nothing
 * that verifies with one kind ever sees a set of the other. */
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

/* Reads a JWK Set (RFC 7517, section 5). Keys that are of no use are left out, each with a warning
 * that names `source`, as that section asks for; UV_EINVAL with the reason in `e` where the text is
 * no such set, where no key is left, or where keys contradict each other: secrets beside public
 * keys, one `kid` for two keys with an algorithm in common. `algs`: bound to these only, JWA_BIT();
 * without a bit of jwa_symmetric() secrets are of no use. */
int jwks_parse(struct slice text, unsigned algs, const char *source, struct jwks **out,
               struct err *e);
/* The same from public keys in PEM ("PUBLIC KEY" blocks, one or more). */
int jwks_from_pem(struct slice text, unsigned algs, struct jwks **out, struct err *e);
/* The same from one secret. */
int jwks_from_secret(struct slice secret, unsigned algs, struct jwks **out, struct err *e);
/* NULL is fine. */
void jwks_free(struct jwks *s);

#endif
