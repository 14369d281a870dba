/* JSON bodies: one envelope, an array of them, or one a line. One pass over the text checks it and cuts
 * it into members, and allocates nothing: what a stranger sends costs no more than its bytes. Only
 * `attrs`, which are short, become a tree. `data` is taken as it was written: a reader that has only
 * doubles and 64 bits would not give back every number. */
#include "base/text/json_text.h"
#include "base/text/nearest.h"
#include "event/event_attrs.h"
#include "event/publish/publish_body_state.h"

#include <jansson.h>
#include <stdio.h>

enum {
    NAME_SHOWN_BYTES = 64, /* of an unknown field, in a refusal */
    /* No attrs of more bytes can have a canonical text within the limit: an escape has six bytes. */
    ATTRS_TEXT_MAX_BYTES = 6 * EVENT_ATTRS_MAX_BYTES,
};

enum member {
    MEMBER_TOPIC,
    MEMBER_TYPE,
    MEMBER_DATA,
    MEMBER_KEY,
    MEMBER_ATTRS,
    MEMBER_EXPIRES,
    MEMBER_TTL,
    MEMBER_COUNT
};
static const char *const member_names[MEMBER_COUNT] = {"topic", "type",    "data", "key",
                                                       "attrs", "expires", "ttl"};

/* The checked text of each member; absent: there is none. */
struct envelope {
    struct slice text[MEMBER_COUNT];
};

const char *publish_body_json_kind_of(struct slice value)
{
    switch (value.n ? *value.p : 'n') {
    case '{':
        return "an object";
    case '[':
        return "an array";
    case '"':
        return "a string";
    case 't':
    case 'f':
        return "a boolean";
    case 'n':
        return "null";
    default:
        return "a number";
    }
}

/* `rest`: the text behind the name. */
static int refuse_unknown(struct publish_body_reader *r, struct slice raw, struct slice rest)
{
    static const char version[] = "\"specversion\""; /* each CloudEvent has it */
    char name[NAME_SHOWN_BYTES];
    struct slice text = slice_of(raw.p + 1, raw.n - 2); /* a long one is shown as it was written */
    if (raw.n <= sizeof name) {
        text = slice_of(name, json_text_string(name, raw));
    }
    const char *nearest = nearest_name(member_names, MEMBER_COUNT, text);
    struct shown shown = publish_body_show(text);
    if (slice_is(raw, version) || (rest.n && memmem(rest.p, rest.n, version, sizeof version - 1))) {
        return publish_body_refuse(r, 400,
                                   "unknown field \"%s\"; this looks like a CloudEvent: send it as "
                                   "Content-Type: application/cloudevents+json",
                                   shown.text);
    }
    if (nearest) {
        return publish_body_refuse(r, 400, "unknown field \"%s\"; did you mean \"%s\"?", shown.text,
                                   nearest);
    }
    return publish_body_refuse(
        r, 400, "unknown field \"%s\"; an envelope has topic, data, type, key, attrs, expires, ttl",
        shown.text);
}

int publish_body_refuse_json(struct publish_body_reader *r, const char *start, struct slice at,
                             const char *wrong)
{
    return publish_body_refuse(r, 400, "JSON: %s%s (byte %zu)", wrong,
                               at.n ? "" : ", the text ends", (size_t)(at.p - start));
}

static int take_member(struct publish_body_reader *r, const char *start, struct slice *rest,
                       struct envelope *env)
{
    struct slice name, value;
    json_text_skip(rest);
    if (rest->n == 0 || *rest->p != '"') {
        return publish_body_refuse_json(r, start, *rest,
                                        "expected the name of a field in double quotes");
    }
    const char *wrong = json_text_checked_value(rest, &name);
    if (wrong) {
        return publish_body_refuse_json(r, start, *rest, wrong);
    }
    int member = 0;
    while (member < MEMBER_COUNT && !json_text_string_is(name, slice_str(member_names[member]))) {
        member++;
    }
    if (member == MEMBER_COUNT) {
        return refuse_unknown(r, name, *rest);
    }
    if (env->text[member].p) {
        return publish_body_refuse(r, 400, "%s: is there more than once", member_names[member]);
    }
    if (!json_text_take(rest, ':')) {
        return publish_body_refuse_json(r, start, *rest, "expected ':'");
    }
    wrong = json_text_checked_value(rest, &value);
    if (wrong) {
        return publish_body_refuse_json(r, start, *rest, wrong);
    }
    env->text[member] = value;
    return 0;
}

