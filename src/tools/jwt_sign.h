/* Makes keys and signs with them: the counterpart of jwt.h. The broker does not use it; it is for the
 * tools that test policies (tools/test_keys.c) and for `tidegate token`, and separate from the code that verifies. */
#ifndef TOOLS_JWT_SIGN_H
#define TOOLS_JWT_SIGN_H

#include "auth/jwa.h"
#include "base/err.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>

enum {
    JWT_SIGN_RSA_BITS = 2048,
    JWT_SIGN_SECRET_BYTES = 64, /* of one that is made: enough for HS512 */
    JWT_SIGN_MAX_BYTES = 1024,  /* of a signature, a member of a JWK, a secret that is given */
    JWT_SIGN_MEMBERS = 2,
};

/* A private key, or a secret. */
struct jwt_signer;

struct jwt_bytes {
    size_t n;
    unsigned char data[JWT_SIGN_MAX_BYTES];
};

/* A new one for algorithms of that type. `secret`: of JWK_OCT, copied, at most JWT_SIGN_MAX_BYTES;
 * absent: a random one. NULL: libcrypto cannot. An RSA key takes some 100 ms. */
struct jwt_signer *jwt_signer_new(enum jwk_type type, struct slice secret);
/* A private key in PEM, not encrypted. UV_EINVAL with the reason in `e`. */
int jwt_signer_from_pem(struct slice text, struct jwt_signer **out, struct err *e);
/* NULL is fine. */
void jwt_signer_free(struct jwt_signer *s);
enum jwk_type jwt_signer_type(const struct jwt_signer *s);

/* The signature of `input` as RFC 7515 puts it into tokens, before base64url. `alg` must be one of
 * the signer's type. False: libcrypto cannot. */
bool jwt_signer_sign(const struct jwt_signer *s, enum jwt_alg alg, struct slice input,
                     struct jwt_bytes *out);

/* What a JWK (RFC 7517) holds for verifying: texts, and members that are base64url there and bytes
 * here. */
struct jwt_public {
    const char *kty, *crv; /* crv: NULL where there is none */
    size_t n;
    struct {
        const char *name;
        struct jwt_bytes value;
    } members[JWT_SIGN_MEMBERS];
};

/* False: libcrypto cannot. Of a secret this is the secret itself. */
bool jwt_signer_public(const struct jwt_signer *s, struct jwt_public *out);

#endif
