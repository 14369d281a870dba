/* Shared by the parsers of publish bodies: publish_body.c picks one by content type, and each makes its
 * events with these functions. Private to publish_body*.c. */
#ifndef EVENT_PUBLISH_PUBLISH_BODY_STATE_H
#define EVENT_PUBLISH_PUBLISH_BODY_STATE_H

#include "event/publish/publish_body.h"

struct publish_body_reader {
    const struct http_request *rq;
    const struct http_query *query;
    const struct public_route *route; /* NULL: none */
    const struct publish_limits *limits;
    int64_t time_ms;
    struct event_list *out;
    struct err *e;
    char where[40];               /* "envelope 3", "line 4": prefix of refusals; "": none */
    struct strbuf attrs, scratch; /* of the current event */
};

/* Parse `body`, which is not empty and valid UTF-8. 0, or the HTTP status of a refusal. */
int publish_body_read_json(struct publish_body_reader *r, struct slice body, bool *is_batch);
int publish_body_read_ndjson(struct publish_body_reader *r, struct slice body, bool *is_batch);
/* A form becomes the data of `f`, as JSON in `data`. 0, or the status. */
int publish_body_read_form(struct publish_body_reader *r, struct strbuf *data);

/* Checks the fields, makes the event. Returns 0 or the status. */
int publish_body_add(struct publish_body_reader *r, const struct event_fields *f);
/* Returns `status`. */
__attribute__((format(printf, 3, 4))) int publish_body_refuse(struct publish_body_reader *r,
                                                              int status, const char *fmt, ...);
int publish_body_no_memory(struct publish_body_reader *r);

/* Foreign text for a message: printable ASCII, other bytes as '?', truncated with "..." */
char publish_body_printable(char c);
struct shown {
    char text[64];
};
struct shown publish_body_show(struct slice foreign);

#endif
