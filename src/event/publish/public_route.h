/* Paths of the public server beside its own (http.routes): which of them a request is for, and what its path says.
 * Pure. */
#ifndef EVENT_PUBLISH_PUBLIC_ROUTE_H
#define EVENT_PUBLISH_PUBLIC_ROUTE_H

#include "net/message/http_query.h"

#include <stdbool.h>

enum publish_shape {
    PUBLISH_NOT,      /* GET only */
    PUBLISH_ENVELOPE, /* as POST /events */
    PUBLISH_RAW,      /* the body is the data */
    PUBLISH_FORM, /* application/x-www-form-urlencoded: the data is JSON, a list of values for each name */
    PUBLISH_CLOUDEVENTS, /* CloudEvents alone */
};

enum publish_answer { ANSWER_JSON, ANSWER_ID, ANSWER_EMPTY, ANSWER_STREAM };

struct public_route {
    const char *path; /* "/sub/{channel}": a segment in braces stands for any that is not empty */
    const char *
        topic; /* of what is published: "chan/{channel}"; NULL: of envelopes, which have their own */
    enum publish_shape publish;
    enum publish_answer answer;
    int status; /* of the answer; 0: what /events says */
    bool subscribe;
    bool deletes; /* DELETE publishes, of PUBLISH_RAW: no data */
    const char
        *position_field; /* NULL, or that field of the head of a stream tells where it starts */
};

struct public_routes {
    const struct public_route *v;
    size_t n;
};

/* The route of `path`, which is undecoded; NULL: none. *params has what stands for the names in braces, decoded:
 * http_query_clear() it, whatever was found. *rc: 0; UV_EINVAL: one of them has a bad escape, is not UTF-8 or holds a
 * NUL; UV_ENOMEM. Both may be NULL. */
const struct public_route *public_route_find(const struct public_routes *routes, struct slice path,
                                             struct http_query *params, int *rc);

#endif
