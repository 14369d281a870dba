/* base64url without padding (RFC 4648, section 5; RFC 7515, section 2), strict: one text for each
 * run of bytes. Bytes that are signed, compared or cached must not have a second spelling. Pure. */
#ifndef AUTH_BASE64URL_H
#define AUTH_BASE64URL_H

#include "base/slice.h"

#include <stddef.h>

/* Room for what `n` characters decode to. */
static inline size_t base64url_room(size_t n)
{
    return n / 4 * 3 + 2;
}

/* Decodes into `out`, which has base64url_room(text.n) bytes, and sets *n. UV_EINVAL: a character
 * that is not of the alphabet (padding and white space too), an impossible length, or unused bits
 * that are not zero. */
__attribute__((warn_unused_result)) int base64url_decode(struct slice text, unsigned char *out,
                                                         size_t *n);

#endif
