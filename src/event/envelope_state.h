/* What the formats of a publish body share: envelope.c picks one by content type, each makes events
 * through here. Private to envelope*.c. */
#ifndef EVENT_ENVELOPE_STATE_H
#define EVENT_ENVELOPE_STATE_H

#include "event/envelope.h"

struct envelope_reader {
    const struct http_request *rq;
    const struct envelope_limits *limits;
    int64_t time_ms;
    struct event_list *out;
    struct err *e;
    char where[40];               /* "envelope 3", "line 4": put before refusals; "": nothing */
    struct strbuf attrs, scratch; /* of the event at hand */
};

/* Texts in, events out: 0 or the HTTP status of a refusal. `body` is not empty and is valid UTF-8.
 */
int envelope_read_json(struct envelope_reader *r, struct slice body, bool *is_batch);
int envelope_read_ndjson(struct envelope_reader *r, struct slice body, bool *is_batch);

/* Checks the fields, makes the event. Returns 0 or the status. */
int envelope_add(struct envelope_reader *r, const struct event_fields *f);
/* Returns `status`. */
__attribute__((format(printf, 3, 4))) int envelope_refuse(struct envelope_reader *r, int status,
                                                          const char *fmt, ...);
int envelope_no_memory(struct envelope_reader *r);

/* Foreign text for a message: printable ASCII, the rest as '?', cut with "..." */
char envelope_printable(char c);
struct shown {
    char text[64];
};
struct shown envelope_show(struct slice foreign);

#endif
