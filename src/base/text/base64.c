#include "base/text/base64.h"

#include <uv.h>

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static size_t base64_padding(struct slice text)
{
    size_t n = 0;
    while (n < 2 && n < text.n && text.p[text.n - 1 - n] == '=') {
        n++;
    }
    return n;
}

/* The value of a digit; -1 where it is none. */
static int base64_value(char c)
{
    const char *at = c ? strchr(base64_digits, c) : NULL;
    return at ? (int)(at - base64_digits) : -1;
}

size_t base64_decoded_size(struct slice text)
{
    size_t n = text.n / 4 * 3, padding = base64_padding(text);
    return n > padding ? n - padding : 0;
}

int base64_decode(struct strbuf *out, struct slice text)
{
    size_t digits = text.n - base64_padding(text), before = out->len;
    unsigned bits = 0, have = 0;
    if (text.n % 4) {
        return UV_EINVAL;
    }
    int rc = strbuf_reserve(out, base64_decoded_size(text));
    for (size_t i = 0; i < digits && rc == 0; i++) {
        int value = base64_value(text.p[i]);
        bits = (bits << 6U | (unsigned)value) & 0xffffU;
        have += 6;
        if (have >= 8) {
            have -= 8;
            out->data[out->len++] = (char)(bits >> have);
        }
        rc = value < 0 ? UV_EINVAL : 0;
    }
    rc = rc == 0 && bits & ((1U << have) - 1) ? UV_EINVAL : rc;
    out->len = rc ? before : out->len;
    if (out->data) {
        out->data[out->len] = '\0';
    }
    return rc;
}

int base64_encode(struct strbuf *out, struct slice bytes)
{
    int rc = strbuf_reserve(out, (bytes.n + 2) / 3 * 4);
    for (size_t i = 0; i < bytes.n && rc == 0; i += 3) {
        size_t n = bytes.n - i < 3 ? bytes.n - i : 3;
        unsigned bits = 0;
        for (size_t j = 0; j < 3; j++) {
            bits = bits << 8 | (j < n ? (unsigned char)bytes.p[i + j] : 0U);
        }
        for (size_t j = 0; j < 4; j++) {
            out->data[out->len++] = j <= n ? base64_digits[bits >> (18 - 6 * j) & 63U] : '=';
        }
        out->data[out->len] = '\0';
    }
    return rc;
}
