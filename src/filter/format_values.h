/* What a format rule makes of one scalar of a JSON text. A value that the rule is not about becomes `null`: a rule
 * that cannot do its work must not show what it was to hide. `null` stays. Pure. */
#ifndef FILTER_FORMAT_VALUES_H
#define FILTER_FORMAT_VALUES_H

#include "base/slice.h"
#include "base/strbuf.h"

enum {
    FORMAT_DECIMALS_MAX = 15,
    FORMAT_CUT_MAX = 65536,
    FORMAT_HASH_KEY_MIN_BYTES = 16,
    FORMAT_HASH_KEY_MAX_BYTES = 256,
    FORMAT_HASH_DIGITS = 32, /* hexadecimal: 128 bits */
};

/* Each appends JSON to `out`: 0, UV_ENOBUFS or UV_ENOMEM. `value`: a scalar of a validated text, with its quotes. */

/* A number with at most `decimals` digits behind the point; halves as printf() rounds them. */
__attribute__((warn_unused_result)) int format_value_round(struct strbuf *out, struct slice value,
                                                           unsigned decimals);
/* The first `characters` code points of a string. */
__attribute__((warn_unused_result)) int format_value_cut(struct strbuf *out, struct slice value,
                                                         unsigned characters);
/* Strings that are equal once decoded, equal texts of numbers, and booleans: the first half of HMAC-SHA-256 (RFC
 * 2104), as a string. */
__attribute__((warn_unused_result)) int format_value_hash(struct strbuf *out, struct slice value,
                                                          struct slice key);

#endif
