#include "base/digest.h"

#include <limits.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdbool.h>
#include <stdlib.h>
#include <uv.h>

struct digest {
    EVP_MD_CTX *ctx;
};

struct digest *digest_new(void)
{
    struct digest *d = calloc(1, sizeof *d);
    if (!d) {
        return NULL;
    }
    d->ctx = EVP_MD_CTX_new();
    if (!d->ctx || EVP_DigestInit_ex(d->ctx, EVP_sha256(), NULL) != 1) {
        digest_free(d);
        return NULL;
    }
    return d;
}

void digest_free(struct digest *d)
{
    if (d) {
        EVP_MD_CTX_free(d->ctx);
        free(d);
    }
}

int digest_add(struct digest *d, const void *p, size_t n)
{
    return EVP_DigestUpdate(d->ctx, p, n) == 1 ? 0 : UV_ENOMEM;
}

void digest_digits(const unsigned char *bytes, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        *out++ = digits[bytes[i] >> 4U];
        *out++ = digits[bytes[i] & 15U];
    }
}

int digest_hex(struct digest *d, char out[DIGEST_HEX_BYTES])
{
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (EVP_DigestFinal_ex(d->ctx, bytes, &n) != 1 || 2 * n + 1 != DIGEST_HEX_BYTES) {
        return UV_ENOMEM;
    }
    digest_digits(bytes, n, out);
    out[DIGEST_HEX_BYTES - 1] = '\0';
    return 0;
}

size_t digest_hmac(enum digest_mac mac, struct slice key, struct slice text,
                   unsigned char out[DIGEST_MAC_MAX_BYTES])
{
    unsigned n = 0;
    const EVP_MD *md = mac == DIGEST_HS256   ? EVP_sha256()
                       : mac == DIGEST_HS384 ? EVP_sha384()
                                             : EVP_sha512();
    bool made = key.n <= INT_MAX &&
                HMAC(md, key.p, (int)key.n, (const unsigned char *)text.p, text.n, out, &n);
    return made ? n : 0;
}
