/* Where a subscriber wants to start: Last-Event-ID in the header and in the query. Pure, fuzzed. */
#ifndef EVENT_LAST_EVENT_ID_H
#define EVENT_LAST_EVENT_ID_H

#include "net/message/http_query.h"
#include "net/message/http_request.h"

#include <stdint.h>

enum start_kind {
    START_NOW,      /* nothing asked: from the head */
    START_EARLIEST, /* from the oldest retained event */
    START_AFTER,    /* after `id` */
    START_UNKNOWN,  /* no requested position is one of this broker */
};

struct last_event_id {
    enum start_kind kind;
    uint64_t id;
    bool ended;           /* the stream that told it had come to its end */
    struct slice text;    /* the position that counts, as given; borrowed from the request */
    struct slice mark;    /* of it, in `text`; absent: it has none */
    struct slice unknown; /* the first unknown one; p == NULL: there is none */
};

/* Positions are the values of all Last-Event-ID fields and of all query parameters last_event_id,
 * lastEventId, lastEventID and Last-Event-ID. Of several the greatest counts: what a client holds
 * came from the broker, so it has seen everything up to the greatest. "earliest" is the least. A
 * field may be a list of positions: that is what proxies make of several fields. An empty value is
 * no value. Decimal digits without sign up to EVENT_ID_MAX are an id, also with EVENT_ID_END and a mark behind them. */
struct last_event_id last_event_id_parse(const struct http_request *rq, const struct http_query *q);
struct last_event_id last_event_id_parse_text(struct slice text);

enum { EVENT_MARK_MAX_BYTES = 64 };
/* Letters, digits, '-', '_' and '.'; at least one. */
bool last_event_id_is_mark(struct slice mark);

/* Is it one of the names of query parameters that hold one? */
bool last_event_id_is_name(struct slice name);
/* A query parameter whose name is nearly one of those above: `*given` as it is, `*meant` as it
 * should be. False: there is none. */
bool last_event_id_misspelt(const struct http_query *q, struct slice *given, const char **meant);

#endif
