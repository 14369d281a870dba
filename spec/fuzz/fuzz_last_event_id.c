/* Last-Event-ID: an id is what prints back to the same digits, leading zeros aside; of several
 * positions the greatest counts, and none that is not ours is passed over. */
#include "event/event.h"
#include "event/last_event_id.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void require(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void check_id(struct slice text, uint64_t id)
{
    char digits[32];
    int n = snprintf(digits, sizeof digits, "%" PRIu64, id);
    require(id <= EVENT_ID_MAX && n > 0 && (size_t)n < sizeof digits);
    while (text.n > 1 && *text.p == '0') {
        text = slice_of(text.p + 1, text.n - 1);
    }
    require(slice_is(text, digits));
}

/* By a list of what may be in it: the module asks isalnum(). */
static bool is_mark(struct slice mark)
{
    static const char all[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    bool ok = mark.n > 0 && mark.n <= 64;
    for (size_t i = 0; ok && i < mark.n; i++) {
        ok = memchr(all, mark.p[i], sizeof all - 1) != NULL;
    }
    return ok;
}

/* The lines of the input as one field and then as parameters. */
static void check_several(const char *data, size_t size)
{
    static const char *const names[] = {"last_event_id", "lastEventId", "lastEventID",
                                        "Last-Event-ID", "topic"};
    enum { LINES = 8, NAMES = sizeof names / sizeof *names };
    struct http_param params[LINES];
    struct http_header field = {.name = slice_str("Last-Event-ID")};
    struct http_request rq = {.headers = &field, .header_count = 1};
    struct http_query q = {.params = params};
    uint64_t greatest = 0;
    bool any = false, foreign = false;
    for (size_t line = 0; line <= LINES; line++) {
        const char *end = size ? memchr(data, '\n', size) : NULL;
        struct slice text = slice_of(data, end ? (size_t)(end - data) : size);
        if (line == 0) {
            field.value = text;
        } else {
            const char *name = names[(line - 1) % NAMES];
            params[q.count++] = (struct http_param){slice_str(name), text};
        }
        if ((line == 0 || !slice_is(params[line - 1].name, "topic")) &&
            (text.n == 0 || !memchr(text.p, ',', text.n))) {
            struct last_event_id r = last_event_id_parse_text(text);
            any = any || r.kind == START_AFTER;
            greatest = r.kind == START_AFTER && r.id > greatest ? r.id : greatest;
            foreign = foreign || r.kind == START_UNKNOWN;
        }
        if (!end) {
            break;
        }
        size -= text.n + 1;
        data = end + 1;
    }
    struct last_event_id all = last_event_id_parse(&rq, &q);
    require(!any || (all.kind == START_AFTER && all.id >= greatest));
    require(!foreign || all.unknown.p);
    require(all.kind != START_UNKNOWN || all.unknown.p);
    if (field.value.n == 0 || !memchr(field.value.p, ',', field.value.n)) {
        require(all.kind != START_AFTER || all.id == greatest || q.count);
    }
    struct slice given;
    const char *meant;
    require(!last_event_id_misspelt(&q, &given, &meant));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = slice_of((const char *)data, size);
    struct last_event_id r = last_event_id_parse_text(text);
    check_several(text.p, text.n);
    require((r.kind == START_UNKNOWN) == (r.unknown.p != NULL));
    require(r.text.p == text.p && r.text.n == text.n);
    const size_t end_n = sizeof EVENT_ID_END - 1;
    const char *tilde = size ? memchr(text.p, EVENT_MARK_SEPARATOR, size) : NULL;
    size_t id_n = tilde ? (size_t)(tilde - text.p) : size;
    bool marked = tilde && is_mark(slice_of(tilde + 1, size - id_n - 1));
    bool ended = id_n > end_n && memcmp(text.p + id_n - end_n, EVENT_ID_END, end_n) == 0;
    size_t digit_n = ended ? id_n - end_n : id_n;
    bool digits = digit_n > 0;
    for (size_t i = 0; i < digit_n; i++) {
        digits = digits && data[i] >= '0' && data[i] <= '9';
    }
    switch (r.kind) {
    case START_NOW:
        require(size == 0);
        break;
    case START_EARLIEST:
        require(slice_is(text, "earliest"));
        break;
    case START_AFTER:
        require(digits && r.ended == ended && (r.mark.p != NULL) == (tilde != NULL));
        require(!tilde || (marked && r.mark.p == tilde + 1 && r.mark.n == size - id_n - 1));
        check_id(slice_of(text.p, digit_n), r.id);
        break;
    case START_UNKNOWN: {
        char copy[64];
        snprintf(copy, sizeof copy, "%.*s", digit_n < 40 ? (int)digit_n : 40, (const char *)data);
        require(size > 0 && !slice_is(text, "earliest"));
        require(!digits || digit_n > 40 || (tilde && !marked) ||
                strtoull(copy, NULL, 10) > EVENT_ID_MAX);
        break;
    }
    }
    return 0;
}
