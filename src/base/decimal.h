/* Whole numbers as text, by hand: done for every frame and every acknowledgement, where snprintf()
 * costs more than all the rest of them. */
#ifndef BASE_DECIMAL_H
#define BASE_DECIMAL_H

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

#endif
