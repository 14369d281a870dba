/* Verifies the signature of a key over some bytes. Helper of jwt.c. */
#ifndef AUTH_JWT_SIGNATURE_H
#define AUTH_JWT_SIGNATURE_H

#include "auth/jwk.h"

#include <stdbool.h>

/* `alg` must be one of k->algs. Returns false also when memory is short. */
bool jwt_signature_ok(const struct jwk *k, enum jwt_alg alg, struct slice input,
                      struct slice signature);

#endif
