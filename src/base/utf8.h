/* Well-formed UTF-8 (The Unicode Standard, table 3-7: no surrogates, no overlong forms). */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include "base/slice.h"

/* Length of the sequence at `p` (n > 0 bytes are there). Where it is ill-formed `*valid` is false
 * and the length is that of the longest prefix one U+FFFD should stand for. */
size_t utf8_step(const char *p, size_t n, bool *valid);
/* Bytes of `text` before the first one that breaks it; text.n when all is well-formed. */
size_t utf8_prefix(struct slice text);
bool utf8_ok(struct slice text);

#endif
