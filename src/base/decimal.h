/* Whole numbers as text and back. Written by hand: that is done for every frame and every
 * acknowledgement, where snprintf() costs more than all the rest of them. */
#ifndef BASE_DECIMAL_H
#define BASE_DECIMAL_H

#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DECIMAL_MAX = 20 }; /* digits of 2^64 - 1 */

/* Writes `n` to `out`, without a NUL; returns how many bytes. */
static inline size_t decimal_put(char out[DECIMAL_MAX], uint64_t n)
{
    char digits[DECIMAL_MAX];
    size_t count = 0;
    do {
        digits[count++] = (char)('0' + n % 10);
        n /= 10;
    } while (n);
    for (size_t i = 0; i < count; i++) {
        out[i] = digits[count - 1 - i];
    }
    return count;
}

/* At least one digit and nothing else, up to `max`; false: it is something else. */
static inline bool decimal_parse(struct slice s, uint64_t max, uint64_t *out)
{
    uint64_t value = 0;
    for (size_t i = 0; i < s.n; i++) {
        uint64_t digit = (uint64_t)(s.p[i] - '0');
        if (s.p[i] < '0' || s.p[i] > '9' || digit > max || value > (max - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    *out = value;
    return s.n > 0;
}

#endif
