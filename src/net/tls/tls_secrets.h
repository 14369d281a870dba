/* What a handshake of TLS 1.3 leaves to go on with, taken from OpenSSL while it runs: the application traffic
 * secrets, and how many records each side has sent with them (session tickets, for instance).
 *
 * The way in is what OpenSSL has for traces: the key log names a secret at the moment its key comes into use. */
#ifndef NET_TLS_TLS_SECRETS_H
#define NET_TLS_TLS_SECRETS_H

#include "net/tls/tls_suite.h"

#include <openssl/ssl.h>

struct tls_secret {
    unsigned char bytes[TLS_SECRET_MAX];
    size_t n;         /* 0: not known */
    uint64_t records; /* sealed with its first key */
};

struct tls_secrets {
    struct tls_secret client, server; /* of what that side sends */
};

/* Before the handshake; `s`, zeroed, is borrowed for as long as `ssl` lives. */
void tls_secrets_watch(SSL *ssl, struct tls_secrets *s);
void tls_secrets_clear(struct tls_secrets *s); /* wipes them */

/* For SSL_CTX_set_keylog_callback(). Connections that nobody watches are left alone. */
void tls_secrets_on_line(const SSL *ssl, const char *line);

#endif
