#include "event/publish/publish_body.h"

#include "base/text/json_text.h"
#include "base/utf8.h"
#include "event/event_attrs.h"
#include "event/expiry.h"
#include "event/publish/publish_body_state.h"
#include "event/topic_segment.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <uv.h>

static const char attr_prefix[] = "attr.";

/* One line for each format of a body that is not the data itself; CloudEvents last. */
static const struct body_format {
    const char *media_type;
    int (*read)(struct publish_body_reader *r, struct slice body, bool *is_batch);
} formats[] = {
    {"application/json", publish_body_read_json},
    {"application/x-ndjson", publish_body_read_ndjson},
    {"application/cloudevents+json", publish_body_read_cloudevent},
    {"application/cloudevents-batch+json", publish_body_read_cloudevents},
};
enum { FIRST_CLOUDEVENTS = 2 };

char publish_body_printable(char c)
{
    if (c < ' ' || c > '~') {
        return '?';
    }
    return c;
}

struct shown publish_body_show(struct slice foreign)
{
    struct shown s;
    size_t room = sizeof s.text - 4, n = 0;
    for (; n < foreign.n && n < room; n++) {
        s.text[n] = publish_body_printable(foreign.p[n]);
    }
    memcpy(s.text + n, n < foreign.n ? "..." : "", n < foreign.n ? 4 : 1);
    return s;
}

int publish_body_refuse(struct publish_body_reader *r, int status, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    err_set(r->e, UV_EINVAL, "%s%s%s", r->where, r->where[0] ? ": " : "", text);
    return status;
}

int publish_body_no_memory(struct publish_body_reader *r)
{
    err_set(r->e, UV_ENOMEM, "the broker is short of memory; try again");
    return 503;
}

int publish_body_set_expiry(struct publish_body_reader *r, struct slice expires, struct slice ttl,
                            struct event_fields *f)
{
    char detail[256];
    return expiry_parse(expires, ttl, r->time_ms, &f->expires_ms, detail, sizeof detail)
               ? 0
               : publish_body_refuse(r, 400, "%s", detail);
}

int publish_body_add(struct publish_body_reader *r, const struct event_fields *f)
{
    if (r->out->n >= r->limits->batch_events) {
        return publish_body_refuse(r, 413, "one request may hold %zu events at most",
                                   r->limits->batch_events);
    }
    if (f->data.n > r->limits->event_bytes) {
        return publish_body_refuse(r, 413, "data: is %zu bytes long; an event may hold %zu",
                                   f->data.n, r->limits->event_bytes);
    }
    const char *bad = event_check(f, r->limits->event_bytes);
    if (bad) {
        return publish_body_refuse(r, 400, "%s", bad);
    }
    struct event *ev = event_new(f);
    if (!ev) {
        return publish_body_no_memory(r);
    }
    event_list_push(r->out, ev);
    return 0;
}

int publish_body_query_once(struct publish_body_reader *r, const char *name, struct slice *out)
{
    const struct http_query *q = r->query;
    *out = (struct slice){NULL, 0};
    for (size_t i = 0; i < q->count; i++) {
        if (!slice_is(q->params[i].name, name)) {
            continue;
        }
        if (out->p) {
            return publish_body_refuse(r, 400, "%s: is in the query more than once", name);
        }
        *out = q->params[i].value;
    }
    return 0;
}

/* The same, but for a name that the policy reads. */
static int publish_body_query_own(struct publish_body_reader *r, const char *name,
                                  struct slice *out)
{
    for (size_t i = 0; i < r->their_count; i++) {
        if (strcmp(r->theirs[i], name) == 0) {
            return 0;
        }
    }
    return publish_body_query_once(r, name, out);
}

static int publish_body_query_expiry(struct publish_body_reader *r, struct event_fields *f)
{
    struct slice expires = {NULL, 0}, ttl = {NULL, 0};
    int status = publish_body_query_own(r, "expires", &expires);
    status = status ? status : publish_body_query_own(r, "ttl", &ttl);
    return status || !(expires.p || ttl.p) ? status : publish_body_set_expiry(r, expires, ttl, f);
}

