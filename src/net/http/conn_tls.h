/* TLS between a connection and its socket: the handshake as the protocol that a connection speaks first, then
 * the layer that all its bytes pass. What is above does not notice: stream_write() still says how many bytes of
 * plain text were taken. */
#ifndef NET_HTTP_CONN_TLS_H
#define NET_HTTP_CONN_TLS_H

#include "net/http/conn.h"
#include "net/tls/tls_context.h"

struct conn_tls_service; /* what all TLS connections of a server share */

/* Before the first conn_tls_start() of that server; no effect when it is open already. */
void conn_tls_open(struct http_server *s);
/* All connections of it must be closing. Asynchronous; no effect when it is not open. */
void conn_tls_close(struct http_server *s);
/* After the end of the loop. */
void conn_tls_clear(struct http_server *s);

/* The connection, accepted but not started, begins with a handshake. Keeps a reference of `context`. UV_ENOMEM:
 * nothing has changed. */
int conn_tls_start(struct conn *c, struct tls_context *context);

#endif
