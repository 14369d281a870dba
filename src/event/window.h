/* Which part of history a request asks for: since=, until= and limit=. Pure. */
#ifndef EVENT_WINDOW_H
#define EVENT_WINDOW_H

#include "net/message/http_query.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WINDOW_LIMIT_MAX = 1000000 };

struct window {
    bool since;         /* the events from `since_ms` on */
    bool until;         /* the events up to `until_ms` */
    int64_t since_ms;   /* Unix time */
    int64_t until_ms;   /* the same */
    uint64_t until_id;  /* the events up to that id; 0: no such end */
    uint64_t limit;     /* so many events; 0: no such end */
    struct slice field; /* since= as given; borrowed */
};

/* Has it an end? Then the stream ends behind its last event. */
static inline bool window_is_finite(const struct window *w)
{
    return w->until || w->until_id || w->limit;
}

/* A number from here on is an id where both ids and times may be: of them the first are of April 2025, and as
 * milliseconds it is the year 2286. */
#define WINDOW_FIRST_ID UINT64_C(10000000000000)

/* ISO 8601 with a date, a date and a time, and UTC or an offset (none: UTC); Unix seconds, milliseconds (at least
 * 10^11); "-15m", "-90s", "-2h", "-3d": before `now_ms`. */
bool window_time(struct slice text, int64_t now_ms, int64_t *out_ms);

/* Names that the policy reads, `theirs`, are left to it. `limit_max`: the most that limit= may say. False: `detail` has the field, its value and what was
 * expected. */
bool window_parse(const struct http_query *q, char *const *theirs, size_t their_count,
                  int64_t now_ms, uint64_t limit_max, struct window *out, char *detail,
                  size_t size);

#endif
