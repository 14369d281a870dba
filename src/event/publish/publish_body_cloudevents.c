/* CloudEvents 1.0.2: structured (one JSON object), batch (an array of those), binary (attributes in the head, the body
 * is the data). cloudevent.h says what becomes of one. The attributes become a tree, which is bounded; data stays as it
 * was written. */
#include "base/digest.h"
#include "base/text/base64.h"
#include "base/text/hex.h"
#include "base/text/json_text.h"
#include "base/text/nearest.h"
#include "base/utf8.h"
#include "event/cloudevents/cloudevent.h"
#include "event/event_attrs.h"
#include "event/publish/publish_body_state.h"
#include "event/topic.h"

#include <jansson.h>
#include <stdio.h>
#include <uv.h>

enum {
    CE_NAME_MAX = 64,
    /* No attributes of more bytes can have a canonical text within the limit: an escape has six bytes. */
    CE_TEXT_MAX = 6 * EVENT_ATTRS_MAX_BYTES,
};
static const char ce_prefix[] = "ce-";

/* One that is being read. */
struct ce_draft {
    const char *prefix;        /* of the names of attributes, for people */
    json_t *attributes;        /* owned */
    json_t *type;              /* a reference */
    size_t bytes;              /* of all attributes, as they were written */
    struct slice data, base64; /* as they were written, JSON; absent: not given */
    struct strbuf topic, payload, text;
};

static int publish_ce_init(struct publish_body_reader *r, struct ce_draft *d, const char *prefix)
{
    *d = (struct ce_draft){.prefix = prefix, .attributes = json_object()};
    strbuf_init(&d->topic, EVENT_TOPIC_MAX_BYTES);
    strbuf_init(&d->payload, r->limits->event_bytes);
    strbuf_init(&d->text, CE_TEXT_MAX);
    return d->attributes ? 0 : publish_body_no_memory(r);
}

static void publish_ce_clear(struct ce_draft *d)
{
    json_decref(d->attributes);
    json_decref(d->type);
    strbuf_clear(&d->topic);
    strbuf_clear(&d->payload);
    strbuf_clear(&d->text);
}

/* ---- attributes */

static int publish_ce_refuse_name(struct publish_body_reader *r, const struct ce_draft *d,
                                  struct slice name)
{
    static const char *const known[] = {"id",   "source",          "specversion", "type", "subject",
                                        "time", "datacontenttype", "dataschema",  "data"};
    const char *nearest = nearest_name(known, sizeof known / sizeof *known, name);
    return publish_body_refuse(r, 400, "%s%s: names have lower-case letters and digits%s%s%s",
                               d->prefix, publish_body_show(name).text,
                               nearest ? "; did you mean \"" : "", nearest ? nearest : "",
                               nearest ? "\"?" : "");
}

static bool publish_ce_has_control(struct slice text)
{
    for (size_t i = 0; i < text.n; i++) {
        if ((unsigned char)text.p[i] < 0x20 || text.p[i] == 0x7f) {
            return true;
        }
    }
    return false;
}

static struct slice publish_ce_text(const json_t *value)
{
    return json_is_string(value) ? slice_of(json_string_value(value), json_string_length(value))
                                 : slice_of(NULL, 0);
}

/* Takes `value`. */
static int publish_ce_set(struct publish_body_reader *r, struct ce_draft *d, struct slice name,
                          json_t *value)
{
    int status = 0;
    if (!value) {
        status = publish_body_no_memory(r);
    } else if (!cloudevent_name_ok(name)) {
        status = publish_ce_refuse_name(r, d, name);
    } else if (json_object_getn(d->attributes, name.p, name.n)) {
        status = publish_body_refuse(r, 400, "%s%s: is there more than once", d->prefix,
                                     publish_body_show(name).text);
    } else if (publish_ce_has_control(publish_ce_text(value))) {
        status = publish_body_refuse(r, 400, "%s%s: holds control characters", d->prefix,
                                     publish_body_show(name).text);
    }
    if (status) {
        json_decref(value);
        return status;
    }
    return json_object_setn_new(d->attributes, name.p, name.n, value) ? publish_body_no_memory(r)
                                                                      : 0;
}

