/* What the public server calls for each request (`struct http_handlers`): finds out by method and path
 * what is wanted. */
#ifndef BROKER_HTTP_ROUTES_H
#define BROKER_HTTP_ROUTES_H

#include "net/http/http_server.h"

/* `ctx` is the broker. Of a request whose body is still to come, and of a complete one. */
void routes_head(void *ctx, struct stream *s, struct http_request *rq,
                 const struct peer_address *client);
void routes_request(void *ctx, struct stream *s, struct http_request *rq,
                    const struct peer_address *client);
/* Is it a publication that is answered with a stream? */
bool routes_streams(const void *ctx, const struct http_request *rq);
/* Fields for answers that the server gives without asking. */
void routes_refused(void *ctx, const struct http_request *rq, struct strbuf *fields);

#endif
