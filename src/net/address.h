/* Addresses: what to listen on, who the peer is, and which peers are trusted proxies. Pure but for
 * peer lookup. */
#ifndef NET_ADDRESS_H
#define NET_ADDRESS_H

#include "base/err.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <uv.h>

enum { ADDRESS_TEXT_MAX = 64 }; /* INET6_ADDRSTRLEN with a zone, or "unix" */

/* One thing to listen on: "127.0.0.1:8080", "[::1]:8080", "localhost:8080" is refused (names are
 * for clients), "unix:/path/socket". */
struct address {
    bool is_unix;
    char path[108]; /* sun_path, NUL-terminated */
    struct sockaddr_storage tcp;
};

/* Port 0 is allowed: the kernel picks one. Errors name the text and what was expected. */
int address_parse(const char *text, struct address *out, struct err *e);
/* Loopback (127.0.0.0/8, ::1) or a Unix socket: not reachable from another machine. */
bool address_is_local(const struct address *a);

/* A peer's address without port: 16 bytes, IPv4 as ::ffff:a.b.c.d; all zero for a Unix peer. */
struct peer_address {
    unsigned char ip[16];
};

void peer_address_of(const uv_stream_t *socket, struct peer_address *out);
/* Text of `a` into `out` (ADDRESS_TEXT_MAX bytes): "192.0.2.1", "2001:db8::1", or "unix". */
void peer_address_text(const struct peer_address *a, char *out);
bool peer_address_parse(struct slice text, struct peer_address *out);

/* A network of trusted proxies: "10.0.0.0/8", "::1", "unix". */
struct network {
    struct peer_address base;
    unsigned bits; /* of 128 */
    bool is_unix;
};

int network_parse(const char *text, struct network *out, struct err *e);
bool network_contains(const struct network *n, const struct peer_address *a);

/* The client's address: the peer, or, where the peer is in `trusted`, the rightmost untrusted hop
 * of X-Forwarded-For (`forwarded`, may be absent). A malformed hop stops the walk: the nearest
 * trustworthy address wins. */
void client_address(const struct peer_address *peer, struct slice forwarded,
                    const struct network *trusted, size_t trusted_count, struct peer_address *out);

#endif
