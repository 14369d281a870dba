/* Challenges of an ACME client (RFC 8555, 8.3), answered before anything else of a request is looked
 * at. */
#ifndef BROKER_HTTP_ACME_CHALLENGE_H
#define BROKER_HTTP_ACME_CHALLENGE_H

#include "net/http/stream.h"
#include "net/message/http_request.h"

#include <stdbool.h>

struct broker;

/* True: the request asks for a challenge, and has been answered. */
bool acme_challenge(const struct broker *b, struct stream *s, const struct http_request *rq);

#endif
