/* POST: policy -> body -> events -> policy -> store -> answer, after the commit and not before. Nothing
 * is made of a body before authenticate has let its request pass. */
#ifndef BROKER_HTTP_PUBLISH_H
#define BROKER_HTTP_PUBLISH_H

#include "event/publish/public_route.h"
#include "net/http/stream.h"
#include "policy/policy.h"

struct broker;

/* The head of a request, which may be one of those that are stored: takes over `s`, and takes the body
 * if authenticate lets it pass. `prq` is borrowed for the call. */
void publish_head(struct broker *b, struct stream *s, const struct policy_request *prq);
/* Where it was sent. */
struct publish_path {
    const struct public_route *route; /* NULL: http.events_path. Borrowed for the broker's life */
    const struct http_query *params;  /* what the path says */
};
/* A complete request, whose head was asked about or not. Takes over `s`, `rq` and `query`. */
void publish_request(struct broker *b, struct stream *s, struct http_request *rq,
                     struct http_query *query, const struct publish_path *path,
                     const struct peer_address *client);

#endif
