/* Verifies one JSON Web Token in compact form (RFC 7519, RFC 7515; RFC 8725 says what goes wrong).
 *
 * The caller says which algorithms it takes; the key says which it can be used with; the token only
 * chooses among what both allow. Nothing of the token is looked at before its signature was
 * verified, but `alg`, `kid`, `typ`, `crit` and `cty`: it cannot bring or name a key. Pure, apart
 * from what OpenSSL allocates; one call costs between 5 and some 100 us, of ES384 800. Fuzzed. */
#ifndef AUTH_JWT_H
#define AUTH_JWT_H

#include "auth/jwks.h"
#include "base/slice.h"
#include "base/strbuf.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    JWT_MAX_BYTES = 8192,
    JWT_LEEWAY_MAX_S = 300,
    JWT_TRIES = 8,     /* keys tried for a token without `kid` */
    JWT_AUDIENCES = 8, /* of the options */
};

struct jwt_options {
    unsigned algs;                   /* JWA_BIT(); never 0 */
    struct slice iss;                /* absent: any, or none */
    struct slice aud[JWT_AUDIENCES]; /* one of them must be among the token's */
    size_t aud_n;                    /* 0: only a token without `aud` will do */
    bool any_aud;                    /* whatever the token is for */
    struct slice typ;                /* absent: "JWT", "at+jwt" (RFC 9068), or none */
    int64_t leeway_s;                /* of exp and nbf */
    bool exp_optional;               /* a token without `exp` will do; one that has it obeys it */
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

/* `out->claims` is appended to where JWT_OK; otherwise untouched. */
enum jwt_outcome jwt_verify(const struct jwks *set, struct slice token, const struct jwt_options *o,
                            int64_t now_s, struct jwt *out);

#endif
