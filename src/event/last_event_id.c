#include "event/last_event_id.h"

#include "base/decimal.h"
#include "base/text/nearest.h"
#include "event/event.h"

#include <ctype.h>

/* snake_case for people; the others as EventSource polyfills and clients of Mercure send it */
static const char *const spellings[] = {"last_event_id", "lastEventId", "lastEventID",
                                        "Last-Event-ID"};
enum { SPELLINGS = sizeof spellings / sizeof *spellings };

bool last_event_id_is_name(struct slice name)
{
    bool found = false;
    for (size_t i = 0; i < SPELLINGS && !found; i++) {
        found = slice_is(name, spellings[i]);
    }
    return found;
}

bool last_event_id_is_mark(struct slice mark)
{
    bool ok = mark.n > 0 && mark.n <= EVENT_MARK_MAX_BYTES;
    for (size_t i = 0; ok && i < mark.n; i++) {
        char c = mark.p[i];
        ok = isalnum((unsigned char)c) || c == '-' || c == '_' || c == '.';
    }
    return ok;
}

struct last_event_id last_event_id_parse_text(struct slice text)
{
    static const char end[] = EVENT_ID_END;
    const size_t end_n = sizeof end - 1;
    struct last_event_id r = {.kind = START_UNKNOWN, .text = text, .unknown = text};
    const char *tilde = text.n ? memchr(text.p, EVENT_MARK_SEPARATOR, text.n) : NULL;
    struct slice id = slice_of(text.p, tilde ? (size_t)(tilde - text.p) : text.n);
    struct slice mark = tilde ? slice_of(tilde + 1, text.n - id.n - 1) : slice_of(NULL, 0);
    bool ended = id.n > end_n && memcmp(id.p + id.n - end_n, end, end_n) == 0;
    struct slice digits = slice_of(id.p, ended ? id.n - end_n : id.n);
    if (text.n == 0) {
        r.kind = START_NOW;
    } else if (slice_is(text, "earliest")) {
        r.kind = START_EARLIEST;
    } else if ((!tilde || last_event_id_is_mark(mark)) &&
               decimal_parse(digits, EVENT_ID_MAX, &r.id)) {
        r.kind = START_AFTER;
        r.ended = ended;
        r.mark = mark;
    }
    if (r.kind != START_UNKNOWN) {
        r.unknown = slice_of(NULL, 0);
    }
    return r;
}

/* The kinds in the order in which they give way to each other. */
static unsigned rank(enum start_kind kind)
{
    switch (kind) {
    case START_NOW:
        return 0;
    case START_UNKNOWN:
        return 1;
    case START_EARLIEST:
        return 2;
    case START_AFTER:
        break;
    }
    return 3;
}

static void last_event_id_take(struct last_event_id *r, struct last_event_id one)
{
    struct slice unknown = r->unknown.p ? r->unknown : one.unknown;
    bool same = one.kind == r->kind && one.id == r->id;
    if (rank(one.kind) > rank(r->kind) || (one.kind == r->kind && one.id > r->id) ||
        (same && one.ended && !r->ended)) {
        *r = one;
    }
    r->unknown = unknown;
}

/* One field: a position, or a list of them. */
static void take_field(struct last_event_id *r, struct slice text)
{
    struct last_event_id all = {.kind = START_NOW};
    struct slice rest = text;
    while (rest.n) {
        const char *comma = memchr(rest.p, ',', rest.n);
        struct slice piece = slice_of(rest.p, comma ? (size_t)(comma - rest.p) : rest.n);
        size_t used = piece.n + (comma ? 1 : 0);
        rest = slice_of(rest.p + used, rest.n - used);
        while (comma && rest.n && (*rest.p == ' ' || *rest.p == '\t')) {
            rest = slice_of(rest.p + 1, rest.n - 1);
        }
        last_event_id_take(&all, last_event_id_parse_text(piece));
    }
    last_event_id_take(r, all.unknown.p ? last_event_id_parse_text(text)
                                        : all); /* no list of ours: one foreign id */
}

struct last_event_id last_event_id_parse(const struct http_request *rq, const struct http_query *q)
{
    struct last_event_id r = {.kind = START_NOW};
    for (size_t i = 0; i < rq->header_count; i++) {
        if (slice_is_nocase(rq->headers[i].name, "Last-Event-ID")) {
            take_field(&r, rq->headers[i].value);
        }
    }
    for (size_t i = 0; i < q->count; i++) {
        if (last_event_id_is_name(q->params[i].name)) {
            last_event_id_take(&r, last_event_id_parse_text(q->params[i].value));
        }
    }
    return r;
}

/* Nearly that, by one letter? Strangers choose `given`: most are told by their ends alone. */
static bool last_event_id_is_near(struct slice meant, struct slice given)
{
    size_t less = meant.n < given.n ? meant.n : given.n;
    size_t more = meant.n < given.n ? given.n : meant.n;
    size_t head = 0, tail = 0;
    while (head < less && meant.p[head] == given.p[head]) {
        head++;
    }
    while (tail < less - head && meant.p[meant.n - 1 - tail] == given.p[given.n - 1 - tail]) {
        tail++;
    }
    return more - head - tail <= 2 && nearest_distance(meant, given) <= 1;
}

bool last_event_id_misspelt(const struct http_query *q, struct slice *given, const char **meant)
{
    enum { PLAIN_MAX = 24 };
    for (size_t i = 0; i < q->count; i++) {
        struct slice name = q->params[i].name;
        char plain[PLAIN_MAX]; /* letters only, so that case and separators make no difference */
        size_t n = 0;
        bool known = last_event_id_is_name(name);
        for (size_t j = 0; j < name.n && n < PLAIN_MAX; j++) {
            if (name.p[j] != '_' && name.p[j] != '-') {
                plain[n++] = (char)tolower((unsigned char)name.p[j]);
            }
        }
        if (!known && n < PLAIN_MAX) {
            if (last_event_id_is_near(slice_str("lasteventid"), slice_of(plain, n))) {
                *given = name;
                *meant = spellings[0];
                return true;
            }
        }
    }
    return false;
}
