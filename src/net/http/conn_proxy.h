/* The PROXY protocol as what a connection speaks first: it tells the client's address, then TLS or HTTP begins. */
#ifndef NET_HTTP_CONN_PROXY_H
#define NET_HTTP_CONN_PROXY_H

#include "net/http/conn.h"
#include "net/tls/tls_context.h"

/* The connection, accepted but not started, begins with a header of a proxy. `context`: TLS comes next; NULL: HTTP.
 * Keeps a reference of it. Where trusted_proxies is not empty, the peer must be one of them. */
void conn_proxy_start(struct conn *c, struct tls_context *context);

#endif
