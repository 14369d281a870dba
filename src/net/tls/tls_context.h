/* What a listener serves TLS with: its certificates by server name, the clients' authorities, the ticket keys.
 *
 * Loaded as a whole and never changed afterwards: other files make another context, which new connections
 * get, while handshakes that have begun keep the one they began with. Reference counted, by any thread; handshakes
 * on other threads only read it. */
#ifndef NET_TLS_TLS_CONTEXT_H
#define NET_TLS_TLS_CONTEXT_H

#include "base/err.h"
#include "net/tls/tls_tickets.h"

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tls_client { TLS_CLIENT_NONE, TLS_CLIENT_OPTIONAL, TLS_CLIENT_REQUIRED };

/* One certificate, as configured. */
struct tls_certificate_files {
    const char *const *names; /* "a.example", "*.a.example"; none: those in the certificate */
    size_t name_count;
    const char *cert, *key;
};

/* All borrowed, for as long as contexts are loaded of it. */
struct tls_listener_options {
    const struct tls_certificate_files
        *certificates; /* the first is for clients that name no other */
    size_t count;
    enum tls_client client;
    const char *client_ca;  /* NULL with TLS_CLIENT_NONE */
    const char *client_crl; /* NULL: none */
    bool h2;                /* "h2" is offered by ALPN */
    bool compact;           /* tls_secrets_on_line() hears of secrets */
};

struct tls_context;

/* 0, or UV_EINVAL: `e` says which file, what is wrong, what to do. `tickets` is borrowed for as long as any
 * connection of it lives. */
int tls_context_load(const struct tls_listener_options *opt, struct tls_ticket_chain *tickets,
                     struct tls_context **out, struct err *e);
/* Whether `client_ca` and `client_crl` can be loaded, by themselves. 0, or UV_EINVAL as above. */
int tls_context_check_authorities(const struct tls_listener_options *opt, struct err *e);
/* Returns a new reference. */
struct tls_context *tls_context_ref(struct tls_context *c);
void tls_context_unref(struct tls_context *c); /* NULL is fine */

/* The server side of a connection, owned by the caller, who also keeps a reference of the context. NULL: no
 * memory. */
SSL *tls_context_ssl(struct tls_context *c);

/* How many certificates it has. */
size_t tls_context_count(const struct tls_context *c);
/* When certificate `i` (from 0) expires, Unix time. */
int64_t tls_context_not_after(const struct tls_context *c, size_t i);

/* What the client named in the handshake of `ssl`, if it is a name; "" else. */
const char *tls_context_sni(const SSL *ssl);

#endif
