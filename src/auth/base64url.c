#include "auth/base64url.h"

#include <uv.h>

/* The value of a digit; -1 where it is none. */
static int digit_value(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

int base64url_decode(struct slice text, unsigned char *out, size_t *n)
{
    unsigned bits = 0, have = 0;
    size_t len = 0;
    if (text.n % 4 == 1) {
        return UV_EINVAL; /* six bits are no byte */
    }
    for (size_t i = 0; i < text.n; i++) {
        int value = digit_value(text.p[i]);
        if (value < 0) {
            return UV_EINVAL;
        }
        bits = (bits << 6U | (unsigned)value) & 0xffffU;
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[len++] = (unsigned char)(bits >> have);
        }
    }
    if (bits & ((1U << have) - 1)) {
        return UV_EINVAL;
    }
    *n = len;
    return 0;
}
