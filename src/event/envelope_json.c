/* JSON bodies: one envelope, an array of them, or one a line. jansson judges and reads each
 * envelope; its `data` is then taken as it was written, since a reader that has only doubles and 64
 * bits would not give back every number. */
#include "base/json_text.h"
#include "base/nearest.h"
#include "base/require.h"
#include "event/envelope_state.h"

#include <jansson.h>
#include <stdio.h>

enum member { MEMBER_TOPIC, MEMBER_TYPE, MEMBER_DATA, MEMBER_KEY, MEMBER_ATTRS, MEMBER_COUNT };
static const char *const member_names[MEMBER_COUNT] = {"topic", "type", "data", "key", "attrs"};

struct envelope {
    json_t *value[MEMBER_COUNT]; /* NULL: absent; borrowed from the parsed envelope */
    struct slice text[MEMBER_COUNT];
};

static const char *envelope_json_kind_of(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        break;
    }
    return "null";
}

static int refuse_unknown(struct envelope_reader *r, const char *name)
{
    const char *nearest = nearest_name(member_names, MEMBER_COUNT, slice_str(name));
    struct shown shown = envelope_show(slice_str(name));
    if (nearest) {
        return envelope_refuse(r, 400, "unknown field \"%s\"; did you mean \"%s\"?", shown.text,
                               nearest);
    }
    return envelope_refuse(
        r, 400, "unknown field \"%s\"; an envelope has topic, data, type, key, attrs", shown.text);
}

static int refuse_json(struct envelope_reader *r, const char *what, const json_error_t *e)
{
    if (json_error_code(e) == json_error_out_of_memory) {
        return envelope_no_memory(r);
    }
    /* its text quotes the input, and may cut a character in two */
    char text[JSON_ERROR_TEXT_LENGTH];
    size_t n = 0;
    for (; n < sizeof text - 1 && e->text[n]; n++) {
        text[n] = envelope_printable(e->text[n]);
    }
    text[n] = '\0';
    return envelope_refuse(r, 400, "%s: %s (byte %d)", what, text, e->position);
}

static int find_member(const char *name)
{
    int i = 0;
    while (i < MEMBER_COUNT && strcmp(name, member_names[i]) != 0) {
        i++;
    }
    return i;
}

/* Walks the parsed object and its text side by side: jansson keeps the order of the members. */
static int envelope_json_split(struct envelope_reader *r, json_t *object, struct slice text,
                               struct envelope *env)
{
    *env = (struct envelope){0};
    bool ok = json_text_take(&text, '{');
    for (void *it = json_object_iter(object); it; it = json_object_iter_next(object, it)) {
        struct slice name, value;
        ok = ok && json_text_value(&text, &name) && json_text_take(&text, ':') &&
             json_text_value(&text, &value);
        REQUIRE(ok);
        json_text_take(&text, ',');
        int member = find_member(json_object_iter_key(it));
        if (member == MEMBER_COUNT) {
            return refuse_unknown(r, json_object_iter_key(it));
        }
        env->value[member] = json_object_iter_value(it);
        env->text[member] = value;
    }
    return 0;
}

static int get_string(struct envelope_reader *r, const struct envelope *env, enum member m,
                      struct slice *out)
{
    const json_t *value = env->value[m];
    if (!value) {
        return 0;
    }
    if (!json_is_string(value)) {
        return envelope_refuse(r, 400, "%s: expected a string, got %s", member_names[m],
                               envelope_json_kind_of(value));
    }
    *out = slice_of(json_string_value(value), json_string_length(value));
    return 0;
}

static int get_data(struct envelope_reader *r, const struct envelope *env, struct slice *out)
{
    struct slice text = env->text[MEMBER_DATA];
    if (!env->value[MEMBER_DATA]) {
        return envelope_refuse(r, 400, "data: is missing; expected a string or any JSON value");
    }
    if (json_is_string(env->value[MEMBER_DATA])) {
        return get_string(r, env, MEMBER_DATA, out);
    }
    strbuf_reset(&r->scratch);
    if (strbuf_reserve(&r->scratch, text.n)) {
        return envelope_no_memory(r);
    }
    r->scratch.len = json_text_compact(r->scratch.data, text);
    r->scratch.data[r->scratch.len] = '\0';
    *out = strbuf_slice(&r->scratch);
    return 0;
}

