/* The PROXY protocol, versions 1 and 2 (haproxy.org/download/2.6/doc/proxy-protocol.txt): what a proxy says about the
 * connection that it passes on, before anything else. Pure. */
#ifndef NET_PROXY_HEADER_H
#define NET_PROXY_HEADER_H

#include "net/address.h"

enum {
    PROXY_HEADER_1_MAX_BYTES = 107,       /* with its CRLF */
    PROXY_HEADER_2_MAX_BYTES = 16 + 2048, /* ours: room for addresses and what proxies add today */
};

struct proxy_header {
    bool
        has_client; /* else the proxy speaks for itself (LOCAL, a health check), or does not know (UNKNOWN) */
    struct peer_address client;
    const char *error; /* constant: what is wrong */
};

/* The length of the header; 0: more bytes are needed; UV_EINVAL: it is none, `out->error` says why. */
ssize_t proxy_header_parse(const char *data, size_t len, struct proxy_header *out);

/* Do the bytes begin as a header does, of either version? Of `len` >= 1 bytes; false where too few are there. */
bool proxy_header_begins(const char *data, size_t len);

#endif
