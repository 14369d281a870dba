/* Listening sockets of an http_server: TCP and Unix. Accepting pauses at the connection limit and
 * when file descriptors run out; who waits stays in the kernel's backlog. */
#ifndef NET_HTTP_LISTENER_H
#define NET_HTTP_LISTENER_H

#include "net/http/http_service.h"
#include "net/listen_socket.h"
#include "net/tls/tls_cert_files.h"

/* Of one listener, not of the whole server. */
struct listener_options {
    struct tls_cert_files
        *tls;            /* the certificates, borrowed until it is closed; NULL: plain HTTP */
    bool proxy_protocol; /* a proxy says first who the client is */
    bool redirect_https; /* its requests are marked so (http_request.h), unless they came by TLS */
};

/* Binds and listens; logs the address it got (port 0 is resolved). Owned by the server. `opt` may be NULL. */
int listener_open(struct http_server *server, const struct address *where,
                  const struct listener_options *opt, struct err *e);
/* Accepts on a socket that listens already; takes it, also on failure. The file of a Unix socket
 * stays when the listener is closed. */
int listener_open_socket(struct http_server *server, struct listen_socket *from,
                         const struct listener_options *opt, struct err *e);
/* Takes a connected, non-blocking Unix socket as if it had been accepted; owns `fd` unless it
 * fails.
 */
int listener_adopt(struct http_server *server, int fd);
/* Closes all listeners of the server; asynchronous. */
void listener_close_all(struct http_server *server);
/* A connection ended, or descriptors may be free again: accepts who waits. */
void listener_resume_all(struct http_server *server);

#endif
