/* SHA-256 (FIPS 180-4) of bytes added piece by piece, and HMAC, by libcrypto. */
#ifndef BASE_DIGEST_H
#define BASE_DIGEST_H

#include "base/slice.h"

#include <stddef.h>

enum { DIGEST_HEX_BYTES = 65, DIGEST_MAC_MAX_BYTES = 64 };
enum digest_mac { DIGEST_HS256, DIGEST_HS384, DIGEST_HS512 };

struct digest;

/* NULL: libcrypto failed, or memory is short. */
struct digest *digest_new(void);
void digest_free(struct digest *d); /* NULL is fine */
/* 0, or UV_ENOMEM: the digest cannot be used any more. */
__attribute__((warn_unused_result)) int digest_add(struct digest *d, const void *p, size_t n);
/* Writes 64 lower-case digits. Call it once, at the end. */
__attribute__((warn_unused_result)) int digest_hex(struct digest *d, char out[DIGEST_HEX_BYTES]);
/* HMAC (RFC 2104) of `text`. Its length; 0: libcrypto cannot make it. */
__attribute__((warn_unused_result)) size_t digest_hmac(enum digest_mac mac, struct slice key,
                                                       struct slice text,
                                                       unsigned char out[DIGEST_MAC_MAX_BYTES]);
/* Writes 2 * n lower-case digits, and no NUL. */
void digest_digits(const unsigned char *bytes, size_t n, char *out);

#endif
