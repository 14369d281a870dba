/* Verifies one JSON Web Token in compact form (RFC 7519, RFC 7515; RFC 8725 lists the attacks).
 *
 * The caller names the algorithms it accepts; the key has those it may be used with; the token can
 * only choose among what both allow. Before the signature is verified, only `alg`, `kid`, `typ`,
 * `crit` and `cty` of the token are read: a token cannot supply a key or a URL of one. Pure, apart
 * from OpenSSL's allocations; one call costs between 5 and about 100 us, for ES384 800. Fuzzed. */
#ifndef AUTH_JWT_H
#define AUTH_JWT_H

#include "auth/jwks.h"
#include "base/slice.h"
#include "base/strbuf.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    JWT_MAX_BYTES = 65536, /* requests are bounded before: limits.head_bytes */
    JWT_LEEWAY_MAX_S = 300,
    JWT_TRIES = 8,     /* keys tried for a token without `kid` */
    JWT_AUDIENCES = 8, /* of the options */
};

struct jwt_options {
    unsigned algs;                   /* JWA_BIT(); never 0 */
    struct slice iss;                /* absent: any, or none */
    struct slice aud[JWT_AUDIENCES]; /* one of them must be among the token's */
    size_t aud_n;                    /* 0: only a token without `aud` is accepted */
    bool any_aud;                    /* accepts any audience */
    struct slice typ;                /* absent: "JWT", "at+jwt" (RFC 9068), or none */
    int64_t leeway_s;                /* of exp and nbf */
    bool exp_optional; /* accepts a token without `exp`; checks `exp` if there is one */
};

enum jwt_outcome {
    JWT_OK,
    JWT_BAD,         /* `why` says which check failed */
    JWT_UNKNOWN_KEY, /* it names a key that the set does not have */
    JWT_FAILED,      /* memory is short: says nothing about the token */
};

struct jwt {
    struct strbuf claims;   /* JSON text of the payload; the caller's, with a cap of at least
                               JWT_MAX_BYTES */
    int64_t from_s, till_s; /* Unix: valid from, until (not including), leeway applied;
                               INT64_MIN, INT64_MAX: no bound */
    const char *why;        /* constant; safe to show to a client */
};

/* On JWT_OK the claims are appended to `out->claims`, which is otherwise unchanged. */
enum jwt_outcome jwt_verify(const struct jwks *set, struct slice token, const struct jwt_options *o,
                            int64_t now_s, struct jwt *out);

#endif
