/* What the Accept fields of a request say about the answers there are. Pure. */
#ifndef BROKER_HTTP_ACCEPT_FIELD_H
#define BROKER_HTTP_ACCEPT_FIELD_H

#include "net/message/http_request.h"

#include <stdbool.h>

struct accept {
    bool given;
    bool stream, no_stream; /* text/event-stream is named, and excluded (q=0) */
    bool text, any;         /* text with any subtype, anything */
    bool json;              /* what a publisher is answered with */
    bool lines;             /* NDJSON */
    bool gzip;              /* of Accept-Encoding */
};

/* It wants a page of history: names JSON, and no stream (anything would do, so a stream would). */
static inline bool accept_page(const struct accept *a)
{
    return (a->json || a->lines) && !a->stream && !a->text && !a->any;
}

/* A stream will do. */
static inline bool accept_takes_stream(const struct accept *a)
{
    return !a->given || (!a->no_stream && (a->stream || a->text || a->any));
}

struct accept accept_of(const struct http_request *rq);

#endif
