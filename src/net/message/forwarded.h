/* Who the client is, where proxies stand between it and the broker. Pure. */
#ifndef NET_MESSAGE_FORWARDED_H
#define NET_MESSAGE_FORWARDED_H

#include "net/address.h"
#include "net/message/http_request.h"

/* The client's address: the peer, or, where the peer is in `trusted`, the rightmost untrusted hop
 * of X-Forwarded-For; the leftmost hop where all are trusted. `fields` are those of the request:
 * every X-Forwarded-For line counts, the last first, as proxies may append a line of their own to
 * one the client made up. Hops may carry a port, brackets, or be "unix:" (nginx). A malformed hop
 * stops the walk: the nearest trustworthy address wins. */
void client_address(const struct peer_address *peer, const struct http_header *fields,
                    size_t field_count, const struct network *trusted, size_t trusted_count,
                    struct peer_address *out);
/* Does the nearest proxy, where the peer is in `trusted`, say that the client used TLS (X-Forwarded-Proto)? */
bool client_is_secure(const struct peer_address *peer, const struct http_header *fields,
                      size_t field_count, const struct network *trusted, size_t trusted_count);

#endif
