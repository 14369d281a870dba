#include "base/text/base64.h"

#include <openssl/evp.h>
#include <uv.h>

/* The value of a digit; -1 where it is none. `last`: the two that the alphabets do not share. */
static int base64_value(char c, const char *last)
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
    return c == last[0] ? 62 : c == last[1] ? 63 : -1;
}

static int base64_decode_digits(struct slice digits, const char *last, unsigned char *out,
                                size_t *n)
{
    unsigned bits = 0, have = 0;
    *n = 0;
    if (digits.n % 4 == 1) {
        return UV_EINVAL; /* six bits are no byte */
    }
    for (size_t i = 0; i < digits.n; i++) {
        int value = base64_value(digits.p[i], last);
        if (value < 0) {
            return UV_EINVAL;
        }
        bits = (bits << 6U | (unsigned)value) & 0xffffU;
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[(*n)++] = (unsigned char)(bits >> have);
        }
    }
    return bits & ((1U << have) - 1) ? UV_EINVAL : 0;
}

static size_t base64_padding(struct slice text)
{
    size_t n = 0;
    while (n < 2 && n < text.n && text.p[text.n - 1 - n] == '=') {
        n++;
    }
    return n;
}

size_t base64_decoded_size(struct slice text)
{
    size_t n = text.n / 4 * 3, padding = base64_padding(text);
    return n > padding ? n - padding : 0;
}

int base64_decode(struct strbuf *out, struct slice text)
{
    size_t n = 0;
    int rc = text.n % 4 ? UV_EINVAL : strbuf_reserve(out, base64_decoded_size(text));
    if (rc == 0 && text.n) {
        struct slice digits = slice_of(text.p, text.n - base64_padding(text));
        rc = base64_decode_digits(digits, "+/", (unsigned char *)out->data + out->len, &n);
    }
    out->len += rc ? 0 : n;
    if (out->data) {
        out->data[out->len] = '\0';
    }
    return rc;
}

int base64_encode(struct strbuf *out, struct slice bytes)
{
    int rc = strbuf_reserve(out, (bytes.n + 2) / 3 * 4);
    if (rc == 0 && bytes.n) {
        out->len += (size_t)EVP_EncodeBlock((unsigned char *)out->data + out->len,
                                            (const unsigned char *)bytes.p, (int)bytes.n);
    }
    return rc;
}

int base64url_decode(struct slice text, unsigned char *out, size_t *n)
{
    return base64_decode_digits(text, "-_", out, n);
}
