/* One service: its listeners, its connections, and their end. A process has two: the public one and
 * the admin one. */
#ifndef NET_HTTP_HTTP_SERVER_H
#define NET_HTTP_HTTP_SERVER_H

#include "net/http/http_service.h"

void http_server_init(struct http_server *s, struct loop *l, const struct http_server_options *opt,
                      const struct http_handlers *handlers, struct net_metrics *metrics);
/* All connections and listeners must be gone. */
void http_server_clear(struct http_server *s);
/* NULL when the stream is gone. */
struct stream *http_server_stream(const struct http_server *s, uint64_t id);
/* Stops accepting, closes connections that wait for a request, lets answers under way finish. */
void http_server_drain(struct http_server *s);
/* Closes every connection, whatever it is doing. */
void http_server_close_all(struct http_server *s, enum close_reason why);

#endif