static int collect_attrs(struct publish_body_reader *r, const struct http_query *q, json_t *attrs)
{
    const size_t prefix = sizeof attr_prefix - 1;
    for (size_t i = 0; i < q->count; i++) {
        struct slice name = q->params[i].name, value = q->params[i].value;
        if (name.n < prefix || memcmp(name.p, attr_prefix, prefix) != 0) {
            continue;
        }
        name = slice_of(name.p + prefix, name.n - prefix);
        if (json_object_getn(attrs, name.p, name.n)) {
            return publish_body_refuse(r, 400, "attr.%s: is in the query more than once",
                                       publish_body_show(name).text);
        }
        json_t *text = json_stringn(value.n ? value.p : "", value.n);
        if (json_object_setn_new(attrs, name.p, name.n, text)) {
            return publish_body_no_memory(r);
        }
    }
    return 0;
}

static int query_attrs(struct publish_body_reader *r, const struct http_query *q, struct slice *out)
{
    json_t *attrs = json_object();
    if (!attrs) {
        return publish_body_no_memory(r);
    }
    int status = collect_attrs(r, q, attrs);
    if (!status && json_object_size(attrs)) {
        const char *bad = event_attrs_canonical(attrs, &r->attrs);
        status = bad ? publish_body_refuse(r, 400, "%s", bad) : 0;
        *out = strbuf_slice(&r->attrs);
    }
    json_decref(attrs);
    return status;
}

int publish_body_fill_topic(struct publish_body_reader *r, struct strbuf *topic,
                            const struct http_param *more, size_t n)
{
    enum { VALUES_MAX = 32 }; /* a path has fewer names */
    const struct public_routes one = {r->route, 1};
    struct http_param values[VALUES_MAX + PUBLISH_BODY_MORE_MAX];
    struct http_query params, all = {.params = values};
    int rc = 0;
    const struct public_route *found = public_route_find(&one, r->rq->path, &params, &rc);
    for (size_t i = 0; i < params.count && all.count < VALUES_MAX; i++) {
        values[all.count++] = params.params[i];
    }
    for (size_t i = 0; i < n && i < PUBLISH_BODY_MORE_MAX; i++) {
        values[all.count++] = more[i];
    }
    rc = found ? rc : UV_ENOENT;
    rc = rc ? rc : topic_fill(topic, r->route->topic, &all);
    http_query_clear(&params);
    return rc == 0            ? 0
           : rc == UV_ENOBUFS ? publish_body_refuse(r, 400, "topic: is longer than 255 bytes")
           : rc == UV_ENOMEM
               ? publish_body_no_memory(r)
               : publish_body_refuse(r, 400, "topic: cannot be made of the path of this request");
}

/* The fields come from the query and the head, whatever the content type says. */
static int publish_body_add_data(struct publish_body_reader *r, struct slice topic,
                                 struct slice data)
{
    struct event_fields f = {.topic = topic, .data = data, .time_ms = r->time_ms};
    int status = publish_body_query_once(r, "type", &f.type);
    status = status ? status : publish_body_query_once(r, "key", &f.key);
    status = status ? status : query_attrs(r, r->query, &f.attrs);
    status = status ? status : publish_body_query_expiry(r, &f);
    if (status) {
        return status;
    }
    struct slice header = http_request_header(r->rq, "Idempotency-Key");
    f.key = header.p ? header : f.key;
    return publish_body_add(r, &f);
}

/* ?topic=...: the body is the data, byte for byte. */
static int read_raw(struct publish_body_reader *r)
{
    struct slice topic;
    int status = publish_body_query_once(r, "topic", &topic);
    return status ? status : publish_body_add_data(r, topic, strbuf_slice(&r->rq->body));
}

/* The route says the topic; the body is the data, or a form that becomes the data. */
static int publish_body_read_route(struct publish_body_reader *r)
{
    struct strbuf topic, data;
    strbuf_init(&topic, EVENT_TOPIC_MAX_BYTES);
    strbuf_init(&data, r->limits->event_bytes);
    bool form = r->route->publish == PUBLISH_FORM;
    int status = publish_body_fill_topic(r, &topic, NULL, 0);
    status = status || !form ? status : publish_body_read_form(r, &data);
    status = status ? status
                    : publish_body_add_data(r, strbuf_slice(&topic),
                                            strbuf_slice(form ? &data : &r->rq->body));
    strbuf_clear(&topic);
    strbuf_clear(&data);
    return status;
}

