/* The way of a request from its protocol to the handlers of the service, whatever the protocol is. */
#ifndef NET_HTTP_HTTP_DISPATCH_H
#define NET_HTTP_HTTP_DISPATCH_H

#include "net/http/conn.h"

/* The head of a request on `c`, whose body is still to come. The body counts from now on. It is taken at
 * once where the service does not ask for heads. */
void http_dispatch_head(const struct conn *c, struct stream *stream, struct http_request *rq);
/* A complete request. */
void http_dispatch_request(const struct conn *c, struct stream *stream, struct http_request *rq);

#endif
