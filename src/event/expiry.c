#include "event/expiry.h"

#include "event/window.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define EXPIRY_TIME_EXPECTED                                                                       \
    "a Unix time in seconds was expected, or 2026-11-30T12:00:00Z; ttl is for seconds from now"

enum { NUMBER_MAX_BYTES = 40, SHOWN_MAX_BYTES = 64 };

static const double first_ms = 1e11; /* as seconds it is the year 5138 */
static const double first_s = 1e9;   /* 2001: what is smaller was meant as something else */
static const double last_s = 9999999999.0;

static bool expiry_refuse(char *detail, size_t size, const char *name, struct slice value,
                          const char *expected)
{
    char shown[SHOWN_MAX_BYTES + 1];
    size_t n = 0;
    for (; n < value.n && n < SHOWN_MAX_BYTES; n++) {
        shown[n] = value.p[n] < ' ' || value.p[n] > '~' ? '?' : value.p[n];
    }
    shown[n] = '\0';
    snprintf(detail, size, "%s: is \"%s\"; %s", name, shown, expected);
    return false;
}

static bool expiry_refuse_number(char *detail, size_t size, const char *name, double value,
                                 const char *expected)
{
    char text[NUMBER_MAX_BYTES];
    int n = snprintf(text, sizeof text, "%.14g", value);
    return expiry_refuse(detail, size, name, slice_of(text, (size_t)n), expected);
}

/* As JSON writes them, and without a sign: digits, a fraction, an exponent. */
static bool expiry_number(struct slice text, double *out)
{
    char copy[NUMBER_MAX_BYTES + 1], *end = NULL;
    if (text.n == 0 || text.n > NUMBER_MAX_BYTES || *text.p < '0' || *text.p > '9') {
        return false;
    }
    for (size_t i = 0; i < text.n; i++) {
        if (!strchr("0123456789.eE+-", text.p[i]) || text.p[i] == '\0') {
            return false;
        }
    }
    memcpy(copy, text.p, text.n);
    copy[text.n] = '\0';
    *out = strtod(copy, &end);
    return *end == '\0' && isfinite(*out);
}

static bool expiry_bounded(int64_t ms, int64_t now_ms, int64_t *out_ms)
{
    *out_ms = ms;
    return ms - now_ms <= EXPIRY_MAX_S * 1000;
}

/* 0: it is no time. */
static int64_t expiry_ms_of(double value)
{
    double seconds = value >= first_ms ? value / 1000 : value;
    return seconds >= first_s && seconds <= last_s ? (int64_t)(seconds * 1000 + 0.5) : 0;
}

static const char far_ahead[] = "at most ten years from now were expected";

bool expiry_of_time(double seconds, int64_t now_ms, int64_t *out_ms, char *detail, size_t size)
{
    int64_t ms = expiry_ms_of(seconds);
    if (!ms) {
        return expiry_refuse_number(detail, size, "expires", seconds, EXPIRY_TIME_EXPECTED);
    }
    return expiry_bounded(ms, now_ms, out_ms) ||
           expiry_refuse_number(detail, size, "expires", seconds, far_ahead);
}

bool expiry_of_ttl(double seconds, int64_t now_ms, int64_t *out_ms, char *detail, size_t size)
{
    if (!(seconds > 0 && seconds <= (double)EXPIRY_MAX_S)) {
        return expiry_refuse_number(
            detail, size, "ttl", seconds,
            "seconds were expected: more than 0, at most 315619200 (ten years)");
    }
    *out_ms = now_ms + (int64_t)ceil(seconds * 1000);
    return true;
}

bool expiry_parse(struct slice expires, struct slice ttl, int64_t now_ms, int64_t *out_ms,
                  char *detail, size_t size)
{
    double value;
    *out_ms = 0;
    if (expires.p && ttl.p) {
        snprintf(detail, size, "expires, ttl: are both there; give one of them");
        return false;
    }
    if (ttl.p) {
        return expiry_number(ttl, &value)
                   ? expiry_of_ttl(value, now_ms, out_ms, detail, size)
                   : expiry_refuse(detail, size, "ttl", ttl,
                                   "seconds were expected: more than 0, at most 315619200 (ten "
                                   "years)");
    }
    if (!expires.p) {
        return true;
    }
    if (expiry_number(expires, &value)) {
        return expiry_of_time(value, now_ms, out_ms, detail, size);
    }
    bool from_now = expires.n && *expires.p == '-'; /* "-15m" of `since` */
    if (from_now || !window_time(expires, now_ms, out_ms)) {
        return expiry_refuse(detail, size, "expires", expires, EXPIRY_TIME_EXPECTED);
    }
    return expiry_bounded(*out_ms, now_ms, out_ms) ||
           expiry_refuse(detail, size, "expires", expires, far_ahead);
}
