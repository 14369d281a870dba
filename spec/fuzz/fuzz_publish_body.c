/* Publish bodies. Whatever is accepted passes event_check() and the limits; whatever is refused has
 * a status, a text that may be shown, and leaves nothing behind; and any event can be written as a CloudEvent, which is
 * read again as it was. Input: a byte of choices, the query up to 0xff, the body. */
#include "base/text/json_text.h"
#include "event/cloudevents/cloudevent.h"
#include "event/event_attrs.h"
#include "event/publish/publish_body.h"
#include "event/topic.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static const struct publish_limits limits = {.event_bytes = 300, .batch_events = 5};
static const struct publish_limits wide = {.event_bytes = 3000, .batch_events = 5};

enum { MOST_BYTES = 20000 };

static void require(bool ok)
{
    if (!ok) {
        abort();
    }
}

/* Attributes, data and key survive the way out and in. */
static void check_cloudevent(const struct event *ev)
{
    struct http_header type = {slice_str("Content-Type"),
                               slice_str("application/cloudevents+json")};
    struct http_request rq = {.headers = &type, .header_count = 1};
    struct http_param topic = {slice_str("topic"), event_topic(ev)};
    struct http_query q = {.params = &topic, .count = 1};
    const struct publish_terms terms = {.query = &q, .limits = &wide};
    struct event_list out = {0};
    struct err e = {0};
    bool batch;
    struct strbuf once, twice;
    strbuf_init(&once, MOST_BYTES);
    strbuf_init(&twice, MOST_BYTES);
    require(cloudevent_format(ev, slice_str("fuzz"), &once) == 0);
    require(json_text_ok(strbuf_slice(&once)));
    rq.body = once;
    if (publish_body_parse(&rq, &terms, ev->time_ms, &out, &batch, &e) == 0) {
        require(cloudevent_format(out.v[0], slice_str("other"), &twice) == 0);
        char a[MOST_BYTES], b[MOST_BYTES]; /* without white space, as data in JSON is stored */
        size_t n = json_text_compact(a, strbuf_slice(&once));
        require(n == json_text_compact(b, strbuf_slice(&twice)) && memcmp(a, b, n) == 0);
    }
    event_list_clear(&out);
    strbuf_clear(&once);
    strbuf_clear(&twice);
}

static void check_event(const struct event *ev)
{
    struct event_fields f = {
        .topic = event_topic(ev),
        .type = event_type(ev),
        .data = event_data(ev),
        .key = event_key(ev),
        .attrs = event_attrs(ev),
        .expires_ms = ev->expires_ms,
    };
    require(!event_check(&f, limits.event_bytes) && ev->id == 0 && ev->time_ms == 77);
    if (f.attrs.p) { /* canonical: making it again changes nothing */
        struct strbuf again;
        json_t *attrs =
            json_loadb(f.attrs.p, f.attrs.n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
        strbuf_init(&again, EVENT_ATTRS_MAX_BYTES);
        require(attrs && !event_attrs_canonical(attrs, &again));
        require(slice_eq(strbuf_slice(&again), f.attrs));
        strbuf_clear(&again);
        json_decref(attrs);
    }
}

static void check_result(int status, const struct event_list *out, bool is_batch,
                         const struct err *e)
{
    if (status == 0) {
        require(out->n > 0 && out->n <= limits.batch_events && (is_batch || out->n == 1));
        for (size_t i = 0; i < out->n; i++) {
            check_event(out->v[i]);
            check_cloudevent(out->v[i]);
        }
        return;
    }
    require(status == 400 || status == 413 || status == 415);
    require(out->n == 0 && e->code < 0 && e->text[0]);
    for (const char *p = e->text; *p; p++) {
        require(*p >= ' ' && *p <= '~');
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const types[] = {"application/json",
                                        "application/x-ndjson; a=b",
                                        "text/plain",
                                        NULL,
                                        "application/cloudevents+json",
                                        "application/cloudevents-batch+json",
                                        "application/json",
                                        NULL};
    if (size == 0) {
        return 0;
    }
    struct slice rest = slice_of((const char *)data + 1, size - 1), query = {"", 0};
    const char *end = data[0] & 8 && rest.n ? memchr(rest.p, 0xff, rest.n) : NULL;
    if (end) {
        query = slice_of(rest.p, (size_t)(end - rest.p));
        rest = slice_of(end + 1, rest.n - query.n - 1);
    }
    struct http_header headers[] = {
        {slice_str("Content-Type"), slice_str(types[(data[0] & 3) | (data[0] & 32) >> 3])},
        {slice_str("ce-id"), slice_of(rest.p, rest.n < 9 ? rest.n : 9)},
        {slice_str("ce-source"), slice_str("/s")},
        {slice_str("CE-specversion"), slice_str("1.0")},
        {slice_str("ce-type"), slice_str("t")},
        {slice_str("ce-subject"), slice_str("a/b")},
        {slice_str("Idempotency-Key"), slice_of(rest.p, rest.n < 5 ? rest.n : 5)},
    };
    const size_t all = sizeof headers / sizeof *headers;
    bool binary = (data[0] & 34) == 34; /* the last two types */
    static const struct public_route routes[] = {
        {.path = "/pub/{x}", .topic = "chan/{x}", .publish = PUBLISH_RAW},
        {.path = "/pub/{x}", .topic = "chan/{x}", .publish = PUBLISH_FORM},
        {.path = "/pub/{x}", .topic = "{x}/{source}/{type}", .publish = PUBLISH_CLOUDEVENTS},
        {.path = "/pub/{x}", .publish = PUBLISH_CLOUDEVENTS},
    };
    struct http_request rq = {.headers = headers, .header_count = binary ? all - 1 : 1};
    if (data[0] & 4) {
        headers[rq.header_count++] = headers[all - 1];
    }
    struct http_query q;
    if (http_query_parse(&q, query)) {
        return 0;
    }
    struct event_list out = {0};
    struct err e = {0};
    bool is_batch = false;
    strbuf_init(&rq.body, rest.n);
    require(strbuf_append(&rq.body, rest.p, rest.n) == 0);
    const struct publish_terms terms = {
        .query = &q,
        .route = data[0] & 8 ? &routes[(data[0] >> 4 & 1) | (data[0] >> 5 & 2)] : NULL,
        .limits = &limits,
    };
    rq.path = slice_str("/pub/a%2Fb");
    int status = publish_body_parse(&rq, &terms, 77, &out, &is_batch, &e);
    check_result(status, &out, is_batch, &e);
    event_list_clear(&out);
    strbuf_clear(&rq.body);
    http_query_clear(&q);
    return 0;
}
