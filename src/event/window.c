#include "event/window.h"

#include "base/decimal.h"
#include "event/event.h"

#include <inttypes.h>
#include <stdio.h>

#define WINDOW_TIME_EXPECTED                                                                       \
    "a time was expected: 2026-11-30T12:00:00Z, Unix seconds or milliseconds, or -15m, -2h, -3d"

static const uint64_t first_ms = UINT64_C(100000000000); /* as seconds it is the year 5138 */
static const uint64_t first_s = 100000000; /* 1973: what is smaller was meant as something else */
static const uint64_t ago_max_s = UINT64_C(100) * 366 * 86400;

/* ---------------------------------------------------------------- ISO 8601 */

/* Cuts exactly `n` digits off *rest. */
static bool window_digits(struct slice *rest, size_t n, uint64_t most, uint64_t *out)
{
    if (rest->n < n || !decimal_parse(slice_of(rest->p, n), most, out)) {
        return false;
    }
    *rest = slice_of(rest->p + n, rest->n - n);
    return true;
}

static bool window_char(struct slice *rest, const char *any_of)
{
    if (rest->n == 0 || *rest->p == '\0' || !strchr(any_of, *rest->p)) {
        return false;
    }
    *rest = slice_of(rest->p + 1, rest->n - 1);
    return true;
}

/* Days since 1970-01-01 of the proleptic Gregorian calendar; years from 1970 on. */
static int64_t window_days(uint64_t year, uint64_t month, uint64_t day)
{
    uint64_t y = month <= 2 ? year - 1 : year;
    uint64_t shifted = month > 2 ? month - 3 : month + 9; /* the year begins in March */
    uint64_t of_year = (153 * shifted + 2) / 5 + day - 1;
    return (int64_t)(y * 365 + y / 4 - y / 100 + y / 400 + of_year) - 719468;
}

static uint64_t window_month_days(uint64_t year, uint64_t month)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap ? 1u : 0u);
}

/* "HH:MM", "HH:MM:SS", "HH:MM:SS.fff...", as milliseconds. */
static bool window_clock(struct slice *rest, int64_t *ms)
{
    uint64_t hour, minute, second = 0, fraction = 0, digit;
    if (!window_digits(rest, 2, 23, &hour) || !window_char(rest, ":") ||
        !window_digits(rest, 2, 59, &minute)) {
        return false;
    }
    if (window_char(rest, ":")) {
        if (!window_digits(rest, 2, 60, &second)) {
            return false;
        }
        if (window_char(rest, ".,")) {
            uint64_t scale = 100;
            if (!window_digits(rest, 1, 9, &digit)) {
                return false;
            }
            do {
                fraction += digit * scale;
                scale /= 10;
            } while (window_digits(rest, 1, 9, &digit));
        }
    }
    *ms = (int64_t)(((hour * 60 + minute) * 60 + second) * 1000 + fraction);
    return true;
}

/* "Z", "+02:00", "-0530", "+02". A plus is a space where the query was not escaped. */
static bool window_offset(struct slice *rest, int64_t *ms)
{
    uint64_t hours, minutes = 0;
    bool west = rest->n && *rest->p == '-';
    *ms = 0;
    if (rest->n == 0 || window_char(rest, "Zz")) {
        return true;
    }
    if (!window_char(rest, "+- ") || !window_digits(rest, 2, 23, &hours)) {
        return false;
    }
    (void)window_char(rest, ":");
    if (rest->n && !window_digits(rest, 2, 59, &minutes)) {
        return false;
    }
    *ms = (int64_t)((hours * 60 + minutes) * 60000) * (west ? -1 : 1);
    return true;
}

static bool window_iso(struct slice text, int64_t *out_ms)
{
    uint64_t year, month, day;
    int64_t clock = 0, offset = 0;
    if (!window_digits(&text, 4, 9999, &year) || year < 1970 || !window_char(&text, "-") ||
        !window_digits(&text, 2, 12, &month) || month < 1 || !window_char(&text, "-") ||
        !window_digits(&text, 2, 31, &day) || day < 1 || day > window_month_days(year, month)) {
        return false;
    }
    if (text.n && (!window_char(&text, "Tt ") || !window_clock(&text, &clock) ||
                   !window_offset(&text, &offset))) {
        return false;
    }
    *out_ms = window_days(year, month, day) * 86400000 + clock - offset;
    return text.n == 0;
}

