/* event/: publish_body, event_attrs; base/: json_text. */
#include "base/text/json_text.h"
#include "event/event_attrs.h"
#include "event/publish/publish_body.h"
#include "native_policy.h"

#include <jansson.h>
#include <stdlib.h>

static void push_events(lua_State *L, const struct event_list *list)
{
    lua_newtable(L);
    for (size_t i = 0; i < list->n; i++) {
        native_push_fields(L, list->v[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
}

enum { HEADERS_MAX = 32 };

/* The table `headers` of the one at `t`, behind those that are there; the table holds the texts. */
static size_t add_headers(lua_State *L, int t, struct http_header *headers, size_t n)
{
    if (lua_getfield(L, t, "headers") == LUA_TTABLE) {
        for (lua_pushnil(L); lua_next(L, -2) && n < HEADERS_MAX; lua_pop(L, 1)) {
            struct http_header *h = &headers[n++];
            h->name.p = luaL_checklstring(L, -2, &h->name.n);
            h->value.p = luaL_checklstring(L, -1, &h->value.n);
        }
    }
    return n;
}

/* parse{ query, content_type, idempotency_key, headers, body, event_bytes, batch_events, path, route, topic, form (1: yes),
 * cloudevents (1: yes) } -> events, is_batch; or nil, status, text */
static int l_parse(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    struct http_header headers[HEADERS_MAX] = {
        {slice_str("content-type"), native_field_slice(L, 1, "content_type")},
        {slice_str("idempotency-key"), native_field_slice(L, 1, "idempotency_key")},
    };
    struct http_request rq = {.headers = headers, .header_count = add_headers(L, 1, headers, 2)};
    struct publish_limits limits = {(size_t)native_field_integer(L, 1, "event_bytes", 1000),
                                    (size_t)native_field_integer(L, 1, "batch_events", 1000)};
    struct slice body = native_field_slice(L, 1, "body"), query = native_field_slice(L, 1, "query");
    struct event_list out = {0};
    struct err e = {0};
    struct http_query q;
    bool is_batch = false;
    strbuf_init(&rq.body, body.n);
    if (strbuf_append(&rq.body, body.p, body.n) ||
        http_query_parse(&q, query.p ? query : slice_str(""))) {
        strbuf_clear(&rq.body);
        return luaL_argerror(L, 1, "query");
    }
    const struct public_route route = {
        .path = native_field_slice(L, 1, "route").p,
        .topic = native_field_slice(L, 1, "topic").p,
        .publish = native_field_integer(L, 1, "form", 0)          ? PUBLISH_FORM
                   : native_field_integer(L, 1, "cloudevents", 0) ? PUBLISH_CLOUDEVENTS
                                                                  : PUBLISH_RAW};
    rq.path = native_field_slice(L, 1, "path");
    const struct publish_terms terms = {
        .query = &q, .route = route.path ? &route : NULL, .limits = &limits};
    int status = publish_body_parse(&rq, &terms, native_field_integer(L, 1, "now", 1234), &out,
                                    &is_batch, &e);
    if (status) {
        lua_pushnil(L);
        lua_pushinteger(L, status);
        lua_pushstring(L, e.text);
    } else {
        push_events(L, &out);
        lua_pushboolean(L, is_batch);
    }
    size_t left = out.n;
    event_list_clear(&out);
    http_query_clear(&q);
    strbuf_clear(&rq.body);
    return status && left ? luaL_error(L, "refused, but events are left") : status ? 3 : 2;
}

/* attrs(json, max) -> canonical JSON; or nil, text */
static int l_attrs(lua_State *L)
{
    struct strbuf out;
    json_t *value = json_loads(luaL_checkstring(L, 1), JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    strbuf_init(&out, (size_t)luaL_optinteger(L, 2, 1 << 20));
    if (!value || strbuf_append_str(&out, "")) {
        return luaL_argerror(L, 1, "JSON");
    }
    const char *bad = event_attrs_canonical(value, &out);
    struct slice text = strbuf_slice(&out);
    lua_pushlstring(L, text.p, text.n);
    lua_pushstring(L, bad);
    strbuf_clear(&out);
    json_decref(value);
    return 2;
}

/* values(text) -> list of the values found, the rest */
static int l_values(lua_State *L)
{
    struct slice rest, value;
    rest.p = luaL_checklstring(L, 1, &rest.n);
    lua_newtable(L);
    for (lua_Integer i = 1; json_text_value(&rest, &value); i++) {
        lua_pushlstring(L, value.p, value.n);
        lua_rawseti(L, -2, i);
    }
    lua_pushlstring(L, rest.p, rest.n);
    return 2;
}

static int l_compact(lua_State *L)
{
    struct slice text;
    text.p = luaL_checklstring(L, 1, &text.n);
    luaL_Buffer b;
    char *out = luaL_buffinitsize(L, &b, text.n);
    luaL_pushresultsize(&b, json_text_compact(out, text));
    return 1;
}

int native_open_publish_body(lua_State *L)
{
    static const luaL_Reg functions[] = {{"parse", l_parse},
                                         {"attrs", l_attrs},
                                         {"values", l_values},
                                         {"compact", l_compact},
                                         {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
