/* Request body -> events to publish (scripts/CLIENTS.md, "Publishing"). Pure, fuzzed. */
#ifndef EVENT_PUBLISH_PUBLISH_BODY_H
#define EVENT_PUBLISH_PUBLISH_BODY_H

#include "base/err.h"
#include "event/event.h"
#include "event/publish/public_route.h"
#include "net/message/http_query.h"
#include "net/message/http_request.h"

struct publish_limits {
    size_t event_bytes;  /* data of one event; more: 413 */
    size_t batch_events; /* more: 413 */
};

/* How the body of a request is to be read, and what it counts for. `route`: NULL: as POST /events. */
struct publish_terms {
    const struct http_query *query;
    const struct public_route *route;
    const struct publish_limits *limits;
    char *const *
        theirs; /* names in the query that the policy reads: `expires` and `ttl` among them are its own */
    size_t their_count;
};

/* What the head of a request tells, before its body is there: 0, or 400, 413 or 415 as below. */
int publish_body_check_head(const struct http_request *rq, const struct publish_terms *terms,
                            struct err *e);
/* On success: events with id 0 in `out` (at least one), and *is_batch tells whether the answer is a
 * list. Returns 0, or the HTTP status to refuse with (400, 413, 415; 503: no memory) and a text in
 * `e` that names the envelope (its index, from 0; the line for NDJSON, from 1), the field, and what
 * was expected; `out` is empty then. */
int publish_body_parse(const struct http_request *rq, const struct publish_terms *terms,
                       int64_t time_ms, struct event_list *out, bool *is_batch, struct err *e);

#endif
