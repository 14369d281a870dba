/* The gate every event passes, whether it came in a request or was written into the store by
 * another program: what lies behind it may rely on these rules. */
#include "base/utf8.h"
#include "event/event.h"
#include "event/topic.h"

/* Type and key travel in lines: a line end in one would be a new field on the wire. */
static bool one_line(struct slice s)
{
    return s.n == 0 ||
           (!memchr(s.p, '\r', s.n) && !memchr(s.p, '\n', s.n) && !memchr(s.p, '\0', s.n));
}

static const char *check_type(struct slice type)
{
    if (type.n > EVENT_TYPE_MAX_BYTES) {
        return "type: is longer than 255 bytes";
    }
    if (!one_line(type)) {
        return "type: holds CR, LF or NUL; it is sent on one line";
    }
    return utf8_ok(type) ? NULL : "type: is not valid UTF-8";
}

static const char *event_check_key(struct slice key)
{
    if (!key.p) {
        return NULL;
    }
    if (key.n == 0) {
        return "key: is empty; leave it out, or give each event its own";
    }
    if (key.n > EVENT_KEY_MAX_BYTES) {
        return "key: is longer than 255 bytes";
    }
    if (!one_line(key)) {
        return "key: holds CR, LF or NUL";
    }
    return utf8_ok(key) ? NULL : "key: is not valid UTF-8";
}

/* Only what the memory layout and its readers rely on; event_attrs_canonical() makes the canonical text.
 */
static const char *check_attrs(struct slice attrs)
{
    if (!attrs.p) {
        return NULL;
    }
    if (attrs.n > EVENT_ATTRS_MAX_BYTES) {
        return "attrs: are longer than 4096 bytes of JSON";
    }
    if (attrs.n < 2 || attrs.p[0] != '{' || attrs.p[attrs.n - 1] != '}' || !one_line(attrs)) {
        return "attrs: expected a compact JSON object";
    }
    return utf8_ok(attrs) ? NULL : "attrs: are not valid UTF-8";
}

/* Milliseconds of 13 digits, as stores keep them. */
static const char *event_check_expires(int64_t ms)
{
    bool good = ms == 0 || (ms >= INT64_C(1000000000000) && ms <= INT64_C(9999999999999));
    return good ? NULL : "expires: expected a time between 2001 and 2286";
}

static const char *check_data(struct slice data, size_t max_data)
{
    if (!data.p) {
        return "data: is missing";
    }
    if (data.n > max_data) {
        return "data: is longer than an event may be";
    }
    /* A stream may carry NUL, but clients replace it or stop reading there, and so does SQL text:
     * what one reader gets, another would not. */
    if (data.n && memchr(data.p, '\0', data.n)) {
        return "data: holds a NUL character, which clients do not receive alike; encode binary "
               "data, for instance as Base64";
    }
    return utf8_ok(data) ? NULL : "data: is not valid UTF-8";
}

const char *event_check(const struct event_fields *f, size_t max_data)
{
    const char *bad = topic_field_check(f->topic);
    bad = bad ? bad : check_type(f->type);
    bad = bad ? bad : event_check_key(f->key);
    bad = bad ? bad : check_attrs(f->attrs);
    bad = bad ? bad : event_check_expires(f->expires_ms);
    return bad ? bad : check_data(f->data, max_data < UINT32_MAX ? max_data : UINT32_MAX);
}
