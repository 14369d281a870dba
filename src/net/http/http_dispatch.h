/* The way of a request from its protocol to the handlers of the service, whatever the protocol is. */
#ifndef NET_HTTP_HTTP_DISPATCH_H
#define NET_HTTP_HTTP_DISPATCH_H

#include "net/http/http_service.h"

/* The head of a request of `peer`, whose body is still to come. The body counts from now on. It is taken
 * at once where the service does not ask for heads. */
void http_dispatch_head(struct http_server *s, struct stream *stream, struct http_request *rq,
                        const struct peer_address *peer);
/* A complete request. */
void http_dispatch_request(struct http_server *s, struct stream *stream, struct http_request *rq,
                           const struct peer_address *peer);

#endif
