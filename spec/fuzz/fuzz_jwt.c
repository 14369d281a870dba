/* Tokens, with a secret that the fuzzer does not know. First byte 's': the rest is "header LF
 * payload", signed here, so that what is behind a good signature is reached too; then the claims
 * must come out as they went in, and the token must not survive a flipped bit. Anything else is a
 * token as it stands: it is never accepted. */
#include "auth/jwt.h"

#include <openssl/evp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROOM = 4 * JWT_MAX_BYTES };
static const char secret[] = "a secret of more than thirty-two bytes, for the fuzzer";

static size_t encode(char *out, const void *p, size_t n)
{
    size_t len = (size_t)EVP_EncodeBlock((unsigned char *)out, p, (int)n);
    while (len > 0 && out[len - 1] == '=') {
        len--;
    }
    for (size_t i = 0; i < len; i++) {
        out[i] = out[i] == '+' ? '-' : out[i] == '/' ? '_' : out[i];
    }
    return len;
}

static size_t sign(char *out, struct slice header, struct slice payload)
{
    unsigned char mac[EVP_MAX_MD_SIZE];
    size_t m = 0, n = encode(out, header.p, header.n);
    out[n++] = '.';
    n += encode(out + n, payload.p, payload.n);
    if (!EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, secret, sizeof secret - 1,
                   (unsigned char *)out, n, mac, sizeof mac, &m)) {
        abort();
    }
    out[n++] = '.';
    return n + encode(out + n, mac, m);
}

static enum jwt_outcome verify(const struct jwks *set, const char *token, size_t n, struct jwt *out)
{
    const struct jwt_options o = {.algs = JWA_BIT(JWT_HS256), .any_aud = true, .leeway_s = 30};
    strbuf_init(&out->claims, JWT_MAX_BYTES);
    return jwt_verify(set, slice_of(token, n), &o, 1700000000, out);
}

static void check_signed(const struct jwks *set, struct slice header, struct slice payload)
{
    static char token[ROOM];
    struct jwt out;
    size_t n = sign(token, header, payload);
    if (verify(set, token, n, &out) == JWT_OK) {
        if (n > JWT_MAX_BYTES || !slice_eq(strbuf_slice(&out.claims), payload) ||
            1700000000 >= out.till_s || 1700000000 < out.from_s) {
            abort();
        }
        strbuf_clear(&out.claims);
        token[header.n % n] ^= 1;
        if (verify(set, token, n, &out) == JWT_OK) {
            abort();
        }
    }
    strbuf_clear(&out.claims);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct jwks *set;
    struct err e;
    struct jwt out;
    if (jwks_from_secret(slice_str(secret), JWA_BIT(JWT_HS256), &set, &e)) {
        abort();
    }
    const char *text = size ? (const char *)data + 1 : "";
    const char *line = size ? memchr(text, '\n', size - 1) : NULL;
    if (line && data[0] == 's' && size < JWT_MAX_BYTES) {
        check_signed(set, slice_of(text, (size_t)(line - text)),
                     slice_of(line + 1, (size_t)(text + size - 1 - line - 1)));
    } else if (verify(set, (const char *)data, size, &out) == JWT_OK) {
        abort();
    }
    jwks_free(set);
    return 0;
}
