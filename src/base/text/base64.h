/* Base64 with padding (RFC 4648, section 4), and base64url without (section 5; RFC 7515, section 2). Strict: one text for
 * each sequence of bytes. Bytes that are signed, compared or cached must not have a second spelling. Pure. */
#ifndef BASE_TEXT_BASE64_H
#define BASE_TEXT_BASE64_H

#include "base/slice.h"
#include "base/strbuf.h"

#include <stddef.h>

/* How many bytes `text` stands for, if it is valid. */
size_t base64_decoded_size(struct slice text);
/* Appends what `text` stands for. UV_EINVAL: it is not valid, with *out as it was; else as strbuf_append(). */
__attribute__((warn_unused_result)) int base64_decode(struct strbuf *out, struct slice text);
/* 0, or negative as strbuf_append(), with *out as it was. */
__attribute__((warn_unused_result)) int base64_encode(struct strbuf *out, struct slice bytes);

/* Room for what `n` characters of base64url decode to. */
static inline size_t base64url_room(size_t n)
{
    return n / 4 * 3 + 2;
}

/* Decodes into `out`, which has base64url_room(text.n) bytes, and sets *n. UV_EINVAL: a character that is not of the
 * alphabet (padding and white space too), an impossible length, or unused bits that are not zero. */
__attribute__((warn_unused_result)) int base64url_decode(struct slice text, unsigned char *out,
                                                         size_t *n);

#endif
