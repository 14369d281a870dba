/* Base64 with padding (RFC 4648, section 4), strict: one text for each sequence of bytes. Pure. */
#ifndef BASE_TEXT_BASE64_H
#define BASE_TEXT_BASE64_H

#include "base/slice.h"
#include "base/strbuf.h"

/* How many bytes `text` stands for, if it is valid. */
size_t base64_decoded_size(struct slice text);
/* Appends what `text` stands for. UV_EINVAL: it is not valid, with *out as it was; else as strbuf_append(). */
__attribute__((warn_unused_result)) int base64_decode(struct strbuf *out, struct slice text);
/* 0, or negative as strbuf_append(), with *out as it was. */
__attribute__((warn_unused_result)) int base64_encode(struct strbuf *out, struct slice bytes);

#endif
