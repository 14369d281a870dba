/* What a policy may want to know of the TLS that a request came by: taken when the handshake is done, and kept in
 * one small piece, since OpenSSL's own state may not outlive the handshake. */
#ifndef NET_TLS_TLS_INFO_H
#define NET_TLS_TLS_INFO_H

#include "base/slice.h"

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>

enum tls_name_kind { TLS_NAME_DNS, TLS_NAME_URI, TLS_NAME_EMAIL };

struct tls_info {
    const char *version, *cipher; /* "TLSv1.3", "TLS_AES_256_GCM_SHA384" */
    const char *sni;              /* "": the client named none */
    const char *alpn;             /* what was agreed on; "": the client offered nothing */
    bool resumed;
    bool has_client; /* it has shown a certificate, which was verified; the rest is of that */
    const char *subject, *issuer; /* RFC 2253, UTF-8 */
    const char *serial;           /* lower-case hexadecimal */
    const char *sha256;           /* of the certificate */
    int64_t not_after;            /* Unix time */
    /* the subject's alternative names: enum tls_name_kind as a byte, the name, '\0' */
    struct slice names;
};

struct tls_facts;

/* Of a connection that has shaken hands; the caller frees it with free(). A certificate that does not fit into some
 * KiB is as good as none: it has names nobody could tell apart from shorter ones. */
struct tls_facts *tls_facts_of(const SSL *ssl);

/* How many bytes they are: they may be copied as such, to where a pointer may be. */
size_t tls_facts_bytes(const struct tls_facts *f);
bool tls_facts_h2(const struct tls_facts *f);
bool tls_facts_resumed(const struct tls_facts *f);
/* Pointers in `out` are good while `f` is. */
void tls_facts_read(const struct tls_facts *f, struct tls_info *out);

#endif
