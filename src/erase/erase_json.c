#include "erase/erase_json.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

static const char expected[] =
    "expected an object with \"topic\" (a name or pattern), and if need be \"where\" (filter text) "
    "and \"dry_run\" (true or false)";

static int erase_json_text(const json_t *value, const char *key, struct slice *out, struct err *err)
{
    if (!json_is_string(value)) {
        return err_set(err, UV_EINVAL, "%s: expected a string", key);
    }
    *out = slice_of(json_string_value(value), json_string_length(value));
    return 0;
}

int erase_json_order(struct slice body, json_t **doc, struct erase_order *out, struct err *err)
{
    json_error_t why;
    const char *key;
    json_t *value;
    int rc = 0;
    *out = (struct erase_order){.topic = slice_of("", 0), .where = slice_of("", 0)};
    *doc = json_loadb(body.n ? body.p : "", body.n, JSON_REJECT_DUPLICATES, &why);
    if (!json_is_object(*doc)) {
        return *doc ? err_set(err, UV_EINVAL, "%s", expected)
                    : err_set(err, UV_EINVAL, "line %d, column %d: %s; %s", why.line, why.column,
                              why.text, expected);
    }
    json_object_foreach(*doc, key, value)
    {
        if (rc) {
            break;
        }
        if (strcmp(key, "topic") == 0) {
            rc = erase_json_text(value, key, &out->topic, err);
        } else if (strcmp(key, "where") == 0) {
            rc = erase_json_text(value, key, &out->where, err);
        } else if (strcmp(key, "dry_run") == 0 && json_is_boolean(value)) {
            out->dry_run = json_is_true(value);
        } else if (strcmp(key, "dry_run") == 0) {
            rc = err_set(err, UV_EINVAL, "dry_run: expected true or false");
        } else { /* a misspelt condition would erase too much */
            rc = err_set(err, UV_EINVAL, "%s: is not known; %s", key, expected);
        }
    }
    return rc;
}

static json_t *erase_json_slice(struct slice s)
{
    return json_stringn(s.n ? s.p : "", s.n);
}

static json_t *erase_json_id(uint64_t id)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%" PRIu64, id);
    return json_string(text);
}

json_t *erase_json_report(const struct erase_report *r)
{
    json_t *o = json_object(), *list = json_array();
    int bad = 0;
    for (size_t i = 0; i < r->shown_n; i++) {
        json_t *one = json_object();
        bad |= json_object_set_new(one, "id", erase_json_id(r->shown[i]->id));
        bad |= json_object_set_new(one, "topic", erase_json_slice(event_topic(r->shown[i])));
        bad |= json_array_append_new(list, one);
    }
    bad |= json_object_set_new(o, "dry_run", json_boolean(r->dry_run));
    bad |= json_object_set_new(o, "topic", erase_json_slice(r->topic));
    bad |= json_object_set_new(o, "where", erase_json_slice(r->where));
    bad |= json_object_set_new(o, "examined", json_integer((json_int_t)r->examined));
    bad |= json_object_set_new(o, "matched", json_integer((json_int_t)r->matched));
    bad |= json_object_set_new(o, "erased", json_integer((json_int_t)r->erased));
    bad |= json_object_set_new(o, "upto", erase_json_id(r->upto));
    bad |= json_object_set_new(o, "events", list);
    if (bad) {
        json_decref(o);
        o = NULL;
    }
    return o;
}