/* The media type of a Content-Type field, without its parameters (RFC 9110, 8.3). */
static struct slice media_type(struct slice value)
{
    const char *semicolon = value.n ? memchr(value.p, ';', value.n) : NULL;
    value.n = semicolon ? (size_t)(semicolon - value.p) : value.n;
    while (value.n && (value.p[value.n - 1] == ' ' || value.p[value.n - 1] == '\t')) {
        value.n--;
    }
    return value;
}

/* NULL: it is none of them. */
static const struct body_format *publish_body_format(const struct http_request *rq, size_t from)
{
    struct slice type = media_type(http_request_header(rq, "Content-Type"));
    for (size_t i = from; i < sizeof formats / sizeof *formats; i++) {
        if (slice_is_nocase(type, formats[i].media_type)) {
            return &formats[i];
        }
    }
    return NULL;
}

static int publish_body_refuse_type(struct publish_body_reader *r, const char *expected)
{
    struct slice type = http_request_header(r->rq, "Content-Type");
    return publish_body_refuse(
        r, 415, "Content-Type: %s%s%s; expected %s", type.n ? "is \"" : "is missing",
        type.n ? publish_body_show(type).text : "", type.n ? "\"" : "", expected);
}

/* Nothing is decompressed here: a small body would become a large one. */
static int check_codings(struct publish_body_reader *r)
{
    for (size_t i = 0; i < r->rq->header_count; i++) {
        struct slice value = r->rq->headers[i].value;
        if (slice_is_nocase(r->rq->headers[i].name, "Content-Encoding") && value.n &&
            !slice_is_nocase(value, "identity")) {
            return publish_body_refuse(r, 415,
                                       "Content-Encoding: is \"%s\"; bodies are taken as they are: "
                                       "send this one without compression, and without the field",
                                       publish_body_show(value).text);
        }
    }
    return 0;
}

/* A form of a browser, or of `curl -F`: the data would hold its boundaries. */
static int check_raw_type(struct publish_body_reader *r)
{
    static const char multipart[] = "multipart/";
    struct slice type = http_request_header(r->rq, "Content-Type");
    bool is = type.n >= sizeof multipart - 1 &&
              slice_is_nocase(slice_of(type.p, sizeof multipart - 1), multipart);
    return is ? publish_body_refuse(
                    r, 415,
                    "Content-Type: is \"%s\"; with ?topic=NAME the body is the data "
                    "itself: send it without the form around it (curl: "
                    "--data-binary @FILE)",
                    publish_body_show(type).text)
              : 0;
}

/* What the body of a request is. */
enum body_kind {
    BODY_RAW,       /* the data itself */
    BODY_FORM,      /* a form that becomes the data */
    BODY_BINARY,    /* the data of a CloudEvent, whose attributes are in the head */
    BODY_FORMATTED, /* as Content-Type says */
};

static enum body_kind publish_body_kind(const struct publish_body_reader *r)
{
    enum publish_shape shape = r->route ? r->route->publish : PUBLISH_ENVELOPE;
    if (shape == PUBLISH_RAW || shape == PUBLISH_FORM) {
        return shape == PUBLISH_RAW ? BODY_RAW : BODY_FORM;
    }
    bool structured = publish_body_format(r->rq, FIRST_CLOUDEVENTS) != NULL;
    bool topic = shape == PUBLISH_ENVELOPE && http_query_get(r->query, "topic").p;
    return structured                      ? BODY_FORMATTED
           : publish_body_is_binary(r->rq) ? BODY_BINARY
           : topic                         ? BODY_RAW
                                           : BODY_FORMATTED;
}

static int publish_body_check_type(struct publish_body_reader *r, enum body_kind kind)
{
    bool cloudevents = r->route && r->route->publish == PUBLISH_CLOUDEVENTS;
    switch (kind) {
    case BODY_RAW:
        return check_raw_type(r);
    case BODY_FORM:
        return slice_is_nocase(media_type(http_request_header(r->rq, "Content-Type")),
                               "application/x-www-form-urlencoded")
                   ? 0
                   : publish_body_refuse_type(r, "application/x-www-form-urlencoded");
    case BODY_BINARY:
        return 0;
    case BODY_FORMATTED:
        break;
    }
    if (publish_body_format(r->rq, cloudevents ? FIRST_CLOUDEVENTS : 0)) {
        return 0;
    }
    return publish_body_refuse_type(
        r, cloudevents ? "a CloudEvent: application/cloudevents+json, "
                         "application/cloudevents-batch+json, or fields such as ce-id"
           : publish_body_claims_cloudevents(r->rq)
               ? "application/cloudevents+json or application/cloudevents-batch+json"
               : "application/json or application/x-ndjson, or ?topic=NAME in the query "
                 "where the body is the data itself");
}