/* Cuts one envelope off *rest. */
static int take_members(struct publish_body_reader *r, struct slice *rest, struct envelope *env)
{
    json_text_skip(rest);
    const char *start = rest->p;
    struct slice whole;
    *env = (struct envelope){0};
    if (!json_text_take(rest, '{')) {
        const char *wrong = json_text_checked_value(rest, &whole);
        return wrong
                   ? publish_body_refuse_json(r, start, *rest, wrong)
                   : publish_body_refuse(r, 400, "expected an envelope, which is an object, got %s",
                                         publish_body_json_kind_of(whole));
    }
    if (json_text_take(rest, '}')) {
        return 0;
    }
    do {
        int status = take_member(r, start, rest, env);
        if (status) {
            return status;
        }
    } while (json_text_take(rest, ','));
    return json_text_take(rest, '}')
               ? 0
               : publish_body_refuse_json(r, start, *rest, "expected ',' or '}'");
}

/* ---------------------------------------------------------------- the members' values */

/* The characters of a string: where they are, or, when some are escaped, in the scratch buffer, which
 * has room for all strings of the envelope. */
static struct slice unquote(struct publish_body_reader *r, struct slice raw)
{
    struct slice inner = slice_of(raw.p + 1, raw.n - 2);
    if (!inner.n || !memchr(inner.p, '\\', inner.n)) {
        return inner;
    }
    char *to = r->scratch.data + r->scratch.len;
    size_t n = json_text_string(to, raw);
    r->scratch.len += n;
    return slice_of(to, n);
}

static struct slice compact(struct publish_body_reader *r, struct slice raw)
{
    char *to = r->scratch.data + r->scratch.len;
    size_t n = json_text_compact(NULL, raw);
    if (n == raw.n) {
        return raw;
    }
    r->scratch.len += json_text_compact(to, raw);
    return slice_of(to, n);
}

static int get_string(struct publish_body_reader *r, const struct envelope *env, enum member m,
                      struct slice *out)
{
    struct slice text = env->text[m];
    if (!text.p) {
        return 0;
    }
    if (*text.p != '"') {
        return publish_body_refuse(r, 400, "%s: expected a string, got %s", member_names[m],
                                   publish_body_json_kind_of(text));
    }
    *out = unquote(r, text);
    return 0;
}

/* Before anything is made of it. */
static int check_data_size(struct publish_body_reader *r, const struct envelope *env)
{
    struct slice text = env->text[MEMBER_DATA];
    if (text.n <= r->limits->event_bytes) {
        return 0;
    }
    size_t n = *text.p == '"' ? json_text_string(NULL, text) : json_text_compact(NULL, text);
    return n > r->limits->event_bytes
               ? publish_body_refuse(r, 413, "data: is %zu bytes long; an event may hold %zu", n,
                                     r->limits->event_bytes)
               : 0;
}

/* Only what may be among attributes is made a tree of: an object of that many bytes may hold
 * thousands of empty ones. */
