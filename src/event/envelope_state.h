/* Shared by the parsers of publish bodies: envelope.c picks one by content type, and each makes its
 * events with these functions. Private to envelope*.c. */
#ifndef EVENT_ENVELOPE_STATE_H
#define EVENT_ENVELOPE_STATE_H

#include "event/envelope.h"

struct envelope_reader {
    const struct http_request *rq;
    const struct envelope_limits *limits;
    int64_t time_ms;
    struct event_list *out;
    struct err *e;
    char where[40];               /* "envelope 3", "line 4": prefix of refusals; "": none */
    struct strbuf attrs, scratch; /* of the current event */
};

/* Parse `body`, which is not empty and valid UTF-8. 0, or the HTTP status of a refusal. */
int envelope_read_json(struct envelope_reader *r, struct slice body, bool *is_batch);
int envelope_read_ndjson(struct envelope_reader *r, struct slice body, bool *is_batch);

/* Checks the fields, makes the event. Returns 0 or the status. */
int envelope_add(struct envelope_reader *r, const struct event_fields *f);
/* Returns `status`. */
__attribute__((format(printf, 3, 4))) int envelope_refuse(struct envelope_reader *r, int status,
                                                          const char *fmt, ...);
int envelope_no_memory(struct envelope_reader *r);

/* Foreign text for a message: printable ASCII, other bytes as '?', truncated with "..." */
char envelope_printable(char c);
struct shown {
    char text[64];
};
struct shown envelope_show(struct slice foreign);

#endif