static int get_attrs(struct envelope_reader *r, const struct envelope *env, struct slice *out)
{
    struct slice text = env->text[MEMBER_ATTRS];
    json_error_t e;
    if (!env->value[MEMBER_ATTRS]) {
        return 0;
    }
    /* again, with integers as integers: the first time served to check and to find the members */
    json_t *attrs =
        json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    if (!attrs) {
        return refuse_json(r, "attrs", &e);
    }
    strbuf_reset(&r->attrs);
    const char *bad = envelope_attrs(attrs, &r->attrs);
    bool none = !bad && json_object_size(attrs) == 0;
    json_decref(attrs);
    *out = none ? (struct slice){NULL, 0} : strbuf_slice(&r->attrs);
    return bad ? envelope_refuse(r, 400, "%s", bad) : 0;
}

static int add_object(struct envelope_reader *r, json_t *object, struct slice text,
                      struct slice key)
{
    struct envelope env;
    struct event_fields f = {.time_ms = r->time_ms};
    int status = envelope_json_split(r, object, text, &env);
    if (!status && !env.value[MEMBER_TOPIC]) {
        status = envelope_refuse(r, 400, "topic: is missing; expected a string");
    }
    status = status ? status : get_string(r, &env, MEMBER_TOPIC, &f.topic);
    status = status ? status : get_string(r, &env, MEMBER_TYPE, &f.type);
    status = status ? status : get_string(r, &env, MEMBER_KEY, &f.key);
    status = status ? status : get_attrs(r, &env, &f.attrs);
    status = status ? status : get_data(r, &env, &f.data);
    f.key = key.p ? key : f.key;
    return status ? status : envelope_add(r, &f);
}

/* `key`: of the request's Idempotency-Key field, which wins; absent: the envelope's own. */
static int add_envelope(struct envelope_reader *r, struct slice text, struct slice key)
{
    json_error_t e;
    /* Integers as reals: one that needs more than 64 bits is fine in `data`. */
    json_t *value = json_loadb(
        text.p, text.n,
        JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &e);
    if (!value) {
        return refuse_json(r, "JSON", &e);
    }
    int status = 0;
    if (json_is_object(value)) {
        status = add_object(r, value, text, key);
    } else {
        status = envelope_refuse(r, 400, "expected an envelope, which is an object, got %s",
                                 envelope_json_kind_of(value));
    }
    json_decref(value);
    return status;
}

/* One key cannot name several events. */
static int check_batch(struct envelope_reader *r)
{
    return http_request_header(r->rq, "Idempotency-Key").p
               ? envelope_refuse(r, 400,
                                 "Idempotency-Key: names one event, the body is a batch; give "
                                 "each envelope a \"key\" of its own")
               : 0;
}

static int read_array(struct envelope_reader *r, struct slice rest)
{
    bool more = true;
    for (size_t i = 0; more; i++) {
        struct slice text;
        snprintf(r->where, sizeof r->where, "envelope %zu", i);
        if (!json_text_value(&rest, &text)) {
            return envelope_refuse(r, 400, "JSON: expected an object, which begins and ends");
        }
        int status = add_envelope(r, text, (struct slice){NULL, 0});
        if (status) {
            return status;
        }
        more = json_text_take(&rest, ',');
    }
    if (!json_text_take(&rest, ']')) {
        return envelope_refuse(r, 400, "JSON: expected ',' or ']' behind it");
    }
    r->where[0] = '\0';
    json_text_skip(&rest);
    return rest.n ? envelope_refuse(r, 400, "JSON: expected nothing behind the array") : 0;
}

int envelope_read_json(struct envelope_reader *r, struct slice body, bool *is_batch)
{
    struct slice rest = body;
    if (!json_text_take(&rest, '[')) {
        return add_envelope(r, body, http_request_header(r->rq, "Idempotency-Key"));
    }
    *is_batch = true;
    if (json_text_take(&rest, ']')) {
        return envelope_refuse(r, 400, "body: is an empty array; expected at least one envelope");
    }
    int status = check_batch(r);
    return status ? status : read_array(r, rest);
}

int envelope_read_ndjson(struct envelope_reader *r, struct slice body, bool *is_batch)
{
    int status = check_batch(r);
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
