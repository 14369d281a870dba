/* How a stream tells its client the position to resume from, when no event does: in its first
 * block, and in place of a heartbeat (sse.prime). */
#ifndef EVENT_POSITION_H
#define EVENT_POSITION_H

#include "event/event.h"
#include "event/sse_frame.h"

enum prime {
    PRIME_DEFAULT, /* the configuration's */
    PRIME_EVENT,   /* a named event with data: every client records its id */
    PRIME_ID,      /* an id alone: nothing is dispatched, and many clients forget it */
    PRIME_DATA,    /* an event of no name with empty data */
    PRIME_NONE,    /* not at all */
};

/* False: not one of "event", "id", "data", "none". */
bool prime_parse(struct slice name, enum prime *out);
/* "event", ...; NULL: PRIME_DEFAULT. */
const char *prime_name(enum prime how);

struct position_text {
    char data[sizeof "{\"position\":\"\"}" + EVENT_ID_TEXT_MAX];
};
/* Fills id, event and data of `f`, which borrow from `event` and `text`; `how` is not PRIME_DEFAULT. */
void position_fields(const char *event, enum prime how, uint64_t at, struct position_text *text,
                     struct sse_fields *f);

/* The newest position as frames, shared by all streams that send it. All zero at first. */
struct position_frames {
    uint64_t at;
    struct frame *
        v[PRIME_NONE]; /* references; NULL: not asked for yet. The first: of the last with a mark */
};
/* Borrowed until the next call; NULL: no memory. `how` is neither PRIME_DEFAULT nor PRIME_NONE. `mark`: see sse_fields:
 * such a frame is not shared. */
struct frame *position_frames_get(struct position_frames *p, const char *event, enum prime how,
                                  uint64_t at, struct slice mark);
void position_frames_clear(struct position_frames *p);

#endif
