#include "broker/resume.h"

#include "event/event.h"

static bool parse_id(struct slice text, uint64_t *id)
{
    uint64_t value = 0;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9') {
            return false;
        }
        value = value * 10 + (uint64_t)(text.p[i] - '0'); /* fits: EVENT_ID_MAX is below 2^60 */
        if (value > EVENT_ID_MAX) {
            return false;
        }
    }
    *id = value;
    return text.n > 0;
}

struct resume resume_parse_text(struct slice text)
{
    struct resume r = {.kind = RESUME_UNKNOWN, .text = text};
    if (text.n == 0) {
        r.kind = RESUME_NOW;
    } else if (slice_is(text, "earliest")) {
        r.kind = RESUME_EARLIEST;
    } else if (parse_id(text, &r.id)) {
        r.kind = RESUME_AFTER;
    }
    return r;
}

struct resume resume_parse(const struct http_request *rq, const struct http_query *q)
{
    /* snake_case for people; lastEventId and Last-Event-ID as the EventSource polyfills send it */
    static const char *const variants[] = {"last_event_id", "lastEventId", "Last-Event-ID"};
    struct slice text = http_request_header(rq, "Last-Event-ID");
    for (size_t i = 0; text.n == 0 && i < sizeof variants / sizeof *variants; i++) {
        text = http_query_get(q, variants[i]);
    }
    return resume_parse_text(text);
}
