/* Where a subscriber wants to start: the Last-Event-ID header and its query variants. Pure, fuzzed.
 */
#ifndef BROKER_RESUME_H
#define BROKER_RESUME_H

#include "net/http/http_query.h"
#include "net/http/http_request.h"

#include <stdint.h>

enum resume_kind {
    RESUME_NOW,      /* nothing asked: from the head */
    RESUME_EARLIEST, /* from the oldest retained event */
    RESUME_AFTER,    /* after `id` */
    RESUME_UNKNOWN,  /* not an id of ours: `text` */
};

struct resume {
    enum resume_kind kind;
    uint64_t id;
    struct slice text; /* as given; borrowed from the request */
};

/* The header wins over the query (last_event_id, lastEventId, Last-Event-ID, in this order). An
 * empty value is no value. Decimal digits without sign up to EVENT_ID_MAX are an id; "earliest" is
 * the beginning. */
struct resume resume_parse(const struct http_request *rq, const struct http_query *q);
struct resume resume_parse_text(struct slice text);

#endif
