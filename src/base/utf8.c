#include "base/utf8.h"

#include <stdint.h>

size_t utf8_step(const char *p, size_t n, bool *valid)
{
    const unsigned char *s = (const unsigned char *)p;
    unsigned char low = 0x80, high = 0xbf; /* of the second byte */
    size_t want = 0;
    *valid = true;
    if (s[0] < 0x80) {
        return 1;
    }
    if (s[0] >= 0xc2 && s[0] <= 0xdf) {
        want = 2;
    } else if (s[0] >= 0xe0 && s[0] <= 0xef) {
        want = 3;
        low = s[0] == 0xe0 ? 0xa0 : low;   /* overlong */
        high = s[0] == 0xed ? 0x9f : high; /* surrogates */
    } else if (s[0] >= 0xf0 && s[0] <= 0xf4) {
        want = 4;
        low = s[0] == 0xf0 ? 0x90 : low;
        high = s[0] == 0xf4 ? 0x8f : high; /* above U+10FFFF */
    }
    size_t i = 1;
    while (i < want && i < n && s[i] >= low && s[i] <= high) {
        low = 0x80;
        high = 0xbf;
        i++;
    }
    *valid = i == want;
    return i;
}

/* Most of what comes is ASCII: eight bytes at a time. */
static size_t ascii_prefix(const char *p, size_t n)
{
    size_t i = 0;
    for (; n - i >= 8; i += 8) {
        uint64_t word;
        memcpy(&word, p + i, 8);
        if (word & UINT64_C(0x8080808080808080)) {
            break;
        }
    }
    while (i < n && (unsigned char)p[i] < 0x80) {
        i++;
    }
    return i;
}

size_t utf8_prefix(struct slice text)
{
    size_t i = 0;
    while (i < text.n) {
        bool valid = true;
        size_t n = ascii_prefix(text.p + i, text.n - i);
        if (n == 0) {
            n = utf8_step(text.p + i, text.n - i, &valid);
        }
        if (!valid) {
            break;
        }
        i += n;
    }
    return i;
}

bool utf8_ok(struct slice text)
{
    return utf8_prefix(text) == text.n;
}
