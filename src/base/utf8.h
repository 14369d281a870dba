/* Well-formed UTF-8 (The Unicode Standard, table 3-7: no surrogates, no overlong forms). */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include "base/slice.h"

/* Length of the sequence at `p` (n > 0 bytes are there). If it is ill-formed `*valid` is false, and
 * the length is that of the prefix to replace by one U+FFFD. */
size_t utf8_step(const char *p, size_t n, bool *valid);
/* Bytes of `text` before the first ill-formed sequence; text.n if there is none. */
size_t utf8_prefix(struct slice text);
bool utf8_ok(struct slice text);

#endif