/* ---------------------------------------------------------------- times */

/* "-15m" */
static bool window_ago(struct slice text, int64_t now_ms, int64_t *out_ms)
{
    static const char units[] = "smhd";
    static const uint64_t seconds[] = {1, 60, 3600, 86400};
    uint64_t n;
    const char *unit = text.n > 2 ? memchr(units, text.p[text.n - 1], sizeof units - 1) : NULL;
    if (!unit || !decimal_parse(slice_of(text.p + 1, text.n - 2), ago_max_s, &n) ||
        n > ago_max_s / seconds[unit - units]) {
        return false;
    }
    int64_t before = (int64_t)(n * seconds[unit - units] * 1000);
    *out_ms = now_ms > before ? now_ms - before : 0;
    return true;
}

bool window_time(struct slice text, int64_t now_ms, int64_t *out_ms)
{
    uint64_t n;
    if (decimal_parse(text, WINDOW_FIRST_ID - 1, &n) && (n == 0 || n >= first_s)) {
        *out_ms = (int64_t)(n < first_ms ? n * 1000 : n);
        return true;
    }
    return text.n && *text.p == '-' ? window_ago(text, now_ms, out_ms) : window_iso(text, out_ms);
}

/* ---------------------------------------------------------------- the query */

static bool window_refuse(char *detail, size_t size, const char *name, struct slice value,
                          const char *expected)
{
    int shown = value.n < 64 ? (int)value.n : 64;
    snprintf(detail, size, "%s is \"%.*s\": %s", name, shown, value.n ? value.p : "", expected);
    return false;
}

static bool window_take(struct window *w, struct slice name, struct slice value, int64_t now_ms,
                        uint64_t limit_max, char *detail, size_t size)
{
    uint64_t n;
    if (slice_is(name, "limit")) {
        if (!decimal_parse(value, limit_max, &w->limit) || w->limit == 0) {
            char expected[80];
            snprintf(expected, sizeof expected,
                     "a number of events from 1 to %" PRIu64 " was expected", limit_max);
            return window_refuse(detail, size, "limit", value, expected);
        }
    } else if (slice_is(name, "since")) {
        w->since = window_time(value, now_ms, &w->since_ms);
        w->field = value;
        if (!w->since) {
            bool id = decimal_parse(value, EVENT_ID_MAX, &n) && n >= WINDOW_FIRST_ID;
            return window_refuse(detail, size, "since", value,
                                 id ? "that is an id: last_event_id= asks for the events behind one"
                                    : WINDOW_TIME_EXPECTED);
        }
    } else if (decimal_parse(value, EVENT_ID_MAX, &n) && n >= WINDOW_FIRST_ID) {
        w->until_id = n;
    } else {
        w->until = window_time(value, now_ms, &w->until_ms);
        if (!w->until) {
            return window_refuse(detail, size, "until", value, "an id, or " WINDOW_TIME_EXPECTED);
        }
    }
    return true;
}

bool window_parse(const struct http_query *q, char *const *theirs, size_t their_count,
                  int64_t now_ms, uint64_t limit_max, struct window *out, char *detail, size_t size)
{
    static const char *const names[] = {"since", "until", "limit"};
    *out = (struct window){.since = false};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        const struct http_param *found = NULL;
        bool policys = false;
        for (size_t i = 0; i < their_count && !policys; i++) {
            policys = strcmp(theirs[i], names[k]) == 0;
        }
        for (size_t i = 0; i < q->count && !policys; i++) {
            if (!slice_is(q->params[i].name, names[k])) {
                continue;
            }
            if (found) {
                snprintf(detail, size,
                         "the query has \"%s\" more than once: which of them counts "
                         "is not defined",
                         names[k]);
                return false;
            }
            found = &q->params[i];
        }
        if (found &&
            !window_take(out, found->name, found->value, now_ms, limit_max, detail, size)) {
            return false;
        }
    }
    return true;
}
