#include "base/utf8.h"

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

bool utf8_is_valid(struct slice text)
{
    bool valid = true;
    for (size_t i = 0; i < text.n && valid;) {
        i += utf8_step(text.p + i, text.n - i, &valid);
    }
    return valid;
}
