/* The cipher suites of TLS 1.3 (RFC 8446, B.4): keys from secrets, and one record at a time sealed or opened.
 *
 * All connections of a thread share one cipher context per suite and direction: a connection keeps the few bytes
 * that are its own (struct tls_keys, tls_peer_keys), and setting them for a record costs a tenth of a microsecond. */
#ifndef NET_TLS_TLS_SUITE_H
#define NET_TLS_TLS_SUITE_H

#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TLS_KEY_MAX = 32,
    TLS_IV_BYTES = 12,
    TLS_SECRET_MAX = 48,
    TLS_TAG_BYTES = 16,
    TLS_HEADER_BYTES = 5, /* of a record */
};

/* What protects what we send on a connection. */
struct tls_keys {
    uint64_t seq; /* of the next record */
    unsigned char iv[TLS_IV_BYTES];
    unsigned char key[TLS_KEY_MAX];
    unsigned char secret[TLS_SECRET_MAX]; /* the application traffic secret that they come from */
};

/* And what we receive. Who has a stream open sends next to nothing: key and IV are derived when a record comes (3 us),
 * and kept for some connections, who send many. */
struct tls_peer_keys {
    uint64_t seq;
    unsigned char secret[TLS_SECRET_MAX];
};

struct tls_suite;
struct tls_suites;

/* NULL: no memory. */
struct tls_suites *tls_suites_new(void);
void tls_suites_free(struct tls_suites *s); /* NULL is fine */

/* By its number in TLS (0x1301 to 0x1303). NULL: another, or libcrypto does not have it. Borrowed. */
const struct tls_suite *tls_suites_find(const struct tls_suites *s, uint16_t number);
/* How long its secrets are. */
size_t tls_suite_secret_bytes(const struct tls_suite *suite);

/* Key and IV of k->secret (RFC 8446, 7.3), for records from 0 on. Any thread. False: libcrypto failed. */
__attribute__((warn_unused_result)) bool tls_suite_derive(const struct tls_suite *suite,
                                                          struct tls_keys *k);
/* The next secret (RFC 8446, 7.2), and what comes of it. Any thread. */
__attribute__((warn_unused_result)) bool tls_suite_next(const struct tls_suite *suite,
                                                        struct tls_keys *k);

/* The same for what the peer sends. The suites' thread. */
__attribute__((warn_unused_result)) bool tls_suite_next_of_peer(const struct tls_suite *suite,
                                                                struct tls_peer_keys *k);
/* Before `k` ends: wipes what is kept of it. The suites' thread. */
void tls_suite_forget(const struct tls_suite *suite, const struct tls_peer_keys *k);

/* Encrypts `plain` and the one byte of `type` behind it to `to`, which has room for both and the tag. `header` is
 * that of the record. k->seq moves on. False: libcrypto failed. */
__attribute__((warn_unused_result)) bool
tls_suite_seal(const struct tls_suite *suite, struct tls_keys *k, const unsigned char *header,
               struct slice plain, unsigned char type, char *to);
/* Decrypts what follows `header` to `to`, which has room for all of it but the tag. k->seq moves on. False: it is
 * not what the peer sealed, and what is in `to` means nothing. */
__attribute__((warn_unused_result)) bool tls_suite_open(const struct tls_suite *suite,
                                                        struct tls_peer_keys *k,
                                                        const unsigned char *header,
                                                        struct slice sealed, char *to);

#endif