static int publish_ce_count(struct publish_body_reader *r, struct ce_draft *d, size_t n)
{
    d->bytes += n;
    return d->bytes > CE_TEXT_MAX
               ? publish_body_refuse(r, 400, "attributes: are longer than 4096 bytes of JSON")
               : 0;
}

static int publish_ce_check(struct publish_body_reader *r, const struct ce_draft *d,
                            enum cloudevent_attribute which)
{
    const char *name = cloudevent_names[which], *expected = cloudevent_expected(which);
    const json_t *value = json_object_get(d->attributes, name);
    struct slice text = publish_ce_text(value);
    if (!value) {
        return which <= CLOUDEVENT_TYPE
                   ? publish_body_refuse(r, 400, "%s%s: is missing; expected %s", d->prefix, name,
                                         expected)
                   : 0;
    }
    if (!text.p) {
        return publish_body_refuse(r, 400, "%s%s: is no text; expected %s", d->prefix, name,
                                   expected);
    }
    return cloudevent_value_ok(which, text)
               ? 0
               : publish_body_refuse(r, 400, "%s%s: is \"%s\"; expected %s", d->prefix, name,
                                     publish_body_show(text).text, expected);
}

static struct slice publish_ce_get(const struct ce_draft *d, enum cloudevent_attribute which)
{
    return publish_ce_text(json_object_get(d->attributes, cloudevent_names[which]));
}

/* ---- what becomes of it */

/* Bytes as they are, or in Base64. */
static int publish_ce_keep(struct publish_body_reader *r, struct ce_draft *d, struct slice bytes,
                           struct slice *out)
{
    *out = bytes;
    if (cloudevent_is_text(bytes)) {
        return 0;
    }
    int rc = base64_encode(&d->payload, bytes);
    *out = strbuf_slice(&d->payload);
    if (rc == UV_ENOBUFS) {
        return publish_body_refuse(
            r, 413, "data: is longer than %zu bytes as Base64, which is what an event may hold",
            r->limits->event_bytes);
    }
    rc = rc ? rc : json_object_set_new(d->attributes, CLOUDEVENT_BASE64, json_true());
    return rc ? publish_body_no_memory(r) : 0;
}

static int publish_ce_check_size(struct publish_body_reader *r, size_t n)
{
    return n > r->limits->event_bytes
               ? publish_body_refuse(r, 413, "data: is %zu bytes long; an event may hold %zu", n,
                                     r->limits->event_bytes)
               : 0;
}

/* The bytes of data_base64, in the scratch buffer. */
static int publish_ce_decode(struct publish_body_reader *r, struct ce_draft *d, struct slice *out)
{
    struct slice text = slice_of(d->base64.p + 1, d->base64.n - 2);
    if (*d->base64.p != '"') {
        return publish_body_refuse(r, 400, "data_base64: expected a string, got %s",
                                   publish_body_json_kind_of(d->base64));
    }
    int status = publish_ce_check_size(r, base64_decoded_size(text));
    if (status) {
        return status;
    }
    strbuf_reset(&r->scratch);
    if (strbuf_reserve(&r->scratch, 2 * d->base64.n)) {
        return publish_body_no_memory(r);
    }
    if (text.n && memchr(text.p, '\\', text.n)) { /* "\/" is a digit */
        r->scratch.len = json_text_string(r->scratch.data, d->base64);
        text = strbuf_slice(&r->scratch);
    }
    size_t from = r->scratch.len;
    int rc = base64_decode(&r->scratch, text); /* there is room: `text` stays where it is */
    *out = slice_of(r->scratch.data + from, r->scratch.len - from);
    return rc == UV_EINVAL ? publish_body_refuse(r, 400, "data_base64: is not Base64 with padding")
           : rc            ? publish_body_no_memory(r)
                           : 0;
}

