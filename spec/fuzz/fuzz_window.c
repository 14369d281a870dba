/* since=, until=, limit=: whatever is taken for a time is one that can be written in full and read back; what is refused is
 * named; names that are the policy's are left alone. */
#include "event/event.h"
#include "event/window.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void require(bool ok)
{
    if (!ok) {
        abort();
    }
}

static const int64_t now_ms = INT64_C(1764504000123);

static void check_time(struct slice text)
{
    int64_t ms = 0, again = 0;
    if (!window_time(text, now_ms, &ms)) {
        return;
    }
    require(text.n > 0);
    if (*text.p == '-') {
        require(ms >= 0 && ms <= now_ms);
    }
    if (ms < 0) { /* the first day of 1970, east of Greenwich */
        require(ms > -86400000);
        return;
    }
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    char iso[64], digits[32];
    require(gmtime_r(&seconds, &tm) != NULL);
    if (tm.tm_year + 1900 > 9999) { /* the last day of 9999, west of it */
        return;
    }
    int n = snprintf(iso, sizeof iso, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900,
                     tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(ms % 1000));
    require(n > 0 && (size_t)n < sizeof iso);
    require(window_time(slice_str(iso), now_ms, &again) && again == ms);
    if (ms >= INT64_C(100000000000) && (uint64_t)ms < WINDOW_FIRST_ID) {
        snprintf(digits, sizeof digits, "%" PRId64, ms);
        require(window_time(slice_str(digits), now_ms, &again) && again == ms);
    }
}

/* Lines "name=value", or the value of the next of our names. */
static size_t split(struct slice text, struct http_param *params, size_t most)
{
    static const char *const names[] = {"since", "until", "limit"};
    size_t n = 0;
    while (text.n && n < most) {
        const char *end = memchr(text.p, '\n', text.n);
        struct slice line = slice_of(text.p, end ? (size_t)(end - text.p) : text.n);
        const char *sign = line.n ? memchr(line.p, '=', line.n) : NULL;
        size_t name = sign ? (size_t)(sign - line.p) : 0;
        params[n] = sign ? (struct http_param){slice_of(line.p, name),
                                               slice_of(sign + 1, line.n - name - 1)}
                         : (struct http_param){slice_str(names[n % 3]), line};
        n++;
        text = slice_of(text.p + line.n + (end ? 1 : 0), text.n - line.n - (end ? 1 : 0));
    }
    return n;
}

static void check_query(const struct http_query *q)
{
    char since[] = "since", until[] = "until", limit[] = "limit", detail[200];
    char *const all[] = {since, until, limit};
    struct window w;
    memset(detail, 'x', sizeof detail);
    if (window_parse(q, NULL, 0, now_ms, WINDOW_LIMIT_MAX, &w, detail, sizeof detail)) {
        require(w.limit <= WINDOW_LIMIT_MAX && w.until_id <= EVENT_ID_MAX);
        require(!(w.until && w.until_id) && (!w.until_id || w.until_id >= WINDOW_FIRST_ID));
        require(window_is_finite(&w) == (w.until || w.until_id || w.limit));
        require(w.since == (w.field.p != NULL));
    } else {
        require(memchr(detail, '\0', sizeof detail) != NULL);
        require(strstr(detail, since) || strstr(detail, until) || strstr(detail, limit));
    }
    require(window_parse(q, all, 3, now_ms, WINDOW_LIMIT_MAX, &w, detail, sizeof detail));
    require(!w.since && !window_is_finite(&w));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { LINES = 6 };
    struct http_param params[LINES];
    struct slice text = slice_of((const char *)data, size);
    struct http_query q = {.params = params};
    q.count = split(text, params, LINES);
    for (size_t i = 0; i < q.count; i++) {
        check_time(params[i].value);
    }
    check_time(text);
    check_query(&q);
    return 0;
}
