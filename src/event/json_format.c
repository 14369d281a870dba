#include "event/json_format.h"

#include "base/text/json_text.h"

#include <inttypes.h>

static int json_format_put_text(struct strbuf *out, const char *name, struct slice text)
{
    int rc = strbuf_printf(out, ",\"%s\":", name);
    return rc ? rc : json_text_quote(out, text);
}

static int json_format_put_ms(struct strbuf *out, const char *name, int64_t ms)
{
    uint64_t u = ms < 0 ? 0 - (uint64_t)ms : (uint64_t)ms;
    return strbuf_printf(out, ",\"%s\":%s%" PRIu64 ".%03u", name, ms < 0 ? "-" : "", u / 1000,
                         (unsigned)(u % 1000));
}

static int json_format_put_data(struct strbuf *out, struct slice data)
{
    int rc = strbuf_append_str(out, ",\"data\":");
    if (rc) {
        return rc;
    }
    return json_text_ok(data) ? strbuf_append(out, data.p, data.n) : json_text_quote(out, data);
}

/* Up to the data, the object still open. */
static int json_format_begin(const struct event *ev, struct slice type, struct slice data,
                             struct strbuf *out)
{
    int rc = strbuf_printf(out, "{\"id\":\"%" PRIu64 "\"", ev->id);
    if (rc == 0) {
        rc = json_format_put_text(out, "topic", event_topic(ev));
    }
    if (rc == 0) {
        rc = json_format_put_text(out, "type", type);
    }
    if (rc == 0) {
        rc = json_format_put_ms(out, "time", ev->time_ms);
    }
    if (rc == 0 && ev->expires_ms) {
        rc = json_format_put_ms(out, "expires", ev->expires_ms);
    }
    return rc ? rc : json_format_put_data(out, data);
}

int json_format(const struct event *ev, struct strbuf *out)
{
    struct slice attrs = event_attrs(ev);
    int rc = json_format_begin(ev, event_type(ev), event_data(ev), out);
    if (rc == 0) {
        rc = strbuf_append_str(out, ",\"attrs\":");
    }
    if (rc == 0) {
        rc = attrs.n ? strbuf_append(out, attrs.p, attrs.n) : strbuf_append_str(out, "{}");
    }
    return rc ? rc : strbuf_append(out, "}", 1);
}

int json_envelope(const struct event *ev, struct slice type, struct slice data, struct strbuf *out)
{
    int rc = json_format_begin(ev, type, data, out);
    return rc ? rc : strbuf_append(out, "}", 1);
}