/* The bytes of data: JSON as its text, a string of another type as its characters. */
static int publish_ce_bytes(struct publish_body_reader *r, const struct ce_draft *d,
                            struct slice *out)
{
    bool json = cloudevent_is_json(publish_ce_get(d, CLOUDEVENT_CONTENT_TYPE));
    if (!json && *d->data.p != '"') {
        return publish_body_refuse(
            r, 400, "data: is %s, but datacontenttype says \"%s\"; expected a string",
            publish_body_json_kind_of(d->data),
            publish_body_show(publish_ce_get(d, CLOUDEVENT_CONTENT_TYPE)).text);
    }
    size_t n = json ? json_text_compact(NULL, d->data) : json_text_string(NULL, d->data);
    int status = publish_ce_check_size(r, n);
    strbuf_reset(&r->scratch);
    if (status || strbuf_reserve(&r->scratch, d->data.n)) {
        return status ? status : publish_body_no_memory(r);
    }
    r->scratch.len = json ? json_text_compact(r->scratch.data, d->data)
                          : json_text_string(r->scratch.data, d->data);
    *out = strbuf_slice(&r->scratch);
    return 0;
}

static int publish_ce_payload(struct publish_body_reader *r, struct ce_draft *d, struct slice *out)
{
    struct slice bytes = slice_str("");
    if (d->data.p && d->base64.p) {
        return publish_body_refuse(r, 400, "data_base64: is there beside data; expected one");
    }
    int status = d->base64.p ? publish_ce_decode(r, d, &bytes)
                 : d->data.p ? publish_ce_bytes(r, d, &bytes)
                             : 0;
    return status ? status : publish_ce_keep(r, d, bytes, out);
}

/* Two of one source and id are one event. No source holds a space. */
static int publish_ce_key(struct publish_body_reader *r, const struct ce_draft *d,
                          char out[EVENT_KEY_MAX_BYTES + 1], struct slice *key)
{
    struct slice source = publish_ce_get(d, CLOUDEVENT_SOURCE),
                 id = publish_ce_get(d, CLOUDEVENT_ID);
    if (source.n + 1 + id.n <= EVENT_KEY_MAX_BYTES) {
        memcpy(out, source.p, source.n);
        out[source.n] = ' ';
        memcpy(out + source.n + 1, id.p, id.n);
        *key = slice_of(out, source.n + 1 + id.n);
        return 0;
    }
    char hex[DIGEST_HEX_BYTES];
    struct digest *digest = digest_new();
    int rc = digest ? digest_add(digest, source.p, source.n) : UV_ENOMEM;
    rc = rc ? rc : digest_add(digest, " ", 1);
    rc = rc ? rc : digest_add(digest, id.p, id.n);
    rc = rc ? rc : digest_hex(digest, hex);
    digest_free(digest);
    *key = slice_of(out,
                    (size_t)snprintf(out, EVENT_KEY_MAX_BYTES + 1, "cloudevent %s", rc ? "" : hex));
    return rc ? publish_body_no_memory(r) : 0;
}

/* As the route says, or the query; else the subject, else the source. */
static int publish_ce_topic(struct publish_body_reader *r, struct ce_draft *d, struct slice *topic)
{
    struct slice subject = publish_ce_get(d, CLOUDEVENT_SUBJECT),
                 source = publish_ce_get(d, CLOUDEVENT_SOURCE);
    if (r->route && r->route->topic) {
        const struct http_param more[] = {{slice_str("source"), source},
                                          {slice_str("type"), publish_ce_text(d->type)},
                                          {slice_str("subject"), subject}};
        if (!subject.p && strstr(r->route->topic, "{subject}")) {
            return publish_body_refuse(
                r, 400, "%ssubject: is missing; the route makes the topic of it", d->prefix);
        }
        int status = publish_body_fill_topic(r, &d->topic, more, sizeof more / sizeof *more);
        *topic = strbuf_slice(&d->topic);
        return status;
    }
    int status = publish_body_query_once(r, "topic", topic);
    if (status || topic->p) {
        return status;
    }
    *topic = subject.p ? subject : source;
    const char *bad = topic_name_check(*topic);
    return bad ? publish_body_refuse(r, 400,
                                     "%s%s: is \"%s\", which is no topic (%s); name the topic in "
                                     "the query, ?topic=NAME, or in the route",
                                     d->prefix, subject.p ? "subject" : "source",
                                     publish_body_show(*topic).text, bad)
               : 0;
}