static int check_attrs_text(struct publish_body_reader *r, struct slice text)
{
    struct slice name, value, rest = text;
    if (json_text_compact(NULL, text) > ATTRS_TEXT_MAX_BYTES) {
        return publish_body_refuse(r, 400, "attrs: are longer than 4096 bytes of JSON");
    }
    if (!json_text_take(&rest, '{')) {
        return publish_body_refuse(r, 400,
                                   "attrs: expected an object of strings, numbers and booleans");
    }
    while (json_text_value(&rest, &name) && json_text_take(&rest, ':') &&
           json_text_value(&rest, &value)) {
        if (*value.p == '{' || *value.p == '[' || *value.p == 'n') {
            return publish_body_refuse(r, 400,
                                       "attrs: %s is %s; expected a string, number or boolean",
                                       publish_body_show(name).text,
                                       *value.p == '{'   ? "an object"
                                       : *value.p == '[' ? "an array"
                                                         : "null");
        }
        json_text_take(&rest, ',');
    }
    return 0;
}

static int refuse_attrs(struct publish_body_reader *r, const json_error_t *e)
{
    if (json_error_code(e) == json_error_out_of_memory) {
        return publish_body_no_memory(r);
    }
    /* its text quotes the input, and may cut a character in two */
    char text[JSON_ERROR_TEXT_LENGTH];
    size_t n = 0;
    for (; n < sizeof text - 1 && e->text[n]; n++) {
        text[n] = publish_body_printable(e->text[n]);
    }
    text[n] = '\0';
    return publish_body_refuse(r, 400, "attrs: %s (byte %d)", text, e->position);
}

static int get_attrs(struct publish_body_reader *r, const struct envelope *env, struct slice *out)
{
    struct slice text = env->text[MEMBER_ATTRS];
    json_error_t e;
    if (!text.p) {
        return 0;
    }
    int status = check_attrs_text(r, text);
    if (status) {
        return status;
    }
    json_t *attrs = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
    if (!attrs) {
        return refuse_attrs(r, &e);
    }
    strbuf_reset(&r->attrs);
    const char *bad = event_attrs_canonical(attrs, &r->attrs);
    bool none = !bad && json_object_size(attrs) == 0;
    json_decref(attrs);
    *out = none ? (struct slice){NULL, 0} : strbuf_slice(&r->attrs);
    return bad ? publish_body_refuse(r, 400, "%s", bad) : 0;
}

/* Numbers, and of `expires` a text, too. */
static int publish_body_json_expiry(struct publish_body_reader *r, const struct envelope *env,
                                    struct event_fields *f)
{
    struct slice expires = env->text[MEMBER_EXPIRES], ttl = env->text[MEMBER_TTL];
    bool text = expires.p && *expires.p == '"';
    if (!expires.p && !ttl.p) {
        return 0;
    }
    if (ttl.p && !strchr("-0123456789", *ttl.p)) {
        return publish_body_refuse(r, 400, "ttl: expected a number of seconds, got %s",
                                   publish_body_json_kind_of(ttl));
    }
    if (expires.p && !text && !strchr("-0123456789", *expires.p)) {
        return publish_body_refuse(r, 400,
                                   "expires: expected a Unix time in seconds, or a text as "
                                   "\"2026-11-30T12:00:00Z\", got %s",
                                   publish_body_json_kind_of(expires));
    }
    return publish_body_set_expiry(r, text ? unquote(r, expires) : expires, ttl, f);
}

/* Room for what unquote() and compact() write. */
static int reserve_scratch(struct publish_body_reader *r, const struct envelope *env)
{
    size_t most = 0;
    for (int i = 0; i < MEMBER_COUNT; i++) {
        most += i == MEMBER_ATTRS ? 0 : env->text[i].n;
    }
    strbuf_reset(&r->scratch);
    return strbuf_reserve(&r->scratch, most) ? publish_body_no_memory(r) : 0;
}

