/* An event -> a CloudEvent in JSON. attrs are canonical JSON, so they are read without a tree. */
#include "base/text/base64.h"
#include "base/text/json_text.h"
#include "event/cloudevents/cloudevent.h"
#include "event/event.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CLOUDEVENT_TYPE_SHOWN_MAX = 128 }; /* a longer content type is no JSON */

/* What attrs say, as JSON; absent: they do not. */
struct cloudevent_view {
    struct slice text[CLOUDEVENT_ATTRIBUTES];
    bool own;    /* it is a CloudEvent already */
    bool base64; /* its data is Base64 */
};

static bool cloudevent_next(struct slice *rest, struct slice *name, struct slice *value)
{
    bool there =
        json_text_value(rest, name) && json_text_take(rest, ':') && json_text_value(rest, value);
    (void)json_text_take(rest, ','); /* or it was the last one */
    return there;
}

static int cloudevent_find(struct slice name)
{
    for (int i = 0; i < CLOUDEVENT_ATTRIBUTES; i++) {
        if (json_text_string_is(name, slice_str(cloudevent_names[i]))) {
            return i;
        }
    }
    return -1;
}

static void cloudevent_look(const struct event *ev, struct cloudevent_view *view)
{
    struct slice rest = event_attrs(ev), name, value;
    *view = (struct cloudevent_view){.own = false};
    if (!rest.n || !json_text_take(&rest, '{')) {
        return;
    }
    while (cloudevent_next(&rest, &name, &value)) {
        int which = cloudevent_find(name);
        if (which >= 0 && *value.p == '"' && value.n > 2) {
            view->text[which] = value;
        } else if (json_text_string_is(name, slice_str(CLOUDEVENT_BASE64))) {
            view->base64 = slice_is(value, "true");
        }
    }
    view->own = view->text[CLOUDEVENT_ID].p && view->text[CLOUDEVENT_SOURCE].p &&
                slice_is(view->text[CLOUDEVENT_SPECVERSION], "\"" CLOUDEVENT_VERSION "\"");
}

/* ,"name": */
static int cloudevent_put_name(struct strbuf *out, const char *name)
{
    int rc = strbuf_append_str(out, ",\"");
    rc = rc ? rc : strbuf_append_str(out, name);
    return rc ? rc : strbuf_append_str(out, "\":");
}

/* `text` is JSON. */
static int cloudevent_put(struct strbuf *out, const char *name, struct slice text)
{
    int rc = cloudevent_put_name(out, name);
    return rc ? rc : strbuf_append(out, text.p, text.n);
}

static int cloudevent_quote(struct strbuf *out, const char *name, struct slice text)
{
    int rc = cloudevent_put_name(out, name);
    return rc ? rc : json_text_quote(out, text);
}

static int cloudevent_put_time(struct strbuf *out, int64_t ms)
{
    char text[64];
    struct tm tm;
    time_t s = (time_t)(ms / 1000);
    if (ms < 0 || !gmtime_r(&s, &tm) || tm.tm_year > 9999 - 1900) {
        return 0; /* none, which is allowed: RFC 3339 has no such year */
    }
    size_t n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    int rc = cloudevent_put_name(out, "time");
    return rc ? rc : strbuf_printf(out, "\"%.*s.%03dZ\"", (int)n, text, (int)(ms % 1000));
}

/* Numbers of CloudEvents are integers of 32 bits; others go as texts. */
static bool cloudevent_is_number(struct slice value)
{
    char text[16];
    if (value.n >= sizeof text || *value.p == 't' || *value.p == 'f') {
        return *value.p == 't' || *value.p == 'f';
    }
    memcpy(text, value.p, value.n);
    text[value.n] = '\0';
    char *end = NULL;
    long long n = strtoll(text, &end, 10);
    return *end == '\0' && n >= INT32_MIN && n <= INT32_MAX;
}

static int cloudevent_put_extension(struct strbuf *out, struct slice name, struct slice value)
{
    bool bare = *value.p == '"' || cloudevent_is_number(value);
    int rc = strbuf_append_str(out, ",");
    rc = rc ? rc : strbuf_append(out, name.p, name.n);
    rc = rc ? rc : strbuf_append_str(out, bare ? ":" : ":\"");
    rc = rc ? rc : strbuf_append(out, value.p, value.n);
    return rc || bare ? rc : strbuf_append_str(out, "\"");
}