static int publish_ce_make(struct publish_body_reader *r, struct ce_draft *d, struct slice data,
                           struct slice key)
{
    char key_text[EVENT_KEY_MAX_BYTES + 1];
    struct event_fields f = {.time_ms = r->time_ms, .data = data, .key = key};
    d->type = json_incref(json_object_get(d->attributes, cloudevent_names[CLOUDEVENT_TYPE]));
    f.type = publish_ce_text(d->type);
    int status = key.p ? 0 : publish_ce_key(r, d, key_text, &f.key);
    status = status ? status : publish_ce_topic(r, d, &f.topic);
    if (status) {
        return status;
    }
    (void)json_object_del(d->attributes, cloudevent_names[CLOUDEVENT_TYPE]); /* it is there */
    strbuf_reset(&r->attrs);
    const char *bad = event_attrs_canonical(d->attributes, &r->attrs);
    f.attrs = strbuf_slice(&r->attrs);
    return bad ? publish_body_refuse(r, 400, "%s", bad) : publish_body_add(r, &f);
}

static int publish_ce_check_all(struct publish_body_reader *r, const struct ce_draft *d)
{
    int status = 0;
    for (int i = 0; i < CLOUDEVENT_ATTRIBUTES && status == 0; i++) {
        status = publish_ce_check(r, d, (enum cloudevent_attribute)i);
    }
    return status;
}

/* ---- JSON */