static int add_members(struct publish_body_reader *r, const struct envelope *env, struct slice key)
{
    struct event_fields f = {.time_ms = r->time_ms};
    struct slice data = env->text[MEMBER_DATA];
    if (!env->text[MEMBER_TOPIC].p) {
        return publish_body_refuse(r, 400, "topic: is missing; expected a string");
    }
    if (!data.p) {
        return publish_body_refuse(r, 400, "data: is missing; expected a string or any JSON value");
    }
    int status = check_data_size(r, env);
    status = status ? status : reserve_scratch(r, env);
    status = status ? status : get_string(r, env, MEMBER_TOPIC, &f.topic);
    status = status ? status : get_string(r, env, MEMBER_TYPE, &f.type);
    status = status ? status : get_string(r, env, MEMBER_KEY, &f.key);
    status = status ? status : get_attrs(r, env, &f.attrs);
    status = status ? status : publish_body_json_expiry(r, env, &f);
    if (status) {
        return status;
    }
    f.data = *data.p == '"' ? unquote(r, data) : compact(r, data);
    f.key = key.p ? key : f.key;
    return publish_body_add(r, &f);
}

/* Takes one envelope off *rest. `key`: of the request's Idempotency-Key field, which wins; absent: the
 * envelope's own. */
static int take_envelope(struct publish_body_reader *r, struct slice *rest, struct slice key)
{
    struct envelope env;
    int status = take_members(r, rest, &env);
    return status ? status : add_members(r, &env, key);
}

/* `text` is one envelope, with nothing but white space around. */
static int add_envelope(struct publish_body_reader *r, struct slice text, struct slice key)
{
    struct slice rest = text;
    struct envelope env;
    int status = take_members(r, &rest, &env);
    if (status) {
        return status;
    }
    json_text_skip(&rest);
    return rest.n
               ? publish_body_refuse_json(r, text.p, rest, "expected nothing behind the envelope")
               : add_members(r, &env, key);
}

int publish_body_check_batch(struct publish_body_reader *r)
{
    return http_request_header(r->rq, "Idempotency-Key").p
               ? publish_body_refuse(r, 400,
                                     "Idempotency-Key: names one event, the body is a batch; give "
                                     "each envelope a \"key\" of its own")
               : 0;
}

int publish_body_read_array(struct publish_body_reader *r, struct slice rest, const char *item,
                            publish_body_take take)
{
    bool more = true;
    for (size_t i = 0; more; i++) {
        snprintf(r->where, sizeof r->where, "%s %zu", item, i);
        int status = take(r, &rest, (struct slice){NULL, 0});
        if (status) {
            return status;
        }
        more = json_text_take(&rest, ',');
    }
    if (!json_text_take(&rest, ']')) {
        return publish_body_refuse(r, 400, "JSON: expected ',' or ']' behind it");
    }
    r->where[0] = '\0';
    json_text_skip(&rest);
    return rest.n ? publish_body_refuse(r, 400, "JSON: expected nothing behind the array") : 0;
}

int publish_body_read_json(struct publish_body_reader *r, struct slice body, bool *is_batch)
{
    struct slice rest = body;
    if (!json_text_take(&rest, '[')) {
        return add_envelope(r, body, http_request_header(r->rq, "Idempotency-Key"));
    }
    *is_batch = true;
    if (json_text_take(&rest, ']')) {
        return publish_body_refuse(r, 400,
                                   "body: is an empty array; expected at least one envelope");
    }
    int status = publish_body_check_batch(r);
    return status ? status : publish_body_read_array(r, rest, "envelope", take_envelope);
}

int publish_body_read_ndjson(struct publish_body_reader *r, struct slice body, bool *is_batch)
{
    int status = publish_body_check_batch(r);
    *is_batch = true;
    for (size_t line = 1; body.n && !status; line++) {
        const char *end = memchr(body.p, '\n', body.n);
        struct slice text = slice_of(body.p, end ? (size_t)(end - body.p) : body.n);
        size_t used = text.n + (end ? 1 : 0);
        body = slice_of(body.p + used, body.n - used);
        snprintf(r->where, sizeof r->where, "line %zu", line);
        json_text_skip(&text);
        if (text.n) {
            status = add_envelope(r, text, (struct slice){NULL, 0});
        }
    }
    return status;
}