static int check_fields(struct publish_body_reader *r, enum body_kind kind)
{
    int status = check_codings(r);
    if (status == 0 && r->route && r->route->topic && http_query_get(r->query, "topic").p) {
        return publish_body_refuse(r, 400, "topic: is in the query, but the path says the topic");
    }
    return status ? status : publish_body_check_type(r, kind);
}

static int publish_body_read_formatted(struct publish_body_reader *r, bool *is_batch)
{
    struct slice body = strbuf_slice(&r->rq->body);
    const struct body_format *format = publish_body_format(r->rq, 0); /* it has been checked */
    json_text_skip(&body);
    if (body.n == 0) {
        return publish_body_refuse(r, 400, "body: is empty; expected %s",
                                   format < &formats[FIRST_CLOUDEVENTS]
                                       ? "an envelope such as "
                                         "{\"topic\":\"orders/42\",\"data\":\"hello\"}"
                                       : "a CloudEvent, or an array of them");
    }
    return format->read(r, strbuf_slice(&r->rq->body), is_batch);
}

static int publish_body_read(struct publish_body_reader *r, enum body_kind kind, bool *is_batch)
{
    switch (kind) {
    case BODY_RAW:
        return r->route && r->route->topic ? publish_body_read_route(r) : read_raw(r);
    case BODY_FORM:
        return publish_body_read_route(r);
    case BODY_BINARY:
        return publish_body_read_binary(r, strbuf_slice(&r->rq->body));
    case BODY_FORMATTED:
        break;
    }
    return publish_body_read_formatted(r, is_batch);
}

int publish_body_check_head(const struct http_request *rq, const struct publish_terms *terms,
                            struct err *e)
{
    struct publish_body_reader r = {
        .rq = rq, .query = terms->query, .route = terms->route, .limits = terms->limits, .e = e};
    size_t most = terms->limits->event_bytes;
    uint64_t length = rq->chunked ? 0 : rq->body_bytes + rq->body_left;
    enum body_kind kind = publish_body_kind(&r);
    int status = check_fields(&r, kind);
    if (status || (kind != BODY_RAW && kind != BODY_BINARY)) {
        return status;
    }
    return length > most
               ? publish_body_refuse(&r, 413,
                                     "data: is %" PRIu64 " bytes long; an event may hold %zu",
                                     length, most)
               : 0;
}

int publish_body_parse(const struct http_request *rq, const struct publish_terms *terms,
                       int64_t time_ms, struct event_list *out, bool *is_batch, struct err *e)
{
    struct publish_body_reader r = {.rq = rq,
                                    .query = terms->query,
                                    .route = terms->route,
                                    .limits = terms->limits,
                                    .theirs = terms->theirs,
                                    .their_count = terms->their_count,
                                    .time_ms = time_ms,
                                    .out = out,
                                    .e = e};
    struct slice body = strbuf_slice(&rq->body);
    size_t valid = utf8_prefix(body);
    strbuf_init(&r.attrs, EVENT_ATTRS_MAX_BYTES);
    strbuf_init(&r.scratch, 2 * body.n); /* a text, and what is decoded of it */
    *is_batch = false;
    enum body_kind kind = publish_body_kind(&r);
    int status = check_fields(&r, kind);
    if (status == 0 && valid < body.n && kind != BODY_BINARY) {
        status = publish_body_refuse(&r, 400,
                                     "body: is not valid UTF-8 (byte %zu); encode binary data, for "
                                     "instance as Base64",
                                     valid);
    }
    status = status ? status : publish_body_read(&r, kind, is_batch);
    if (status) {
        event_list_clear(out);
    }
    strbuf_clear(&r.attrs);
    strbuf_clear(&r.scratch);
    return status;
}
