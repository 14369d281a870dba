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
    char *const *theirs; /* see publish_terms */
    size_t their_count;
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
/* CloudEvents: one, a list of them, one in the head of the request; see publish_body_is_binary(). */
int publish_body_read_cloudevent(struct publish_body_reader *r, struct slice body, bool *is_batch);
int publish_body_read_cloudevents(struct publish_body_reader *r, struct slice body, bool *is_batch);
int publish_body_read_binary(struct publish_body_reader *r, struct slice body);
/* Is the Content-Type one of CloudEvents, also in a format that is not known here? */
bool publish_body_claims_cloudevents(const struct http_request *rq);
/* Do fields of the head make a CloudEvent of the body? */
bool publish_body_is_binary(const struct http_request *rq);

/* ---- what they share */

/* Sets when the event ends. Absent fields are not there. 0 or the status. */
int publish_body_set_expiry(struct publish_body_reader *r, struct slice expires, struct slice ttl,
                            struct event_fields *f);
/* Checks the fields, makes the event. Returns 0 or the status. */
int publish_body_add(struct publish_body_reader *r, const struct event_fields *f);
/* Returns `status`. */
__attribute__((format(printf, 3, 4))) int publish_body_refuse(struct publish_body_reader *r,
                                                              int status, const char *fmt, ...);
int publish_body_no_memory(struct publish_body_reader *r);
/* The value of a query parameter that may be given once; absent: it is not there. 0, or the status. */
int publish_body_query_once(struct publish_body_reader *r, const char *name, struct slice *out);
/* The topic that the route makes of the path, and of `more` values. 0, or the status. */
enum { PUBLISH_BODY_MORE_MAX = 4 };
int publish_body_fill_topic(struct publish_body_reader *r, struct strbuf *topic,
                            const struct http_param *more, size_t n);
/* Refuses a key of the request, which cannot name all events of a batch. 0, or the status. */
int publish_body_check_batch(struct publish_body_reader *r);
/* Reads the items of an array behind its '['; `take` cuts one off. 0, or the status. */
typedef int (*publish_body_take)(struct publish_body_reader *r, struct slice *rest,
                                 struct slice key);
int publish_body_read_array(struct publish_body_reader *r, struct slice rest, const char *item,
                            publish_body_take take);
/* `at` is in, or at the end of, the text that begins at `start`. Returns the status. */
int publish_body_refuse_json(struct publish_body_reader *r, const char *start, struct slice at,
                             const char *wrong);
/* "an object": what a JSON value is. */
const char *publish_body_json_kind_of(struct slice value);

/* Foreign text for a message: printable ASCII, other bytes as '?', truncated with "..." */
char publish_body_printable(char c);
struct shown {
    char text[64];
};
struct shown publish_body_show(struct slice foreign);

#endif
