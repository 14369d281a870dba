/* Addresses to listen on, addresses of peers, and networks of trusted proxies. Pure but for peer
 * look-up. */
#ifndef NET_ADDRESS_H
#define NET_ADDRESS_H

#include "base/err.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <uv.h>

enum { ADDRESS_LISTEN_TEXT_MAX = 160 };
enum { ADDRESS_TEXT_MAX = 64 }; /* INET6_ADDRSTRLEN with a zone, or "unix" */

/* One address to listen on: "127.0.0.1:8080", "[::1]:8080", "unix:/path/socket",
 * "unix:/path/socket?mode=0660&group=www-data", "systemd:name".
 * Rejects "localhost:8080" (names are for clients) and relative paths. */
struct address {
    bool is_unix;
    bool by_name;   /* a socket that the service manager passes; `path` is its name */
    char path[108]; /* sun_path, NUL-terminated */
    unsigned mode;  /* of the file of a Unix socket; 0: as the umask says */
    char group[33]; /* of that file; empty: that of the process */
    struct sockaddr_storage tcp;
};

/* Port 0 is allowed: the kernel picks one. 0 or UV_EINVAL; errors name the text and what was
 * expected. */
int address_parse(const char *text, struct address *out, struct err *e);
/* "HOST:PORT" or "unix:/path" of `a` into `out`. */
void address_text(const struct address *a, char out[ADDRESS_LISTEN_TEXT_MAX]);
/* Loopback (127.0.0.0/8, ::1) or a Unix socket: not reachable from another machine. */
bool address_is_local(const struct address *a);

/* A peer's address without port: 16 bytes, IPv4 as ::ffff:a.b.c.d; all zero for a Unix peer. */
struct peer_address {
    unsigned char ip[16];
};

/* 0.0.0.0, which is no peer's address, if the system does not know (the peer has disconnected). */
void peer_address_of(const uv_stream_t *socket, struct peer_address *out);
/* Text of this end of the connection: "HOST:PORT", "unix:/path", or "" if the system does not know. */
void local_address_text(const uv_stream_t *socket, char out[ADDRESS_LISTEN_TEXT_MAX]);
/* From the four bytes of an IPv4 address, in network order. */
void peer_address_set_ipv4(struct peer_address *a, const void *ip);
bool peer_address_is_unix(const struct peer_address *a);
/* Of this machine: loopback, or a Unix peer. */
bool peer_address_is_local(const struct peer_address *a);
/* What limits count as one: an IPv6 address stands for its network of 64 bits, all others for themselves. */
struct peer_address peer_address_holder(const struct peer_address *a);
/* Text of `a` into `out` (ADDRESS_TEXT_MAX bytes): "192.0.2.1", "2001:db8::1", or "unix". */
void peer_address_text(const struct peer_address *a, char *out);
/* The inverse; also accepts IPv4-mapped forms. No port, no zone, not "::". */
bool peer_address_parse(struct slice text, struct peer_address *out);

/* A network of trusted proxies: "10.0.0.0/8", "::1", "unix". */
struct network {
    struct peer_address base;
    unsigned bits; /* of 128 */
    bool is_unix;
};

/* Bits below the prefix must be zero. 0 or UV_EINVAL with a text. */
int network_parse(const char *text, struct network *out, struct err *e);
/* Families do not mix: "::/0" holds no IPv4 and no Unix peer. */
bool network_contains(const struct network *n, const struct peer_address *a);
bool networks_contain(const struct network *list, size_t count, const struct peer_address *a);

#endif
