/* See test_values.h. */
#include "tools/test/test_values.h"

#include "event/expiry.h"

#include <lauxlib.h>
#include <stdint.h>
#include <stdio.h>

enum { NAME_MAX_BYTES = 256 };

struct slice test_field(lua_State *L, int arg, const char *name)
{
    size_t n = 0;
    luaL_checktype(L, arg, LUA_TTABLE);
    lua_getfield(L, arg, name);
    const char *p = lua_tolstring(L, -1, &n);
    lua_pop(L, 1); /* the table holds it */
    return slice_of(p, n);
}

struct event *test_make_event(lua_State *L, int arg, struct test_broker *w, const char **bad)
{
    struct event_fields f = {.topic = test_field(L, arg, "topic"),
                             .type = test_field(L, arg, "type"),
                             .data = test_field(L, arg, "data"),
                             .key = test_field(L, arg, "key"),
                             .attrs = test_field(L, arg, "attrs"),
                             .time_ms = loop_unix_ms(test_broker_loop(w))};
    char detail[256];
    if (!expiry_parse(test_field(L, arg, "expires"), test_field(L, arg, "ttl"), f.time_ms,
                      &f.expires_ms, detail, sizeof detail)) {
        *bad = lua_pushstring(L, detail); /* the stack holds it */
        return NULL;
    }
    *bad = event_check(&f, test_broker_envelopes(w)->event_bytes);
    struct event *ev = *bad ? NULL : event_new(&f);
    *bad = *bad || ev ? *bad : "not enough memory";
    return ev;
}

static void test_values_set(lua_State *L, const char *name, struct slice text)
{
    if (text.p) {
        lua_pushlstring(L, text.p, text.n);
        lua_setfield(L, -2, name);
    }
}

/* An integer where it is one: people read 64, not 64.0. */
static void set_number(lua_State *L, const char *name, double value)
{
    if (value > 0) {
        lua_Integer whole = (lua_Integer)value;
        if ((double)whole == value) {
            lua_pushinteger(L, whole);
        } else {
            lua_pushnumber(L, value);
        }
        lua_setfield(L, -2, name);
    }
}

void test_push_event(lua_State *L, const struct event *ev)
{
    lua_createtable(L, 0, 6);
    test_values_set(L, "topic", event_topic(ev));
    test_values_set(L, "type", event_type(ev));
    test_values_set(L, "data", event_data(ev));
    test_values_set(L, "key", event_key(ev));
    test_values_set(L, "attrs", event_attrs(ev));
    set_number(L, "expires", (double)ev->expires_ms / 1000);
}

void test_push_quotas(lua_State *L, const struct quota_want *quotas, size_t n)
{
    if (n == 0) {
        return;
    }
    lua_createtable(L, (int)n, 0);
    for (size_t i = 0; i < n; i++) {
        lua_createtable(L, 0, 3);
        test_values_set(L, "key", quotas[i].key);
        lua_pushinteger(L, quotas[i].max);
        lua_setfield(L, -2, "max");
        lua_pushstring(L, quotas[i].oldest ? "oldest" : "deny");
        lua_setfield(L, -2, "over");
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, "quota");
}

