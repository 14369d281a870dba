#include "filter/format_values.h"

#include "base/digest.h"
#include "base/text/json_text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { NUMBER_MAX_BYTES = 400, ROUNDED_MAX_BYTES = 400, ESCAPE_BYTES = 6 };

static const struct slice null_text = {"null", 4};

static bool is_number(struct slice value)
{
    return *value.p == '-' || (*value.p >= '0' && *value.p <= '9');
}

static bool is_whole(struct slice number)
{
    return !memchr(number.p, '.', number.n) && !memchr(number.p, 'e', number.n) &&
           !memchr(number.p, 'E', number.n);
}

int format_value_round(struct strbuf *out, struct slice value, unsigned decimals)
{
    char text[NUMBER_MAX_BYTES + 1], rounded[ROUNDED_MAX_BYTES];
    if (!is_number(value) || value.n > NUMBER_MAX_BYTES) {
        return strbuf_append(out, null_text.p, null_text.n);
    }
    if (is_whole(value)) {
        return strbuf_append(out, value.p, value.n);
    }
    memcpy(text, value.p, value.n);
    text[value.n] = '\0';
    double number = strtod(text, NULL);
    if (!isfinite(number)) {
        return strbuf_append(out, null_text.p, null_text.n);
    }
    int n = snprintf(rounded, sizeof rounded, "%.*f", (int)decimals, number);
    size_t len = (size_t)n; /* at most 309 digits, a sign, a point and FORMAT_DECIMALS_MAX */
    if (decimals > 0) {
        while (rounded[len - 1] == '0') {
            len--;
        }
        len -= rounded[len - 1] == '.';
    }
    if (len == 2 && memcmp(rounded, "-0", 2) == 0) {
        return strbuf_append(out, "0", 1);
    }
    return strbuf_append(out, rounded, len);
}

/* Bytes of the character at `p` in a string of a validated text; `end`: of its closing quote. */
static size_t character_bytes(const char *p, const char *end)
{
    if (*p == '\\' && p[1] == 'u') {
        bool high = (p[2] == 'd' || p[2] == 'D') && strchr("89abAB", p[3]);
        bool pair = high && end - p >= 2 * ESCAPE_BYTES && p[ESCAPE_BYTES] == '\\' &&
                    p[ESCAPE_BYTES + 1] == 'u' &&
                    (p[ESCAPE_BYTES + 2] == 'd' || p[ESCAPE_BYTES + 2] == 'D') &&
                    strchr("cdefCDEF", p[ESCAPE_BYTES + 3]);
        return pair ? (size_t)2 * ESCAPE_BYTES : ESCAPE_BYTES;
    }
    if (*p == '\\') {
        return 2;
    }
    size_t n = 1;
    while (p + n < end && ((unsigned char)p[n] & 0xc0) == 0x80) {
        n++;
    }
    return n;
}

int format_value_cut(struct strbuf *out, struct slice value, unsigned characters)
{
    if (*value.p != '"') {
        return strbuf_append(out, null_text.p, null_text.n);
    }
    const char *p = value.p + 1, *end = value.p + value.n - 1;
    for (unsigned i = 0; i < characters && p < end; i++) {
        p += character_bytes(p, end);
    }
    if (p >= end) {
        return strbuf_append(out, value.p, value.n);
    }
    int rc = strbuf_append(out, value.p, (size_t)(p - value.p));
    return rc ? rc : strbuf_append(out, "\"", 1);
}

int format_value_hash(struct strbuf *out, struct slice value, struct slice key)
{
    if (*value.p == 'n') {
        return strbuf_append(out, null_text.p, null_text.n);
    }
    unsigned char mac[DIGEST_MAC_MAX_BYTES];
    char hex[FORMAT_HASH_DIGITS];
    bool string = *value.p == '"';
    char *bytes = malloc(value.n + 1); /* what it is, and how it reads: "1" and 1 differ */
    if (!bytes) {
        return UV_ENOMEM;
    }
    bytes[0] = string ? 's' : 'v';
    size_t n = value.n;
    if (string) {
        n = json_text_string(bytes + 1, value);
    } else {
        memcpy(bytes + 1, value.p, n);
    }
    size_t made = digest_hmac(DIGEST_HS256, key, slice_of(bytes, n + 1), mac);
    free(bytes);
    if (made == 0) {
        return UV_ENOMEM;
    }
    digest_digits(mac, sizeof hex / 2, hex);
    int rc = strbuf_append(out, "\"", 1);
    rc = rc ? rc : strbuf_append(out, hex, sizeof hex);
    return rc ? rc : strbuf_append(out, "\"", 1);
}
