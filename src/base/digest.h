/* SHA-256 (FIPS 180-4) of bytes added piece by piece, by libcrypto. */
#ifndef BASE_DIGEST_H
#define BASE_DIGEST_H

#include "base/slice.h"

#include <stddef.h>

enum { DIGEST_HEX_BYTES = 65 };

struct digest;

/* NULL: libcrypto failed, or memory is short. */
struct digest *digest_new(void);
void digest_free(struct digest *d); /* NULL is fine */
/* 0, or UV_ENOMEM: the digest cannot be used any more. */
__attribute__((warn_unused_result)) int digest_add(struct digest *d, const void *p, size_t n);
/* Writes 64 lower-case digits. Call it once, at the end. */
__attribute__((warn_unused_result)) int digest_hex(struct digest *d, char out[DIGEST_HEX_BYTES]);
/* HMAC-SHA-256 (RFC 2104) of `text`: 64 lower-case digits. 0, or UV_ENOMEM. */
__attribute__((warn_unused_result)) int digest_hmac_hex(struct slice key, struct slice text,
                                                        char out[DIGEST_HEX_BYTES]);

#endif