static void push_subscription(lua_State *L, const struct subscription *s)
{
    lua_createtable(L, 0, 12);
    lua_createtable(L, (int)s->topic_count, 0);
    for (size_t i = 0; i < s->topic_count; i++) {
        lua_pushlstring(L, s->topics[i].p, s->topics[i].n);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, "topics");
    test_values_set(L, "filter", s->filter);
    test_values_set(L, "format", s->format);
    test_values_set(L, "params", s->params);
    test_values_set(L, "ends", s->ends);
    test_values_set(L, "first", s->first); /* its frames */
    test_values_set(L, "fields", s->fields);
    test_values_set(L, "mark", s->mark);
    static const char *const starts[] = {[GRANT_NOW] = NULL,
                                         [GRANT_EARLIEST] = "earliest",
                                         [GRANT_LATEST] = "latest",
                                         [GRANT_AFTER] = NULL};
    if (starts[s->start]) {
        lua_pushstring(L, starts[s->start]);
        lua_setfield(L, -2, "start");
    } else if (s->start == GRANT_AFTER) {
        lua_pushfstring(L, "%I", (LUAI_UACINT)s->start_after);
        lua_setfield(L, -2, "start");
    }
    if (s->envelope) {
        lua_pushboolean(L, true);
        lua_setfield(L, -2, "envelope");
    }
    if (s->replay.none) {
        lua_pushboolean(L, false);
        lua_setfield(L, -2, "replay");
    }
    set_number(L, "replay_max_age", (double)s->replay.max_age_ms / 1000);
    set_number(L, "replay_since", (double)s->replay.since_ms / 1000);
    set_number(L, "replay_last", s->replay.last);
    if (s->replay.no_gap) {
        lua_pushboolean(L, false);
        lua_setfield(L, -2, "replay_gap");
    }
    set_number(L, "events_per_s", s->events_per_s);
    set_number(L, "max_lag", (double)s->max_lag);
    if (s->on_lag != ON_LAG_DEFAULT) {
        lua_pushstring(L, s->on_lag == ON_LAG_SKIP     ? "skip"
                          : s->on_lag == ON_LAG_LATEST ? "latest"
                                                       : "close");
        lua_setfield(L, -2, "on_lag");
    }
    set_number(L, "every_s", (double)s->every_ms / 1000);
    set_number(L, "expires", (double)s->expires_ms / 1000);
    set_number(L, "heartbeat", s->heartbeat_s);
    set_number(L, "retry_ms", s->retry_ms);
    if (s->prime != PRIME_DEFAULT) {
        lua_pushstring(L, prime_name(s->prime));
        lua_setfield(L, -2, "prime");
    }
    if (s->tag_count) {
        lua_createtable(L, (int)s->tag_count, 0);
        for (size_t i = 0; i < s->tag_count; i++) {
            lua_pushlstring(L, s->tags[i].p, s->tags[i].n);
            lua_rawseti(L, -2, (lua_Integer)i + 1);
        }
        lua_setfield(L, -2, "tags");
    }
    if (s->no_gzip) {
        lua_pushboolean(L, false);
        lua_setfield(L, -2, "compress");
    }
    test_push_quotas(L, s->quotas, s->quota_count);
    test_values_set(L, "presence", s->presence);
    test_values_set(L, "presence_data", s->presence_data);
}

void test_push_verdict(lua_State *L, const struct verdict *v)
{
    static const char *const kinds[] = {
        [VERDICT_ALLOW] = "granted", [VERDICT_DENY] = "denied", [VERDICT_TRANSIENT] = "transient"};
    lua_createtable(L, 0, 6);
    lua_pushstring(L, kinds[v->kind]);
    lua_setfield(L, -2, "kind");
    if (v->kind == VERDICT_DENY) {
        lua_pushinteger(L, v->status);
        lua_setfield(L, -2, "status");
        if (v->retry_after_s) {
            lua_pushinteger(L, v->retry_after_s);
            lua_setfield(L, -2, "retry_after");
        }
    }
    if (v->kind != VERDICT_ALLOW) {
        test_values_set(L, "reason", v->reason);
        return;
    }
    test_values_set(L, "identity", v->identity);
    set_number(L, "expires", (double)v->expires_ms / 1000);
    if (v->subscription.topic_count) {
        push_subscription(L, &v->subscription);
        lua_setfield(L, -2, "subscription");
    }
}

/* ---------------------------------------------------------------- settings */

/* The text on top of the stack, popped: the list of the spec holds it. */
static char *test_text_of(lua_State *L)
{
    const char *text = luaL_checkstring(L, -1);
    lua_pop(L, 1);
    return (char *)(uintptr_t)text;
}

/* stack: settings, list of texts -> settings; the items are in a user value of the settings */
static void test_take_items(lua_State *L, struct policy_setting *out, int user_value)
{
    size_t n = lua_rawlen(L, -1);
    out->items.n = n;
    out->items.v = lua_newuserdatauv(L, (n ? n : 1) * sizeof *out->items.v, 0);
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, -2, (lua_Integer)i + 1);
        out->items.v[i] = test_text_of(L);
    }
    lua_setiuservalue(L, -3, user_value);
    lua_pop(L, 1);
}

