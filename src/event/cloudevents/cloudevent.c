#include "event/cloudevents/cloudevent.h"

#include "base/utf8.h"

#include <string.h>

const char *const cloudevent_names[CLOUDEVENT_ATTRIBUTES] = {
    "id", "source", "specversion", "type", "subject", "time", "datacontenttype", "dataschema"};

bool cloudevent_name_ok(struct slice name)
{
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        if ((c < 'a' || c > 'z') && (c < '0' || c > '9')) {
            return false;
        }
    }
    return name.n > 0;
}

/* Digits stand where the pattern has 9. */
static bool cloudevent_take_digits(struct slice *rest, const char *pattern)
{
    size_t n = strlen(pattern);
    if (rest->n < n) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        char c = rest->p[i];
        bool fits = pattern[i] == '9'   ? c >= '0' && c <= '9'
                    : pattern[i] == 'T' ? c == 'T' || c == 't'
                                        : c == pattern[i];
        if (!fits) {
            return false;
        }
    }
    *rest = slice_of(rest->p + n, rest->n - n);
    return true;
}

/* RFC 3339, but for how many days a month has. */
static bool cloudevent_time_ok(struct slice text)
{
    if (!cloudevent_take_digits(&text, "9999-99-99T99:99:99")) {
        return false;
    }
    if (text.n && *text.p == '.') {
        text = slice_of(text.p + 1, text.n - 1);
        if (!cloudevent_take_digits(&text, "9")) {
            return false;
        }
        while (cloudevent_take_digits(&text, "9")) {
        }
    }
    return slice_is(text, "Z") || slice_is(text, "z") ||
           ((cloudevent_take_digits(&text, "+99:99") || cloudevent_take_digits(&text, "-99:99")) &&
            text.n == 0);
}

bool cloudevent_value_ok(enum cloudevent_attribute which, struct slice value)
{
    if (value.n == 0) {
        return false;
    }
    switch (which) {
    case CLOUDEVENT_SPECVERSION:
        return slice_is(value, CLOUDEVENT_VERSION);
    case CLOUDEVENT_SOURCE:
    case CLOUDEVENT_SCHEMA:
        return !memchr(value.p, ' ', value.n);
    case CLOUDEVENT_TIME:
        return cloudevent_time_ok(value);
    case CLOUDEVENT_CONTENT_TYPE:
        return memchr(value.p, '/', value.n) != NULL;
    case CLOUDEVENT_ID:
    case CLOUDEVENT_TYPE:
    case CLOUDEVENT_SUBJECT:
    case CLOUDEVENT_ATTRIBUTES:
        break;
    }
    return true;
}

const char *cloudevent_expected(enum cloudevent_attribute which)
{
    static const char *const texts[CLOUDEVENT_ATTRIBUTES] = {
        [CLOUDEVENT_ID] = "a text that no other event of its source has",
        [CLOUDEVENT_SOURCE] = "a URI without spaces, such as \"/sensors/7\"",
        [CLOUDEVENT_SPECVERSION] = "\"" CLOUDEVENT_VERSION "\"",
        [CLOUDEVENT_TYPE] = "a text such as \"com.example.order.paid\"",
        [CLOUDEVENT_SUBJECT] = "a text that is not empty",
        [CLOUDEVENT_TIME] = "a time of RFC 3339, such as \"2026-11-30T12:00:00Z\"",
        [CLOUDEVENT_CONTENT_TYPE] = "a media type, such as \"application/json\"",
        [CLOUDEVENT_SCHEMA] = "a URI without spaces",
    };
    return texts[which];
}

bool cloudevent_is_json(struct slice content_type)
{
    static const char plain[] = "/json", suffix[] = "+json";
    const size_t tail = sizeof plain - 1;
    const char *semicolon = content_type.n ? memchr(content_type.p, ';', content_type.n) : NULL;
    size_t n = semicolon ? (size_t)(semicolon - content_type.p) : content_type.n;
    while (n && (content_type.p[n - 1] == ' ' || content_type.p[n - 1] == '\t')) {
        n--;
    }
    struct slice end =
        n > tail ? slice_of(content_type.p + n - tail, tail) : slice_of(content_type.p, 0);
    return !content_type.p || slice_is_nocase(end, plain) || slice_is_nocase(end, suffix);
}

bool cloudevent_is_text(struct slice data)
{
    return data.n == 0 || (utf8_ok(data) && !memchr(data.p, '\0', data.n));
}
