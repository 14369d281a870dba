#include "base/digest.h"

#include <limits.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
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

static int digest_print(const unsigned char *bytes, unsigned n, char out[DIGEST_HEX_BYTES])
{
    if (2 * n + 1 != DIGEST_HEX_BYTES) {
        return UV_ENOMEM;
    }
    for (unsigned i = 0; i < n; i++) {
        snprintf(out + (size_t)2 * i, 3, "%02x", bytes[i]);
    }
    return 0;
}

int digest_hex(struct digest *d, char out[DIGEST_HEX_BYTES])
{
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    return EVP_DigestFinal_ex(d->ctx, bytes, &n) == 1 ? digest_print(bytes, n, out) : UV_ENOMEM;
}

int digest_hmac_hex(struct slice key, struct slice text, char out[DIGEST_HEX_BYTES])
{
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (key.n > INT_MAX ||
        !HMAC(EVP_sha256(), key.p, (int)key.n, (const unsigned char *)text.p, text.n, bytes, &n)) {
        return UV_ENOMEM;
    }
    return digest_print(bytes, n, out);
}
