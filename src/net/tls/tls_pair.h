/* A certificate with its chain, and its private key, read from two PEM files. Used by tls_context.c to serve
 * it, and by `tidegate check` to say what is wrong with it. */
#ifndef NET_TLS_TLS_PAIR_H
#define NET_TLS_TLS_PAIR_H

#include "base/err.h"

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>

struct tls_pair {
    X509 *leaf;
    STACK_OF(X509) * chain; /* behind the leaf, in the order of the file */
    EVP_PKEY *key;
    int64_t not_before, not_after; /* Unix time */
    bool key_is_open;              /* others than owner and group may read the file of the key */
};

/* Owns all of `out` on success. UV_EINVAL: a file is missing, is not what it should be, or the two do not
 * belong together; `e` says which, and what to do. */
int tls_pair_load(struct tls_pair *out, const char *cert_file, const char *key_file, struct err *e);
void tls_pair_clear(struct tls_pair *p);

/* The chain does not lead from the leaf upwards: says where it breaks, and what to do. 0 or UV_EINVAL. */
int tls_pair_check_chain(const struct tls_pair *p, struct err *e);
/* Is the certificate made for that DNS name ("*.a.example" too)? */
bool tls_pair_covers(const struct tls_pair *p, const char *name);
/* Calls `each` for each DNS name of the certificate; NUL-terminated, lower case is not promised. */
void tls_pair_names(const struct tls_pair *p, void (*each)(void *ctx, const char *name), void *ctx);

#endif