const struct test_settings *test_settings_push(lua_State *L, int idx)
{
    size_t n = lua_rawlen(L, idx);
    luaL_argcheck(L, n <= POLICY_SETTINGS_MAX, idx, "too many settings");
    struct test_settings *s = lua_newuserdatauv(L, sizeof *s, POLICY_SETTINGS_MAX + 1);
    *s = (struct test_settings){.n = n};
    for (size_t i = 0; i < n; i++) {
        struct policy_setting *one = &s->v[i];
        lua_rawgeti(L, idx, (lua_Integer)i + 1); /* stack: settings, {name, type, value} */
        lua_rawgeti(L, -1, 1);
        one->name = test_text_of(L);
        lua_rawgeti(L, -1, 2);
        one->type = test_text_of(L);
        if (lua_rawgeti(L, -1, 3) == LUA_TTABLE) {
            lua_remove(L, -2);
            one->text = (char *)(uintptr_t) "";
            test_take_items(L, one, (int)i + 1);
        } else {
            one->text = test_text_of(L);
            lua_pop(L, 1);
        }
    }
    return s;
}

/* ---- what a database answers */

/* The columns are those of all rows together. */
static int test_rows_read_columns(const json_t *list, struct query_rows *rows, json_t *columns,
                                  struct err *e)
{
    size_t i;
    json_t *row;
    json_array_foreach((json_t *)(uintptr_t)list, i, row)
    {
        const char *name;
        json_t *value;
        if (!json_is_object(row)) {
            return err_set(e, UV_EINVAL, "the spec's rows: a list of tables was expected");
        }
        json_object_foreach(row, name, value)
        {
            if (json_is_object(value) || json_is_array(value)) {
                return err_set(e, UV_EINVAL,
                               "the spec's rows: a database answers texts, numbers and booleans; "
                               "'%s' is a table",
                               name);
            }
            int rc = json_object_get(columns, name)
                         ? 0
                         : query_rows_add_column(rows, slice_str(name), e);
            if (rc || json_object_set_new(columns, name, json_true())) {
                return rc ? rc : err_set(e, UV_ENOMEM, "out of memory");
            }
        }
    }
    return 0;
}

static struct query_value test_rows_value_of(const json_t *v)
{
    struct query_value out = {.type = QUERY_NULL};
    if (json_is_integer(v)) {
        out.type = QUERY_INTEGER;
        out.integer = json_integer_value(v);
    } else if (json_is_real(v)) {
        out.type = QUERY_NUMBER;
        out.number = json_real_value(v);
    } else if (json_is_boolean(v)) {
        out.type = QUERY_BOOL;
        out.boolean = json_is_true(v);
    } else if (json_is_string(v)) {
        out.type = QUERY_TEXT;
        out.text = slice_of(json_string_value(v), json_string_length(v));
    }
    return out;
}

int test_rows_read(const json_t *list, struct query_rows *rows, struct err *e)
{
    json_t *columns = json_object(), *row;
    size_t i;
    int rc = json_is_array(list) ? test_rows_read_columns(list, rows, columns, e)
             : json_is_object(list) && json_object_size(list) == 0
                 ? 0 /* a table without rows */
                 : err_set(e, UV_EINVAL, "the spec's rows: a list of tables was expected");
    json_array_foreach((json_t *)(uintptr_t)list, i, row)
    {
        for (size_t c = 0; rc == 0 && c < rows->columns; c++) {
            char name[NAME_MAX_BYTES];
            struct slice of = query_rows_name(rows, c);
            snprintf(name, sizeof name, "%.*s", (int)of.n, of.p);
            struct query_value v = test_rows_value_of(json_object_get(row, name));
            rc = query_rows_add(rows, &v, e);
        }
    }
    json_decref(columns);
    return rc;
}

/* The spec says of a set what is in it. */
int test_rows_read_values(const json_t *list, const struct query_sink *sink, struct err *e)
{
    size_t i;
    json_t *value;
    if (!json_is_array(list) && !(json_is_object(list) && json_object_size(list) == 0)) {
        return err_set(e, UV_EINVAL,
                       "the spec's set: a list of texts, numbers and booleans was expected");
    }
    json_array_foreach((json_t *)(uintptr_t)list, i, value)
    {
        struct query_value v = test_rows_value_of(value);
        if (v.type == QUERY_NULL) {
            return err_set(e, UV_EINVAL, "the spec's set: value %zu is no text, number or boolean",
                           i + 1);
        }
        if (sink->row(sink->ctx, &v, 1, e)) {
            return e->code;
        }
    }
    return 0;
}
