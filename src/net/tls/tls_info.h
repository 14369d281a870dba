/* What a policy may want to know of the TLS that a request came by. Plain data, no memory of its own. */
#ifndef NET_TLS_TLS_INFO_H
#define NET_TLS_TLS_INFO_H

#include "net/tls/tls_conn.h"

enum {
    TLS_INFO_TEXT_BYTES = 1024,
    TLS_INFO_NAMES_BYTES = 4096,
    TLS_INFO_SERIAL_BYTES = 80, /* 20 octets (RFC 5280, 4.1.2.2), in hexadecimal */
    TLS_INFO_SHA256_BYTES = 65,
};

enum tls_name_kind { TLS_NAME_DNS, TLS_NAME_URI, TLS_NAME_EMAIL };

struct tls_info {
    const char *version, *cipher; /* "TLSv1.3", "TLS_AES_256_GCM_SHA384" */
    const char *sni;              /* "": the client named none */
    struct slice alpn;            /* n == 0: the client offered nothing */
    bool resumed;
    bool has_client; /* it has shown a certificate, which was verified; the rest is of that */
    char subject[TLS_INFO_TEXT_BYTES], issuer[TLS_INFO_TEXT_BYTES]; /* RFC 2253, UTF-8 */
    char serial[TLS_INFO_SERIAL_BYTES];                             /* lower-case hexadecimal */
    char sha256[TLS_INFO_SHA256_BYTES];                             /* of the certificate */
    int64_t not_after;                                              /* Unix time */
    /* the subject's alternative names: enum tls_name_kind as a byte, the name, '\0' */
    char names[TLS_INFO_NAMES_BYTES];
    size_t names_len;
};

/* Pointers in `out` are good while `t` is. A certificate that does not fit is as good as none: it has names nobody
 * could tell apart from shorter ones. */
void tls_info_of(const struct tls_conn *t, struct tls_info *out);

#endif
