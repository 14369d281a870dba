#include "event/event_attrs.h"

#include "event/event.h"

#include <jansson.h>
#include <stdlib.h>
#include <uv.h>

/* The shortest member, `"a":1` and a comma, has six bytes. */
enum { ATTRS_MAX = EVENT_ATTRS_MAX_BYTES / 6 + 1 };

static const char too_long[] = "attrs: are longer than 4096 bytes of JSON";

static int by_bytes(const void *a, const void *b)
{
    const char *const *x = a;
    const char *const *y = b;
    return strcmp(*x, *y);
}

static int event_attrs_append(const char *p, size_t n, void *out)
{
    return strbuf_append(out, p, n);
}

static bool put_name(struct strbuf *out, const char *name)
{
    json_t *text = json_string(name);
    bool ok = text && json_dump_callback(text, event_attrs_append, out, JSON_ENCODE_ANY) == 0;
    json_decref(text);
    return ok && strbuf_append(out, ":", 1) == 0;
}

/* 15 digits are always exact in a double, 17 always tell two doubles apart; jansson alone writes 17
 * and makes 0.1 of what was 0.10000000000000001. */
static bool put_real(struct strbuf *out, const json_t *value)
{
    char text[64];
    size_t n = 0;
    for (size_t digits = 15; digits <= 17; digits++) {
        n = json_dumpb(value, text, sizeof text - 1, JSON_ENCODE_ANY | JSON_REAL_PRECISION(digits));
        if (n == 0 || n >= sizeof text) {
            return false;
        }
        text[n] = '\0';
        double again = strtod(text, NULL);
        double real = json_real_value(value);
        if (again >= real && again <= real) {
            break;
        }
    }
    return strbuf_append(out, text, n) == 0;
}

static const char *put_member(struct strbuf *out, const char *name, const json_t *value)
{
    bool scalar = json_is_string(value) || json_is_number(value) || json_is_boolean(value);
    if (!*name) {
        return "attrs: a name is empty";
    }
    if (!scalar) {
        return "attrs: expected strings, numbers and booleans as values";
    }
    /* jsonb cannot hold it, and SQL text ends there */
    if (json_is_string(value) && strlen(json_string_value(value)) != json_string_length(value)) {
        return "attrs: a value holds a NUL character";
    }
    bool ok = put_name(out, name) &&
              (json_is_real(value)
                   ? put_real(out, value)
                   : json_dump_callback(value, event_attrs_append, out, JSON_ENCODE_ANY) == 0);
    return ok ? NULL : too_long;
}

static const char *event_attrs_put_object(struct strbuf *out, json_t *object)
{
    const char *names[ATTRS_MAX];
    size_t n = 0;
    if (json_object_size(object) > ATTRS_MAX) {
        return too_long;
    }
    for (void *it = json_object_iter(object); it; it = json_object_iter_next(object, it)) {
        names[n] = json_object_iter_key(it);
        if (strlen(names[n]) != json_object_iter_key_len(it)) {
            return "attrs: a name holds a NUL character";
        }
        n++;
    }
    if (n) {
        qsort(names, n, sizeof *names, by_bytes);
    }
    int rc = strbuf_append(out, "{", 1);
    const char *bad = NULL;
    for (size_t i = 0; i < n && !bad && !rc; i++) {
        rc = i ? strbuf_append(out, ",", 1) : 0;
        bad = put_member(out, names[i], json_object_get(object, names[i]));
    }
    return bad ? bad : rc || strbuf_append(out, "}", 1) ? too_long : NULL;
}

const char *event_attrs_canonical(json_t *what, struct strbuf *out)
{
    if (!json_is_object(what)) {
        return "attrs: expected an object of strings, numbers and booleans";
    }
    size_t before = out->len;
    const char *bad = event_attrs_put_object(out, what);
    if (!bad && out->len - before > EVENT_ATTRS_MAX_BYTES) {
        bad = too_long;
    }
    if (bad && out->data) {
        out->len = before;
        out->data[before] = '\0';
    }
    return bad;
}