/* "data" is no attribute either. */
static bool cloudevent_may_extend(struct slice name)
{
    struct slice inner = slice_of(name.p + 1, name.n - 2);
    return cloudevent_name_ok(inner) && !slice_is(inner, "data") && cloudevent_find(name) < 0;
}

static int cloudevent_put_extensions(struct strbuf *out, const struct event *ev)
{
    struct slice rest = event_attrs(ev), name, value;
    int rc = 0;
    if (!rest.n || !json_text_take(&rest, '{')) {
        return 0;
    }
    while (rc == 0 && cloudevent_next(&rest, &name, &value)) {
        if (cloudevent_may_extend(name)) {
            rc = cloudevent_put_extension(out, name, value);
        }
    }
    return rc;
}

static bool cloudevent_says_json(const struct cloudevent_view *view)
{
    struct slice type = view->text[CLOUDEVENT_CONTENT_TYPE];
    char text[CLOUDEVENT_TYPE_SHOWN_MAX];
    return !type.p || (type.n <= sizeof text &&
                       cloudevent_is_json(slice_of(text, json_text_string(text, type))));
}

static int cloudevent_put_base64(struct strbuf *out, struct slice data)
{
    int rc = cloudevent_put_name(out, CLOUDEVENT_BASE64);
    rc = rc ? rc : strbuf_append_str(out, "\"");
    rc = rc ? rc : base64_encode(out, data);
    return rc ? rc : strbuf_append_str(out, "\"");
}

static int cloudevent_put_data(struct strbuf *out, const struct cloudevent_view *view,
                               struct slice data)
{
    bool json = !view->own || cloudevent_says_json(view);
    if (data.n == 0) {
        return 0;
    }
    if (view->own && view->base64) {
        return cloudevent_quote(out, CLOUDEVENT_BASE64, data);
    }
    if (json && json_text_ok(data)) {
        return cloudevent_put(out, "data", data);
    }
    return json && view->own ? cloudevent_put_base64(out, data) /* a text would say other JSON */
                             : cloudevent_quote(out, "data", data);
}

/* What is told of an event that is none yet. */
static int cloudevent_put_made(struct strbuf *out, const struct event *ev)
{
    struct slice data = event_data(ev);
    int rc = cloudevent_quote(out, cloudevent_names[CLOUDEVENT_SUBJECT], event_topic(ev));
    rc = rc ? rc : cloudevent_put_time(out, ev->time_ms);
    return rc || data.n == 0 || json_text_ok(data)
               ? rc
               : cloudevent_quote(out, cloudevent_names[CLOUDEVENT_CONTENT_TYPE],
                                  slice_str("text/plain"));
}

static int cloudevent_put_own(struct strbuf *out, const struct cloudevent_view *view)
{
    int rc = 0;
    for (int i = CLOUDEVENT_TYPE + 1; i < CLOUDEVENT_ATTRIBUTES && rc == 0; i++) {
        rc = view->text[i].p ? cloudevent_put(out, cloudevent_names[i], view->text[i]) : 0;
    }
    return rc;
}

int cloudevent_format(const struct event *ev, struct slice source, struct strbuf *out)
{
    struct cloudevent_view view;
    cloudevent_look(ev, &view);
    int rc = strbuf_append_str(out, "{\"specversion\":\"" CLOUDEVENT_VERSION "\"");
    if (view.own) {
        rc = rc ? rc : cloudevent_put(out, "id", view.text[CLOUDEVENT_ID]);
        rc = rc ? rc : cloudevent_put(out, "source", view.text[CLOUDEVENT_SOURCE]);
    } else {
        rc = rc ? rc : strbuf_printf(out, ",\"id\":\"%" PRIu64 "\"", ev->id);
        rc = rc ? rc : cloudevent_quote(out, "source", source);
    }
    rc = rc ? rc : cloudevent_quote(out, "type", event_type(ev));
    rc = rc ? rc : view.own ? cloudevent_put_own(out, &view) : cloudevent_put_made(out, ev);
    rc = rc ? rc : cloudevent_put_extensions(out, ev);
    rc = rc ? rc : cloudevent_put_data(out, &view, event_data(ev));
    return rc ? rc : strbuf_append_str(out, "}");
}
