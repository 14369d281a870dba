/* What is answered before anything else of a request is looked at: challenges of an ACME client, and clients without
 * TLS where that is not wanted. */
#ifndef BROKER_EDGE_ROUTES_H
#define BROKER_EDGE_ROUTES_H

#include "net/http/stream.h"
#include "net/message/http_request.h"

#include <stdbool.h>

struct broker;

/* True: the request has been answered. */
bool edge_route(const struct broker *b, struct stream *s, const struct http_request *rq);

#endif