/* `value` is a JSON text. */
static int publish_ce_take_value(struct publish_body_reader *r, struct ce_draft *d,
                                 struct slice name, struct slice value)
{
    if (*value.p == 'n') {
        return 0; /* as if it were not there, says the specification */
    }
    if (*value.p == '{' || *value.p == '[') {
        return publish_body_refuse(r, 400, "%s: is %s; expected a string, number or boolean",
                                   publish_body_show(name).text, publish_body_json_kind_of(value));
    }
    int status = publish_ce_count(r, d, name.n + value.n);
    json_error_t e;
    json_t *tree =
        status ? NULL : json_loadb(value.p, value.n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    if (status == 0 && !tree && json_error_code(&e) != json_error_out_of_memory) {
        status = publish_body_refuse(r, 400, "%s: is no value that can be kept",
                                     publish_body_show(name).text);
    }
    return status ? status : publish_ce_set(r, d, name, tree);
}

static int publish_ce_take_member(struct publish_body_reader *r, struct ce_draft *d,
                                  const char *start, struct slice *rest)
{
    struct slice raw, value;
    char name[CE_NAME_MAX];
    json_text_skip(rest);
    if (rest->n == 0 || *rest->p != '"') {
        return publish_body_refuse_json(r, start, *rest,
                                        "expected the name of an attribute in double quotes");
    }
    const char *wrong = json_text_checked_value(rest, &raw);
    if (!wrong && !json_text_take(rest, ':')) {
        wrong = "expected ':'";
    }
    wrong = wrong ? wrong : json_text_checked_value(rest, &value);
    if (wrong) {
        return publish_body_refuse_json(r, start, *rest, wrong);
    }
    struct slice *whole = json_text_string_is(raw, slice_str("data"))              ? &d->data
                          : json_text_string_is(raw, slice_str(CLOUDEVENT_BASE64)) ? &d->base64
                                                                                   : NULL;
    if (whole && whole->p) {
        return publish_body_refuse(r, 400, "%s: is there more than once",
                                   whole == &d->data ? "data" : CLOUDEVENT_BASE64);
    }
    if (whole) {
        *whole = value;
        return 0;
    }
    if (raw.n > sizeof name) {
        return publish_body_refuse(r, 400, "%s: a name has %d bytes at most",
                                   publish_body_show(slice_of(raw.p + 1, raw.n - 2)).text,
                                   CE_NAME_MAX - 2);
    }
    return publish_ce_take_value(r, d, slice_of(name, json_text_string(name, raw)), value);
}

static int publish_ce_take_members(struct publish_body_reader *r, struct ce_draft *d,
                                   struct slice *rest)
{
    json_text_skip(rest);
    const char *start = rest->p;
    struct slice whole;
    if (!json_text_take(rest, '{')) {
        const char *wrong = json_text_checked_value(rest, &whole);
        return wrong ? publish_body_refuse_json(r, start, *rest, wrong)
                     : publish_body_refuse(r, 400,
                                           "expected a CloudEvent, which is an object, got %s",
                                           publish_body_json_kind_of(whole));
    }
    int status = 0;
    bool more = !json_text_take(rest, '}');
    while (more && status == 0) {
        status = publish_ce_take_member(r, d, start, rest);
        more = status == 0 && json_text_take(rest, ',');
        if (status == 0 && !more && !json_text_take(rest, '}')) {
            status = publish_body_refuse_json(r, start, *rest, "expected ',' or '}'");
        }
    }
    return status;
}

/* Takes one off *rest. */
static int publish_ce_take(struct publish_body_reader *r, struct slice *rest, struct slice key)
{
    struct ce_draft d;
    struct slice data = {NULL, 0};
    int status = publish_ce_init(r, &d, "");
    status = status ? status : publish_ce_take_members(r, &d, rest);
    status = status ? status : publish_ce_check_all(r, &d);
    status = status ? status : publish_ce_payload(r, &d, &data);
    status = status ? status : publish_ce_make(r, &d, data, key);
    publish_ce_clear(&d);
    return status;
}

int publish_body_read_cloudevent(struct publish_body_reader *r, struct slice body, bool *is_batch)
{
    struct slice rest = body;
    (void)is_batch;
    int status = publish_ce_take(r, &rest, http_request_header(r->rq, "Idempotency-Key"));
    json_text_skip(&rest);
    return status ? status
           : rest.n
               ? publish_body_refuse_json(r, body.p, rest, "expected nothing behind the CloudEvent")
               : 0;
}

int publish_body_read_cloudevents(struct publish_body_reader *r, struct slice body, bool *is_batch)
{
    struct slice rest = body;
    *is_batch = true;
    if (!json_text_take(&rest, '[') || json_text_take(&rest, ']')) {
        return publish_body_refuse(r, 400, "body: expected an array of at least one CloudEvent");
    }
    int status = publish_body_check_batch(r);
    return status ? status : publish_body_read_array(r, rest, "event", publish_ce_take);
}

/* ---- the head */

/* The attribute that a field holds; false: it holds none. */
static bool publish_ce_field(const struct http_header *h, struct slice *name)
{
    const size_t n = sizeof ce_prefix - 1;
    bool is = h->name.n > n && slice_is_nocase(slice_of(h->name.p, n), ce_prefix);
    *name = is ? slice_of(h->name.p + n, h->name.n - n) : slice_of(NULL, 0);
    return is;
}

bool publish_body_claims_cloudevents(const struct http_request *rq)
{
    static const char any[] = "application/cloudevents";
    struct slice type = http_request_header(rq, "Content-Type");
    return type.n >= sizeof any - 1 && slice_is_nocase(slice_of(type.p, sizeof any - 1), any);
}

bool publish_body_is_binary(const struct http_request *rq)
{
    struct slice name;
    if (publish_body_claims_cloudevents(rq)) { /* structured, in a format that is not known here */
        return false;
    }
    for (size_t i = 0; i < rq->header_count; i++) {
        for (int k = 0; publish_ce_field(&rq->headers[i], &name) && k <= CLOUDEVENT_TYPE; k++) {
            if (slice_is_nocase(name, cloudevent_names[k])) {
                return true;
            }
        }
    }
    return false;
}

/* HTTP binding, 3.1.3.2: without the double quotes of those that have them, each %XX a byte. A '%' that begins none is
 * itself: there are senders that do not encode. */
static int publish_ce_decode_field(struct strbuf *out, struct slice value)
{
    bool quoted = value.n > 1 && value.p[0] == '"' && value.p[value.n - 1] == '"';
    value = quoted ? slice_of(value.p + 1, value.n - 2) : value;
    strbuf_reset(out);
    int rc = strbuf_reserve(out, value.n);
    for (size_t i = 0; i < value.n && rc == 0; i++) {
        char c = value.p[i];
        int high = c == '%' && value.n - i > 2 ? hex_value(value.p[i + 1]) : -1;
        int low = high >= 0 ? hex_value(value.p[i + 2]) : -1;
        if (low >= 0) {
            c = (char)(high << 4 | low);
            i += 2;
        } else if (quoted && c == '\\' && i + 1 < value.n) {
            c = value.p[++i];
        }
        rc = strbuf_append(out, &c, 1);
    }
    return rc;
}

static int publish_ce_take_field(struct publish_body_reader *r, struct ce_draft *d,
                                 struct slice given, struct slice value)
{
    char name[CE_NAME_MAX];
    if (given.n > sizeof name) {
        return publish_body_refuse(r, 400, "%s%s: a name has %d bytes at most", d->prefix,
                                   publish_body_show(given).text, CE_NAME_MAX - 2);
    }
    for (size_t i = 0; i < given.n; i++) {
        char c = given.p[i];
        name[i] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
    }
    struct slice plain = slice_of(name, given.n);
    if (slice_is(plain, "data") || slice_is(plain, cloudevent_names[CLOUDEVENT_CONTENT_TYPE])) {
        return publish_body_refuse(r, 400, "%s%s: expected in %s", d->prefix,
                                   publish_body_show(plain).text,
                                   slice_is(plain, "data") ? "the body" : "Content-Type");
    }
    int status = publish_ce_count(r, d, given.n + value.n);
    if (status || publish_ce_decode_field(&d->text, value)) {
        return status ? status : publish_body_no_memory(r);
    }
    struct slice text = slice_of(d->text.data ? d->text.data : "", d->text.len);
    return utf8_ok(text) ? publish_ce_set(r, d, plain, json_stringn(text.p, text.n))
                         : publish_body_refuse(r, 400, "%s%s: is not valid UTF-8 when decoded",
                                               d->prefix, publish_body_show(plain).text);
}

static int publish_ce_take_fields(struct publish_body_reader *r, struct ce_draft *d)
{
    struct slice type = http_request_header(r->rq, "Content-Type"), name;
    int status = 0;
    for (size_t i = 0; i < r->rq->header_count && status == 0; i++) {
        if (publish_ce_field(&r->rq->headers[i], &name)) {
            status = publish_ce_take_field(r, d, name, r->rq->headers[i].value);
        }
    }
    if (status == 0 && type.n) {
        status = publish_ce_count(r, d, type.n);
        status = status          ? status
                 : utf8_ok(type) ? publish_ce_set(r, d, slice_str("datacontenttype"),
                                                  json_stringn(type.p, type.n))
                                 : publish_body_refuse(r, 400, "Content-Type: is not valid UTF-8");
    }
    return status;
}

int publish_body_read_binary(struct publish_body_reader *r, struct slice body)
{
    struct ce_draft d;
    struct slice data = {NULL, 0};
    int status = publish_ce_init(r, &d, ce_prefix);
    status = status ? status : publish_ce_take_fields(r, &d);
    status = status ? status : publish_ce_check_all(r, &d);
    status = status ? status : publish_ce_check_size(r, body.n);
    status = status ? status : publish_ce_keep(r, &d, body.p ? body : slice_str(""), &data);
    status = status ? status
                    : publish_ce_make(r, &d, data, http_request_header(r->rq, "Idempotency-Key"));
    publish_ce_clear(&d);
    return status;
}
